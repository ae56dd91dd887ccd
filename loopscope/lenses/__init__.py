"""Lenses: the answer that the model would give from any state or site of its loop."""

from .lens import lens as lens
from .readings import Readings as Readings
from .tuned_lens import TunedLens as TunedLens
