"""Patching: which activation, of which iteration and position, causes the answer?

grid = ls.effects(run, donor)            # activation patching, every cell of (iteration, position)
ls.mediation(run, patched)               # of one intervention: direct and indirect effect
"""

from .effects import effects as effects
from .effects_result import AttributionAgreement as AttributionAgreement
from .effects_result import Effects as Effects
from .mediation import Mediation as Mediation
from .mediation import mediation as mediation
from .replacements import Noise as Noise
from .replacements import noise as noise
