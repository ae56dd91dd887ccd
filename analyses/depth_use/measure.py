"""The measurement: depth use of a run. See the package for the question and its references."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.common.errors import LoopscopeError
from loopscope.common.result import AnalysisResult, Verdict
from loopscope.common.text import number, percent
from loopscope.core.looped_model import Looped
from loopscope.maths.bootstrap_slope import Slope, slope
from loopscope.recorder.labels import labels_of, task_of
from loopscope.runs.run import Run
from loopscope.tasks import Batch

from .integration_window import Windows, windows
from .items import items_of, since

SAME, FEWEST, CLUES, POINTS = 0.5, 20, 20, 9


class Adapts(Verdict):
    """How depth goes with difficulty."""

    adaptive = "Harder examples take more iterations: the model uses its depth adaptively."
    same = "All examples take the same number of iterations, whatever their difficulty."
    reverse = "Harder examples take fewer iterations."
    in_part = "Harder examples take longer to settle; of those that end right that can't be told."
    unclear = "Whether harder examples take more iterations can't be told: the slope's interval holds zero, and much besides."


@dataclass(frozen=True)
class Depth:
    """One depth of every item, against difficulty."""

    name: str
    """settled, right, halted or window."""
    iterations: Float[Tensor, " item"]
    """NaN where an item has none."""
    by_level: Float[Tensor, " level"]
    """Mean at each difficulty."""
    half: Float[Tensor, " level"]
    """1.96 standard errors of that mean over examples; NaN for fewer than two."""
    slope: Slope
    """Iterations for one unit of difficulty."""


@dataclass(frozen=True)
class DepthUse(AnalysisResult):
    """Depth against difficulty."""

    verdict: Adapts
    by: str
    """"example" or "answer": what an item is."""
    unit: str
    """What difficulty counts."""
    difficulty: Float[Tensor, " item"]
    example: Int[Tensor, " item"]
    depths: tuple[Depth, ...]
    """The first is settled, on which the verdict stands."""
    levels: Float[Tensor, " level"]
    right: Float[Tensor, " level"] | None
    """Fraction of the items that are right at the end; None where no right answer is known."""
    unsettled: int
    """Items whose answer changes in the last iteration."""
    windows: Windows | None
    """None where none were asked for."""
    flips: Float[Tensor, "level k"] | None
    """Share of the clues whose exchange after k turns the answer; NaN where a level has no clue."""
    iterations: int
    same_threshold: float = SAME
    """Depth is the same for all if the slope's interval leaves fewer iterations than that between
    the easiest and the hardest."""

    def summary(self) -> str:
        lines = [self.verdict.sentence, f"Difficulty is {self.unit}, {_range(self.levels)}."]
        for depth in self.depths:
            s = depth.slope
            lines.append(
                f"{_NAMES[depth.name]}: {number(float(depth.by_level[0]))} iterations at the easiest and "
                f"{number(float(depth.by_level[-1]))} at the hardest; slope {_slope(s)} iterations per "
                f"unit, rank correlation {number(s.correlation, 2)} ({s.items} items of {s.groups} "
                f"examples); with difficulties shuffled {number(s.shuffled[0], 2)} to "
                f"{number(s.shuffled[1], 2)}."
                if s.items >= FEWEST
                else f"{_NAMES[depth.name]}: known of {s.items} items only, too few for a slope."
            )
        lines.append(_window(self))
        if self.right is not None:
            lines.append(
                f"At the easiest {percent(float(self.right[0]))} are right at the end, at the hardest "
                f"{percent(float(self.right[-1]))}."
            )
        lines.append(
            f"{self.unsettled} of {len(self.difficulty)} items still change in the last of "
            f"{self.iterations} iterations. Threshold: the same depth is less than {self.same_threshold:g} "
            "iterations from the easiest to the hardest."
        )
        return " ".join(line for line in lines if line)


_NAMES = {
    "settled": "Depth to the answer",
    "right": "Depth to the right answer for good",
    "halted": "Iterations before it halts",
    "window": "End of the integration window",
}


def applies(run: Run) -> bool:
    """Whether the run's answers can be read out after every iteration, and its task knows several
    difficulties among them."""
    task, labels = task_of(run), labels_of(run)
    try:
        ready = _ready(run)
    except LoopscopeError:
        return False
    if not ready or task is None or labels is None or task.continuous:
        return False
    by = _by(task, labels.mask)
    example, before, _ = items_of(labels.mask, by)
    difficulty = before if by == "answer" else labels.difficulty
    return len(example) >= FEWEST and len(difficulty.unique()) > 1


def measure(
    run: Run,
    *,
    by: str | None = None,
    difficulty: Any = None,
    unit: str | None = None,
    answer_positions: Any = None,
    clues: int | None = CLUES,
    points: int | None = POINTS,
    seed: int = 0,
) -> DepthUse:
    """Whether the model takes more iterations for what is harder.

    Arguments:
        by: "example" or "answer"; None: as the task is (see above).
        difficulty: (batch,) of each example; None: the task's own, or of single answers how many
            stand before them.
        unit: what that counts, in words.
        answer_positions: (batch, position), the positions of the answers; None: the task's, else the last.
        clues: how many inputs are followed at most; 0: no windows; None: every position of every
            example.
        points: the number of k after which they are exchanged, evenly spread; None: all.
        seed: of the choice of clues and of the bootstrap.
    """
    run.require_finite()
    _check(run, by)
    labels, task = labels_of(run), task_of(run)
    from loopscope.patching.metrics import answer_mask

    mask = answer_mask(run, answer_positions).cpu()
    chosen = by or ("example" if task is None or difficulty is not None else _by(task, mask))
    example, level, places = _items(mask, chosen, labels, difficulty)
    iterations = _iterations(run, labels, example, places)
    right = None if labels is None else ~iterations["right"].isnan()
    seen = None
    if clues != 0:
        before = chosen == "answer"
        seen = windows(run, example, places, before=before, clues=clues, points=points, seed=seed)
        if len(seen.item):
            iterations["window"] = _window_ends(seen, len(example))
    levels = level.unique()
    depths = tuple(
        _depth(name, values, level, levels, example=example, seed=seed) for name, values in iterations.items()
    )
    counted = "answers before it" if chosen == "answer" and difficulty is None else _unit(task, difficulty)
    return DepthUse(
        verdict=_verdict(depths, float(levels[-1] - levels[0])),
        by=chosen,
        unit=unit or counted,
        difficulty=level,
        example=example,
        depths=depths,
        levels=levels,
        right=None if right is None else torch.stack([right[level == one].double().mean() for one in levels]),
        unsettled=int((iterations["settled"] == run.iterations).sum()),
        windows=seen,
        flips=_shares(seen, level, levels),
        iterations=run.iterations,
    )


def _check(run: Run, by: str | None) -> None:
    if not _ready(run):
        raise LoopscopeError(
            "depth_use needs a run of one iteration or more, whole and without edits, of tokens, whose "
            f"answers (batch, position, vocab) can be read out after every iteration, but got {run!r}. "
            "Record without edits= and keep=."
        )
    if by not in (None, "example", "answer"):
        raise LoopscopeError(f"by must be 'example' or 'answer', but is {by!r}.")


def _items(
    mask: Tensor, by: str, labels: Batch | None, difficulty: Any
) -> tuple[Int[Tensor, " item"], Float[Tensor, " item"], Bool[Tensor, "item position"]]:
    """The example, the difficulty and the answered positions of each item."""
    if difficulty is None and by == "example" and labels is None:
        raise LoopscopeError(
            "how hard each example is must be known, but this run's tokens are of no known task. Pass "
            "difficulty=, one number for each example, and unit=, what it counts."
        )
    example, level, places = items_of(mask, by)
    if difficulty is not None:
        hard = torch.as_tensor(difficulty, dtype=torch.float64).cpu()
        if tuple(hard.shape) != (len(mask),):
            raise LoopscopeError(
                f"difficulty must be one number for each of the {len(mask)} examples, but has the shape "
                f"{tuple(hard.shape)}."
            )
        level = hard[example]
    elif by == "example" and labels is not None:
        level = labels.difficulty.double().cpu()
    if len(level.unique()) < 2:
        raise LoopscopeError(
            f"two difficulties or more are needed to compare, but all {len(level)} items have the same. "
            "Record others too."
        )
    return example, level, places


def _iterations(run: Run, labels: Batch | None, example: Tensor, places: Tensor) -> dict[str, Tensor]:
    """By the depth's name, the iterations of each item."""
    answers = torch.stack([run.logits[k].argmax(-1).cpu() for k in range(run.iterations + 1)])
    out = {"settled": since(answers == answers[-1], example, places)}
    if labels is not None:
        out["right"] = since(answers == labels.targets.cpu(), example, places)
    if run.halting is not None and tuple(run.halting.iteration.shape) == tuple(answers.shape[1:]):
        when = run.halting.iteration.cpu().double() + 1
        out["halted"] = torch.where(places, when[example], -1).amax(1)
    return out


