"""Edits of a run as values: patch, ablate, add, freeze, skip, repeat, swap, halt_at,
bias_halting."""

from .edits import Edit as Edit
from .edits import ablate as ablate
from .edits import add as add
from .edits import bias_halting as bias_halting
from .edits import halt_at as halt_at
from .edits import patch as patch
from .edits import repeat as repeat
from .edits import skip as skip
from .edits import swap as swap
from .freeze import Freeze as Freeze
from .freeze import freeze as freeze
