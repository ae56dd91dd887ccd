"""What each state of a two-state model does: participation ratios, accuracy with a state frozen,
changes of its read-out, attention by role, and the verdict."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.arguments import Index, PositiveCount, Seed
from loopscope.common.errors import LoopscopeError
from loopscope.common.evidence import Estimate
from loopscope.common.text import number, percent, plural
from loopscope.core.looped_model import Looped
from loopscope.maths.dimension import participation_ratio
from loopscope.maths.precision import FLOOR, resolution
from loopscope.recorder.extend import sites_in_loop, vectors
from loopscope.recorder.labels import labels_of, task_of
from loopscope.recorder.record_run import record
from loopscope.recorder.subset import select_examples
from loopscope.recorder.untrained import untrained_run
from loopscope.runs.output_logits import position_logits
from loopscope.runs.run import Run
from loopscope.runs.run_mask import mask_at, mask_of, rows_that_count

from .attention_by_role import AttentionContrast, attention_contrast
from .frozen_states import AnswerChanges, AnswerKey, FrozenState, freeze_from, state_fields, states_only
from .verdict import LEAST, LOSS, RolesVerdict, decide

EXAMPLES, MIN_ITERATIONS, VECTORS = 32, 2, 1024


@dataclass(frozen=True)
class StateDimension:
    """The participation ratio of one state."""

    field: str
    ratio: Float[Tensor, " state"]
    """After k = 0..n iterations; NaN if all vectors are equal."""
    untrained: Float[Tensor, " state"] | None
    """The same of an untrained model of this configuration, on the same tokens; None where none can
    be built."""
    whole: float
    """At the end, over whole examples, at most their number."""


@dataclass(frozen=True)
class RolesResult(AnalysisResult):
    """Two states, compared."""

    verdict: RolesVerdict
    fields: tuple[str, ...]
    """The first is read out."""
    dimensions: tuple[StateDimension, ...]
    solved: float
    """Fraction of examples solved with nothing frozen, 0..1."""
    frozen: tuple[FrozenState, ...]
    """By field and start."""
    changes: tuple[AnswerChanges, ...]
    attention: AttentionContrast | None
    """None if it can't be compared; `attention_note` says why."""
    attention_note: str
    iterations: int
    examples: int
    vectors: int
    """Over which the participation ratios are taken."""
    criterion: str
    """What counts as right."""
    difficulty: Float[Tensor, " example"] | None
    """Of each example, in the task's unit; None without a task."""
    loss_threshold: float = LOSS
    """A state is needed if, with it frozen, at most this fraction of the solved examples is still
    solved."""

    @property
    def sentence(self) -> str:
        """The verdict, with what is lost with each state frozen."""
        lost = self.losses()
        return f"{super().sentence} {lost}" if lost else super().sentence

    def losses(self) -> str:
        """What is lost with each state frozen, as a sentence; empty if it isn't known."""
        shares = self.evidence.estimates
        if not shares:
            return ""
        pairs = zip(self.frozen_from_start, shares, strict=True)
        lost = [(state, Estimate("", 1 - of.value, 1 - of.high, 1 - of.low)) for state, of in pairs]
        parts = [f"freezing {state.field} {state.until} loses {one.share_text}" for state, one in lost]
        text = f"{'; '.join(parts)} of the {plural(self.evidence.examples, 'solved example')}."
        return text[0].upper() + text[1:]

    @property
    def frozen_from_start(self) -> list[FrozenState]:
        """The states frozen from the first iteration on."""
        return [state for state in self.frozen if state.start == 0]

    def summary(self) -> str:
        frozen = "; ".join(
            f"{state.field} frozen from the start: {percent(fraction(state.to_end))} solved if frozen to the "
            f"end, {percent(fraction(state.last_free))} with a free last iteration"
            for state in self.frozen_from_start
        )
        a, b = self.dimensions[:2]
        untrained = ", ".join(
            f"{d.field} {number(float(d.untrained[-1]))}" for d in self.dimensions if d.untrained is not None
        )
        lines = [
            self.sentence,
            f"Of all {self.examples} examples ({self.criterion}) {percent(self.solved)} are solved with "
            f"nothing frozen. {frozen}.",
            f"At the end the participation ratio of {a.field} is {number(float(a.ratio[-1]))} and that of "
            f"{b.field} {number(float(b.ratio[-1]))}, over {self.vectors} vectors"
            + (f"; untrained {untrained}." if untrained else ". No untrained model can be built."),
            " ".join(self.changes_sentence(field) for field in self.fields),
            self.attention_sentence(),
            f"Threshold: a state is needed if at most {self.loss_threshold:g} of the solved examples are "
            f"still solved, with {self.fields[0]}, which is read out, frozen until the last iteration, and "
            f"the others to the end. The verdict needs {plural(LEAST, 'solved example')}.",
        ]
        return " ".join(line for line in lines if line)

    def changes_sentence(self, field: str) -> str:
        """Changes of one state's read-out, between symbols and between blank and a symbol."""
        by_frozen = {c.frozen: c for c in self.changes if c.field == field}
        plain = by_frozen.pop(None)
        others = ", ".join(
            f"{int(c.content.sum())} and {int(c.mask.sum())} with {frozen} frozen from the start"
            for frozen, c in by_frozen.items()
        )
        return (
            f"Decoded from {field}, {int(plain.content.sum())} answers change from one symbol to another "
            f"and {int(plain.mask.sum())} between blank and a symbol; {others}."
        )

    def attention_sentence(self) -> str:
        """The differences of attention, or why there are none."""
        return self.attention_note if self.attention is None else self.attention.summary()


