"""Convergence: known maps give their known rates, and where there is no limit no number is made
up."""

import dataclasses
import math

import numpy as np
import pytest
import torch

import loopscope as ls
from loopscope.analyses import convergence
from loopscope.common.errors import LoopscopeError
from loopscope.maths.contraction_rate import contraction
from loopscope.maths.late_motion import LATE_MOTIONS, late_motion

from ..toys import known_maps

measure = ls.analyses.measure


def convergence_of(model, iterations=32, **options):
    return measure("convergence", ls.record(model, known_maps.TOKENS, iterations), **options)


@pytest.mark.parametrize("rho", [0.3, 0.5, 0.7, 0.9])
def test_a_linear_map_contracts_by_its_spectral_radius(rho: float):
    result = convergence_of(known_maps.contracting(rho), extra=120)
    assert result.state.rate.value == pytest.approx(rho, rel=1e-3)
    assert torch.isfinite(result.state.rate_by_position).all()
    assert result.verdict.name == ("settled" if rho < 0.9 else "late")


def test_a_complex_pair_contracts_by_its_modulus():
    assert convergence_of(known_maps.spiralling(0.8, 1.1)).state.rate.value == pytest.approx(0.8, rel=1e-3)


def test_the_interval_holds_the_rate():
    rate = convergence_of(known_maps.contracting(0.7)).state.rate
    assert rate.low <= 0.7 <= rate.high
    assert rate.points >= 5
    assert rate.last - rate.first + 1 == rate.points


def test_a_rate_too_slow_for_the_extra_iterations_is_not_made_up():
    result = convergence_of(known_maps.contracting(0.97), tolerance=1e-5)
    assert math.isnan(result.state.rate.value)
    assert "There is no contraction rate" in str(result)
    assert result.verdict.name == "approaching"
    assert set(result.fates.values()) == {"approaches"}


@pytest.mark.parametrize(
    ("power", "motion"), [(0.25, "moves"), (1.0, "moves"), (2.0, "slows"), (5.0, "approaches")]
)
def test_steps_whose_sum_has_no_limit_approach_none(power, motion):
    """Along a line, in steps of k^-power."""
    steps = torch.arange(1, 97, dtype=torch.float64) ** -power
    result = late_motion(list(steps.cumsum(0)[:, None, None]), 1e-12, torch.finfo(torch.float64).eps)
    assert [LATE_MOTIONS[i].name for i in result.code.tolist()] == [motion]


def test_a_loop_that_only_slows_down_has_no_limit_and_says_so():
    """Its distance shrinks as 1 / k: whether it ends isn't seen in 96."""
    result = convergence_of(known_maps.Map(lambda x: x / (1 + x.norm(dim=-1, keepdim=True))), tolerance=1e-5)
    assert result.verdict.name == "slowing"
    assert set(result.fates.values()) == {"unclear"}
    assert "their sizes alone show no limit" in str(result) and "which is no limit" in str(result)
    assert "that they needn't ever end" in str(result)


def test_a_rotation_never_settles_and_has_no_rate():
    result = convergence_of(known_maps.rotating(2.0))
    assert result.verdict.name == "moving"
    assert result.state.settled_fraction.max() == 0
    assert math.isnan(result.state.rate.value)


@pytest.mark.parametrize("verdict", convergence.ConvergenceVerdict)
def test_distances_are_drawn_only_where_there_may_be_a_limit(verdict):
    """Of an unclear verdict, where one of the conclusions that the numbers allow has one."""
    result, v = convergence_of(known_maps.contracting(0.7)), convergence.ConvergenceVerdict
    without = {v.growing, v.moving, v.slowing}

    def drawn(*allowed) -> bool:
        evidence = dataclasses.replace(result.evidence, alternatives=allowed)
        other = dataclasses.replace(result, verdict=verdict, evidence=evidence)
        figure = ls.analyses.module("convergence").draw(other)
        shown = any("distance" in trace.name for trace in figure.data)
        assert ("Distance" in figure.layout.title.text) == shown
        return shown

    if verdict is v.unclear:
        assert drawn(v.growing, v.partly) and not drawn(v.growing, v.moving)
    else:
        assert drawn() == (verdict not in without)


@pytest.mark.parametrize("keeps", [True, False])
def test_states_that_are_kept_where_they_halt_are_told_from_those_that_converge(keeps: bool):
    """Each walks on until it has gone so far; then it is kept, or goes to a point."""
    goal = torch.tensor([4.0, 2.0])

    def step(x):
        return torch.where(
            x[..., :1] < 3, x + torch.tensor([0.5, 0.1]), x if keeps else goal + 0.5 * (x - goal)
        )

    result = convergence_of(known_maps.Map(step))
    total = int((result.state.late_motion >= 0).sum())
    assert set(result.fates.values()) == {"converges"} and result.kept == (total if keeps else 0)
    assert (f"But {total} of {total} positions (100 %) stop at once" in result.sentence) == keeps
    assert convergence_of(known_maps.standing()).kept == 0, "what never moves halts nowhere"


