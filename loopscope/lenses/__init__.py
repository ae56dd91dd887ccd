"""Lenses: what the model would answer from any place of its loop."""

from .lens import lens as lens
from .readings import Readings as Readings
from .tuned_lens import TunedLens as TunedLens
