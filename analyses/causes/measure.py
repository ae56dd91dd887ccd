"""The measurement: causes of a run. See the package for the question and its references."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.errors import LoopscopeError
from loopscope.common.result import AnalysisResult, Verdict
from loopscope.common.text import percent
from loopscope.core.sites import is_state
from loopscope.core.states import States
from loopscope.patching import Agreement, effects
from loopscope.patching.donors import answers_vary, partners
from loopscope.patching.effects import Effects, Method
from loopscope.patching.figures import effect_map
from loopscope.patching.metrics import answer_mask, last_of
from loopscope.patching.patched_forward import affordable, writable
from loopscope.runs.run import Run

CARRIES, NOTHING = 0.5, 0.1
EXAMPLES, ITERATIONS = 4, 9


class Carrier(Verdict):
    """Where the answer is carried."""

    gathered = "The answer is carried by one position: its state alone brings another example's answer along."
    spread = "The answer is carried by the state as a whole, and no single position brings it along."
    forgotten = "The loop forgets its state: another example's, written early, changes nothing; what is read anew decides."
    nothing = (
        "No state carries the answer: another example's state changes nothing, even where it is read out."
    )


@dataclass(frozen=True)
class Causes(AnalysisResult):
    """How much of another example's answer a state brings along."""

    verdict: Carrier
    site: str
    iterations: tuple[int, ...]
    """Where states were written: k of `state`, t of a site inside the body."""
    positions: tuple[int, ...]
    carried: Float[Tensor, "iteration position"]
    """Fraction of the way to the donor's answer, one position written; means over examples."""
    whole: Float[Tensor, " iteration"]
    """All positions written."""
    best: Float[Tensor, " iteration"]
    """The position that carries most."""
    spread: Float[Tensor, " iteration"]
    """Over how many positions the effects are spread; NaN where nothing has an effect."""
    last: int
    """Iterations of each pass."""
    examples: int
    source: str
    method: str
    agreement: Agreement | None
    metric: str
    answer_positions: str
    """Which answers are judged, in words."""
    carries_threshold: float = CARRIES
    """A state, or a position, carries the answer from this fraction on ..."""
    nothing_threshold: float = NOTHING
    """... and nothing of it below this."""

    def map(self) -> Any:
        """The figure of every cell, iteration by position."""
        return carried_map(self)

    def summary(self) -> str:
        middle = len(self.iterations) // 2
        told = "; ".join(
            f"after {self.iterations[i]} of {self.last} iterations "
            f"{percent(float(self.whole[i].clamp(0, 1)))} by the whole state, "
            f"{percent(float(self.best[i].clamp(0, 1)))} by the best position"
            for i in dict.fromkeys((0, middle, len(self.iterations) - 1))
        )
        checked = (
            ""
            if self.agreement is None
            else " Estimates to first order; with exact patches they correlate by "
            f"{self.agreement.correlation:.2f} on "
            f"{self.agreement.cells} cells."
        )
        return (
            f"{self.verdict.sentence} '{self.site}' of {self.source}, in {self.examples} examples of "
            f"{self.last} iterations, judged by "
            f"{self.answer_positions}. Of the way to the other answer: {told}.{checked} Thresholds: a state "
            "carries "
            f"the answer from {self.carries_threshold:g} on, nothing of it below {self.nothing_threshold:g}."
        )


def applies(run: Run) -> bool:
    """Whether states can be written and gone on with in seconds, and there are examples that answer
    differently."""
    if not writable(run) or run.output.shape[-1] == 1:
        return False
    cells = run.states.shape[2] * min(ITERATIONS, run.iterations + 1)
    return affordable(run, cells, EXAMPLES, run.iterations) and answers_vary(run, _asked(run, None)[0])


