"""Sweeps: a grid of trainings on this machine's cores or a cluster's, and one page about what came
of them."""

from .grid import Axis as Axis
from .grid import Grid as Grid
from .grid import Trial as Trial
from .grid import grid_of as grid_of
from .grid import read_grid as read_grid
from .outcome import Outcome as Outcome
from .outcome import outcome as outcome
from .sweep import Sweep as Sweep
from .sweep import sweep as sweep
