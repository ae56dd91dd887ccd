"""Iterations until answers settle and stay correct, until the model halts, and integration windows,
against difficulty."""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.common.arguments import Count, MaskOrPositions, Numbers, PositiveCount, Seed
from loopscope.common.errors import LoopscopeError
from loopscope.common.evidence import Estimate, Evidence
from loopscope.common.text import number, plural
from loopscope.core.looped_model import Looped
from loopscope.maths.bootstrap_slope import slope
from loopscope.patching.metrics import answer_mask
from loopscope.recorder.labels import labels_of, task_of
from loopscope.runs.output_logits import position_logits
from loopscope.runs.run import Run
from loopscope.tasks import Batch, Task

from .integration_window import IntegrationWindows, integration_windows
from .items import first_lasting, items_of
from .order_share import order_share
from .result import MIN_ITEMS, Depth, DepthUseResult, DepthUseVerdict, Relation, relation_of

MAX_INPUTS, EXCHANGE_POINTS, MIN_EXAMPLES = 20, 9, 12


def applies(run: Run) -> bool:
    """Whether the run's answers can be read out after every iteration, and its task has examples of
    several difficulties."""
    task, labels = task_of(run), labels_of(run)
    try:
        readable = _is_readable(run)
    except LoopscopeError:
        return False
    if not readable or task is None or labels is None or task.continuous:
        return False
    by = _item_kind(task, labels.mask)
    example, before, _ = items_of(labels.mask, by)
    difficulty = before if by == "answer" else labels.difficulty[example]
    return len(example) >= MIN_ITEMS and len(difficulty.unique()) > 1


# It is long because its options and the fields of its result are many.
def measure(
    run: Run,
    *,
    by: Literal["example", "answer"] | None = None,
    difficulty: Numbers | None = None,
    unit: str | None = None,
    answer_positions: MaskOrPositions | None = None,
    max_inputs: Count | None = MAX_INPUTS,
    points: PositiveCount | None = EXCHANGE_POINTS,
    seed: Seed = 0,
) -> DepthUseResult:
    """Measure whether the model takes more iterations for what is harder.

    Arguments:
        by: "example" or "answer", what an item is; None: as the task is (see above).
        difficulty: (batch,) of each example; None: the task's own, or for single answers the number
            of answers before them.
        unit: what difficulty counts, in words.
        answer_positions: positions, or a mask (batch, position); None: the task's, else the last.
        max_inputs: how many relevant inputs get an integration window at most; 0: none; None: every
            relevant position of every example.
        points: the number of k after which inputs are replaced, evenly spaced; None: all.
        seed: of the draw of inputs and of the bootstrap.

    Raises:
        LoopscopeError: the answers can't be read out after every iteration, the difficulties are
            unknown or all the same, or an option is out of range.
    """
    run.require_finite()
    _check(run)
    labels, task = labels_of(run), task_of(run)
    mask = answer_mask(run, answer_positions).cpu()
    item = by or ("example" if task is None or difficulty is not None else _item_kind(task, mask))
    example, level, positions = _items(mask, item, labels, difficulty)
    iterations = _iterations(run, labels, example, positions)
    correct = None if labels is None else ~iterations["correct"].isnan()
    windows = None
    if max_inputs != 0:
        windows = integration_windows(
            run, example, positions, causal=item == "answer", max_inputs=max_inputs, points=points, seed=seed
        )
        if len(windows.item):
            iterations["window"] = _window_ends(windows, len(example))
    levels = level.unique()
    depths = tuple(
        _depth(name, values, level, levels, example=example, seed=seed) for name, values in iterations.items()
    )
    one_token = len(run.logits[run.iterations].argmax(-1).cpu()[example][positions].unique()) == 1
    verdict, evidence, halting = _decide(depths, level, example, constant=one_token)
    return DepthUseResult(
        verdict=verdict,
        evidence=evidence,
        halting="never" if _never_halts(run, example, positions) else halting,
        by=item,
        unit=unit or _unit(task, difficulty, item),
        difficulty=level,
        example=example,
        depths=depths,
        levels=levels,
        correct=None
        if correct is None
        else torch.stack([correct[level == value].double().mean() for value in levels]),
        unsettled=int((iterations["settled"] == run.iterations).sum()),
        windows=windows,
        changes_by_level=_changes_by_level(windows, level, levels),
        iterations=run.iterations,
    )


