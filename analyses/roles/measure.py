"""The measurement: roles of a run. See the package for the question and its references."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.errors import LoopscopeError
from loopscope.common.result import AnalysisResult, Verdict
from loopscope.common.text import number, percent
from loopscope.core.looped_model import Looped
from loopscope.maths.dimension import participation_ratio
from loopscope.recorder.extend import sites_in_loop, vectors
from loopscope.recorder.labels import labels_of, task_of
from loopscope.recorder.record_run import record
from loopscope.recorder.subset import select_examples
from loopscope.recorder.untrained import untrained_run
from loopscope.runs.run import Run

from .attention_by_role import Contrast, contrast, told
from .held_states import Held, Said, Turns, bare, fields_of, freezes

EXAMPLES, BROKEN, FEWEST, VECTORS = 32, 0.5, 2, 1024


class Roles(Verdict):
    """What is lost without each of the states."""

    both = "No state can be spared: with any of them held still, most of what was solved is lost."
    one = "Not all states are needed alike: with one held still most of what was solved is lost, with another it is not."
    none = "No state is missed by itself: with any one held still, most of what was solved still is."
    unknown = "Too little is solved for a loss to show."


@dataclass(frozen=True)
class Cloud:
    """How many directions one state fills."""

    field: str
    ratio: Float[Tensor, " state"]
    """Participation ratio after k = 0..n iterations; NaN for a point."""
    untrained: Float[Tensor, " state"] | None
    """The same of an untrained model of this configuration, on the same tokens; None where none can
    be built."""
    whole: float
    """At the end, over whole examples, at most their number."""


@dataclass(frozen=True)
class RolesResult(AnalysisResult):
    """Two states, compared."""

    verdict: Roles
    fields: tuple[str, ...]
    """The first is read out."""
    clouds: tuple[Cloud, ...]
    solved: float
    """With nothing held; of examples, 0..1."""
    held: tuple[Held, ...]
    """By field and start."""
    turns: tuple[Turns, ...]
    attention: Contrast | None
    """None where the model has no attention in both roles or the task no neighbours; `without` says
    so."""
    without: str
    iterations: int
    examples: int
    vectors: int
    judged: str
    """What counts as right."""
    difficulty: Float[Tensor, " example"] | None
    """How hard each example is, in the task's unit; None without a task."""
    broken_threshold: float = BROKEN
    """Most is lost if the solved examples are at most this fraction of those with nothing held."""

    def summary(self) -> str:
        first = min(one.start for one in self.held)
        told = [
            f"{one.field} held from iteration {one.start}: {percent(share(one.to_end))} solved if to the "
            f"end, {percent(share(one.free))} with the last iteration free"
            for one in self.held
            if one.start == first
        ]
        a, b = self.clouds[:2]
        bare = [f"{c.field} {number(float(c.untrained[-1]))}" for c in self.clouds if c.untrained is not None]
        lines = [
            self.verdict.sentence,
            f"Of {self.examples} examples ({self.judged}) {percent(self.solved)} are solved with nothing "
            f"held. {'; '.join(told)}.",
            f"At the end the participation ratio of {a.field} is {number(float(a.ratio[-1]))} and that of "
            f"{b.field} {number(float(b.ratio[-1]))}, over {self.vectors} vectors"
            + (
                f"; untrained {', '.join(bare)}."
                if bare
                else ". No untrained model of this kind can be built."
            ),
            " ".join(_changes(self)),
            _attends(self),
            f"Threshold: most is lost at {self.broken_threshold:g} of what was solved or less, with "
            f"{self.fields[0]}, which is read out, held until the last iteration, and the others to the end.",
        ]
        return " ".join(line for line in lines if line)


def share(right: Tensor) -> float:
    """Of examples."""
    return float(right.double().mean())


def applies(run: Run) -> bool:
    """Whether the run's state has two such tensors, and it can be gone on with from the start."""
    try:
        return (
            run.iterations >= FEWEST
            and run.origin.get("whole", True)
            and not run.origin.get("edits")
            and isinstance(run.model, Looped)
            and run.states.iterations == list(range(run.iterations + 1))
            and len(fields_of(run)) > 1
            and isinstance(run.output, Tensor)
            and run.output.ndim == 3
            and not getattr(task_of(run), "continuous", False)
        )
    except (LoopscopeError, KeyError):
        return False


