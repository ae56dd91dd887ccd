"""Lenses: the answer that the model would give from any state or site of its loop."""

from .chain_matrix import ChainMatrix as ChainMatrix
from .chain_matrix import chain_matrix as chain_matrix
from .lens import lens as lens
from .readings import Readings as Readings
from .tuned_lens import TunedLens as TunedLens
