"""What is frozen stands still everywhere, and what isn't goes on from it: against the same loop
written out by hand."""

from typing import ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

import loopscope as ls
from loopscope.common.errors import LoopscopeError
from loopscope.nn import LoopedModule

from ..toys.foreign_loops import Loop, batch, build_loop
from ..toys.small_models import hrm_text, tiny_recursive

N, TURNS = 6, 3


class Pair(NamedTuple):
    high: Tensor
    low: Tensor


class Two(LoopedModule):
    """low <- 0.5 low + 0.3 high + x, three times; high <- 0.9 high + 0.2 low. The answer is
    high."""

    update_sites: ClassVar = {"high": (), "low": ("hook_low",)}

    def __init__(self) -> None:
        super().__init__(N, 2, Pair._fields)
        self.hook_low, self.hook_high = HookPoint(), HookPoint()
        self.setup()

    def encode(self, tokens: Tensor) -> Tensor:
        return tokens.double()[..., None].expand(*tokens.shape, 2)

    def initial(self, context: Tensor) -> Pair:
        return Pair(torch.ones_like(context), torch.full_like(context, -1.0))

    def step(self, state: Pair, context: Tensor, t: int) -> Pair:
        high, low = state
        for _ in self.clock.loop("low", range(TURNS)):
            low = self.hook_low(0.5 * low + 0.3 * high + context)
        return Pair(self.hook_high(0.9 * high + 0.2 * low), low)

    def decode(self, state: Pair, context: Tensor) -> Tensor:
        return state.high


TOKENS = torch.tensor([[1, 2, 0], [0, 1, 1]])


def truth(high_frozen=(), low_frozen=()):
    """states[0..N] as (high, low), where the iterations named leave a state as it is."""
    x = TOKENS.double()[..., None].expand(2, 3, 2)
    states = [(torch.ones_like(x), torch.full_like(x, -1.0))]
    for t in range(N):
        high, low = states[-1]
        if t not in low_frozen:
            for _ in range(TURNS):
                low = 0.5 * low + 0.3 * high + x
        new = high if t in high_frozen else 0.9 * high + 0.2 * low
        states.append((new, low))
    return states


def agree(run, states):
    return all(
        torch.allclose(run.states[k], high) and torch.allclose(run["state.low"][k], low)
        for k, (high, low) in enumerate(states)
    )


@pytest.mark.parametrize(
    ("chosen", "frozen"),
    [(0, range(N)), (2, range(2, N)), (slice(1, 4), range(1, 4)), (slice(0, -1), range(N - 1)), (-2, (4, 5))],
)
@pytest.mark.parametrize("name", ["high", "low"])
def test_a_frozen_state_stands_still_and_the_other_is_computed_from_it(name, chosen, frozen):
    run = ls.record(Two().eval(), TOKENS, edits=[ls.freeze(f"state.{name}", iteration=chosen)])
    assert agree(run, truth(**{f"{name}_frozen": frozen}))


def test_both_frozen_nothing_moves():
    run = ls.record(
        Two().eval(), TOKENS, edits=[ls.freeze("state", iteration=2), ls.freeze("state.low", iteration=2)]
    )
    assert agree(run, truth(range(2, N), range(2, N)))
    assert torch.equal(run.states[2], run.states[N]) and torch.equal(run.output, run.states[2])


def test_every_turn_of_the_inner_loop_gives_the_frozen_value():
    run = ls.record(Two().eval(), TOKENS, sites=["hook_low"], edits=[ls.freeze("state.low", iteration=3)])
    held = run["state.low"][3]
    assert torch.equal(run["hook_low"][3:].tensor, held.expand(N - 3, TURNS, *held.shape))
    assert not torch.equal(run["hook_low"][2][0], held)


def test_one_position_is_held_and_the_others_are_free():
    run = ls.record(Two().eval(), TOKENS, edits=[ls.freeze("state.low", iteration=0, position=1)])
    free, held = truth(), truth(low_frozen=range(N))
    for k in range(N + 1):
        for place in range(3):
            assert torch.allclose(
                run["state.low"][k][:, place], (held if place == 1 else free)[k][1][:, place]
            )


