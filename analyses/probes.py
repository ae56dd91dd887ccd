"""What can be read off the states, and from which iteration on?

For each fact that the task tells of its examples (`task.facts`: the answer, and steps on the way to it), linear probes are
trained on the state after every iteration and tested on groups of examples held out (`loopscope.probing`). A fact of each
position is read at its own position, a fact of the whole example where the answer is asked; all these rows train one probe for
each iteration. Definitions:

- read off at k: the lower end of the 95 % interval lies above what shuffled labels and the most frequent class give;
- learned: it also lies above random features (an untrained model of the same architecture) and, for steps on the way, above
  what the right answer and the given facts alone would tell of them;
- formed at k: the first k whose score has come SHARE of the way from that floor to the best score;
- the model's own answers: the fraction right among the same rows, had it stopped there.

Sources: probing with control tasks, Hewitt & Liang 2019 (arXiv 1909.03368); intermediate results in looped models, Kohli et al.
2026 (arXiv 2604.07822) and Lu et al. 2025 (arXiv 2507.02199).

What can mislead:
- What can be read off need not be used. Only patching tells (`ls.patch`).
- What no linear probe finds may be there in another form.
- A step on the way often tells much about the answer and the answer about it; hence the floor from the answer alone.
- A few hundred examples make weak probes: a fact that is not found may need more of them (`examples=`).
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope import drawing
from loopscope.asked import labels_of, task_of
from loopscope.drawing import Panel
from loopscope.errors import LoopscopeError, nearest
from loopscope.finding import Finding, Verdict
from loopscope.probing import Probes
from loopscope.probing.read import SHARE, Read, read_fact, trail
from loopscope.recorder import record
from loopscope.run import Run
from loopscope.tasks import Task
from loopscope.untrained import untrained

TITLE, PLACE = "What can be read off the states", 24
EXAMPLES, MOST_ROWS, LEAD = 2000, 4000, 0.05
_READ = 45_000  # states of positions that are recorded anew, in as many examples as that makes
_CELLS = 200  # probes in the map of positions
_PROBED = 33  # iterations; of more an even choice


class Known(Verdict):
    """When the right answer is in the states."""

    ahead = "A linear probe reads the right answer off the states before the model itself would give it."
    alike = "The right answer can be read off the states when the model itself would give it, and not before."
    behind = "The model gives right answers that a linear probe doesn't read off the states."
    absent = "The right answer can't be read off the states by a linear probe."


@dataclass(frozen=True)
class ProbesFinding(Finding):
    """What can be read off, fact by fact."""

    verdict: Known
    iterations: tuple[int, ...]
    facts: dict[str, Read]
    own: Float[Tensor, " iteration"]
    """The model's own answers that are right; NaN where it can't be read out."""
    examples: int
    groups: int
    features: str
    how: str
    positions: tuple[int, ...]
    """Answered positions, in the map."""
    map: Float[Tensor, "iteration position"]
    """Accuracy of the answer's probes, one for each position; empty with one answered position."""
    own_map: Float[Tensor, "iteration position"]
    """The model's own answers that are right."""
    lead_threshold: float = LEAD
    """The probe is ahead by this much, in the mean over the iterations at which it or the model is above the floor."""
    share_threshold: float = SHARE

    def summary(self) -> str:
        parts = [read.told(name) for name, read in self.facts.items()]
        own = (
            ""
            if bool(self.own.isnan().all())
            else f" The model's own answers: {trail(self.own, self.iterations, next(iter(self.facts.values())).kind)}."
        )
        return (
            f"{self.verdict.sentence} {self.how} {self.groups} groups of {self.examples} examples, scores on groups held "
            f"out; random features: {self.features}. {' '.join(parts)}{own} Thresholds: formed at {self.share_threshold:g} of "
            f"the way from the floor to the best; ahead from {self.lead_threshold:g} accuracy in the mean."
        )


def applies(run: Run) -> bool:
    """Whether the run is of examples of a known task, with a state to read."""
    if (
        labels_of(run) is None
        or run.states.axes[:2] != ("iteration", "batch")
        or "position" not in run.states.axes
    ):
        return False
    return run.iterations >= 1 and run.origin.get("whole", True)