def fraction(solved: Tensor) -> float:
    """Of the examples, 0..1."""
    return float(solved.double().mean())


def applies(run: Run) -> bool:
    """Whether the run's state has two such tensors, the run can be continued from the start, and
    its right answers are known: without them no example is solved."""
    return _is_measurable(run) and labels_of(run) is not None


def _is_measurable(run: Run) -> bool:
    try:
        return (
            run.iterations >= MIN_ITERATIONS
            and run.origin.get("whole", True)
            and not run.origin.get("edits")
            and isinstance(run.model, Looped)
            and run.states.iterations == list(range(run.iterations + 1))
            and len(state_fields(run)) > 1
            and position_logits(run) is not None
            and not getattr(task_of(run), "continuous", False)
        )
    except (LoopscopeError, KeyError):
        return False


def measure(
    run: Run,
    *,
    starts: Sequence[Index] | None = None,
    examples: PositiveCount | None = EXAMPLES,
    compare: bool = True,
    seed: Seed = 0,
) -> RolesResult:
    """What each state of a two-state model does.

    Arguments:
        starts: the iterations from which on a state is frozen; 0 is added. None: 0, 1 and a quarter
            of the run's.
        examples: how many of the run's, from the first on; None: all.
        compare: whether to compare with an untrained model.
        seed: of that model's weights.

    Raises:
        LoopscopeError: the state has no two such tensors, or the run can't be continued.
    """
    run.require_finite()
    if not _is_measurable(run):
        raise LoopscopeError(
            f"roles needs a run of {MIN_ITERATIONS} iterations or more, whole and without edits, of a model "
            f"whose state has two tensors of one shape that it iterates on, but got {run!r}. Record an HRM "
            "or a TRM, or another with such `fields`."
        )
    n, fields = run.iterations, state_fields(run)
    starts = sorted({0, 1, n // 4} if starts is None else {0, *starts})
    run = states_only(run)
    counted = rows_that_count(run)
    if examples is not None or len(counted) < len(run.mask):
        run = select_examples(run, counted[:examples])
    labels, key = labels_of(run), _answer_key(run)
    frozen, changes = [], [key.changes(run, field) for field in fields]
    for field in fields:
        trials, from_start = freeze_from(run, field, starts, key)
        frozen += trials
        changes += [key.changes(from_start, other, frozen=field) for other in fields if other != field]
    solved = key.solved(_answers(run))
    kept = {state.field: state.solved[solved] for state in frozen if state.start == 0}
    verdict, evidence = decide(kept)
    attention, note = _attention(run, key)
    return RolesResult(
        verdict=verdict,
        evidence=evidence,
        fields=tuple(fields),
        dimensions=_dimensions(run, fields, untrained_run(run, seed) if compare else None),
        solved=fraction(solved),
        frozen=tuple(frozen),
        changes=tuple(changes),
        attention=attention,
        attention_note=note,
        iterations=n,
        examples=len(solved),
        vectors=min(VECTORS, int(mask_at(run, run.states).sum())),
        criterion="right answers" if labels is not None else "task unknown: the answers with nothing frozen",
        difficulty=None if labels is None else labels.difficulty,
    )


def _answer_key(run: Run) -> AnswerKey:
    """The right answers; the run's own where its task is unknown."""
    labels, task = labels_of(run), task_of(run)
    blank = None if task is None else task.blank_token
    if labels is not None:
        return AnswerKey(labels.targets, labels.mask, blank)
    answers = _answers(run).cpu().argmax(-1)
    return AnswerKey(answers, mask_of(run, *answers.shape), blank)


def _answers(run: Run) -> Float[Tensor, "batch position vocab"]:
    logits = position_logits(run)
    assert logits is not None  # applies
    return logits


def _dimensions(run: Run, fields: Sequence[str], fresh: Run | None) -> tuple[StateDimension, ...]:
    def cloud(of: Run, name: str) -> Float[Tensor, "state batch position width"]:
        x = vectors(of["state" if name == fields[0] else f"state.{name}"]).cpu()
        return torch.where(mask[..., None], x, torch.zeros_like(x))

    def ratios(x: Tensor) -> Float[Tensor, " state"]:
        return _ratio(x[:, mask][:, :VECTORS])

    mask = mask_at(run, run.states)
    return tuple(
        StateDimension(
            name,
            ratios(cloud(run, name)),
            None if fresh is None else ratios(cloud(fresh, name)),
            float(_ratio(cloud(run, name)[-1].flatten(1))),
        )
        for name in fields
    )


def _ratio(x: Tensor) -> Tensor:
    """Participation ratio; NaN where all vectors are equal, up to rounding."""
    level, x = max(1e-6, FLOOR * resolution(x.dtype)), x.double()
    centred = x - x.mean(-2, keepdim=True)
    point = centred.abs().amax((-2, -1)) <= level * x.abs().amax((-2, -1))
    return participation_ratio(x).where(~point, torch.nan)


def _attention(run: Run, key: AnswerKey) -> tuple[AttentionContrast | None, str]:
    """The contrast, or why there is none."""
    task, tokens = task_of(run), run.tokens.cpu()
    neighbours = None if task is None else task.neighbours()
    if task is None or neighbours is None or task.violations(tokens) is None:
        return None, "The task has no rules of neighbouring positions, so attention was not compared."
    names = sites_in_loop(run, "hook_pattern")
    if not names:
        return None, "The model has no attention patterns, so attention was not compared."
    seed = run.origin.get("seed")
    with run.reader.as_recorded(seeded=seed is not None) as model:
        patterns = record(model, run.tokens, run.iterations, sites=names, seed=seed, **run.inputs)
    answers = torch.stack([run.logits[k].cpu().argmax(-1) for k in range(run.iterations)])
    conflicts = task.violations(answers.where(key.answer_positions, tokens))
    assert conflicts is not None
    result = attention_contrast(patterns, names, key.answer_positions, neighbours, conflicts=conflicts)
    if result is None:
        return None, "The model has no two roles with as many attention layers, so they were not compared."
    return result, ""
