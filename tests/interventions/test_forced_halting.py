"""Edits of the gate: positions halt where they are told, the answer follows, and nothing else is
touched."""

import pytest
import torch

import loopscope as ls
from loopscope.common.errors import LoopscopeError

from ..toys.family_doubles import OuroConfig, OuroForCausalLM

N = 8


def act(form: str = "accumulated", bias: float = -1.0):
    torch.manual_seed(0)
    return ls.models.build(
        "universal", vocabulary=3, width=16, heads=2, halting=form, halting_bias=bias, iterations=N
    ).eval()


def gated(name: str):
    torch.manual_seed(0)
    return ls.models.build(name, vocabulary=3, width=16, heads=2, iterations=N, threshold=0.9).eval()


HALTS = {
    "act, accumulated": lambda: act(),
    "act, interpolated": lambda: act("interpolated"),
    "ponder": lambda: gated("ponder"),
    "ouro": lambda: gated("ouro"),
    "memory": lambda: ls.models.build(
        "memory", vocabulary=3, width=16, heads=2, length=6, memory=2, iterations=N
    ).eval(),
}  # fmt: skip


@pytest.fixture
def tokens():
    return torch.randint(0, 3, (3, 6), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("make", HALTS.values(), ids=HALTS)
@pytest.mark.parametrize("when", [0, 2, N - 1])
def test_positions_halt_in_the_iteration_they_are_told(make, when, tokens):
    run = ls.record(make(), tokens, edits=[ls.halt_at(when, position=2, batch=[0, 2])])
    clean = ls.record(make(), tokens)
    assert (run.halting.iteration[[0, 2], 2] == when).all() and run.halting.halted[[0, 2], 2].all()
    assert run.halting.weights[when, 0, 2] == pytest.approx(1)
    untouched = torch.ones(3, 6, dtype=torch.bool)
    untouched[[0, 2], 2] = False
    if not isinstance(make(), type(HALTS["memory"]())):  # there a halted state stays, and others read it
        assert torch.equal(run.halting.iteration[untouched], clean.halting.iteration[untouched])


@pytest.mark.parametrize("make", list(HALTS.values())[:4], ids=list(HALTS)[:4])
def test_the_answer_is_that_of_the_iteration_halted_in(make, tokens):
    model, when = make(), 2
    run = ls.record(model, tokens, edits=[ls.halt_at(when)])
    assert run.iterations == when + 1, "everybody has halted, so that the loop is left"
    with torch.no_grad():
        context = model.encode(tokens)
        h = run.state(when + 1).h
        kept = {"output": h} if hasattr(run.state(0), "output") else {"answer": h}
        own = model.decode(run.state(when + 1)._replace(**kept), context)
    assert torch.allclose(run.output, own, atol=1e-5)


def test_a_bias_on_the_logit_is_a_bias_of_the_unit(tokens):
    model, other = act(), act()
    shifted = ls.record(model, tokens, edits=[ls.bias_halting(0.7)])
    with torch.no_grad():
        other.act.gate.bias.add_(0.7)
    same = ls.record(other, tokens)
    assert torch.equal(shifted.output, same.output)
    assert torch.equal(shifted.halting.iteration, same.halting.iteration)


def test_above_zero_is_earlier_and_below_is_later(tokens):
    mean = [
        ls.record(act(), tokens, edits=[ls.bias_halting(shift)]).halting.iteration.float().mean()
        for shift in (-1.5, 0.0, 1.5)
    ]
    assert mean[0] > mean[1] > mean[2]


def test_a_transplanted_gate_halts_when_the_donor_does(tokens):
    model = act()
    with torch.no_grad():
        model.act.gate.weight.mul_(4)
    donor = ls.record(model, tokens.roll(1, 1), sites=["halting"])
    run = ls.record(model, tokens, sites=["halting"])
    edits = [ls.patch("halting", iteration=t, value=donor["halting"][t]) for t in range(donor.iterations)]
    swapped = ls.record(model, tokens, edits=edits)
    assert not torch.equal(run.halting.iteration, donor.halting.iteration)
    assert torch.equal(swapped.halting.iteration, donor.halting.iteration)
    assert run["halting"].axes == ("iteration", "batch", "position", "width")


def test_the_gate_of_a_model_of_others_is_forced_too(tokens):
    model = ls.wrap(OuroForCausalLM(OuroConfig()).eval())
    run = ls.record(model, tokens, edits=[ls.halt_at(1, position=3)])
    assert (run.halting.iteration[:, 3] == 1).all()
    clean = ls.record(model, tokens)
    assert torch.equal(run.output, clean.output), "its pass runs to the end whatever the gate says"
    assert torch.equal(run.halting.iteration[:, :3], clean.halting.iteration[:, :3])


def test_a_model_without_such_a_unit_gets_a_sentence(tokens):
    plain = ls.models.build("universal", vocabulary=3, width=16)
    with pytest.raises(
        LoopscopeError,
        match="'halting' needs a model with a unit .* got Universal, which runs a fixed number",
    ):
        ls.record(plain, tokens, edits=[ls.halt_at(1)])
    judged = ls.models.build("hrm", vocabulary=3, width=16, length=6)
    with pytest.raises(
        LoopscopeError, match=r"HRM, whose head judges the state after the pass .* rule=\"model\""
    ):
        ls.record(judged, tokens, sites=["halting"])
    with pytest.raises(LoopscopeError, match="an iteration counted from 0"):
        ls.halt_at(-1)
    with pytest.raises(LoopscopeError, match=r"halt at|iteration must lie in 0\.\.7"):
        ls.record(act(), tokens, edits=[ls.halt_at(N)])


def test_it_prints_as_what_it_does():
    assert str(ls.halt_at(3, position=-1)) == "halt at iteration 3, position=-1"
    assert str(ls.bias_halting(1.0, iteration=2)) == "add of 'halting' at iteration=2"