def measure(
    run: Run,
    *,
    fact: str | None = None,
    site: str = "state",
    examples: int | None = None,
    control: str = "shuffled",
    seed: int = 0,
) -> ProbesFinding:
    """What can be read off the states of a run.

    Arguments:
        fact: one of `task.facts(tokens)`; None: the answer and the steps on the way.
        site: what is read.
        examples: how many; where the run has fewer, and its model is known, others of its task are recorded. None: EXAMPLES,
            or fewer where they are long.
        control: of the labels, as in `Probes.fit`.
    """
    run.require_finite()
    _check(run)
    run, how = _larger(run, site, examples, seed)
    task, labels = task_of(run), labels_of(run)
    assert task is not None and labels is not None
    present = run[site].iterations
    chosen = sorted({*present[:: -(-len(present) // _PROBED)], present[-1]})
    random = untrained(run, seed, [site])
    where = {"site": site, "iterations": chosen, "seed": seed}
    reads, last = _reads(run, task, fact, **where, control=control, most=MOST_ROWS, random=random)
    answered = "answer" in reads
    answer = reads["answer"] if answered else next(iter(reads.values()))
    answers = _own(run, task, labels, chosen)
    mean = _merit(answers, labels, task.continuous, len(chosen))
    mapped = answered and not task.continuous
    places, grid, own_grid = _maps(run, labels, answers, mapped=mapped, **where)
    return ProbesFinding(
        verdict=_verdict(answer, mean if answered else mean * torch.nan),
        iterations=tuple(chosen),
        facts=reads,
        own=mean,
        examples=len(run.tokens),
        groups=last.groups,
        features=last.features if random is None else "an untrained model of the same architecture",
        how=how,
        positions=places,
        map=grid,
        own_map=own_grid,
    )


def _check(run: Run) -> None:
    if not applies(run):
        raise LoopscopeError(
            f"probes need a run of examples of a known task, whose facts they can look for, but got {run!r}. With labels of your "
            "own: ls.Probes.fit(run, labels)."
        )


def _reads(run: Run, task: Task, fact: str | None, **options: Any) -> tuple[dict[str, Read], Probes]:
    """By name, what is read of each fact that varies among the examples; and the last fact's probes."""
    facts = task.facts(run.tokens.cpu())
    if fact is not None and fact not in facts:
        raise LoopscopeError(f"{task.name} has no fact called {fact!r}. {nearest(fact, facts)}")
    wanted = [fact] if fact is not None else ["answer", *(n for n, f in facts.items() if f.on_the_way)]
    reads, last = {}, None
    for name in wanted:
        held = facts[name].values[facts[name].mask]
        if len(held.unique()) < 2:
            continue
        try:
            reads[name], last = read_fact(run, task, name, **options)
        except LoopscopeError:
            if fact is not None or name == "answer":
                raise
    if last is None:
        raise LoopscopeError(
            "probes need a fact that varies among the examples, but none does. Record more examples."
        )
    return reads, last


def _maps(
    run: Run,
    labels: Any,
    answers: Tensor | None,
    *,
    mapped: bool,
    site: str,
    iterations: list[int],
    seed: int,
) -> tuple[tuple[int, ...], Tensor, Tensor]:
    """Positions, and (iteration, position) of the probes' accuracy and of the model's own; none
    where not `mapped`."""
    places, grid = (
        _map(run, labels, site, iterations, seed=seed) if mapped else ((), torch.empty(len(iterations), 0))
    )
    if answers is None or not places:
        return places, grid, torch.empty(len(iterations), 0)
    return places, grid, (answers == labels.targets)[:, :, list(places)].double().mean(1)


def _larger(run: Run, site: str, examples: int | None, seed: int) -> tuple[Run, str]:
    """The run, or one of more examples of its task, and how it came about."""
    size = run.tokens.shape[1] * (run.iterations + 1)
    examples = min(EXAMPLES, max(160, _READ // size)) if examples is None else examples
    task, many = task_of(run), len(run.tokens)
    own = f"The run's own {many} examples."
    if many >= examples or task is None or run.origin.get("edits"):
        return run, own
    try:
        model = run.model
        tokens = task.batch(examples, seed=seed + 1).tokens
    except LoopscopeError:
        return run, own
    if tokens.shape[1:] != run.tokens.shape[1:]:
        return run, own
    first = next(iter(model.parameters()), None)
    more = record(
        model,
        tokens if first is None else tokens.to(first.device),
        run.origin.get("asked"),
        sites=[] if site == "state" else [site],
        seed=seed,
    )
    return more, f"{examples} other test examples of the task were recorded for it, as the run has {many}."


def _own(run: Run, task: Any, labels: Any, iterations: list[int]) -> Tensor | None:
    """(iteration, batch, position): the model's own answers after k iterations."""
    try:
        with torch.no_grad():
            return torch.stack([task.answer(run.logits[min(k, run.iterations)].cpu()) for k in iterations])
    except LoopscopeError:
        return None


def _merit(said: Tensor | None, labels: Any, continuous: bool, count: int) -> Tensor:
    """(iteration): the fraction right, or R² of numbers; NaN for a model that can't be read out."""
    if said is None:
        return torch.full((count,), torch.nan, dtype=torch.float64)
    told, truth = said[:, labels.mask].double(), labels.targets[labels.mask].double()
    if continuous:
        return 1 - (told - truth).square().sum(1) / (truth - truth.mean()).square().sum()
    return (told == truth).double().mean(1)


def _map(
    run: Run, labels: Any, site: str, iterations: list[int], *, seed: int
) -> tuple[tuple[int, ...], Tensor]:
    """One probe for each answered position and iteration, where several are answered and it costs little."""
    places = labels.mask.any(0).nonzero()[:, 0].tolist()
    if not 2 <= len(places) <= 24 or not bool((labels.mask.sum(0)[places] >= 100).all()):
        return (), torch.empty(len(iterations), 0)
    few = iterations[:: -(-len(iterations) * len(places) // _CELLS)]
    try:
        probes = Probes.fit(
            run,
            labels.targets,
            mask=labels.mask,
            sites=site,
            iterations=few,
            positions=places,
            random=False,
            controls=0,
            seed=seed,
        )
    except LoopscopeError:
        return (), torch.empty(len(iterations), 0)
    grid = torch.full((len(iterations), len(places)), torch.nan, dtype=torch.float64)
    grid[[iterations.index(k) for k in probes.iterations]] = probes.score[0]
    return tuple(places), grid


def _verdict(answer: Read, own: Tensor) -> Known:
    """Held against the model's own answers where either is above what is had without the states."""
    learned = torch.tensor([k in answer.learned for k in answer.iterations])
    seen = (learned | (own > answer.floor + LEAD)) & ~own.isnan()
    lead = float((answer.score - own)[seen].mean()) if bool(seen.any()) else 0.0
    if abs(lead) >= LEAD:
        return Known.ahead if lead > 0 else Known.behind
    return Known.alike if bool(learned.any()) else Known.absent


def headline(found: ProbesFinding) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    name, read = next(iter(found.facts.items()))
    formed = "never" if read.formed is None else str(read.formed)
    return formed, f"iterations until a probe reads the {name} off the states. {found.verdict.sentence}"


def draw(found: ProbesFinding) -> Any:
    """All facts over iterations, and the model's own answers."""
    numbers = any(read.kind == "numbers" for read in found.facts.values())
    quantity = "accuracy or R² on examples held out" if numbers else "accuracy on examples held out"
    figure = drawing.empty("Facts, read off the states", "iterations run", quantity, 420)
    k, shown = list(found.iterations), ".2f" if numbers else ".1%"
    for (name, read), colour in zip(found.facts.items(), drawing.COLOURS * 3, strict=False):
        called, rgb = drawing.label(name), ",".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))
        band = [*read.high.tolist(), *read.low.tolist()[::-1]]
        figure.add_scatter(
            x=k + k[::-1], y=[_cell(v) for v in band], fill="toself", mode="none", hoverinfo="skip", showlegend=False,
            fillcolor=f"rgba({rgb},0.12)",
        )  # fmt: skip
        figure.add_scatter(
            x=k, y=[_cell(v) for v in read.score.tolist()], name=called, mode="lines+markers", marker={"size": 5},
            line={"color": colour, "width": 3 if name == "answer" else 2},
            hovertemplate=f"{called}, after %{{x}}: %{{y:{shown}}}<extra></extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=k, y=[_cell(v) for v in read.floor.tolist()], mode="lines", showlegend=False,
            line={"color": colour, "width": 1.5, "dash": "dot"},
            hovertemplate=f"{called}, without the states: %{{y:{shown}}}<extra></extra>",
        )  # fmt: skip
    figure.add_scatter(
        x=[None], y=[None], mode="lines", name="without the states, in the same colour",
        line={"color": drawing.GREY, "width": 1.5, "dash": "dot"},
    )  # fmt: skip
    if not bool(found.own.isnan().all()):
        figure.add_scatter(
            x=k, y=[_cell(v) for v in found.own.tolist()], name="the model's own answers", mode="lines",
            line={"color": drawing.GREY, "width": 2, "dash": "dash"},
            hovertemplate=f"the model's own answers: %{{y:{shown}}}<extra></extra>",
        )  # fmt: skip
    if not numbers:
        figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    if len(k) <= 12:  # left alone, plotly puts marks between the whole numbers
        figure.update_xaxes(dtick=1)
    return figure


def _cell(value: float) -> float | None:
    return None if value != value else round(max(value, -1.0), 4)


def panels(found: ProbesFinding) -> list[Panel]:
    """The finding as a report shows it."""
    name, read = next(iter(found.facts.items()))
    steps = [
        f"{n} from iteration {r.learned[0]} on" if r.learned else f"{n} not shown"
        for n, r in found.facts.items()
        if r.on_the_way
    ]
    way = (
        f" Steps on the way, above what the answer alone tells, in {found.examples} examples: {', '.join(steps)}."
        if steps
        else ""
    )
    shown = [
        Panel(
            "What linear probes read off the states",
            draw(found),
            f"Score of the {name}: {trail(read.score, found.iterations, read.kind)} iterations.{way}",
            "Each point is a linear probe tested on examples that it has not seen, with its 95 % interval. Dotted in the same "
            "colour: the best of what is had without the states (shuffled labels, random features, the most frequent, and for "
            "steps on the way what the answer alone tells). What can be read off need not be used.",
        )
    ]
    if found.map.numel():
        shown.append(_where(found))
    return shown


def _where(found: ProbesFinding) -> Panel:
    kept = ~found.map.isnan().all(1)
    k = [one for one, keep in zip(found.iterations, kept.tolist(), strict=True) if keep]
    cells = [[_cell(v) for v in row] for row in found.map[kept].tolist()]
    figure = drawing.map_of(
        cells, "Where the answer can be read off", "iterations run", "accuracy",
        hover="after %{y} iterations, position %{x}: %{z:.1%}, the model's own %{customdata:.1%}",
        customdata=found.own_map[kept].tolist() if found.own_map.numel() else None,
        zmin=_base(found), zmax=1.0, bar={"tickformat": ".0%"}, height=min(760, 170 + 16 * len(k)),
    )  # fmt: skip
    figure.update_traces(x=list(found.positions), y=k)
    if len(k) <= 12:
        figure.update_yaxes(tickmode="array", tickvals=k)
    good = found.map[kept] >= 0.9
    ends = [f"{int(good[i].sum())} after {k[i]}" for i in sorted({0, len(k) // 4, len(k) // 2, len(k) - 1})]
    return Panel(
        "Where and when the answer can be read off",
        figure,
        f"Of {len(found.positions)} answered positions so many have a probe that is right in 90 %: {', '.join(ends)}.",
        "One probe for each position and iteration, tested on examples that it has not seen. Hover for the model's own answers.",
    )


def _base(found: ProbesFinding) -> float:
    """What the colours begin at: saying what is most frequent."""
    return round(float(next(iter(found.facts.values())).majority.nan_to_num(0).min()), 2)
