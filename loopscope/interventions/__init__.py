"""Edits of a run as values: patch, ablate, add, steer, freeze, skip, repeat, swap, halt_at,
bias_halting.

An edit changes nothing by itself; `record(model, tokens, edits=[...])` applies it.
"""

from .edits import Edit as Edit
from .edits import ablate as ablate
from .edits import add as add
from .edits import patch as patch
from .freeze import Freeze as Freeze
from .freeze import freeze as freeze
from .halting_edits import HaltAt as HaltAt
from .halting_edits import bias_halting as bias_halting
from .halting_edits import halt_at as halt_at
from .schedule import Schedule as Schedule
from .schedule import ScheduleEdit as ScheduleEdit
from .schedule import Swap as Swap
from .schedule import repeat as repeat
from .schedule import swap as swap
from .skip import SkipPart as SkipPart
from .skip import skip as skip
from .steer import steer as steer