def measure(
    run: Run,
    *,
    starts: Sequence[int] | None = None,
    examples: int | None = EXAMPLES,
    compare: bool = True,
    seed: int = 0,
) -> RolesResult:
    """What each state of a two-state model does.

    Arguments:
        starts: the iterations from which on a state is held, 0 among them; None: 0, 1 and a quarter
            of the run's.
        examples: how many of the run's are looked at, the first; None: all.
        compare: whether with an untrained model.
        seed: of that model's weights.
    """
    run.require_finite()
    if not applies(run):
        raise LoopscopeError(
            f"roles needs a run of {FEWEST} iterations or more, whole and without edits, of a model whose "
            f"state has two tensors of one shape that it iterates on, but got {run!r}. Record an HRM or a "
            "TRM, or another with such `fields`."
        )
    n, fields = run.iterations, fields_of(run)
    chosen = sorted({0, 1, n // 4} if starts is None else {0, *starts})
    run = bare(run)
    run = run if examples is None else select_examples(run, range(min(examples, len(run.tokens))))
    labels, task = labels_of(run), task_of(run)
    own = run.output.cpu().argmax(-1)
    blank = None if task is None else task.blank_token
    said = (
        Said(labels.targets, labels.mask, blank)
        if labels is not None
        else Said(own, torch.ones_like(own, dtype=torch.bool), blank)
    )
    held, turns = [], [said.turns(run, field) for field in fields]
    for field in fields:
        trials, whole = freezes(run, field, chosen, said)
        held += trials
        turns += [said.turns(whole, other, held=field) for other in fields if other != field]
    solved = share(said.right(run.output))
    seen, without = _attention(run, said)
    return RolesResult(
        verdict=_verdict(solved, held, len(own)),
        fields=tuple(fields),
        clouds=_clouds(run, fields, untrained_run(run, seed) if compare else None),
        solved=solved,
        held=tuple(held),
        turns=tuple(turns),
        attention=seen,
        without=without,
        iterations=n,
        examples=len(own),
        vectors=min(VECTORS, vectors(run.states, first=n).flatten(1, 2).shape[1]),
        difficulty=None if labels is None else labels.difficulty,
        judged="right answers" if labels is not None else "no task is known: as with nothing held",
    )


def _clouds(run: Run, fields: list[str], fresh: Run | None) -> tuple[Cloud, ...]:
    def cloud(of: Run, name: str) -> Tensor:
        return vectors(of["state" if name == fields[0] else f"state.{name}"]).double().cpu()

    def ratios(x: Tensor) -> Tensor:
        return _ratio(x.flatten(1, 2)[:, :VECTORS])

    return tuple(
        Cloud(
            name,
            ratios(cloud(run, name)),
            None if fresh is None else ratios(cloud(fresh, name)),
            float(_ratio(cloud(run, name)[-1].flatten(1))),
        )
        for name in fields
    )


def _ratio(x: Tensor) -> Tensor:
    """NaN where the cloud is a point, up to rounding."""
    centred = x - x.mean(-2, keepdim=True)
    point = centred.abs().amax((-2, -1)) <= 1e-6 * x.abs().amax((-2, -1))
    return participation_ratio(x).where(~point, torch.nan)


def _attention(run: Run, said: Said) -> tuple[Contrast | None, str]:
    task = task_of(run)
    neighbours = None if task is None else task.neighbours()
    if task is None or neighbours is None or task.violations(run.tokens.cpu()) is None:
        return None, "The task doesn't say which positions bear on which, so attention wasn't compared."
    names = sites_in_loop(run, "hook_pattern")
    if not names:
        return None, "The model has no attention patterns, so attention wasn't compared."
    seen = record(run.model, run.tokens, run.iterations, sites=names, seed=run.origin.get("seed"))
    answers = torch.stack([run.logits[k].cpu().argmax(-1) for k in range(run.iterations)])
    filled = answers.where(said.answer_positions, run.tokens.cpu())
    conflicts = task.violations(filled)
    assert conflicts is not None
    result = contrast(seen, names, said.answer_positions, neighbours, conflicts=conflicts)
    none = "The model's attention isn't of two roles with as many layers each, so it wasn't compared."
    return result, "" if result is not None else none


def _verdict(solved: float, held: list[Held], examples: int) -> Roles:
    if solved * examples < 4:
        return Roles.unknown
    lost = [share(one.spared) <= BROKEN * solved for one in held if one.start == 0]
    return Roles.both if all(lost) else Roles.one if any(lost) else Roles.none


def _changes(result: RolesResult) -> list[str]:
    """Content changes and mask flips of each read-out, in words."""
    lines = []
    for field in result.fields:
        own = next(t for t in result.turns if t.field == field and t.held is None)
        others = [t for t in result.turns if t.field == field and t.held is not None]
        told = ", ".join(
            f"{int(t.content.sum())} and {int(t.mask.sum())} with {t.held} held from the start"
            for t in others
        )
        lines.append(
            f"Read from {field}, {int(own.content.sum())} answers change their content and "
            f"{int(own.mask.sum())} turn blank or back over the iterations; {told}."
        )
    return lines


def _attends(result: RolesResult) -> str:
    return result.without if result.attention is None else told(result.attention)