def _window_ends(seen: Windows, items: int) -> Float[Tensor, " item"]:
    """The last end of each item's windows; NaN without a clue."""
    ends = torch.full((items,), torch.nan, dtype=torch.float64)
    for item in seen.item.unique():
        ends[item] = seen.end[seen.item == item].max()
    return ends


def _ready(run: Run) -> bool:
    return (
        run.iterations >= 1
        and run.origin.get("whole", True)
        and not run.origin.get("edits")
        and isinstance(run.tokens, Tensor)
        and not run.tokens.is_floating_point()
        and isinstance(run.output, Tensor)
        and run.output.ndim == 3
        and run.states.iterations == list(range(run.iterations + 1))
        and isinstance(run.model, Looped)
    )


def _unit(task: Any, difficulty: Any) -> str:
    return "difficulty" if task is None or difficulty is not None else task.difficulty_unit


def _by(task: Any, mask: Tensor) -> str:
    return "answer" if task.causal and bool((mask.sum(1) > 1).any()) else "example"


def _depth(name: str, values: Tensor, level: Tensor, levels: Tensor, *, example: Tensor, seed: int) -> Depth:
    means, halves = [], []
    for one in levels:
        here = (level == one) & ~values.isnan()
        x, of = values[here].double(), example[here]
        means.append(x.mean() if len(x) else torch.tensor(torch.nan, dtype=torch.float64))
        count = len(of.unique())  # answers of one example aren't independent
        halves.append(
            1.96 * x.std() / count**0.5 if count > 1 else torch.tensor(torch.nan, dtype=torch.float64)
        )
    return Depth(name, values, torch.stack(means), torch.stack(halves), slope(level, values, example, seed))


