"""The measurement: probes of a run. See the package for the question and its references."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.errors import LoopscopeError, nearest
from loopscope.common.result import AnalysisResult, Verdict
from loopscope.probing import Probes
from loopscope.probing.fact_curve import SHARE, Read, read_fact, trail
from loopscope.recorder.labels import labels_of, task_of
from loopscope.recorder.record_run import record
from loopscope.recorder.untrained import untrained_run
from loopscope.runs.run import Run
from loopscope.tasks import Task

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
class ProbesResult(AnalysisResult):
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
    """The probe is ahead by this much, in the mean over the iterations at which it or the model is
    above the floor."""
    share_threshold: float = SHARE

    def summary(self) -> str:
        parts = [read.told(name) for name, read in self.facts.items()]
        own = (
            ""
            if bool(self.own.isnan().all())
            else " The model's own answers: "
            f"{trail(self.own, self.iterations, next(iter(self.facts.values())).kind)}."
        )
        return (
            f"{self.verdict.sentence} {self.how} {self.groups} groups of {self.examples} examples, scores "
            f"on groups held out; random features: {self.features}. {' '.join(parts)}{own} Thresholds: "
            f"formed at {self.share_threshold:g} of the way from the floor to the best; ahead from "
            f"{self.lead_threshold:g} accuracy in the mean."
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
) -> ProbesResult:
    """What can be read off the states of a run.

    Arguments:
        fact: one of `task.facts(tokens)`; None: the answer and the steps on the way.
        site: what is read.
        examples: how many; where the run has fewer, and its model is known, others of its task are
            recorded. None: EXAMPLES, or fewer where they are long.
        control: of the labels, as in `Probes.fit`.
    """
    run.require_finite()
    _check(run)
    run, how = _larger(run, site, examples, seed)
    task, labels = task_of(run), labels_of(run)
    assert task is not None and labels is not None
    present = run[site].iterations
    chosen = sorted({*present[:: -(-len(present) // _PROBED)], present[-1]})
    random = untrained_run(run, seed, [site])
    where = {"site": site, "iterations": chosen, "seed": seed}
    reads, last = _reads(run, task, fact, **where, control=control, most=MOST_ROWS, random=random)
    answered = "answer" in reads
    answer = reads["answer"] if answered else next(iter(reads.values()))
    answers = _own(run, task, labels, chosen)
    mean = _merit(answers, labels, task.continuous, len(chosen))
    mapped = answered and not task.continuous
    places, grid, own_grid = _maps(run, labels, answers, mapped=mapped, **where)
    return ProbesResult(
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
            "probes need a run of examples of a known task, whose facts they can look for, but got "
            f"{run!r}. With labels of your own: ls.Probes.fit(run, labels)."
        )


def _reads(run: Run, task: Task, fact: str | None, **options: Any) -> tuple[dict[str, Read], Probes]:
    """By name, what is read of each fact that varies among the examples; and the last fact's
    probes."""
    facts = task.facts(run.tokens.cpu())
    if fact is not None and fact not in facts:
        raise LoopscopeError(f"{task.name} has no fact called {fact!r}. {nearest(fact, facts)}")
    wanted = [fact] if fact is not None else ["answer", *(n for n, f in facts.items() if f.is_intermediate)]
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
        run.origin.get("requested_iterations"),
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
    """One probe for each answered position and iteration, where several are answered and it costs
    little."""
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
