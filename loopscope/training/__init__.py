"""Training: recipes made of small parts, runs that survive being killed, and the numbers that cards tell."""

from .curriculum import Growing as Growing
from .depth import Fixed as Fixed
from .depth import PerLength as PerLength
from .depth import Uniform as Uniform
from .evaluate import Accuracy as Accuracy
from .evaluate import accuracy as accuracy
from .export import export as export
from .gradient import Full as Full
from .gradient import Last as Last
from .measure import measured as measured
from .optimiser import AdamW as AdamW
from .penalty import Ramp as Ramp
from .recipe import Recipe as Recipe
from .recipe import differences as differences
from .recipes import named as named
from .recipes import recipes as recipes
from .supervision import Final as Final
from .supervision import Progressive as Progressive
from .trainer import train as train
