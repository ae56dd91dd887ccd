"""Which iteration, and which position, carries the answer?

The state after k iterations at one position is replaced by that of another example (the donor), everything after it is computed
anew, and the answer is looked at: did it move towards the donor's? Cell by cell, exactly (see `loopscope.patching`). What is
told is the fraction of the way from the run's own answer to the donor's, in logits of the two answers: 0 nothing, 1 all of it.
Three things by k:

- whole: all positions are replaced. Where this is 1 the state holds all that decides; where it is 0 the loop has forgotten the
  state by the end, and what it reads anew in every iteration decides.
- best: the position that carries most.
- spread: over how many positions the effects are spread, (sum |e|)² / sum e², the participation ratio.

Sources: activation patching, Vig et al. 2020 (arXiv 2004.12265), Meng et al. 2022 (arXiv 2202.05262); metric and donors, Zhang &
Nanda 2023 (arXiv 2309.16042); restoring a state at one (position, depth) of a looped model, Kohli et al. 2026 (arXiv 2604.07822).

What can mislead:
- A state that carries the answer at one place only in company (an AND of two positions) shows in no single cell, but in `whole`.
- A donor's state in another context is off the model's path: read effects of a whole state and of single positions together.
- With an answer at every position, most positions carry their own, and none carries all: the last one alone is judged, unless
  `asked` says otherwise.
- Under attribution (`method="attribution"`) numbers are first-order estimates; `agreement` tells how far to trust them.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope import drawing
from loopscope.drawing import Panel, number, percent
from loopscope.errors import LoopscopeError
from loopscope.finding import Finding, Verdict
from loopscope.patching import Agreement, effects
from loopscope.patching.effects import Effects, Method
from loopscope.patching.map import effect_map
from loopscope.patching.metrics import asked_of, last_of
from loopscope.patching.partners import answers_vary, partners
from loopscope.patching.resumed import affordable, writable
from loopscope.run import Run
from loopscope.sites import is_state
from loopscope.states import States

TITLE, PLACE = "Which state carries the answer?", 44
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
class Causes(Finding):
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
    asked: str
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
            f"after {self.iterations[i]} of {self.last} iterations {percent(float(self.whole[i].clamp(0, 1)))} by the "
            f"whole state, "
            f"{percent(float(self.best[i].clamp(0, 1)))} by the best position"
            for i in dict.fromkeys((0, middle, len(self.iterations) - 1))
        )
        checked = (
            ""
            if self.agreement is None
            else f" Estimates to first order; with exact patches they correlate by {self.agreement.correlation:.2f} on "
            f"{self.agreement.cells} cells."
        )
        return (
            f"{self.verdict.sentence} '{self.site}' of {self.source}, in {self.examples} examples of {self.last} "
            f"iterations, judged by "
            f"{self.asked}. Of the way to the other answer: {told}.{checked} Thresholds: a state carries the answer from "
            f"{self.carries_threshold:g} on, nothing of it below {self.nothing_threshold:g}."
        )


def applies(run: Run) -> bool:
    """Whether states can be written and gone on with in seconds, and there are examples that answer differently."""
    if not writable(run) or run.output.shape[-1] == 1:
        return False
    cells = run.states.shape[2] * min(ITERATIONS, run.iterations + 1)
    return affordable(run, cells, EXAMPLES, run.iterations) and answers_vary(run, _asked(run, None)[0])


def measure(
    run: Run,
    *,
    donor: Run | None = None,
    site: str | None = None,
    asked: Any = None,
    method: Method = "exact",
    examples: int | None = EXAMPLES,
    iterations: int | None = ITERATIONS,
) -> Causes:
    """Write another example's state, position by position and iteration by iteration.

    Arguments:
        donor: a run of the same shape; None: for each example the next of the batch that answers otherwise.
        site: what is written; None: the state, all its tensors together.
        asked: positions, or a mask (batch, position), whose answers count. None: the last that is asked.
        method: "exact", or "attribution" for a first look.
        examples: how many of the run's; None: all. With `donor` all of them.
        iterations: how many of them, evenly spread, the first and the last among them; None: all.
    """
    run.require_finite()
    if run.output.ndim != 3:
        raise LoopscopeError(
            f"causes compares answers (batch, position, vocab), but this run's output is {tuple(run.output.shape)}. Use "
            "ls.effects(run, donor, metric=...) with a function of it."
        )
    which, told = _asked(run, asked)
    if donor is None:
        run, donor, which = _paired(run, examples, which)
    placed, every = _fields(run) if site is None else ([site], [site])
    steps = _spaced(run, site, iterations)
    grid = effects(run, donor, sites=placed, together=True, iterations=steps, asked=which, method=method)
    if (site is not None and " + " in grid.sites[0]) or not grid.positions[0]:
        raise LoopscopeError(
            f"causes looks at one site with positions, but '{site}' gives {list(grid.sites)}. For others: "
            f"ls.effects(run, donor, sites=...)."
        )
    full = effects(
        run, donor, sites=every, together=True, iterations=grid.iterations, positions="all", asked=which
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
        asked=told,
    )


def _best(grid: Effects) -> Float[Tensor, " iteration"]:
    """What the best position of each example carries, as a fraction of the whole difference."""
    assert grid.target is not None
    return grid.values[0, :, :, 0].amax(1).nanmean(1) / (grid.target - grid.base).nanmean()


def _spread(carried: Float[Tensor, "iteration position"]) -> Float[Tensor, " iteration"]:
    """Over how many positions it is spread: their participation ratio; NaN where nothing is carried."""
    size = carried.abs().sum(1)
    return torch.where(size > NOTHING / 10, size**2 / (carried**2).sum(1), torch.nan)


def _asked(run: Run, asked: Any) -> tuple[Tensor, str]:
    mask = asked_of(run, asked)
    many = bool((mask.sum(1) > 1).any())
    if asked is None and many:
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


def headline(found: Causes) -> tuple[str, str]:
    """The finding as a tile."""
    carrying = [
        k for k, share in zip(found.iterations, found.whole.tolist(), strict=True) if share >= CARRIES
    ]
    return (
        f"k ≥ {carrying[0]}" if carrying else "none",
        f"states that carry the answer. {found.verdict.sentence}",
    )


def draw(found: Causes) -> Any:
    """How much of the other answer each state brings along, by iteration."""
    counted = "iterations run before the state is written"
    figure = drawing.empty(
        "How much of another example's answer its state brings along", counted, "fraction of the way", 380
    )
    for name, values, colour in (
        ("whole state", found.whole, drawing.BLUE),
        ("best position alone", found.best, drawing.ORANGE),
    ):
        figure.add_scatter(
            x=list(found.iterations), y=[None if v != v else round(v, 4) for v in values.tolist()], name=name,
            mode="lines+markers",
            line={"color": colour, "width": 2}, hovertemplate=f"{name}, after %{{x}}: %{{y:.2f}}<extra></extra>",
        )  # fmt: skip
    figure.update_yaxes(
        range=[min(-0.05, float(found.best.min())), max(1.05, float(found.whole.nan_to_num().max()) + 0.05)]
    )
    return figure


def panels(found: Causes) -> list[Panel]:
    """The finding as a report shows it."""
    last = len(found.iterations) - 1
    many = found.spread[torch.isfinite(found.spread)]
    over = (
        f" Where they have an effect, it is spread over {number(float(many.median()), 2)} of {len(found.positions)} positions."
        if len(many)
        else ""
    )
    return [
        Panel(
            "What another example's state brings along",
            draw(found),
            f"{found.verdict.sentence} Written after {found.iterations[last // 2]} of {found.last} iterations the "
            f"whole state brings "
            f"{percent(float(found.whole[last // 2].clamp(0, 1)))} of the other answer, the best position alone "
            f"{percent(float(found.best[last // 2].clamp(0, 1)))}.",
            f"Each point is a pass of its own: the state of another example is written there, and all that follows is "
            f"computed anew. "
            f"0 leaves the answer, 1 is the other example's; judged by {found.asked}, means over {found.examples} examples.",
        ),
        Panel(
            "Position by position",
            carried_map(found),
            f"The strongest single position is "
            f"{found.positions[int(found.carried.abs().nan_to_num().amax(0).argmax())]}.{over}",
            "Each cell is one write: one position, after so many iterations (downwards). Blue moves the answer towards "
            "the other example's, red away from it. What the read-out itself reads, after the last iteration, may lie "
            "beyond the colours.",
        ),
    ]


def carried_map(found: Causes) -> Any:
    """The grid, iteration by position. Colours end at the largest cell before the last state, which is what the "
    "read-out reads."""
    before = found.carried[[k < found.last for k in found.iterations]]
    return effect_map(
        found.carried, found.iterations, found.positions, "Where the answer is carried", x="position written",
        y="iterations run before the write", quantity="fraction of the way",
        most=max(0.1, float(before.abs().nan_to_num().max())) if len(before) else None,
    )  # fmt: skip
