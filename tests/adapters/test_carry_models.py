"""The official code of HRM and of TRM: carry, segments, Q-head, and other wirings under the same
names."""

import sys
import warnings
from types import SimpleNamespace

import pytest
import torch

import loopscope as ls

from ..toys import carry_doubles
from ..toys.carry_doubles import HierarchicalReasoningModel_ACTV1 as Hrm
from ..toys.carry_doubles import TinyRecursiveReasoningModel_ACTV1 as Trm
from ..toys.carry_doubles import batch_of

KINDS = [Hrm, Trm]


@pytest.fixture(params=KINDS, scope="module", ids=lambda kind: kind.__name__)
def case(request):
    torch.manual_seed(1)
    model = request.param().eval()
    tokens = torch.randint(0, 40, (3, 6))
    batch = batch_of(tokens, [1, 4, 2])
    high: list[torch.Tensor] = []
    network = model.inner.H_level if request.param is Hrm else model.inner.L_level
    handle = network.register_forward_hook(lambda _, given, output: high.append(output.detach()))
    with torch.no_grad():
        carry, output = model(model.initial_carry(batch.whole), batch.whole)
    handle.remove()
    high = high if request.param is Hrm else high[2::3]
    return SimpleNamespace(
        model=model, wrapped=ls.wrap(model), tokens=tokens, batch=batch, carry=carry, output=output, high=high
    )


def recorded(case, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ls.LoopscopeWarning)
        return ls.record(case.wrapped, case.tokens, *args, **{"batch": case.batch.further, **options})


def test_a_segment_is_the_models_own_bit_for_bit(case):
    run = recorded(case)
    assert torch.equal(run.output, case.output["logits"])
    assert torch.equal(recorded(case, sites="all").output, case.output["logits"])
    assert run.iterations == len(case.high) == 3
    assert all(torch.equal(run.states[k + 1], state) for k, state in enumerate(case.high))
    assert torch.equal(run.states[-1], case.carry.inner_carry.z_H)
    assert torch.equal(run["state.low"][-1], case.carry.inner_carry.z_L)
    off = case.wrapped.difference(case.tokens, batch=case.batch.further)
    sys.stdout.write(f"the largest difference is {off:.1e}\n")
    assert off == 0


def test_a_second_segment_is_the_next_iterations_and_a_call_with_the_carry(case):
    with torch.no_grad():
        carry, output = case.model(case.carry, case.batch.whole)
    assert torch.equal(recorded(case, carry=case.carry).output, output["logits"])
    longer = recorded(case, 6)
    assert torch.equal(longer.output, output["logits"])
    assert torch.equal(longer.states[-1], carry.inner_carry.z_H)


def test_rows_that_halted_start_anew_with_new_data(case):
    old = case.carry
    halted = torch.tensor([True, False, True])
    carry = carry_doubles.Carry(old.inner_carry, old.steps, halted, old.current_data)
    fresh = case.tokens.flip(0)
    with torch.no_grad():
        _, output = case.model(carry, {**case.batch.whole, "inputs": fresh})
    run = ls.record(case.wrapped, fresh, batch=case.batch.further, carry=carry)
    assert torch.equal(run.output, output["logits"])
    assert not torch.equal(run.states[0][0], run.states[0][1])


def test_its_q_head_halts_where_the_model_would_in_training(case):
    run, model = recorded(case, 12), case.model
    assert run.halting is not None
    with torch.no_grad():
        q = [model.inner.q_head(run.states[k][:, 0]) for k in (3, 6, 9, 12)]
    alone = isinstance(model, Trm)
    ends = torch.stack([v[:, 0] > (0 if alone else v[:, 1]) for v in q])
    for row in range(3):
        first = ends[:, row].int().argmax() if ends[:, row].any() else 3
        assert int(run.halting.iteration[row, 0]) == 3 * int(first) + 2
    assert ls.record(case.wrapped, case.tokens, 2, batch=case.batch.further).halting is None


def test_in_training_logits_and_gradients_are_the_models_own(case):
    case.model.train()
    try:
        _, output = case.model(case.model.initial_carry(case.batch.whole), case.batch.whole)
        run = recorded(case, grad=True)
        parameters = list(case.model.parameters())
        ours, own = (
            torch.autograd.grad(x.square().sum(), parameters, allow_unused=True)
            for x in (run.output, output["logits"])
        )
    finally:
        case.model.eval()
    assert torch.equal(run.output, output["logits"])
    for a, b in zip(ours, own, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


def test_an_edit_reaches_the_answer(case):
    value = torch.randn(3, 7, 16)
    run = recorded(case, edits=[ls.patch("state", iteration=3, value=value)])
    assert torch.equal(run.output, case.model.inner.lm_head(value)[:, 1:])
    low = recorded(case, edits=[ls.patch("state.low", iteration=1, value=value)])
    assert not torch.equal(low.output, case.output["logits"])
    assert torch.equal(low.states[1], recorded(case).states[1])


def test_a_measure_takes_its_run(case):
    assert str(ls.analyses.measure("convergence", recorded(case, 6)))


def test_a_batch_that_is_not_one_is_refused(case):
    for bad in ({"inputs": case.tokens}, 3):
        with pytest.raises(ls.LoopscopeError, match="batch must be a dictionary of what a batch has besides"):
            ls.record(case.wrapped, case.tokens, batch=bad)


@pytest.mark.parametrize("wiring", ["no_input", "scaled", "extra_call"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_another_wiring_is_caught(kind, wiring):
    torch.manual_seed(1)
    wrapped = ls.wrap(kind(wiring).eval())
    tokens = torch.randint(0, 40, (3, 6))
    with (
        pytest.warns(ls.LoopscopeWarning, match="own forward gives, but"),
        pytest.raises(
            ls.LoopscopeError, match="can't be recorded by its family's adapter.*own forward gives"
        ),
    ):
        ls.record(wrapped, tokens)
