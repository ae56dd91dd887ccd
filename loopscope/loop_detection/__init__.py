"""Find the loops of a module by tracing its calls."""

from .loop_finder import find_loops as find_loops
from .loops import Loop as Loop
from .loops import Loops as Loops