def _shares(seen: Windows | None, level: Tensor, levels: Tensor) -> Tensor | None:
    if seen is None or not len(seen.item):
        return None
    own = level[seen.item]
    none = torch.full((len(seen.iterations),), torch.nan, dtype=torch.float64)
    return torch.stack(
        [seen.flips[own == one].double().mean(0) if bool((own == one).any()) else none for one in levels]
    )


def _verdict(depths: tuple[Depth, ...], span: float) -> Adapts:
    result = depths[0].slope
    if result.items < FEWEST or result.slope != result.slope or result.low != result.low:
        return Adapts.unclear
    if max(abs(result.low), abs(result.high)) * span < SAME:
        return Adapts.same
    if result.low > 0:
        right = [d.slope for d in depths if d.name == "right" and bool((~d.iterations.isnan()).any())]
        return Adapts.in_part if right and not right[0].low > 0 else Adapts.adaptive
    return Adapts.reverse if result.high < 0 else Adapts.unclear


def _slope(result: Slope) -> str:
    return f"{number(result.slope)} ({number(result.low)} to {number(result.high)})"


def _range(levels: Tensor) -> str:
    return f"{levels[0]:g} to {levels[-1]:g}"


def _window(result: DepthUse) -> str:
    seen = result.windows
    if seen is None:
        return ""
    if not len(seen.item):
        return f"No clue was found: another token at one of {seen.tried} positions turned no answer."
    reads = (
        "the loop goes on reading its input" if seen.rereads >= 0.5 else "the input has been taken by then"
    )
    state = seen.state.any(1).double().mean()
    return (
        f"{len(seen.item)} of {seen.tried} inputs tried are clues: another token there turns the answer. "
        f"Exchanged half way, {percent(seen.rereads)} still do: {reads}. With the state at the input alone "
        f"exchanged, at whatever iteration, {percent(float(state))} do."
    )
