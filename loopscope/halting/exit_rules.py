"""Rules that say when a loop may stop: those read from its states and answers, and a model's own
gate in the same form.

    rule = rules.named("kl")
    score = rule.scores(run)                      # (iteration, batch, position): lower is more settled; entry t is of states[t+1]
    halting = rule_halting(run, rule)             # a Halting, as a model's own

A rule looks at one iteration after the other, so that the same code serves a recorded run and a
loop that it really stops (`loopscope.halting.answer_with_exit`). A position stops after the first
iteration whose score is at or below the threshold. At the first iteration there is no answer
before: it is compared with the uniform distribution, as in Huginn's code, while states are compared
with states[0].
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from ..core.state_tree import State, primary
from ..maths import output_signals
from .halting_record import Halting

Level = Literal["position", "example"]
"""position: each decides for itself. example: the mean over its answered positions decides for all,
as Huginn averages."""


class Look(NamedTuple):
    """What a rule sees of the loop after k iterations."""

    k: int
    state: State
    """As the model's `step` gives it."""
    h: Tensor
    """(batch, position, width): its primary tensor."""
    p: Tensor | None
    """(batch, position, vocab): log-probabilities of the answer; None if the rule doesn't read
    them."""


Judge = Callable[[Look, Look, Tensor | None], tuple[Tensor, Tensor | None]]
"""(before, now, carried) -> (quantity (batch, position), what to carry to the next iteration)"""