def test_a_map_that_reaches_its_limit_in_one_step_keeps_nothing():
    """The sentence blames halting only where the run has one."""
    result = convergence_of(known_maps.Map(lambda x: x * torch.tensor([1.0, 0.0])))
    assert "or where one iteration reaches the limit." in result.sentence
    halts = dataclasses.replace(result, halts=True)
    assert "the model keeps their state from where they halt" in halts.sentence
    assert set(result.fates.values()) == {"converges"} and set(halts.fates.values()) == {"halts"}
    assert "the model keeps" not in result.sentence


@pytest.mark.parametrize("overall", [0.7, 0.6])
def test_one_position_has_a_line_where_it_is_slower_than_all_together(overall: float):
    result = convergence_of(known_maps.contracting(0.7))
    rate = dataclasses.replace(result.state.rate, value=overall)
    other = dataclasses.replace(result, state=dataclasses.replace(result.state, rate=rate))
    assert other.state.slowest_rate == pytest.approx(0.7, rel=1e-2)
    module = ls.analyses.module("convergence")
    drawn = any("slowest rate" in trace.name for trace in module.draw(other).data)
    assert drawn == ("slowest rate" in module.panels(other)[0].reading) == (overall == 0.6)


def test_a_growing_map_grows():
    result = convergence_of(known_maps.growing(1.05))
    assert result.verdict.name == "growing"
    assert math.isnan(result.state.rate.value)


def test_a_map_that_overflows_in_the_extra_iterations_grows():
    result = convergence_of(known_maps.growing(10.0), iterations=20)
    assert result.verdict.name == "growing"
    assert result.overflow is not None
    assert 20 < result.overflow < 52
    assert "overflow" in str(result)


def test_a_slider_grows():
    assert convergence_of(known_maps.drifting()).verdict.name == "growing"


def test_a_map_that_moves_nothing_is_settled_and_has_no_rate():
    result = convergence_of(known_maps.standing())
    assert result.verdict.name == "settled"
    assert result.state.residual == 0
    assert math.isnan(result.state.rate.value)
    assert "never moves" in result.state.rate.sentence


def test_states_that_settle_only_in_part_are_told_apart():
    turn = known_maps.rotating(2.0)._step
    halves = known_maps.Map(lambda x: torch.where(x[..., :1] > 50, turn(x - 100) + 100, 0.5 * x + 1))
    near = torch.tensor([0.2, 0.3])
    halves.encode = lambda tokens: torch.where(tokens[..., None] % 2 == 0, 100 + near, near)
    result = convergence_of(halves)
    assert result.verdict.name == "partly"
    assert result.state.settled_fraction[-1] == pytest.approx(0.5)
    assert result.state.settled[-1].tolist() == pytest.approx([0, 1, 0, 1, 0, 1])


def test_a_pause_is_not_the_end():
    class Pausing(known_maps.Map):
        def step(self, state: torch.Tensor, context: torch.Tensor, t: int) -> torch.Tensor:
            return self._step(state) if t % 4 == 3 else state.clone()

    result = convergence_of(Pausing(known_maps.rotating(2.0)._step))
    assert result.state.relative_step[:3].max() == 0
    assert result.state.settled_fraction.max() == 0


def test_steps_distances_and_cosines_are_those_of_a_hand_calculation():
    run = ls.record(known_maps.contracting(0.5), known_maps.TOKENS, 12)
    trace = measure("convergence", run).state
    goal = torch.ones(8)
    x = run.states.tensor
    assert trace.step.shape == (12, 6)
    assert torch.allclose(trace.step, (x[1:] - x[:-1]).norm(dim=-1).mean(1))
    assert torch.allclose(trace.distance, (x - goal).norm(dim=-1).mean(1), atol=1e-4)
    assert torch.allclose(trace.cosine, torch.cosine_similarity(x, goal, dim=-1).mean(1), atol=1e-4)
    assert torch.allclose(trace.relative_step, ((x[1:] - x[:-1]).norm(dim=-1) / x[1:].norm(dim=-1)).mean(1))


def test_the_limit_comes_from_beyond_the_run_and_its_residual_is_told():
    result = convergence_of(known_maps.contracting(0.9), iterations=8, extra=16)
    assert (result.limit, result.extra) == (24, 16)
    run = ls.record(known_maps.contracting(0.9), known_maps.TOKENS, 25)
    x = run.states.tensor
    residual = (x[25] - x[24]).norm(dim=-1) / x[24].norm(dim=-1)
    assert result.state.residual == pytest.approx(residual.mean().item(), rel=1e-4)
    assert result.state.residual_max == pytest.approx(residual.max().item(), rel=1e-4)


