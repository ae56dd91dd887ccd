"""Finds out what repeats in a module by watching its calls."""

from .loop_finder import Loop as Loop
from .loop_finder import Loops as Loops
from .loop_finder import find_loops as find_loops