@dataclass(frozen=True)
class Rule:
    """When to stop: a quantity read after every iteration, and its threshold."""

    name: str
    says: str
    """The condition in words."""
    source: str
    threshold: float
    """Of the quantity, as published or as the model has it; the rule's own unit."""
    judge: Judge
    rises: bool = False
    """Whether the quantity rises as the loop settles."""
    answers: bool = True
    """Whether it reads answers, which must then be read out after every iteration."""
    chance: Callable[[Any], Tensor] | None = None
    """run -> what a gate holds for the probability that the answer may stand, 0..1: (iteration,
    batch, position), or of whole examples (iteration, batch) with NaN where it gives none. None
    for a rule without one."""
    strict: bool = False
    """Whether the score must lie below the threshold, and not at it."""

    def at(self, threshold: float | int | None) -> "Rule":
        """The same rule with another threshold; None leaves it."""
        return self if threshold is None else replace(self, threshold=float(threshold))

    @property
    def bound(self) -> float:
        """The threshold as a score."""
        return -self.threshold if self.rises else self.threshold

    def stops(self, score: Tensor) -> Tensor:
        """Where the condition holds."""
        return score < self.bound if self.strict else score <= self.bound

    def score(self, before: Look, now: Look, carried: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(batch, position), lower is more settled, and what to carry on."""
        value, carried = self.judge(before, now, carried)
        return (-value if self.rises else value).double(), carried

    def scores(self, run: Any) -> Float[Tensor, "iteration batch position"]:
        """The score after each iteration of a run: entry t is of states[t+1]."""
        if run.iterations < 1:
            raise LoopscopeError(
                "a rule needs a run of one iteration or more. Record with iterations=1 or more."
            )
        return scores([self], run)[self.name]


def scores(rules: Iterable[Rule], run: Any) -> dict[str, Float[Tensor, "iteration batch position"]]:
    """The scores of several rules by name; each answer is read out once."""
    rules = list(rules)
    result: dict[str, list[Tensor]] = {rule.name: [] for rule in rules}
    carried: dict[str, Tensor | None] = {rule.name: None for rule in rules}
    with torch.no_grad():
        for before, now in _pairs(run, any(rule.answers for rule in rules)):
            for rule in rules:
                score, carried[rule.name] = rule.score(before, now, carried[rule.name])
                result[rule.name].append(score.expand(now.h.shape[:2]).cpu())
    return {name: torch.stack(values) for name, values in result.items()}


def look(k: int, state: State, logits: Tensor | None) -> Look:
    """A look at a state; of its answer too, if there are logits."""
    return Look(
        k, state, primary(state), None if logits is None else output_signals.log_probabilities(logits)
    )


def answers_after(run: Any, k: int) -> Float[Tensor, "batch position vocab"]:
    """A run's read-out after k iterations as if the model's own halting had frozen nothing, where
    that can be told: what a rule that decides in its place would answer. `run.logits[k]` for all
    models but those with an exit gate."""
    opened = getattr(run.reader.model, "without_freezing", None) if run.has_model else None
    return run.logits[k] if opened is None else run.reader.logits(opened(run.state(k)))


def _pairs(run: Any, answers: bool) -> Iterator[tuple[Look, Look]]:
    before = look(0, run.state(0), None)
    for k in range(1, run.iterations + 1):
        now = look(k, run.state(k), answers_after(run, k) if answers else None)
        yield before, now
        before = now


def _previous(before: Look, now: Look) -> Tensor:
    assert now.p is not None
    return output_signals.uniform(now.p) if before.p is None else before.p


def _of_states(measure: Callable[[Tensor, Tensor], Tensor]) -> Judge:
    return lambda before, now, carried: (measure(before.h, now.h), None)


def _of_answers(measure: Callable[[Tensor, Tensor], Tensor]) -> Judge:
    """Arguments of `measure`: log-probabilities before and now."""
    return lambda before, now, carried: (measure(_previous(before, now), _said(now)), None)


def _said(now: Look) -> Tensor:
    assert now.p is not None
    return now.p


def _argmax(before: Look, now: Look, carried: Tensor | None) -> tuple[Tensor, Tensor]:
    said = _said(now).argmax(-1)
    if before.p is None:
        return torch.zeros_like(said), torch.zeros_like(said)
    same = torch.zeros_like(said) if carried is None else carried
    same = torch.where(said == before.p.argmax(-1), same + 1, torch.zeros_like(same))
    return same, same


def kl_entropy(fraction: float = 0.56) -> Rule:
    """KL(new ‖ previous) below the threshold, and an entropy below `fraction` of the most there can
    be.

    Kohli et al. 2026 ask for less than 3.00 nats where 210 tokens allow 5.35: 0.56 of it.
    """

    def measure(before: Tensor, now: Tensor) -> Tensor:
        sure = output_signals.entropy(now) < fraction * torch.log(torch.tensor(float(now.shape[-1])))
        return torch.where(sure, output_signals.divergence(now, before), float("inf"))

    return Rule(
        "kl_entropy",
        f"KL(new ‖ previous) below the threshold and entropy below {fraction:g} of its largest value",
        "Kohli et al. 2026, arXiv 2604.07822",
        0.01,
        _of_answers(measure),
    )


_HUGINN = "Geiping et al. 2025, arXiv 2502.05171"
RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("latent", "the state's relative change", _HUGINN, 0.03, _of_states(output_signals.latent_change), answers=False),
        Rule("cosine", "1 - cos of successive states", _HUGINN, 1e-3, _of_states(output_signals.cosine_change), answers=False),
        Rule("kl", "KL(previous ‖ new) of the answers", _HUGINN, 5e-4, _of_answers(output_signals.divergence)),
        Rule(
            "kl_reverse", "KL(new ‖ previous) of the answers", "Kohli et al. 2026, arXiv 2604.07822", 0.01,
            _of_answers(lambda before, now: output_signals.divergence(now, before)),
        ),
        kl_entropy(),
        Rule(
            "min_p", "KL(previous ‖ new) without unlikely tokens", _HUGINN, 1e-5,
            _of_answers(lambda before, now: output_signals.divergence(output_signals.min_p(before), output_signals.min_p(now))),
        ),
        Rule(
            "entropy", "the change of the answer's entropy", _HUGINN, 1e-3,
            _of_answers(lambda before, now: (output_signals.entropy(now) - output_signals.entropy(before)).abs()),
        ),
        Rule("argmax", "iterations with the same answer", _HUGINN, 5, _argmax, rises=True),
        Rule(
            "confidence", "the largest probability", "Schuster et al. 2022, arXiv 2207.07061", 0.9,
            _of_answers(lambda before, now: output_signals.confidence(now)), rises=True,
        ),
    )
}  # fmt: skip
"""Rules read from the run, by name, with the thresholds of their sources."""


def names() -> list[str]:
    """The rules that any run with logits can use."""
    return list(RULES)


def named(rule: str | Rule, model: Any = None) -> Rule:
    """A rule by name; "own" is the model's."""
    if isinstance(rule, Rule):
        return rule
    if rule == "own":
        own = own_rule(model)
        if own is None:
            raise LoopscopeError(
                f"the rule 'own' needs a model that halts by itself, but {type(model).__name__} doesn't. "
                f"Choose one that is read from the run: {', '.join(RULES)}."
            )
        return own
    if rule not in RULES:
        raise LoopscopeError(f"there is no rule called {rule!r}. {nearest(str(rule), [*RULES, 'own'])}")
    return RULES[rule]


def own_rule(model: Any) -> Rule | None:
    """The model's own halting as a rule, whose threshold can then be moved; None for one that
    doesn't halt."""
    return getattr(model, "rule", None)


# A model's own halting in this form


def mass_rule(source: str = "Graves 2016, arXiv 1603.08983") -> Rule:
    """Adaptive computation time, from a state with `mass`: what is left of the halting probability;
    0 once it has halted.

    A larger threshold stops before the unit does. One that stops later can't be had: the output no
    longer moves then.
    """
    return Rule(
        "own", "the halting probability left", source, 0.0,
        lambda before, now, carried: (1 - now.state.mass, None), answers=False,
        chance=lambda run: run["state.mass"].tensor[1:],
    )  # fmt: skip


def exit_rule(
    threshold: float, chance: Callable[[Any], Tensor], source: str = "Zhu et al. 2025, arXiv 2510.25741"
) -> Rule:
    """An exit gate: the summed chance of having stopped, CDF(k) = 1 - prod_(j<=k) (1 - lambda_j),
    reaches the threshold.

    Arguments:
        chance: state -> lambda (batch, position), the chance of stopping after the iteration that
            made it.
    """

    def judge(before: Look, now: Look, carried: Tensor | None) -> tuple[Tensor, Tensor]:
        going = 1 - chance(now.state).detach()
        going = going if carried is None else carried * going
        return 1 - going, going

    return Rule(
        "own", "the summed chance of having stopped", source, threshold, judge,
        rises=True, answers=False, chance=lambda run: _summed(run, chance),
    )  # fmt: skip


def _summed(run: Any, chance: Callable[[Any], Tensor]) -> Tensor:
    chances = torch.stack([chance(run.state(k)).detach() for k in range(1, run.iterations + 1)])
    return 1 - (1 - chances).cumprod(0)


def q_rule(q_values: Callable[[Any], Tensor], cycles: int) -> Rule:
    """A Q-head's judgement at the end of every segment of `cycles` iterations: halt - continue, or
    halt alone, above 0.

    The same for all positions of an example. Within a segment nothing stops.
    """

    def judge(before: Look, now: Look, carried: Tensor | None) -> tuple[Tensor, None]:
        if now.k % cycles:
            return now.h.new_full(now.h.shape[:2], float("-inf")), None
        q = q_values(now.state).detach()
        value = q[:, 0] - q[:, 1] if q.shape[1] > 1 else q[:, 0]
        return value[:, None].expand(now.h.shape[:2]), None

    def right(run: Any) -> Tensor:
        """The logit of halting alone is trained to say whether all is right."""
        said = torch.full((run.iterations, len(run.states[0])), float("nan"))
        for k in range(cycles, run.iterations + 1, cycles):
            said[k - 1] = torch.sigmoid(q_values(run.state(k)).detach()[:, 0].float()).cpu()
        return said

    return Rule(
        "own", "the Q-head's logit of halting less that of going on", "Wang et al. 2025, arXiv "
                                                                      "2506.21734", 0.0, judge,
        rises=True, answers=False, chance=right, strict=True,
    )  # fmt: skip


def gap_rule(tolerance: float) -> Rule:
    """A solver's residual ‖f(h) - h‖ / ‖f(h)‖, from a state with `gap`, below its tolerance."""
    return Rule(
        "own", "the solver's residual", "Bai, Kolter & Koltun 2019, arXiv 1909.01377", tolerance,
        lambda before, now, carried: (now.state.gap, None), answers=False, strict=True,
    )  # fmt: skip


# What a rule says of a run


def leveled(
    score: Float[Tensor, "*iteration batch position"],
    level: Level,
    answer_positions: Bool[Tensor, "batch position"] | None = None,
) -> Float[Tensor, "*iteration batch position"]:
    """Scores as they decide: each position's own, or the mean over the example's answer positions
    at all of them."""
    if level not in ("position", "example"):
        raise LoopscopeError(f"level must be 'position' or 'example', but is {level!r}.")
    if level == "position":
        return score
    weight = (
        torch.ones_like(score[..., :, :])
        if answer_positions is None
        else answer_positions.to(score).expand_as(score)
    )
    inside = torch.where(weight > 0, score, torch.zeros_like(score))  # infinity times 0 is no number
    return ((inside * weight).sum(-1, keepdim=True) / weight.sum(-1, keepdim=True).clamp(min=1)).expand_as(
        score
    )


def first_stop(
    stops: Bool[Tensor, "iteration ..."],
) -> tuple[Tensor, Bool[Tensor, "..."]]:
    """(0-based iteration of the first stop, or the last one; whether there was one)."""
    halted = stops.any(0)
    return torch.where(halted, stops.int().argmax(0), len(stops) - 1), halted


def rule_halting(
    run: Any,
    rule: str | Rule,
    threshold: float | int | None = None,
    level: Level = "position",
    *,
    answer_positions: Tensor | None = None,
) -> Halting:
    """When the positions of a run would have stopped by a rule. The run went on all the same.

    Arguments:
        rule: a name (`names()`, "own"), or a Rule.
        threshold: in the rule's own unit; None: as published.
        answer_positions: (batch, position), the positions whose mean decides at level "example";
            None means all.
    """
    chosen = named(rule, run.model if rule == "own" else None).at(threshold)
    iteration, halted = first_stop(chosen.stops(leveled(chosen.scores(run), level, answer_positions)))
    weights = (torch.arange(run.iterations)[:, None, None] == iteration).float()
    one = torch.ones_like(iteration, dtype=torch.float)
    return Halting(weights, iteration, halted, one, iteration + 2 * one, f"rule {chosen.name}")