def test_a_site_inside_the_loop_is_measured_as_the_state_is():
    model = ls.models.build(
        "universal", width=16, vocabulary=3, injection="concat", norm="stream", outer_norm=True
    )
    site = "core.0.attn.hook_pattern"
    run = ls.record(model, torch.randint(0, 3, (4, 6)), 12, sites=[site])
    trace = measure("convergence", run, sites=[site]).sites[0]
    assert trace.site == site
    assert trace.step.shape == (11, 6)
    assert trace.distance.shape == (12, 6)
    pattern = run[site].tensor  # (iteration, batch, head, position, key)
    step = (pattern[1:] - pattern[:-1]).pow(2).sum((2, 4)).sqrt().mean(1)
    assert torch.allclose(trace.step, step, atol=1e-6)


def test_a_wrapped_module_is_measured_against_its_own_last_state():
    body = torch.nn.Linear(4, 4)
    with torch.no_grad():
        body.weight.copy_(0.5 * torch.eye(4))
        body.bias.copy_(torch.arange(4))

    class Loop(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.passes = body, 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.passes += 1  # a model that remembers is not gone on with
            for _ in range(40):
                x = self.body(x + 1e-3 * self.passes)
            return x

    run = ls.record(ls.wrap(Loop(), body="body"), torch.arange(60.0).reshape(3, 5, 4))
    result = measure("convergence", run)
    assert "can't be iterated on" in result.limit_note
    assert result.state.rate.value == pytest.approx(0.5, rel=1e-2)
    assert result.limit == 39
    assert result.state.first + len(result.state.rms_distance) - 1 == 30


def test_a_run_without_its_model_is_measured_against_its_own_last_state(tmp_path):
    run = ls.load_run(
        ls.record(known_maps.contracting(0.5), known_maps.TOKENS, 40).save(tmp_path / "run.safetensors")
    )
    result = measure("convergence", run)
    assert "without its model" in result.limit_note
    assert result.state.rate.value == pytest.approx(0.5, rel=1e-3)


def test_a_loop_that_ends_by_itself_is_followed_past_its_end():
    options = {"injection": "add", "norm": "stream", "halting": "interpolated", "halting_bias": 0.0}
    model = ls.models.build("universal", width=16, vocabulary=3, **options).eval()
    run = ls.record(model, torch.randint(0, 3, (4, 6)), 32)
    assert run.iterations < 10
    result = measure("convergence", run, extra=40)
    assert "The loop itself ends" in result.limit_note
    assert result.limit == run.iterations + 40
    assert result.state.step.shape == (run.iterations, 6)
    halting = model.act.halted_positions
    model.act.halted_positions = lambda state: halting(state) & False  # the same model, which never finishes
    x = ls.record(model, run.tokens, run.iterations + 40).states
    assert torch.allclose(result.state.distance[0], (x[0] - x[-1]).norm(dim=-1).mean(0), atol=1e-5)


def test_a_finding_draws_itself_and_serialises():
    result = convergence_of(known_maps.contracting(0.8))
    assert result.figure().data
    assert '"verdict": {"name": "settled"' in result.to_json()
    for threshold in ("0.001", "90 %"):
        assert threshold in str(result)


def test_nan_states_are_refused_with_the_place_where_they_began():
    model = known_maps.Map(lambda x: torch.where(x.abs() > 5, torch.nan, x * 2))
    with pytest.warns(ls.LoopscopeWarning):
        run = ls.record(model, known_maps.TOKENS, 16)
    with pytest.raises(LoopscopeError, match="the states must be finite, but 'state' holds NaN"):
        measure("convergence", run)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"extra": 3}, "extra must be 8 iterations or more"),
        ({"tolerance": 0.0}, "convergence: tolerance must be a finite number above 0"),
        ({"sites": ["core"]}, "'core' was not recorded in this run"),
    ],
)
def test_options_that_mean_nothing_get_a_sentence(options: dict, sentence: str):
    with pytest.raises(LoopscopeError, match=sentence):
        convergence_of(known_maps.contracting(0.5), **options)


def test_a_run_that_kept_only_some_states_is_refused():
    run = ls.record(known_maps.contracting(0.5), known_maps.TOKENS, 16, keep=ls.keep.every(4))
    with pytest.raises(LoopscopeError, match="one iteration after the other"):
        measure("convergence", run)
    run = ls.record(known_maps.contracting(0.5), known_maps.TOKENS, 16, keep=ls.keep.norms)
    with pytest.raises(LoopscopeError, match="convergence needs whole states"):
        measure("convergence", run)