def test_a_resumed_run_is_frozen_at_what_it_had_there():
    model = Two().eval()
    run = ls.resume(model, ls.record(model, TOKENS), N, start=2, edits=[ls.freeze("state.low", iteration=2)])
    assert agree(run, truth(low_frozen=range(2, N)))
    with pytest.raises(
        LoopscopeError, match=r"freeze of 'state.low' from iteration 1 on: it must begin at one of .* 2..5"
    ):
        ls.resume(model, run, N, start=2, edits=[ls.freeze("state.low", iteration=1)])


def test_one_freeze_serves_many_runs_and_remembers_none():
    model, held = Two().eval(), ls.freeze("state.low", iteration=1)
    first = ls.record(model, TOKENS, edits=[held])
    other = ls.record(model, TOKENS + 1, edits=[held])
    assert not torch.equal(first["state.low"][N], other["state.low"][N])
    assert torch.equal(ls.record(model, TOKENS, edits=[held])["state.low"][N], first["state.low"][N])


def test_any_site_of_the_loop_is_held_at_what_it_gave_each_turn_at_its_own():
    run = ls.record(Two().eval(), TOKENS, sites=["hook_low"], edits=[ls.freeze("hook_low", iteration=2)])
    plain = ls.record(Two().eval(), TOKENS, sites=["hook_low"])
    for t in range(2, N):
        assert torch.equal(run["hook_low"][t], plain["hook_low"][2])
    assert not torch.equal(plain["hook_low"][3], plain["hook_low"][2])


class Unsaid(Two):
    update_sites: ClassVar = {}


class Chained(Unsaid):
    """low is computed from the new high, with no inner loop."""

    def step(self, state: Pair, context: Tensor, t: int) -> Pair:
        high = 0.9 * state.high + 0.2 * state.low
        return Pair(high, 0.5 * state.low + 0.3 * high)


class Side(Unsaid):
    """Each from the old value of the other."""

    def step(self, state: Pair, context: Tensor, t: int) -> Pair:
        return Pair(0.9 * state.high + 0.2 * state.low, 0.5 * state.low + 0.3 * state.high)


def test_a_model_that_would_miss_the_freeze_inside_an_iteration_is_refused():
    with pytest.raises(LoopscopeError, match="has inner loops \\(low\\) that may update it several times"):
        ls.record(Unsaid().eval(), TOKENS, edits=[ls.freeze("state.low")])
    with pytest.raises(
        LoopscopeError, match="computes 'low' from its new value within an iteration.*update_sites = "
    ):
        ls.record(Chained().eval(), TOKENS, edits=[ls.freeze("state.high")])
    ls.record(Chained().eval(), TOKENS, edits=[ls.freeze("state.low")])  # nobody reads the new low
    for name in Pair._fields:
        ls.record(Side().eval(), TOKENS, edits=[ls.freeze(f"state.{name}")])


@pytest.mark.parametrize("name", ["trm", "hrm"])
@pytest.mark.parametrize("frozen", ["high", "low"])
def test_the_zoos_models_are_frozen_as_their_equations_say(name, frozen):
    shape = {
        "vocabulary": 5,
        "width": 24,
        "heads": 3,
        "layers": 1,
        "low_updates": 3,
        "cycles": 2,
        "length": 9,
    }
    model = ls.models.build(name, seed=0, **shape).double().eval()
    tokens = torch.randint(0, 5, (2, 9), generator=torch.Generator().manual_seed(0))
    run = ls.record(model, tokens, 4, edits=[ls.freeze(f"state.{frozen}", iteration=1)])
    low_net, high_net = (model.core, model.core) if name == "trm" else (model.low_level, model.high_level)
    with torch.no_grad():
        context = model.encode(tokens)
        high, low = model.initial(context)
        for t in range(4):
            for _ in range(3 if t < 1 or frozen != "low" else 0):
                low = low_net(low + high + context.x, context.positions)
            if t < 1 or frozen != "high":
                high = high_net(high + low, context.positions)
    assert torch.allclose(run.states[4], high, atol=1e-12) and torch.allclose(
        run["state.low"][4], low, atol=1e-12
    )


def test_a_tiny_recursive_model_is_frozen_inside_its_refinements():
    outer = tiny_recursive().eval()
    mixer, refinements = outer.network, outer.num_latent_refinements
    model, tokens = ls.wrap(outer), torch.randint(0, 40, (2, 8), generator=torch.Generator().manual_seed(0))
    run = ls.record(model, tokens, 4, edits=[ls.freeze("state.latent", iteration=1)])
    with torch.no_grad():
        context = model.encode(tokens)
        output, latent = model.initial(context)
        for t in range(4):
            for _ in range(refinements if t < 1 else 0):
                latent = mixer(output + latent + context.embedded)
            output = mixer(output + latent)
    assert torch.allclose(run.states[4], output, atol=1e-6)
    assert torch.equal(run["state.latent"][1], run["state.latent"][4])


