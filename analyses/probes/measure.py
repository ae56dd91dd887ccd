"""Scores of linear probes by fact and iteration, compared with the model's own answers, and the
verdict."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.arguments import PositiveCount, Seed
from loopscope.common.errors import LoopscopeError, nearest
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.probing import Probes
from loopscope.probing.fact_curve import SHARE, FactCurve, probe_fact, trail
from loopscope.recorder.labels import labels_of, task_of
from loopscope.recorder.record_run import record
from loopscope.recorder.untrained import untrained_run
from loopscope.runs.run import Run
from loopscope.tasks import Task

from .answer_maps import answer_maps, empty_maps, model_answers, model_score

EXAMPLES, MAX_ROWS, LEAD = 2000, 4000, 0.05
_STATES = 45_000  # states of positions to record, in as many examples as that makes
_MAX_ITERATIONS = 33  # that are probed; an even choice of more


class ProbesVerdict(Verdict):
    """When the right answer can be decoded from the states."""

    ahead = "A linear probe decodes the right answer from the states before the model's own read-out does."
    alike = "On average over the iterations, linear probes are as accurate as the model's own output."
    behind = "The model's own read-out gives right answers that a linear probe does not decode."
    absent = "A linear probe does not decode the right answer from the states."
    unclear = UNCLEAR


@dataclass(frozen=True)
class ProbesResult(AnalysisResult):
    """What linear probes decode, fact by fact."""

    verdict: ProbesVerdict
    iterations: tuple[int, ...]
    """The k whose states are probed."""
    facts: dict[str, FactCurve]
    model_score: Float[Tensor, " iteration"]
    """Fraction of the model's own answers that are right (R² of numbers); NaN where it can't be
    read out."""
    examples: int
    groups: int
    features: str
    """The random features of the control, in words."""
    how: str
    """Where the examples come from."""
    positions: tuple[int, ...]
    """Answered positions, in the maps."""
    probe_map: Float[Tensor, "iteration position"]
    """Accuracy of the answer's probes, one for each position; empty with one answered position."""
    model_map: Float[Tensor, "iteration position"]
    """Fraction of the model's own answers that are right."""
    lead_threshold: float = LEAD
    """The probe is ahead by this accuracy, on average over the iterations at which it or the model
    is above the floor."""
    share_threshold: float = SHARE
    """A fact is formed at this fraction of the way from the floor to the best score."""

    def summary(self) -> str:
        sentences = [curve.sentence(name) for name, curve in self.facts.items()]
        if not bool(self.model_score.isnan().all()):
            kind = next(iter(self.facts.values())).kind
            sentences.append(f"The model's own answers: {trail(self.model_score, self.iterations, kind)}.")
        return (
            f"{self.sentence} {self.how} {self.groups} groups of {self.examples} examples, scores "
            f"on held-out groups; random features: {self.features}. {' '.join(sentences)} Thresholds: "
            f"formed at {self.share_threshold:g} of the way from the highest baseline to the best; ahead "
            f"from {self.lead_threshold:g} accuracy on average."
        )


