"""One training step: how many iterations, through which of them the gradient goes, and what is
asked of the answer."""

import math

import pytest
import torch
from scipy.stats import chisquare, poisson
from torch import Tensor, nn

import loopscope as ls
from loopscope.common.errors import LoopscopeError
from loopscope.halting.halting_record import exit_weights
from loopscope.nn import LoopedModule
from loopscope.training import (
    AdamW,
    Average,
    DeepSupervision,
    Every,
    Exits,
    Final,
    Fixed,
    Full,
    Gate,
    Growing,
    Implicit,
    Last,
    PerLength,
    PoissonLogNormal,
    Progressive,
    Ramp,
    Rising,
    Stages,
    Uniform,
)
from loopscope.training.exit_losses import divergence
from loopscope.training.supervision import StepInputs

TASK = ls.tasks.prefix_parity(length=6)
CONFIG = {"vocabulary": 3, "width": 16, "heads": 2, "iterations": 4, "norm": "stream", "injection": "add"}


def test_uniform_depths_are_equally_frequent():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.tensor([Uniform(3, 8).draw(16, 0, generator) for _ in range(6000)])
    counts = drawn.bincount(minlength=9)[3:]
    assert counts.sum() == 6000
    assert chisquare(counts.numpy()).pvalue > 0.001


def test_depths_that_grow_with_the_length():
    generator = torch.Generator().manual_seed(0)
    for length in (5, 16):
        drawn = {PerLength(1, 2).draw(length, 0, generator) for _ in range(2000)}
        assert drawn == set(range(length, 2 * length + 1))
    assert {Fixed(7).draw(length, 0, generator) for length in (1, 30)} == {7}


def test_a_curriculum_grows_from_its_start_to_the_tasks_own_length():
    lengths = [Growing(start=5, steps=100).length(step, full_length=16) for step in range(120)]
    assert lengths[0] == 5
    assert lengths[99] == 15
    assert set(lengths[100:]) == {16}
    assert lengths == sorted(lengths)
    assert set(lengths) == set(range(5, 17))


def test_a_penalty_waits_and_then_rises():
    at = [Ramp(weight=0.6, start=10, steps=5).at(step) for step in range(30)]
    assert at[:10] == [0.0] * 10
    assert at[10:15] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert at[15:] == [0.6] * 15


def test_the_learning_rate_rises_stays_and_falls():
    rate = [AdamW(lr=1.0, warmup=9, decay=9).rate(step, 100) for step in range(100)]
    assert rate[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert set(rate[10:90]) == {1.0}
    assert rate[91:] == pytest.approx([(9 - i) / 10 for i in range(9)])


def model_and_batch():
    model = ls.models.build("universal", seed=3, **CONFIG).train()
    batch = ls.tasks.prefix_parity(length=6).batch(8, seed=0)
    return model, (batch.tokens, batch.targets, batch.mask)


def inputs(model, batch, iterations, gradient, seed=0, **more):
    return StepInputs(model, TASK, *batch, iterations, gradient, torch.Generator().manual_seed(seed), **more)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def by_hand(model, tokens, targets, mask, without, iterations):
    """The loss of a run whose first iterations are cut off from the gradient, written out."""
    context = model.encode(tokens)
    h = model.initial(context)
    for t in range(iterations):
        h = model.step(h.detach() if t == without else h, context, t)
    return TASK.losses(model.decode(h, context), targets)[mask].mean()


@pytest.mark.parametrize(("gradient", "without"), [(Full(), 0), (Last(2), 3), (Last(5), 0), (Last(9), 0)])
def test_the_gradient_goes_back_as_far_as_its_rule_says(gradient, without):
    model, batch = model_and_batch()
    outputs = Final()(inputs(model, batch, 5, gradient))
    wanted = by_hand(model, *batch, without if without else -1, 5)
    assert torch.equal(outputs.loss, wanted)
    own, goal = gradients(model, outputs.loss), gradients(model, wanted)
    assert own.keys() == goal.keys()
    assert all(torch.equal(own[name], goal[name]) for name in own)


def test_progressive_training_goes_on_from_a_detached_state():
    model, batch = model_and_batch()
    for seed in range(5):
        dice = torch.Generator().manual_seed(seed)
        n = int(torch.randint(0, 6, (), generator=dice))
        k = int(torch.randint(1, 6 - n + 1, (), generator=dice))
        outputs = Progressive(0.25)(inputs(model, batch, 6, Full(), seed))
        part = by_hand(model, *batch, n if n else -1, n + k)
        wanted = 0.25 * part + 0.75 * by_hand(model, *batch, -1, 6)
        torch.testing.assert_close(outputs.loss, wanted)
        torch.testing.assert_close(gradients(model, outputs.loss), gradients(model, wanted))


def test_only_answered_positions_count():
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[0, 1, 2], [3, 0, 1]])
    mask = torch.tensor([[False, True, True], [False, True, False]])
    chosen = [(0, 1), (0, 2), (1, 1)]
    wanted = -sum(float(logits[i, j].log_softmax(-1)[targets[i, j]]) for i, j in chosen) / 3
    asked = inputs(None, (logits, targets, mask), 1, Full())
    assert asked.loss(logits).item() == pytest.approx(wanted)