def test_hrm_text_is_frozen_inside_its_cycles():
    model = ls.wrap(hrm_text().eval())
    tokens = torch.randint(0, 40, (2, 5), generator=torch.Generator().manual_seed(0))
    run = ls.record(
        model, tokens, 3, sites=["low_out", "high_in"], edits=[ls.freeze("state.low", iteration=1)]
    )
    held = run["state.low"][1]
    assert (run["low_out"][1:].tensor == held).all() and torch.equal(run["state.low"][3], held)
    assert torch.equal(run["high_in"][2], run.states[2] + held)


def test_a_plain_loop_that_works_in_place_is_held_too():
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.core = Adding()

        def forward(self, x: Tensor) -> Tensor:
            h = x.clone()
            for _ in range(4):
                h = self.core(h)
            return h

    class Adding(nn.Module):
        def forward(self, h: Tensor) -> Tensor:
            return h.add_(1)

    x = batch()
    run = ls.record(ls.wrap(InPlace(), body="core"), x, edits=[ls.freeze(iteration=2)])
    assert torch.allclose(run.output, x + 2)
    whole = ls.record(ls.wrap(build_loop(Loop), body="core"), x, edits=[ls.freeze(iteration=2, position=0)])
    true = build_loop(Loop).truth(x)
    assert torch.allclose(whole.states[5][:, 0], true[2][:, 0]) and torch.allclose(
        whole.states[5][:, 1], true[5][:, 1]
    )


def test_a_gradient_at_the_state_that_is_held_is_that_of_all_that_reads_it():
    model = ls.models.build("trm", seed=0, vocabulary=5, width=8, heads=2, layers=1, length=9).eval()
    tokens = torch.zeros(1, 9, dtype=torch.long)
    run = ls.record(model, tokens, 3, grad=True, edits=[ls.freeze("state", iteration=1)])
    (slope,) = torch.autograd.grad(run.output.sum(), run.states[1])
    assert torch.allclose(slope, model.unembed.weight.sum(0).expand_as(slope)), (
        "the read-out alone, as nothing else moves it"
    )


def test_what_is_held_is_what_the_other_edits_made_of_it():
    patched = ls.patch("state", value=torch.tensor(7.0, dtype=torch.float64), iteration=2)
    run = ls.record(Two().eval(), TOKENS, edits=[ls.freeze(iteration=2), patched])
    assert (run.states[2:].tensor == 7).all()


def test_what_cant_be_frozen_gets_a_sentence():
    for wrong in ([1, 2], slice(0, 4, 2), True, 1.5):
        with pytest.raises(
            LoopscopeError, match="iteration must be one number, from which on it is held, or a slice"
        ):
            ls.freeze("state", iteration=wrong)
    with pytest.raises(
        LoopscopeError, match="freeze of 'state' from iteration 9 on: it must begin at one of the iterations"
    ):
        ls.record(Two().eval(), TOKENS, edits=[ls.freeze(iteration=9)])
    with pytest.raises(LoopscopeError, match="there is no site 'state.middle'"):
        ls.record(Two().eval(), TOKENS, edits=[ls.freeze("state.middle")])
    with pytest.raises(
        LoopscopeError, match="from iteration 0 on: it must begin at one of the iterations that are run, 1..4"
    ):
        ls.record(ls.wrap(build_loop(Closed), body="core"), batch(), edits=[ls.freeze()])


class Closed(Loop):
    """Something is added before each call of the body, so that states[0] is never seen."""

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for _ in range(self.turns):
            h = self.core(h + x)
        return self.head(h)


def test_it_prints_as_what_it_does():
    assert (
        str(ls.freeze("state.low", iteration=2, position=1))
        == "freeze of 'state.low' from iteration 2 on, position=1"
    )
    held = ls.freeze("state", iteration=slice(1, 4))
    assert str(held) == "freeze of 'state' from iteration 1 to before iteration 4"
    assert ls.record(Two().eval(), TOKENS, edits=[held]).origin["edits"] == [str(held)]
