"""Which result of a task's chain a lens reads after each iteration."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.guard import guarded
from ..common.text import percent, plural
from ..recorder.labels import labels_of, task_of
from ..runs.run import Run
from ..tasks import Chain
from .lens import lens
from .lens_types import Lens
from .readings import Readings


@dataclass(frozen=True)
class ChainMatrix:
    """How often a lens reads each result of a chain, by iteration. Items are the answered positions
    of examples that have all results, so that none of them is an answer that is only repeated."""

    share: Float[Tensor, "result iteration"]
    """Fraction of items in which the lens reads this result after k iterations, k = 0..n; row 0 is
    result 1."""
    equal: Float[Tensor, "result result"]
    """Fraction of items in which two results are the same token: what reading one of them gives of
    the other."""
    iterations: tuple[int, ...]
    """The k of each column."""
    items: int

    @property
    def diagonal(self) -> Float[Tensor, " result"]:
        """Result k after k iterations; NaN where that state wasn't read."""
        return torch.stack([self._at(j, j) for j in range(1, len(self.share) + 1)])

    @property
    def off_diagonal(self) -> Float[Tensor, " pair"]:
        """Every other result after 1..K iterations, of a chain of K results."""
        numbers = range(1, len(self.share) + 1)
        others = [self._at(j, k) for j in numbers for k in numbers if j != k]
        return torch.stack(others) if others else self.share.new_empty(0)

    @property
    def order(self) -> tuple[int, ...]:
        """The number of the result that is read most often after each iteration from k = 1 on."""
        columns = [i for i, k in enumerate(self.iterations) if k > 0]
        return tuple((self.share[:, columns].argmax(0) + 1).tolist())

    def _at(self, result: int, k: int) -> Tensor:
        if k not in self.iterations:
            return torch.tensor(torch.nan, dtype=self.share.dtype)
        return self.share[result - 1, self.iterations.index(k)]

    def __str__(self) -> str:
        rows = (
            f"result {j}: {', '.join(percent(float(value)) for value in row)}"
            for j, row in enumerate(self.share, start=1)
        )
        ks = ", ".join(map(str, self.iterations))
        return f"{plural(self.items, 'item')}; read at k = {ks}\n" + "\n".join(rows)


@guarded
def chain_matrix(run: Run, kind: "str | Lens | Callable[[Tensor], Any]" = "coda") -> ChainMatrix:
    """How often the lens reads result j of the task's chain from the state after k iterations.

    A loop that computes one result after another shows result k after k iterations, and no other
    more often than `equal` says (RELAY: Yu et al. 2025, arXiv 2502.08482).

    >>> loopscope.lenses.chain_matrix(run).diagonal

    Arguments:
        run: of examples of a task with a chain (`task.results`), some of them with all results, as
            with `exactly=` of hops and modular-chain.
        kind: as of `ls.lens`.

    Raises:
        LoopscopeError: the run's task is unknown or has no chain, or the lens fails its check.
    """
    chain = run_chain(run)
    if chain is None:
        raise LoopscopeError(
            "chain_matrix needs a run of examples of a task with a chain of results, such as hops or "
            f"modular-chain, but got {run!r}. Give the model that task, or define task_results."
        )
    matrix = matrix_of(chain, lens(run, kind))
    if not matrix.items:
        raise LoopscopeError(
            f"chain_matrix needs examples that have all {len(chain)} results, but of {len(run.tokens)} none "
            "has. Take more, or all of them as long, as with exactly=."
        )
    return matrix


def run_chain(run: Run) -> Chain | None:
    """The chain of a run's examples; None if its task is unknown or has none."""
    task, labels = task_of(run), labels_of(run)
    return None if task is None or labels is None else task.results(labels.tokens)


def matrix_of(chain: Chain, readings: Readings) -> ChainMatrix:
    """The same of the state's readings by a lens.

    Arguments:
        chain: of the examples that are read.
    """
    answers = readings["state"].answers()[0]
    items = chain.mask.all(0) & (answers >= 0).all(0)
    values, read = chain.values[:, items], answers[:, items]
    return ChainMatrix(
        share=(values[:, None] == read[None]).double().mean(-1),
        equal=(values[:, None] == values[None]).double().mean(-1),
        iterations=readings.iterations,
        items=int(items.sum()),
    )
