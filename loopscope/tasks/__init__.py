"""The tasks: tokens with exact answers.

>>> ls.tasks.build("addition", digits=4) == ls.tasks.addition(digits=4)
True
>>> ls.tasks.build("my_task.py", length=8)          # one's own
"""

from typing import Any

from ..common.errors import LoopscopeError, nearest
from ..common.guard import guarded
from ..common.user_files import is_path
from .addition import Addition as Addition
from .addition import AdditionBatch as AdditionBatch
from .batch import Batch as Batch
from .chain import Chain as Chain
from .composition import Composition as Composition
from .fact import Fact as Fact
from .hops import Hops as Hops
from .hops import HopsBatch as HopsBatch
from .mano import Mano as Mano
from .mano import ManoBatch as ManoBatch
from .modular_addition import ModularAddition as ModularAddition
from .modular_chain import ModularChain as ModularChain
from .modular_chain import ModularChainBatch as ModularChainBatch
from .parity_ones import ParityOnes as ParityOnes
from .prefix_parity import PrefixParity as PrefixParity
from .regression import Regression as Regression
from .regression import RegressionBatch as RegressionBatch
from .roots import Roots as Roots
from .roots import RootsBatch as RootsBatch
from .shelf import TASKS
from .strings import Copy as Copy
from .strings import Reverse as Reverse
from .sudoku import Sudoku as Sudoku
from .sudoku import SudokuBatch as SudokuBatch
from .task import Task as Task

addition = Addition
composition = Composition
copy = Copy
hops = Hops
mano = Mano
modular_addition = ModularAddition
modular_chain = ModularChain
parity_ones = ParityOnes
prefix_parity = PrefixParity
regression = Regression
reverse = Reverse
roots = Roots
sudoku = Sudoku


def names() -> list[str]:
    """The names that `build` knows."""
    return TASKS.names()


@guarded
def build(name: Any, **options: Any) -> Task:
    """The task of that name ("prefix-parity" or "prefix_parity") with these options.

    Arguments:
        name: a name, or a task of your own: the path of its file, or its class.

    Raises:
        LoopscopeError: there is no such task or option.
    """
    named = name.replace("_", "-") if isinstance(name, str) and not is_path(name) else name
    kind = TASKS.get(TASKS.place(named))
    known = list(kind.__dataclass_fields__)
    for option in options:
        if option not in known:
            raise LoopscopeError(f"The task {kind.name} has no option {option!r}. {nearest(option, known)}")
    return kind(**options)
