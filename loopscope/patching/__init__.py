"""Patching: which activation, of which iteration and position, causes the answer?

grid = ls.effects(run, donor)            # every cell of (iteration, position)
told = ls.mediation(run, patched)        # of one intervention: its direct effect, and what goes through later iterations
"""

from .effects import Agreement as Agreement
from .effects import Effects as Effects
from .effects import effects as effects
from .mediation import Mediation as Mediation
from .mediation import mediation as mediation
from .replacements import Noise as Noise
from .replacements import noise as noise
