"""Find the loops of a module by tracing its calls."""

from .loop_finder import find_loops as find_loops
from .result import Loop as Loop
from .result import Loops as Loops