def applies(run: Run) -> bool:
    """Whether the run is of examples of a known task, with a state of positions."""
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
    examples: PositiveCount | None = None,
    control: str = "shuffled",
    seed: Seed = 0,
) -> ProbesResult:
    """What linear probes decode from the states of a run.

    Arguments:
        fact: one of `task.facts(tokens)`; None: the answer and the intermediate steps.
        site: whose values are probed.
        examples: how many; if the run has fewer, and its model is known, other examples of its task
            are recorded. None: EXAMPLES, or fewer where they are long.
        control: of the labels, as in `Probes.fit`.
        seed: of the split, the controls and other examples.

    Raises:
        LoopscopeError: the run's task is unknown, it has no such fact, or the fact doesn't vary.
    """
    run.require_finite()
    _check(run)
    run, how = _with_more_examples(run, site, examples, seed)
    task, labels = task_of(run), labels_of(run)
    assert task is not None and labels is not None
    present = run[site].iterations
    iterations = sorted({*present[:: -(-len(present) // _MAX_ITERATIONS)], present[-1]})
    random = untrained_run(run, seed, [site])
    where = {"site": site, "iterations": iterations, "seed": seed}
    facts, probes = _decode_facts(run, task, fact, **where, control=control, most=MAX_ROWS, random=random)
    answers = model_answers(run, task, iterations)
    score = model_score(answers, labels, task.continuous, len(iterations))
    answer, maps = facts.get("answer"), empty_maps(len(iterations))
    if answer is not None and not task.continuous:
        maps = answer_maps(run, labels, answers, **where)
    first = next(iter(facts.values()))
    return ProbesResult(
        verdict=_verdict(first, score * torch.nan) if answer is None else _verdict(answer, score),
        iterations=tuple(iterations),
        facts=facts,
        model_score=score,
        examples=len(run.tokens),
        groups=probes.groups,
        features=probes.features if random is None else "an untrained model of the same architecture",
        how=how,
        **maps._asdict(),
    )


def _check(run: Run) -> None:
    if not applies(run):
        raise LoopscopeError(
            "probes need a run of examples of a known task, whose facts they decode, but got "
            f"{run!r}. With labels of your own: ls.Probes.fit(run, labels)."
        )


def _decode_facts(
    run: Run, task: Task, fact: str | None, **options: Any
) -> tuple[dict[str, FactCurve], Probes]:
    """The curves of each fact that varies among the examples, by name; and the last fact's
    probes."""
    facts = task.facts(run.tokens.cpu())
    if fact is not None and fact not in facts:
        raise LoopscopeError(f"{task.name} has no fact called {fact!r}. {nearest(fact, facts)}")
    names = [fact] if fact is not None else ["answer", *(n for n, f in facts.items() if f.is_intermediate)]
    curves, probes = {}, None
    for name in names:
        held = facts[name].mask
        held = held & run.mask if held.shape == run.mask.shape else held
        if len(facts[name].values[held].unique()) < 2:
            continue
        try:
            curves[name], probes = probe_fact(run, task, name, **options)
        except LoopscopeError:
            if fact is not None or name == "answer":
                raise
    if probes is None:
        raise LoopscopeError(
            "probes need a fact that varies among the examples, but none does. Record more examples."
        )
    return curves, probes


def _with_more_examples(run: Run, site: str, examples: int | None, seed: int) -> tuple[Run, str]:
    """The run, or one of more examples of its task, and where the examples come from."""
    size = run.tokens.shape[1] * (run.iterations + 1)
    examples = min(EXAMPLES, max(160, _STATES // size)) if examples is None else examples
    task, count = task_of(run), len(run.tokens)
    unchanged = run, f"The run's own {count} examples."
    if count >= examples or task is None or run.origin.get("edits"):
        return unchanged
    try:
        model = run.model
        tokens = task.batch(examples, seed=seed + 1).tokens
    except LoopscopeError:
        return unchanged
    if tokens.shape[1:] != run.tokens.shape[1:]:
        return unchanged
    parameter = next(iter(model.parameters()), None)
    larger = record(
        model,
        tokens if parameter is None else tokens.to(parameter.device),
        run.origin.get("requested_iterations"),
        sites=[] if site == "state" else [site],
        seed=seed,
    )
    return larger, f"{examples} other test examples of the task were recorded, as the run has {count}."


def _verdict(answer: FactCurve, score: Float[Tensor, " iteration"]) -> ProbesVerdict:
    """Compare with the model's own answers where either is above the floor."""
    learned = torch.tensor([k in answer.learned for k in answer.iterations])
    compared = (learned | (score > answer.floor + LEAD)) & ~score.isnan()
    lead = float((answer.score - score)[compared].mean()) if bool(compared.any()) else 0.0
    if abs(lead) >= LEAD:
        return ProbesVerdict.ahead if lead > 0 else ProbesVerdict.behind
    return ProbesVerdict.alike if bool(learned.any()) else ProbesVerdict.absent