def _check(run: Run) -> None:
    if not _is_readable(run):
        raise LoopscopeError(
            "depth_use needs a run of one iteration or more, whole and without edits, of tokens, whose "
            f"answers (batch, position, vocab) can be read out after every iteration, but got {run!r}. "
            "Record without edits= and keep=."
        )


def _is_readable(run: Run) -> bool:
    return (
        run.iterations >= 1
        and run.origin.get("whole", True)
        and not run.origin.get("edits")
        and isinstance(run.tokens, Tensor)
        and not run.tokens.is_floating_point()
        and position_logits(run) is not None
        and run.states.iterations == list(range(run.iterations + 1))
        and isinstance(run.model, Looped)
    )


def _item_kind(task: Task, mask: Bool[Tensor, "batch position"]) -> str:
    return "answer" if task.causal and bool((mask.sum(1) > 1).any()) else "example"


def _unit(task: Task | None, difficulty: Any, by: str) -> str:
    """What difficulty counts, in words."""
    if by == "answer" and difficulty is None:
        return "answers before it"
    return "difficulty" if task is None or difficulty is not None else task.difficulty_unit


def _items(
    mask: Bool[Tensor, "batch position"], by: str, labels: Batch | None, difficulty: Any
) -> tuple[Int[Tensor, " item"], Float[Tensor, " item"], Bool[Tensor, "item position"]]:
    """The example, the difficulty and the answer positions of each item."""
    if difficulty is None and by == "example" and labels is None:
        raise LoopscopeError(
            "the difficulty of each example must be known, but this run's tokens are of no known task. Pass "
            "difficulty=, one number for each example, and unit=, what it counts."
        )
    example, level, positions = items_of(mask, by)
    if difficulty is not None:
        values = torch.as_tensor(difficulty, dtype=torch.float64).cpu()
        if tuple(values.shape) != (len(mask),):
            raise LoopscopeError(
                f"difficulty must be one number for each of the {len(mask)} examples, but has the shape "
                f"{tuple(values.shape)}. Pass a tensor (batch,)."
            )
        level = values[example]
    elif by == "example" and labels is not None:
        level = labels.difficulty.double().cpu()[example]
    if len(level.unique()) < 2:
        raise LoopscopeError(
            f"two difficulties or more are needed to compare, but all {len(level)} items have the same. "
            "Record others too."
        )
    return example, level, positions


def _iterations(run: Run, labels: Batch | None, example: Tensor, positions: Tensor) -> dict[str, Tensor]:
    """By the name of the depth, the iterations of each item."""
    answers = torch.stack([run.logits[k].argmax(-1).cpu() for k in range(run.iterations + 1)])
    out = {"settled": first_lasting(answers == answers[-1], example, positions)}
    if labels is not None:
        out["correct"] = first_lasting(answers == labels.targets.cpu(), example, positions)
    if _never_halts(run, example, positions):
        return out
    if run.halting is not None and tuple(run.halting.iteration.shape) == tuple(answers.shape[1:]):
        halting = run.halting.iteration.cpu().double() + 1
        out["halting"] = torch.where(positions, halting[example], -1).amax(1)
    return out


def _never_halts(run: Run, example: Tensor, positions: Tensor) -> bool:
    """Whether the model halts, but at none of the answers within the run."""
    if run.halting is None or run.halting.halted.shape != run.tokens.shape[:2]:
        return False
    return not bool(run.halting.halted.cpu()[example][positions].any())


def _window_ends(windows: IntegrationWindows, items: int) -> Float[Tensor, " item"]:
    """The last end of each item's windows; NaN without a relevant input."""
    ends = torch.full((items,), torch.nan, dtype=torch.float64)
    for item in windows.item.unique():
        ends[item] = windows.end[windows.item == item].max()
    return ends