def test_the_fit_begins_after_the_transient_and_ends_before_the_floor():
    k = np.arange(60)
    distance = np.hypot(3 * 0.7**k + 50 * 0.3**k, 1e-6)
    rate = contraction(distance, floor=1e-4)
    assert rate.value == pytest.approx(0.7, rel=1e-3)
    assert rate.first > 3
    assert distance[rate.last] > 1e-4


def test_noise_widens_the_interval_and_leaves_the_rate_inside():
    k, held = np.arange(30), 0
    for seed in range(40):
        noise = np.exp(0.2 * np.random.default_rng(seed).standard_normal(30))
        rate = contraction(0.8**k * noise, floor=1e-9)
        held += rate.low <= 0.8 <= rate.high
    assert held >= 34  # 95 % of 40 is 38


def test_a_curve_that_is_no_line_has_no_rate():
    assert math.isnan(contraction([1 / (k + 1) ** 2 for k in range(40)], floor=1e-9).value)
    assert math.isnan(contraction([1.0, 0.1, 0.01, 1e-9], floor=1e-5).value)
    assert math.isnan(contraction([1.1**k for k in range(20)], floor=1e-5).value)


SHARES = {  # rests, stops, approaches, slows, moves, grows, unresolved, within
    "settled": (0.9, 0.05, 0.0, 0.0, 0.05, 0.0, 0.0, 0.9),
    "late": (0.95, 0.0, 0.0, 0.0, 0.05, 0.0, 0.0, 0.2),
    "approaching": (0.3, 0.0, 0.65, 0.0, 0.05, 0.0, 0.0, 0.0),
    "slowing": (0.0, 0.0, 0.05, 0.9, 0.05, 0.0, 0.0, 0.0),
    "kept": (0.05, 0.9, 0.0, 0.0, 0.05, 0.0, 0.0, 0.9),
    "partly": (0.5, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.5),
    "moving": (0.0, 0.0, 0.05, 0.5, 0.35, 0.1, 0.0, 0.0),
    "growing": (0.0, 0.0, 0.0, 0.0, 0.1, 0.9, 0.0, 0.0),
    "unresolved": (0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5),
}


@pytest.mark.parametrize("name", SHARES)
def test_every_verdict_is_reached_by_its_shares(name):
    assert convergence.verdict_of(*SHARES[name], halts=True).name == name
    assert (convergence.verdict_of(*SHARES[name]).name == name) == (name != "kept")
    assert {*SHARES, "unclear"} == set(convergence.ConvergenceVerdict.__members__)


def test_shares_that_are_not_numbers_are_no_verdict():
    assert convergence.verdict_of(*[math.nan] * 8).name == "unresolved"


def test_few_odd_examples_leave_it_unclear_and_both_are_named():
    halves = known_maps.Map(lambda x: torch.where(x[..., :1] > 50, -(x - 100) + 100, 0.5 * x + 1))
    halves.encode = lambda tokens: torch.where(tokens[..., None] < 6, 100.3, 0.3).expand(*tokens.shape, 2)
    result = measure("convergence", ls.record(halves, torch.arange(72).reshape(12, 6), 32))
    assert result.verdict.name == "unclear"  # 11 of 12 examples converge
    assert [v.name for v in result.evidence.alternatives] == ["settled", "partly"]
    assert dict(result.fates) == {0: "moves", **dict.fromkeys(range(1, 12), "converges")}


def test_the_rate_has_an_interval_over_examples():
    result = convergence_of(known_maps.contracting(0.7))
    (rate,) = [e for e in result.evidence.estimates if e.name.startswith("fitted contraction rate")]
    assert rate.low <= rate.value <= rate.high
    assert rate.value == pytest.approx(0.7, rel=1e-3)
    assert "which is no limit" not in str(result)
    assert "which is no limit" in str(convergence_of(known_maps.rotating(2.0)))


@pytest.mark.parametrize("slow", [0.5, 0.8])
def test_a_rate_over_examples_that_is_no_typical_one_has_its_reason(slow: float):
    """Eleven examples halve their distance; where one is slower, the rate over all is its own."""
    rates = torch.tensor([0.5] * 11 + [slow], dtype=torch.float64)[:, None]
    run = ls.iterate(lambda x: rates[: len(x)] * x, torch.ones(12, 1, dtype=torch.float64), 64)
    result = measure("convergence", run)
    assert result.state.rate.value == pytest.approx(slow, rel=1e-2)
    assert result.rate_by_example.tolist() == pytest.approx(rates[:, 0].tolist(), rel=1e-2)
    assert f"12 of 12 have a rate: median 0.5, the slowest {slow:g}" in str(result)
    assert ("slower than the median:" in str(result)) == (slow == 0.8)
