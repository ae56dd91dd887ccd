"""Sweeps: grids of trainings, on this machine's cores or on a cluster, and one page about the
results."""

from .grid import Axis as Axis
from .grid import Grid as Grid
from .grid import Trial as Trial
from .grid import grid_from_table as grid_from_table
from .grid import read_grid as read_grid
from .sweep import Sweep as Sweep
from .sweep import sweep as sweep
from .sweep_result import SweepResult as SweepResult
from .trial_result import TrialResult as TrialResult
from .trial_result import read_result as read_result
