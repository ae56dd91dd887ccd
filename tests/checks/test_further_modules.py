"""Further modules of others: those that a body wrap makes iterable pass every check, and of the
rest is said why no more than their own pass can be had."""

import re

import pytest
import torch

import loopscope as ls
from loopscope.checks import Outcome

from ..toys import further_loops as further
from ..toys import limited_loops as limited
from ..toys.checked_modules import Case, image, wrapped
from ..toys.foreign_loops import batch

WHOLE = {
    "named tuples": Case(further.NamedOutput, "core"),
    "a dictionary as the state": Case(
        further.DictState, "body", options={"state": ("state.slow", "state.fast")}
    ),
    "keywords alone": Case(further.Keywords, "core"),
    "one block in a list": Case(further.OneInAList, "blocks"),
    "channels last": Case(further.ChannelsLast, "core", image),
    "several scales": Case(further.Scales, "core", options={"state": ("scales.0", "scales.1")}),
    "deep inside": Case(further.Deep, "outer.1.core"),
    "an encoder": Case(further.EncoderDecoder, "encoder"),
    "the last one with gradients": Case(
        further.LastWithGradient, ["low", "high"], options={"state": {"high": "high", "low": "low"}}
    ),
    "inference mode inside": Case(further.InferenceInside, "core"),
    "a parametrized weight": Case(further.Normalised, "core"),
    "down an energy": Case(further.Energy, "core"),
    "autocast inside": Case(further.Autocast, "core"),
    "a number of iterations by the input": Case(further.CountByInput, "core"),
    "two loops of one body": Case(further.TwoLoops, "core"),
    "a cycle that ends in a loop, by its last part": Case(further.EndsInALoop, "second"),
}
RANDOM = "its iterations read random numbers, which are other ones when an iteration runs alone"
MORE = r"iteration 2 from state 2 gives another state 3.* as in h \+ body\(h\), is carried too"
RECORDED = {
    "noise": (Case(limited.Noise, "core"), RANDOM),
    "dropout, in training": (Case(limited.Dropout, "core", training=True), RANDOM),
    "a residual outside the body": (Case(limited.ResidualOutside, "core"), MORE),
    "momentum": (Case(limited.Momentum, "core"), MORE),
    "Anderson mixing": (Case(limited.Anderson, "core"), "decides by the states how many it runs"),
    "an answer of all states": (
        Case(limited.Reader, "cell", options={"state": "hx"}),
        "its output with every state replaced by the last is another",
    ),
    "a state in an attribute": (Case(limited.InAnAttribute, "core"), "so an iteration reads more than this"),
}
"""With what is said of iterating them: what they carry isn't what the body returns, an iteration is
no function of it, or the number of iterations isn't free."""
REFUSED = {
    "complex numbers": (Case(limited.Complex, "core"), "must receive a floating-point tensor"),
    "positions first": (Case(limited.PositionsFirst, "core"), r"reads \(position, batch, width\)"),
    "a cycle that ends in a loop": (
        Case(further.EndsInALoop, ["first", "second"]),
        "named in the order in which every iteration calls them",
    ),
}
"""No recording: an edit or a mean of such a state has no meaning here; the axes would be taken for
others; where an iteration ends shows only when the next begins."""


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_iterable_gives_its_own_states_logits_and_edits(name):
    case = WHOLE[name]
    model, x = wrapped(case), case.example()
    run = ls.record(model, x)
    assert run.reader.refusal is None
    n, k = run.iterations, run.states.iterations[0]
    longer = ls.resume(model, run, n, start=k)
    assert all(torch.equal(longer.states[t], run.states[t]) for t in range(k, n + 1))
    output = getattr(run.output, "logits", run.output)
    assert torch.equal(run.logits[n], output) and run.logits[1].shape == output.shape
    edit = ls.ablate("state", iteration=2)
    edited = ls.record(model, x, edits=[edit]).output
    edited = getattr(edited, "logits", edited)
    assert torch.equal(edited, ls.resume(model, run, n, start=max(k, 1), edits=[edit]).output)
    assert not torch.equal(edited, output)


@pytest.mark.parametrize("name", RECORDED)
def test_what_is_not_iterable_is_recorded_and_says_why(name):
    case, reason = RECORDED[name]
    run = ls.record(wrapped(case), case.example(), seed=0)
    assert torch.equal(run.states[-1], run.states[run.iterations])
    assert re.search(reason, run.reader.refusal or "")
    with pytest.raises(ls.LoopscopeError, match=reason):
        _ = run.logits[1]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_recorded_says_why(name):
    case, reason = REFUSED[name]
    with pytest.raises(ls.LoopscopeError, match=reason):
        ls.record(wrapped(case), case.example())


def test_an_edit_of_a_state_that_the_body_keeps_in_an_attribute_is_refused():
    model = wrapped(RECORDED["a state in an attribute"][0])
    with pytest.raises(ls.LoopscopeError, match="an edit of the state must reach what comes after"):
        ls.record(model, batch(), edits=[ls.ablate("state", iteration=2)])
    counted = wrapped(Case(further.Keywords, "core"))  # its first tensor is the same in every call
    ls.record(counted, batch(), edits=[ls.ablate("state", iteration=2)])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*WHOLE, *RECORDED])
def test_every_check_that_applies_passes(name):
    case, refused = (WHOLE[name], False) if name in WHOLE else (RECORDED[name][0], True)
    result = ls.check(wrapped(case), case.example())
    kept_elsewhere = name == "a state in an attribute"
    assert result.passed, str(result)
    assert (result.row("four functions").outcome is Outcome.passed) is not refused
    assert (result.row("edit of a state").outcome is Outcome.refused) is kept_elsewhere