def measure(
    run: Run,
    *,
    donor: Run | None = None,
    site: str | None = None,
    answer_positions: Any = None,
    method: Method = "exact",
    examples: int | None = EXAMPLES,
    iterations: int | None = ITERATIONS,
) -> Causes:
    """Write another example's state, position by position and iteration by iteration.

    Arguments:
        donor: a run of the same shape; None: for each example the next of the batch that answers
            otherwise.
        site: what is written; None: the state, all its tensors together.
        answer_positions: positions, or a mask (batch, position), whose answers count. None: the last that is
            asked.
        method: "exact", or "attribution" for a first look.
        examples: how many of the run's; None: all. With `donor` all of them.
        iterations: how many of them, evenly spread, the first and the last among them; None: all.
    """
    run.require_finite()
    if run.output.ndim != 3:
        raise LoopscopeError(
            "causes compares answers (batch, position, vocab), but this run's output is "
            f"{tuple(run.output.shape)}. Use ls.effects(run, donor, metric=...) with a function of it."
        )
    which, told = _asked(run, answer_positions)
    if donor is None:
        run, donor, which = _paired(run, examples, which)
    placed, every = _fields(run) if site is None else ([site], [site])
    steps = _spaced(run, site, iterations)
    grid = effects(
        run, donor, sites=placed, jointly=True, iterations=steps, answer_positions=which, method=method
    )
    if (site is not None and " + " in grid.sites[0]) or not grid.positions[0]:
        raise LoopscopeError(
            f"causes looks at one site with positions, but '{site}' gives {list(grid.sites)}. For others: "
            f"ls.effects(run, donor, sites=...)."
        )
    full = effects(
        run,
        donor,
        sites=every,
        jointly=True,
        iterations=grid.iterations,
        positions="all",
        answer_positions=which,
    )
    carried, whole, best = grid.carried[0, :, :, 0], full.carried[0, :, 0, 0], _best(grid)
    return Causes(
        verdict=_verdict(grid.iterations, run.iterations, whole, best),
        site="state" if site is None else grid.sites[0],
        iterations=grid.iterations,
        positions=tuple(group[0] for group in grid.positions),
        carried=carried,
        whole=whole,
        best=best,
        spread=_spread(carried),
        last=run.iterations,
        examples=int(torch.isfinite(grid.values[0, 0, 0, 0]).sum()),
        source="another example" if grid.source == "the donor run" else grid.source,
        method=method,
        agreement=grid.agreement,
        metric=grid.metric,
        answer_positions=told,
    )


def _best(grid: Effects) -> Float[Tensor, " iteration"]:
    """What the best position of each example carries, as a fraction of the whole difference."""
    assert grid.target is not None
    return grid.values[0, :, :, 0].amax(1).nanmean(1) / (grid.target - grid.base).nanmean()


def _spread(carried: Float[Tensor, "iteration position"]) -> Float[Tensor, " iteration"]:
    """Over how many positions it is spread: their participation ratio; NaN where nothing is
    carried."""
    size = carried.abs().sum(1)
    return torch.where(size > NOTHING / 10, size**2 / (carried**2).sum(1), torch.nan)


def _asked(run: Run, answer_positions: Any) -> tuple[Tensor, str]:
    mask = answer_mask(run, answer_positions)
    many = bool((mask.sum(1) > 1).any())
    if answer_positions is None and many:
        return last_of(mask), "the answer at the last asked position"
    return mask, "all answers that are asked" if many else "the answer at the asked position"


def _paired(run: Run, examples: int | None, mask: Tensor) -> tuple[Run, Run, Tensor]:
    own, donor, rows = partners(run, examples, mask)
    return own, donor, mask[rows]


def _fields(run: Run) -> tuple[list[str], list[str]]:
    """The state's tensors that have its positions, and all of them."""
    every = [name for name in run.names if is_state(name)]
    size = run.states.shape[2]
    return [name for name in every if _positions(run[name]) == size], every


def _positions(states: States) -> int | None:
    return states.shape[states.axes.index("position")] if "position" in states.axes else None


def _spaced(run: Run, site: str | None, most: int | None) -> list[int] | None:
    n = run.iterations if site is None or is_state(site) else run.iterations - 1
    if most is None or n + 1 <= most:
        return None
    return sorted({round(i * n / (most - 1)) for i in range(most)})


def _verdict(iterations: tuple[int, ...], n: int, whole: Tensor, best: Tensor) -> Carrier:
    carrying = [i for i in range(len(iterations)) if float(whole[i]) >= CARRIES]
    if not carrying and float(torch.maximum(whole, best).nan_to_num().amax()) < CARRIES:
        return Carrier.nothing
    early = [i for i, k in enumerate(iterations) if k <= n / 2]
    if early and float(torch.maximum(whole, best)[early].nan_to_num().amax()) < NOTHING:
        return Carrier.forgotten
    inside = [i for i in carrying if iterations[i] < n] or carrying
    return Carrier.gathered if float(best[inside].median()) >= CARRIES else Carrier.spread


def carried_map(result: Causes) -> Any:
    """The grid, iteration by position. Colours end at the largest cell before the last state, which
    is what the " "read-out reads."""
    before = result.carried[[k < result.last for k in result.iterations]]
    return effect_map(
        result.carried, result.iterations, result.positions, "Where the answer is carried", x="position "
                                                                                              "written",
        y="iterations run before the write", quantity="fraction of the way",
        most=max(0.1, float(before.abs().nan_to_num().max())) if len(before) else None,
    )  # fmt: skip