def test_poisson_lognormal_depths_follow_their_formula():
    """Against the mixture itself, its normal integrated on a grid."""
    sampler, generator = PoissonLogNormal(mean=6, sigma=0.5), torch.Generator().manual_seed(0)
    drawn = torch.tensor([sampler.draw(9, 0, generator) for _ in range(8000)])
    z = torch.linspace(-6, 6, 2001, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2)
    rates = torch.exp(math.log(6) - 0.5**2 / 2 + 0.5 * z)
    chance = [
        float(density @ torch.from_numpy(poisson.pmf(n - 1, rates.numpy())) / density.sum())
        for n in range(1, 15)
    ]
    counts = drawn.clamp(max=15).bincount(minlength=16)[1:]
    expected = torch.tensor([*chance, 1 - sum(chance)], dtype=torch.float64) * 8000
    assert chisquare(counts.numpy(), expected.numpy()).pvalue > 0.001
    assert drawn.min() == 1


def test_a_rising_depth_takes_every_value_for_as_long():
    drawn = [Rising(2, 5, steps=40).draw(9, step, torch.Generator()) for step in range(60)]
    assert drawn == [2] * 10 + [3] * 10 + [4] * 10 + [5] * 30


def test_a_window_is_the_mean_of_its_iterations_losses():
    model, batch = model_and_batch()
    outputs = Every(3)(inputs(model, batch, 7, Last(3)))
    wanted = torch.stack([by_hand(model, *batch, 4, n) for n in (5, 6, 7)]).mean()
    torch.testing.assert_close(outputs.loss, wanted)
    torch.testing.assert_close(gradients(model, outputs.loss), gradients(model, wanted))
    torch.testing.assert_close(
        Every()(inputs(model, batch, 4, Full())).loss,
        torch.stack([by_hand(model, *batch, -1, n) for n in (1, 2, 3, 4)]).mean(),
    )


