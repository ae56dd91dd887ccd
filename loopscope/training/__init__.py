"""Training: recipes made of small parts, trainings that can be killed and resumed, and the numbers
of model cards."""

from .card_metrics import measure_entry as measure_entry
from .chain_supervision import Aligned as Aligned
from .curriculum import Alternating as Alternating
from .curriculum import Growing as Growing
from .deep_supervision import DeepSupervision as DeepSupervision
from .depth import Fixed as Fixed
from .depth import PerLength as PerLength
from .depth import PoissonLogNormal as PoissonLogNormal
from .depth import Rising as Rising
from .depth import Uniform as Uniform
from .ema import Average as Average
from .evaluate import Accuracy as Accuracy
from .evaluate import accuracy as accuracy
from .exit_losses import Exits as Exits
from .exit_losses import Gate as Gate
from .exit_losses import Stages as Stages
from .export import export as export
from .history import History as History
from .history import load_history as load_history
from .history_schedule import Schedule as Schedule
from .optimiser import AdamW as AdamW
from .penalty import Ramp as Ramp
from .recipe import Recipe as Recipe
from .recipe import differences as differences
from .supervision import Every as Every
from .supervision import Final as Final
from .supervision import Progressive as Progressive
from .trainer import train as train
from .truncated_backprop import Full as Full
from .truncated_backprop import Implicit as Implicit
from .truncated_backprop import Last as Last
from .zoo_recipes import named_recipe as named_recipe
from .zoo_recipes import recipe_of as recipe_of
from .zoo_recipes import recipes as recipes
