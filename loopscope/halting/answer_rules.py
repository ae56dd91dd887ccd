"""Exit rules that read answers: divergences between successive answers, their entropy, their
largest probability, and how long the most likely token has stayed the same.

Before the first iteration there is no answer. The first answer is compared with the uniform
distribution, as in Huginn's code.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..maths import output_signals
from .observation import Observation
from .rule import Quantity, Rule
from .state_rules import HUGINN

KOHLI = "Kohli et al. 2026, arXiv 2604.07822"


def quantity_of_answers(measure: Callable[[Tensor, Tensor], Tensor]) -> Quantity:
    """A rule's quantity from a function of two answers, log-probabilities (batch, position, vocab):
    previous and current."""

    def quantity(
        previous: Observation, current: Observation, memory: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        answer = _answer(current)
        before = output_signals.uniform(answer) if previous.log_probabilities is None else _answer(previous)
        return measure(before, answer), None

    return quantity


def _answer(observation: Observation) -> Tensor:
    assert observation.log_probabilities is not None
    return observation.log_probabilities


def _iterations_unchanged(
    previous: Observation, current: Observation, memory: Tensor | None
) -> tuple[Tensor, Tensor]:
    """How many iterations in a row have left the most likely token as it was."""
    token = _answer(current).argmax(-1)
    if previous.log_probabilities is None:
        return torch.zeros_like(token), torch.zeros_like(token)
    count = torch.zeros_like(token) if memory is None else memory
    count = torch.where(token == _answer(previous).argmax(-1), count + 1, torch.zeros_like(count))
    return count, count


def _reverse_divergence(previous: Tensor, current: Tensor) -> Tensor:
    return output_signals.kl_divergence(current, previous)


def _min_p_divergence(previous: Tensor, current: Tensor) -> Tensor:
    return output_signals.kl_divergence(output_signals.min_p(previous), output_signals.min_p(current))


def _entropy_change(previous: Tensor, current: Tensor) -> Tensor:
    return (output_signals.entropy(current) - output_signals.entropy(previous)).abs()


def _confidence(previous: Tensor, current: Tensor) -> Tensor:
    return output_signals.confidence(current)


def kl_entropy_rule(fraction: float = 0.56) -> Rule:
    """KL(new ‖ previous) below the threshold, and an entropy below `fraction` of its largest value.

    Kohli et al. 2026 (arXiv 2604.07822) require less than 3.00 nats where 210 tokens allow 5.35:
    0.56 of it.
    """

    def measure(previous: Tensor, current: Tensor) -> Tensor:
        largest = torch.log(torch.tensor(float(current.shape[-1])))
        confident = output_signals.entropy(current) < fraction * largest
        return torch.where(confident, _reverse_divergence(previous, current), float("inf"))

    return Rule(
        "kl_entropy",
        f"KL(new ‖ previous) below the threshold and entropy below {fraction:g} of its largest value",
        KOHLI,
        0.01,
        quantity_of_answers(measure),
    )


ANSWER_RULES = (
    Rule(
        "kl",
        "KL(previous ‖ new) of the answers",
        HUGINN,
        5e-4,
        quantity_of_answers(output_signals.kl_divergence),
    ),
    Rule(
        "kl_reverse",
        "KL(new ‖ previous) of the answers",
        KOHLI,
        0.01,
        quantity_of_answers(_reverse_divergence),
    ),
    kl_entropy_rule(),
    Rule(
        "min_p",
        "KL(previous ‖ new) without unlikely tokens",
        HUGINN,
        1e-5,
        quantity_of_answers(_min_p_divergence),
    ),
    Rule("entropy", "the change of the answer's entropy", HUGINN, 1e-3, quantity_of_answers(_entropy_change)),
    Rule("argmax", "iterations with the same answer", HUGINN, 5, _iterations_unchanged, stops_above=True),
    Rule(
        "confidence",
        "the largest probability",
        "Schuster et al. 2022, arXiv 2207.07061",
        0.9,
        quantity_of_answers(_confidence),
        stops_above=True,
    ),
)
"""With the thresholds of their sources."""
