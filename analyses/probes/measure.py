"""Scores of linear probes by fact and iteration, compared with the model's own answers, and the
verdict."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.arguments import PositiveCount, Seed
from loopscope.common.errors import LoopscopeError, nearest
from loopscope.probing import Probes
from loopscope.probing.fact_curve import SHARE, FactCurve, probe_fact, trail
from loopscope.recorder.further_examples import further_examples
from loopscope.recorder.labels import labels_of, task_of
from loopscope.recorder.subset import first_of_many
from loopscope.recorder.untrained import untrained_run
from loopscope.runs.run import Run
from loopscope.tasks import Task

from .answer_maps import answer_maps, empty_maps, model_answers, model_score
from .baselines import baselines, baselines_sentence
from .verdict import LEAD, ProbesVerdict, comparison, probes_verdict

EXAMPLES, MAX_ROWS = 2000, 4000
_STATES = 45_000  # states of positions to record, in as many examples as that makes
_MAX_ITERATIONS = 33  # that are probed; an even choice of more


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
    baselines: dict[str, float]
    """Scores that the first fact's best probe is compared with, by name: the majority class,
    shuffled labels, random features, a probe of the input and one of the first state."""
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
    """The probe is ahead if its accuracy is greater by this, on average over the iterations at
    which it or the model is above the floor by as much; `alike` if the difference is smaller."""
    share_threshold: float = SHARE
    """A fact is formed at this fraction of the way from the floor to the best score."""

    @property
    def groups_sentence(self) -> str:
        """How many different inputs there are among the examples."""
        if self.groups == self.examples:
            return f"The inputs of the {self.examples} examples differ."
        return (
            f"Equal inputs count as one example, and are held out together: {self.groups} of "
            f"{self.examples} are different."
        )

    @property
    def _evidence_sentence(self) -> str:
        lead = self.evidence.estimates[0]
        known = lead.value == lead.value
        return f"The {lead.name}: {lead.text}." if known else "The model's own answers can't be compared."

    def summary(self) -> str:
        sentences = [curve.sentence(name) for name, curve in self.facts.items()]
        sentences.append(baselines_sentence(self.baselines, next(iter(self.facts.values())).kind))
        if not bool(self.model_score.isnan().all()):
            kind = next(iter(self.facts.values())).kind
            sentences.append(f"The model's own answers: {trail(self.model_score, self.iterations, kind)}.")
        return (
            f"{self.sentence} {self._evidence_sentence} {self.how} {self.groups_sentence} "
            f"Scores are on held-out groups; random features: {self.features}. "
            f"{' '.join(sentences)} Thresholds: "
            f"formed at {self.share_threshold:g} of the way from the highest baseline to the best; ahead "
            f"or behind from a difference of {self.lead_threshold:g} on average, alike below that."
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
            are recorded; if it has more, and its states are more than half a gigabyte, the first.
            None: EXAMPLES, or fewer where they are long.
        control: of the labels, as in `Probes.fit`.
        seed: of the split, the controls and other examples.

    Raises:
        LoopscopeError: the run's task is unknown, it has no such fact, or the fact doesn't vary.
    """
    run.require_finite()
    _check(run)
    given = run
    run, how = _with_more_examples(given, site, examples, seed)
    task, labels = task_of(run), labels_of(run)
    assert task is not None and labels is not None
    present = run[site].iterations
    iterations = sorted({*present[:: -(-len(present) // _MAX_ITERATIONS)], present[-1]})
    random = _untrained(run, site, iterations, seed)
    where = {"site": site, "iterations": iterations, "seed": seed}
    facts, probes = _decode_facts(run, task, fact, **where, control=control, most=MAX_ROWS, random=random)
    answers = model_answers(run, task, iterations)
    score = model_score(answers, labels, task.continuous, len(iterations))
    answer, maps = facts.get("answer"), empty_maps(len(iterations))
    if answer is not None and not task.continuous:
        maps = answer_maps(run, labels, answers, **where)
    first = next(iter(facts))
    compared = comparison(run, probes[first], facts[first], None if answer is None else answers, site=site)
    called = "example" if len(run.tokens) <= len(given.tokens) else "fresh example"
    verdict, evidence = probes_verdict(compared, called)
    return ProbesResult(
        verdict=verdict,
        evidence=evidence,
        baselines=baselines(run, probes[first], facts[first], seed),
        iterations=tuple(iterations),
        facts=facts,
        model_score=score,
        examples=len(run.tokens),
        groups=probes[first].groups,
        features=probes[first].features if random is None else "an untrained model of the same architecture",
        how=how,
        **maps._asdict(),
    )


def _untrained(run: Run, site: str, iterations: list[int], seed: int) -> Run | None:
    """The run of an untrained model; None if there is none, or its loop ends before these
    iterations."""
    random = untrained_run(run, seed, [site])
    return random if random is not None and set(iterations) <= set(random[site].iterations) else None


def _check(run: Run) -> None:
    if not applies(run):
        raise LoopscopeError(
            "probes need a run of examples of a known task, whose facts they decode, but got "
            f"{run!r}. With labels of your own: ls.Probes.fit(run, labels)."
        )


def _decode_facts(
    run: Run, task: Task, fact: str | None, **options: Any
) -> tuple[dict[str, FactCurve], dict[str, Probes]]:
    """The curves of each fact that varies among the examples, by name, and its probes."""
    facts = task.facts(run.tokens.cpu())
    if fact is not None and fact not in facts:
        raise LoopscopeError(f"{task.name} has no fact called {fact!r}. {nearest(fact, facts)}")
    names = [fact] if fact is not None else ["answer", *(n for n, f in facts.items() if f.is_intermediate)]
    curves, probes = {}, {}
    for name in names:
        held = facts[name].mask
        held = held & run.mask if held.shape == run.mask.shape else held
        if len(facts[name].values[held].unique()) < 2:
            continue
        try:
            curves[name], probes[name] = probe_fact(run, task, name, **options)
        except LoopscopeError:
            if fact is not None or name == "answer":
                raise
    if not probes:
        raise LoopscopeError(
            "probes need a fact that varies among the examples, but none does. Record more examples."
        )
    return curves, probes


def example_count(run: Run, examples: int | None) -> int:
    """How many examples the probes are trained on: as the caller says, or as memory allows."""
    size = run.tokens.shape[1] * (run.iterations + 1)
    return min(EXAMPLES, max(160, _STATES // size)) if examples is None else examples


def _with_more_examples(run: Run, site: str, examples: int | None, seed: int) -> tuple[Run, str]:
    """The run, or one of more examples of its task, or of fewer where its states fill the memory;
    and where the examples come from."""
    examples = example_count(run, examples)
    few = first_of_many(run, examples)
    if few is not None:
        return few, (
            f"The first {examples} of the run's {len(run.tokens)} examples, which are enough to train on."
        )
    larger = further_examples(run, examples, site=site, seed=seed)
    if larger is None:
        return run, f"The run's own {len(run.tokens)} examples."
    return larger, (
        f"{examples} other test examples of the task were recorded for the probes, as the run's own "
        f"{len(run.tokens)} are too few to train them. They are drawn so that the same run "
        "always gets the same ones."
    )