class Gated(LoopedModule):
    """h -> tanh(W h + e), with a gate and a Q-head; small enough to be written out."""

    def __init__(self, seed: int = 0, q: int = 2) -> None:
        super().__init__(iterations=3, vocabulary=3)
        torch.manual_seed(seed)
        self.table, self.w, self.head = nn.Embedding(3, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.gate, self.q = nn.Linear(8, 1), nn.Linear(8, q)
        with torch.no_grad():
            self.w.weight.mul_(0.4)
        self.setup()

    def encode(self, tokens: Tensor) -> Tensor:
        return self.table(tokens)

    def initial(self, context: Tensor) -> Tensor:
        return torch.zeros_like(context)

    def step(self, state: Tensor, context: Tensor, t: int) -> Tensor:
        return torch.tanh(self.w(state) + context)

    def decode(self, state: Tensor, context: Tensor) -> Tensor:
        return self.head(state)

    def exit_probability(self, state: Tensor) -> Tensor:
        return torch.sigmoid(self.gate(state)[..., 0])

    def q_values(self, state: Tensor) -> Tensor:
        return self.q(state.mean(1))

    def states(self, tokens: Tensor, n: int, h: Tensor | None = None) -> list[Tensor]:
        e = self.encode(tokens)
        result = [torch.zeros_like(e) if h is None else h]
        for _ in range(n):
            result.append(torch.tanh(result[-1] @ self.w.weight.T + self.w.bias + e))
        return result[1:]


def gated_and_batch(**options):
    batch = TASK.batch(8, seed=0)
    return Gated(**options), (batch.tokens, batch.targets, batch.mask)


def test_exit_weights_sum_to_one_and_are_those_of_the_formula():
    chance = torch.rand(5, 2, 3, generator=torch.Generator().manual_seed(0))
    p = exit_weights(chance)
    torch.testing.assert_close(p.sum(0), torch.ones(2, 3))
    torch.testing.assert_close(p[2], chance[2] * (1 - chance[0]) * (1 - chance[1]))
    torch.testing.assert_close(p[4], (1 - chance[:4]).prod(0))


@pytest.mark.parametrize("prior", [None, 0.2])
def test_the_loss_of_exits_is_the_expected_loss_and_the_divergence_from_the_prior(prior):
    model, (tokens, targets, mask) = gated_and_batch()
    outputs = Exits(0.3, prior)(inputs(model, (tokens, targets, mask), 4, Full()))
    states = model.states(tokens, 4)
    going, expected, p = torch.ones(targets.shape), 0.0, []
    for t, h in enumerate(states):
        chance = model.exit_probability(h) if t < 3 else torch.ones(targets.shape)
        p.append(going * chance)
        going = going * (1 - chance)
        expected = expected + p[-1] * TASK.losses(model.head(h), targets)
    if prior is None:
        goal = [0.25] * 4
    else:
        goal = [0.2 * 0.8**t for t in range(4)]
        goal = [g / sum(goal) for g in goal]
    price = sum(q * (q / g).log() for q, g in zip(p, goal, strict=True))
    wanted = expected[mask].mean() + 0.3 * price[mask].mean()
    torch.testing.assert_close(outputs.loss, wanted)
    torch.testing.assert_close(gradients(model, outputs.loss), gradients(model, wanted))


def test_the_divergence_is_that_of_the_exits_from_the_prior_and_not_the_other_way_round():
    p = torch.tensor([0.9, 0.05, 0.05])[:, None, None]
    assert divergence(p, None).item() == pytest.approx(
        math.log(3) + sum(x * math.log(x) for x in (0.9, 0.05, 0.05))
    )
    assert divergence(torch.full((3, 1, 1), 1 / 3), None).item() == pytest.approx(0, abs=1e-6)
    weights = [0.5, 0.25, 0.125]
    geometric = torch.tensor([w / sum(weights) for w in weights])[:, None, None]
    assert divergence(geometric, 0.5).item() == pytest.approx(0, abs=1e-6)
    sure = torch.tensor([1.0, 0.0, 0.0])[:, None, None]  # finite this way round only
    assert divergence(sure, 0.5).item() == pytest.approx(-math.log(geometric[0].item()))


def test_the_gate_alone_learns_whether_another_iteration_helped():
    model, (tokens, targets, mask) = gated_and_batch()
    outputs = Gate(slope=5.0, threshold=0.01)(inputs(model, (tokens, targets, mask), 4, Full()))
    states = [h.detach() for h in model.states(tokens, 4)]
    losses = [TASK.losses(model.head(h), targets).detach() for h in states]
    wanted = 0.0
    for t in (1, 2, 3):
        helped = torch.sigmoid(5 * ((losses[t - 1] - losses[t]).clamp(min=0) - 0.01))
        chance = model.exit_probability(states[t])
        wanted = wanted - (helped * (1 - chance).log() + (1 - helped) * chance.log())
    torch.testing.assert_close(outputs.loss, wanted[mask].mean() / 4)
    assert set(gradients(model, outputs.loss)) == {"gate.weight", "gate.bias"}


def test_stages_follow_one_another():
    model, batch = gated_and_batch()
    stages = Stages(Exits(0.1), Gate(), at=5)
    for step, part in ((4, Exits(0.1)), (5, Gate())):
        asked = inputs(model, batch, 3, Full(), step=step)
        assert torch.equal(stages(asked).loss, part(asked).loss)


@pytest.mark.parametrize("q", [1, 2])
def test_a_segment_goes_on_from_the_carry_and_judges_itself(q):
    model, (tokens, targets, mask) = gated_and_batch(q=q)
    first = DeepSupervision(3, weight=0.5)(inputs(model, (tokens, targets, mask), 2, Full()))
    carry = first.state.detach()
    assert torch.equal(first.state, model.states(tokens, 2)[-1])
    outputs = DeepSupervision(3, weight=0.5)(
        inputs(model, (tokens, targets, mask), 2, Full(), segment=1, carry=carry)
    )
    h = model.states(tokens, 2, carry)[-1]
    right = ((model.head(h).argmax(-1) == targets) | ~mask).all(1).float()
    judged = nn.functional.binary_cross_entropy_with_logits(model.q_values(h)[:, 0], right)
    if q == 2:
        after = model.states(tokens, 2, h)[-1].detach()
        worth = torch.sigmoid(
            model.q_values(after)[:, 0]
        ).detach()  # the last segment, in which nothing can go on
        judged = judged + nn.functional.binary_cross_entropy_with_logits(model.q_values(h)[:, 1], worth)
    wanted = TASK.losses(model.head(h), targets)[mask].mean() + 0.5 * judged
    torch.testing.assert_close(outputs.loss, wanted)
    torch.testing.assert_close(gradients(model, outputs.loss), gradients(model, wanted))


def test_the_implicit_gradient_is_that_of_a_long_unrolled_loop():
    model, batch = gated_and_batch()
    model = model.double()
    implicit = Final()(inputs(model, batch, 60, Implicit(tolerance=1e-10, most=100)))
    unrolled = Final()(inputs(model, batch, 60, Full()))
    torch.testing.assert_close(implicit.loss, unrolled.loss)
    torch.testing.assert_close(
        gradients(model, implicit.loss), gradients(model, unrolled.loss), rtol=1e-5, atol=1e-9
    )


def test_an_implicit_gradient_needs_one_tensor():
    model = ls.models.build("universal", halting="accumulated", **CONFIG)
    model.recurrent_fields = model.fields
    batch = TASK.batch(4, 0)
    with pytest.raises(LoopscopeError, match="depends on one tensor, but this state's are h, output"):
        Final()(inputs(model, (batch.tokens, batch.targets, batch.mask), 3, Implicit()))


def test_models_without_a_gate_or_a_q_head_say_so():
    model, batch = model_and_batch()
    with pytest.raises(LoopscopeError, match="Universal has no exit gate"):
        Exits(0.1)(inputs(model, batch, 3, Full()))
    with pytest.raises(LoopscopeError, match="Universal has no Q-head"):
        DeepSupervision(2)(inputs(model, batch, 3, Full()))
    assert DeepSupervision(2, weight=0)(inputs(model, batch, 3, Full())).loss > 0


def test_the_average_of_weights_warms_up_and_then_moves_slowly():
    model, average = nn.Linear(1, 1, bias=False), Average(0.5)
    nn.init.constant_(model.weight, 0.0)
    kept = average.start(model)
    seen, wanted = 0.0, 0.0
    for step in range(20):
        nn.init.constant_(model.weight, float(step))
        average.update(kept, model, step)
        decay = min(0.5, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * step
        seen = kept["weight"].item()
        assert seen == pytest.approx(wanted)
    Average.put(kept, model)
    assert model.weight.item() == pytest.approx(seen)
