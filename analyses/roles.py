"""Do the two states of a recursive model have two roles?

For models whose state is two tensors (or more) of the same shape, such as HRM's and TRM's high and low state:

- participation ratio (sum λ)² / sum λ² of the covariance of each state, by k, over the vectors of all positions of all
  examples; beside that of an untrained model of the same configuration, where it can be built. At the end also over whole
  examples (their positions flattened into one vector), which is bounded by their number.
- freeze: a state is held at the value it had after k iterations (`loopscope.freeze`: every update of it is undone, those of an
  inner loop too), and the loop goes on. Solved are the examples whose every answer is right. Held to the end, the state that is
  read out gives the answer that it had; so its last iteration is left free, those of the others not. Both senses are told.
- changes between successive read-outs of each state, with nothing held and with the other held from the start: content changes
  (another answer, blank before and after or neither) and mask flips (blank or no longer blank).
- attention of the two roles, where the model has any and the task says which cells bear on which (`loopscope.contrast`):
  neighbourhood mass, entropy over ln n, mass on cells in conflict, and the differences, positive where the inner role is the
  more local.

Sources: participation ratio of the two states, Wang et al. 2025 (arXiv 2506.21734); freeze test and attention, Shen, Su &
Kyrillidis 2026 (arXiv 2605.17811).

What can mislead:
- That nothing is solved with the state held to the end that is read out says how the model is built. No verdict goes by it.
- Held from the start, a state is not only still: it holds what no training example ever gave. A state that is missed may be
  missed as a memory or as a bias.
- The read-out was trained on the first state alone; read from another, answers are a view, not what the model says.
- A participation ratio grows with the number of vectors until the cloud is filled. Compare only equal counts (`vectors`). How
  the published ones were sampled isn't told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope import drawing
from loopscope.asked import labels_of, task_of
from loopscope.contrast import Contrast, contrast, difference_figure, told
from loopscope.drawing import Panel, number, percent
from loopscope.driver import Looped
from loopscope.errors import LoopscopeError
from loopscope.finding import Finding, Verdict
from loopscope.maths.dimension import participation_ratio
from loopscope.onward import inside, vectors
from loopscope.recorder import record
from loopscope.run import Run
from loopscope.spared import Held, Said, Turns, bare, fields_of, freezes
from loopscope.subset import only
from loopscope.untrained import untrained

TITLE, PLACE = "Two states, two roles?", 47
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
    """The same of an untrained model of this configuration, on the same tokens; None where none can be built."""
    whole: float
    """At the end, over whole examples, at most their number."""


@dataclass(frozen=True)
class RolesFinding(Finding):
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
    """None where the model has no attention in both roles or the task no neighbours; `without` says so."""
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
            f"{one.field} held from iteration {one.start}: {percent(share(one.to_end))} solved if to the end, "
            f"{percent(share(one.free))} with the last iteration free"
            for one in self.held
            if one.start == first
        ]
        a, b = self.clouds[:2]
        bare = [f"{c.field} {number(float(c.untrained[-1]))}" for c in self.clouds if c.untrained is not None]
        lines = [
            self.verdict.sentence,
            f"Of {self.examples} examples ({self.judged}) {percent(self.solved)} are solved with nothing held. "
            f"{'; '.join(told)}.",
            f"At the end the participation ratio of {a.field} is {number(float(a.ratio[-1]))} and that of {b.field} "
            f"{number(float(b.ratio[-1]))}, over {self.vectors} vectors"
            + (
                f"; untrained {', '.join(bare)}."
                if bare
                else ". No untrained model of this kind can be built."
            ),
            " ".join(_changes(self)),
            _attends(self),
            f"Threshold: most is lost at {self.broken_threshold:g} of what was solved or less, with {self.fields[0]}, which is "
            f"read out, held until the last iteration, and the others to the end.",
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
) -> RolesFinding:
    """What each state of a two-state model does.

    Arguments:
        starts: the iterations from which on a state is held, 0 among them; None: 0, 1 and a quarter of the run's.
        examples: how many of the run's are looked at, the first; None: all.
        compare: whether with an untrained model.
        seed: of that model's weights.
    """
    run.require_finite()
    if not applies(run):
        raise LoopscopeError(
            f"roles needs a run of {FEWEST} iterations or more, whole and without edits, of a model whose state has two tensors "
            f"of one shape that it iterates on, but got {run!r}. Record an HRM or a TRM, or another with such `fields`."
        )
    n, fields = run.iterations, fields_of(run)
    chosen = sorted({0, 1, n // 4} if starts is None else {0, *starts})
    run = bare(run)
    run = run if examples is None else only(run, range(min(examples, len(run.tokens))))
    labels, task = labels_of(run), task_of(run)
    own = run.output.cpu().argmax(-1)
    blank = None if task is None else task.blank
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
    return RolesFinding(
        verdict=_verdict(solved, held, len(own)),
        fields=tuple(fields),
        clouds=_clouds(run, fields, untrained(run, seed) if compare else None),
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
    names = inside(run, "hook_pattern")
    if not names:
        return None, "The model has no attention patterns, so attention wasn't compared."
    seen = record(run.model, run.tokens, run.iterations, sites=names, seed=run.origin.get("seed"))
    answers = torch.stack([run.logits[k].cpu().argmax(-1) for k in range(run.iterations)])
    filled = answers.where(said.asked, run.tokens.cpu())
    conflicts = task.violations(filled)
    assert conflicts is not None
    found = contrast(seen, names, said.asked, neighbours, conflicts=conflicts)
    none = "The model's attention isn't of two roles with as many layers each, so it wasn't compared."
    return found, "" if found is not None else none


def _verdict(solved: float, held: list[Held], examples: int) -> Roles:
    if solved * examples < 4:
        return Roles.unknown
    lost = [share(one.spared) <= BROKEN * solved for one in held if one.start == 0]
    return Roles.both if all(lost) else Roles.one if any(lost) else Roles.none


def _changes(found: RolesFinding) -> list[str]:
    """Content changes and mask flips of each read-out, in words."""
    lines = []
    for field in found.fields:
        own = next(t for t in found.turns if t.field == field and t.held is None)
        others = [t for t in found.turns if t.field == field and t.held is not None]
        told = ", ".join(
            f"{int(t.content.sum())} and {int(t.mask.sum())} with {t.held} held from the start"
            for t in others
        )
        lines.append(
            f"Read from {field}, {int(own.content.sum())} answers change their content and {int(own.mask.sum())} turn blank or "
            f"back over the iterations; {told}."
        )
    return lines


def _attends(found: RolesFinding) -> str:
    return found.without if found.attention is None else told(found.attention)


def headline(found: RolesFinding) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    first = [one for one in found.held if one.start == 0]
    told = " · ".join(percent(share(one.spared)) for one in first)
    names = ", ".join(one.field for one in first)
    return (
        told,
        f"solved with {names} held still (nothing held: {percent(found.solved)}). {found.verdict.sentence}",
    )


def draw(found: RolesFinding) -> Any:
    """Share of examples solved with a state held, by the iteration from which on it is."""
    figure = drawing.empty("Solved with one state held still", "held from iteration", "examples solved", 380)
    for field, colour in zip(found.fields, drawing.COLOURS * len(found.fields), strict=False):
        own = [one for one in found.held if one.field == field]
        for name in ("free", "to_end"):
            sense = "last iteration free" if name == "free" else "to the end"
            dash = "solid" if own[0].read == (name == "free") else "dot"
            figure.add_scatter(
                x=[one.start for one in own], y=[share(getattr(one, name)) for one in own],
                name=f"{drawing.label(field)}, {sense}", mode="lines+markers",
                line={"color": colour, "width": 3 if dash == "solid" else 2, "dash": dash},
                hovertemplate=f"{drawing.label(field)} held from iteration %{{x}}, {sense}: %{{y:.1%}}<extra></extra>",
            )  # fmt: skip
    figure.add_hline(y=found.solved, line={"color": drawing.GREY, "width": 1, "dash": "dash"})
    figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    return figure


def draw_clouds(found: RolesFinding) -> Any:
    """Participation ratio of each state by iteration, trained and not."""
    figure = drawing.empty("Directions that each state fills", "iterations run", "participation ratio", 380)
    for cloud, colour in zip(found.clouds, drawing.COLOURS * len(found.clouds), strict=False):
        for values, name, dash in ((cloud.ratio, "", "solid"), (cloud.untrained, ", untrained", "dot")):
            if values is not None:
                figure.add_scatter(
                    y=[None if v != v else round(v, 4) for v in values.tolist()], name=f"{drawing.label(cloud.field)}{name}",
                    line={"color": colour, "width": 2 if dash == "dot" else 3, "dash": dash},
                )  # fmt: skip
    figure.update_yaxes(rangemode="tozero")
    return figure


def draw_turns(found: RolesFinding) -> Any:
    """Answers that change from one iteration to the next, read from each state."""
    figure = drawing.empty(
        "Answers that change, read from each state", "iterations run", "answers changed", 380
    )
    for field, colour in zip(found.fields, drawing.COLOURS * len(found.fields), strict=False):
        for t in (t for t in found.turns if t.field == field):
            held = "" if t.held is None else f", {drawing.label(t.held)} held"
            figure.add_scatter(
                x=list(range(1, found.iterations + 1)), y=(t.content + t.mask).tolist(),
                customdata=torch.stack([t.content, t.mask], 1).tolist(), name=f"read from {drawing.label(field)}{held}",
                line={"color": colour, "width": 2, "dash": "solid" if t.held is None else "dot"},
                hovertemplate="by %{x}: %{customdata[0]} change content, %{customdata[1]} turn blank or back<extra></extra>",
            )  # fmt: skip
    return figure


def panels(found: RolesFinding) -> list[Panel]:
    """The finding as a report shows it."""
    first = [one for one in found.held if one.start == 0]
    told = " and ".join(f"{percent(share(one.spared))} with {one.field}" for one in first)
    a, b = found.clouds[:2]
    out = [
        Panel(
            "Can a state be spared?",
            draw(found),
            f"{found.verdict.sentence} Held from the start: {told} of {found.examples} examples are solved; "
            f"{percent(found.solved)} with nothing held (dashed).",
            f"Solid is what counts: {a.field}, which is read out, is held until the last iteration, the others to the end. "
            f"Dotted: the other way round. A state that is read out and held to the end answers what it did when it was frozen.",
        ),
        Panel(
            "How many directions each state fills",
            draw_clouds(found),
            f"At the end the participation ratio is {number(float(a.ratio[-1]))} for {a.field} and "
            f"{number(float(b.ratio[-1]))} for {b.field}.",
            f"Over {found.vectors} vectors (examples × positions), the same for all curves. Dotted: the same shape of model "
            "before training.",
        ),
        Panel(
            "What each state would answer, and how often it changes",
            draw_turns(found),
            _changes(found)[0],
            "The model's read-out put on each state; it was trained on the first alone. Dotted: with the other state held from "
            "the start.",
        ),
    ]
    if found.attention is not None:
        out.append(
            Panel(
                "Where each role looks",
                difference_figure(found.attention),
                _attends(found),
                f"Per asked cell, mean over heads and iterations: the first {found.attention.inner} update of an iteration less "
                "the last; entropy the other way round. Bars above 0: the inner role is the more local. Whiskers: 95 % "
                "over boards.",
            )
        )
    return out
