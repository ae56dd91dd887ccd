"""The verdict of roles: every member of it, by the solved examples that are lost."""

import pytest
import torch

from loopscope.common import discovery

ROLES = discovery.module("analyses", "roles")


def kept(*shares, size=20):
    """By state: which of so many solved examples are still solved, these shares of them."""
    return {str(i): torch.arange(size) < share * size for i, share in enumerate(shares)}


CASES = [
    (kept(0, 0), "both"),
    (kept(0.1, 0.1), "both"),
    (kept(1, 0), "one"),
    (kept(1, 1, 0), "one"),
    (kept(1, 1), "none"),
    (kept(0, 0, size=5), "unknown"),
    (kept(0, 0, size=0), "unknown"),
    (kept(0, 0, size=1), "unknown"),
    (kept(1, 0.5), "unclear"),
]


@pytest.mark.parametrize(("given", "verdict"), CASES)
def test_every_verdict_has_its_losses(given, verdict):
    reached, evidence = ROLES.decide(given)
    assert reached.name == verdict and evidence.examples == len(given["0"])
    if verdict == "unclear":
        assert {one.name for one in evidence.alternatives} == {"one", "none"}
    elif verdict != "unknown":
        assert [one.value for one in evidence.estimates] == [
            pytest.approx(float(of.double().mean())) for of in given.values()
        ]


def test_the_losses_above_reach_every_verdict():
    assert {verdict for _, verdict in CASES} == {one.name for one in ROLES.RolesVerdict}


def test_half_of_the_solved_examples_is_a_loss():
    assert ROLES.verdict_of(torch.stack(list(kept(0.5, 0.5).values()))).name == "both"
    assert ROLES.verdict_of(torch.stack(list(kept(0.55, 0.55).values()))).name == "none"


def test_an_answer_that_overflows_is_not_solved():
    from loopscope.analyses.roles.frozen_states import AnswerKey  # pyright: ignore[reportMissingImports]

    key = AnswerKey(torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.bool), None)
    logits = torch.zeros(2, 3, 4)
    logits[..., 0] = 1
    logits[1, 2] = torch.nan
    assert key.solved(logits).tolist() == [True, False], "the largest of NaN is the first, the right token"