def _depth(name: str, values: Tensor, level: Tensor, levels: Tensor, *, example: Tensor, seed: int) -> Depth:
    nan = torch.tensor(torch.nan, dtype=torch.float64)
    means, half_widths = [], []
    for value in levels:
        rows = (level == value) & ~values.isnan()
        x = values[rows].double()
        count = len(example[rows].unique())  # answers of one example aren't independent
        means.append(x.mean() if len(x) else nan)
        half_widths.append(1.96 * x.std() / count**0.5 if count > 1 else nan)
    trend = slope(level, values, example, seed)
    return Depth(
        name, values, torch.stack(means), torch.stack(half_widths), trend,
        order=order_share(level, values, rising=trend.slope >= 0),
    )  # fmt: skip


def _changes_by_level(
    windows: IntegrationWindows | None, level: Tensor, levels: Tensor
) -> Float[Tensor, "level k"] | None:
    if windows is None or not len(windows.item):
        return None
    input_level = level[windows.item]
    rows = [windows.changes[input_level == value].double() for value in levels]
    none = torch.full((len(windows.iterations),), torch.nan, dtype=torch.float64)
    return torch.stack([changes.mean(0) if len(changes) else none for changes in rows])


def _decide(
    depths: tuple[Depth, ...], level: Tensor, example: Tensor, *, constant: bool
) -> tuple[DepthUseVerdict, Evidence, Relation | None]:
    """The verdict, its evidence, and how halting goes with difficulty."""
    span = float(level.max() - level.min())
    relations: dict[str, Relation] = {
        depth.name: relation_of(depth.slope, span, depth.order) for depth in depths
    }
    verdict = verdict_on(relations["settled"], relations.get("correct"))
    settled = next(depth for depth in depths if depth.name == "settled").slope
    low, high = settled.correlation_interval
    chance = settled.shuffled_correlation
    examples = len(example.unique())
    how = (
        f"It is decided by the slope and the rank correlation over {plural(examples, 'example')}, with 95 % "
        "intervals from a bootstrap over examples, and by the correlations with difficulties shuffled "
        f"({number(chance[0], 2)} to {number(chance[1], 2)})."
    )
    if constant:
        how = f"The final answers of all {plural(examples, 'example')} are one token."
        verdict = DepthUseVerdict.constant
    elif examples < MIN_EXAMPLES:
        how = f"{plural(examples, 'example')} are too few for a verdict, which needs {MIN_EXAMPLES}."
        verdict = DepthUseVerdict.unclear
    estimates = (
        Estimate("slope, iterations per unit of difficulty", settled.slope, settled.low, settled.high),
        Estimate("rank correlation with difficulty", settled.correlation, low, high),
    )
    alternatives = ()
    if verdict is DepthUseVerdict.unclear and examples >= MIN_EXAMPLES and settled.slope == settled.slope:
        alternatives = _alternatives(relations["settled"], settled.slope)
    evidence = Evidence(examples, {verdict.name: 1.0}, how, alternatives, estimates)
    return verdict, evidence, relations.get("halting")


def _alternatives(settled: Relation, slope: float) -> tuple[DepthUseVerdict, ...]:
    if settled == "later":  # what is unclear is whether those that end correct do too
        return DepthUseVerdict.later, DepthUseVerdict.in_part
    ordered = DepthUseVerdict.later if slope > 0 else DepthUseVerdict.earlier
    return ordered, DepthUseVerdict.same


def verdict_on(settled: Relation, correct: Relation | None) -> DepthUseVerdict:
    """The verdict on how the iterations until answers settle, and until they stay correct, go with
    difficulty.

    Arguments:
        correct: None where right answers are unknown.
    """
    if settled != "later" or correct in (None, "later"):
        return DepthUseVerdict[settled]
    return DepthUseVerdict.unclear if correct in ("unclear", "irregular") else DepthUseVerdict.in_part
