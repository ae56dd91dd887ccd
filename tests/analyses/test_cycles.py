"""Cycles: known maps get their verdict, layers their limits, and the result says what it used."""

import dataclasses
import json
import math
import warnings

import pytest
import torch
from torch import Tensor

import loopscope as ls
import loopscope.analyses.cycles as cycles  # pyright: ignore[reportMissingImports]
from loopscope import maths
from loopscope.maths.late_motion import LATE_MOTIONS, LateMotion

from ..toys.foreign_loops import Loop, batch, build_loop

DOUBLE = torch.float64


def measured(map, start: Tensor, iterations: int = 40, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ls.LoopscopeWarning)  # of an overflow, which the verdict names
        run = ls.iterate(map, start, iterations)
    return ls.analyses.measure("cycles", run, **options)


def starts(count: int = 3, width: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def turned(angle: float, rate: float = 1.0) -> Tensor:
    c, s = rate * math.cos(angle), rate * math.sin(angle)
    return torch.tensor([[c, s], [-s, c]], dtype=DOUBLE)


def logistic(r: float):
    return lambda x: r * x * (1 - x)


@pytest.mark.parametrize(("r", "period"), [(3.2, 2), (3.5, 4), (3.83, 3), (3.55, 8)])
def test_the_logistic_map_goes_round_its_cycles(r, period):
    result = measured(logistic(r), torch.full((1, 1), 0.4, dtype=DOUBLE), 300)
    assert result.verdict.name == "orbit"
    assert result.period.tolist() == [[period]]
    assert f"1 orbit closes after {period} iterations." in str(result)


def test_the_logistic_map_at_four_is_irregular():
    result = measured(logistic(4.0), torch.tensor([[0.4], [0.123]], dtype=DOUBLE), 300)
    assert result.verdict.name == "irregular"
    assert result.period.isnan().all()


@pytest.mark.parametrize("angle", [0.3, math.sqrt(2), math.pi * (math.sqrt(5) - 1), 2 * math.pi / 7.001])
def test_a_rotation_keeps_its_angle_and_never_comes_to_rest(angle):
    result = measured(lambda x: x @ turned(angle), starts())
    assert result.verdict.name == "orbit"
    assert result.shares["fixed_point"] == 0
    assert result.angle.flatten().tolist() == pytest.approx([min(angle, 2 * math.pi - angle)] * 3, rel=1e-9)


MAPS = {
    "contracting": (lambda x: 0.5 * x + 1, "fixed_point"),
    "spiral": (lambda x: x @ turned(0.7, 0.95), "fixed_point"),
    "standing": (lambda x: x.clone(), "fixed_point"),
    "two attractors": (lambda x: torch.tanh(2 * x), "fixed_point"),
    "unstable fixed point": (lambda x: torch.tanh(-2 * x), "orbit"),  # period 2 round the origin
    "no attractor": (lambda x: x + torch.tensor([0.5, 0.2], dtype=DOUBLE), "slider"),
    "diverging": (lambda x: 1.3 * x, "diverging"),
    "overflow": (lambda x: x**3 * 10, "diverging"),
}


@pytest.mark.parametrize("name", MAPS)
def test_a_map_gets_its_verdict(name):
    map, verdict = MAPS[name]
    start = starts() if name != "overflow" else starts() + 5
    assert measured(map, start, 24 if name != "overflow" else 3).verdict.name == verdict


def test_overflow_in_the_extra_iterations_is_placed():
    result = measured(
        lambda x: x * x, torch.full((1, 2), 2.0, dtype=DOUBLE), 4
    )  # 2^(2^k): infinite at k = 10
    assert (result.verdict.name, result.overflow) == ("diverging", 10)
    assert "NaN or infinity begins at state 10." in str(result)


def test_positions_are_judged_one_by_one():
    shift = torch.tensor([0.0, 1.0], dtype=DOUBLE)[:, None]

    def map(x: Tensor) -> Tensor:  # position 0 contracts, position 1 turns
        return torch.stack([0.5 * x[:, 0], x[:, 1] @ turned(1.0)], dim=1) + 0 * shift

    result = measured(map, torch.randn(4, 2, 2, dtype=DOUBLE))
    kinds = list(result.shares)
    assert result.shares_by_position[kinds.index("fixed_point")].tolist() == [1, 0]
    assert result.shares_by_position[kinds.index("orbit")].tolist() == [0, 1]
    assert result.verdict.name == "mixed"
    assert result.example[1] == 1  # the orbit is the one to show


def test_shares_follow_their_thresholds_and_the_summary_names_them():
    result = measured(logistic(4.0), torch.tensor([[0.4]], dtype=DOUBLE), 300)
    sweep = result.sensitivity["noise"]
    assert 0.01 in sweep.values
    assert sweep.shares.sum(1).tolist() == pytest.approx([1] * len(sweep.values))
    assert "motion below 0.01" in str(result)
    loose = measured(logistic(4.0), torch.tensor([[0.4]], dtype=DOUBLE), 300, noise=0.9)
    assert loose.verdict.name == "unresolved"  # its steps don't shrink, whatever may count as rest
    assert "motion below 0.9" in str(loose)


@pytest.mark.parametrize("rate", [0.01, 0.0007])
def test_a_path_like_a_drift_whose_steps_have_an_end_nears_a_point(rate):
    """Along a curve, by steps that shrink by 1 % and less per iteration."""

    def step(x: Tensor) -> Tensor:
        return x + torch.cat([0.01 * (4 - x[..., :1]), rate * (3 - x[..., 1:])], -1)

    run = ls.iterate(step, starts(6), 24)
    result = ls.analyses.measure("cycles", run)
    assert set(result.fates.values()) <= {"approaches", "unclear"}
    assert result.fates == ls.analyses.measure("convergence", run).fates
    assert result.shares["fixed_point"] + result.shares["unresolved"] == 1


def test_a_path_that_leads_nowhere_in_smaller_and_smaller_steps_drifts():
    run = ls.iterate(lambda x: x + (-x).exp(), starts(6), 24)
    result = ls.analyses.measure("cycles", run)
    assert result.shares["fixed_point"] == 0 and set(result.fates.values()) <= {"drifts", "unclear", "moves"}


@pytest.mark.parametrize("motion", LateMotion)
@pytest.mark.parametrize("kind", maths.Kind)
def test_steps_that_deny_a_kind_change_it(kind, motion):
    """The shares, like the fates, say "rest" only where the steps end, and "motion" only where
    they don't."""
    codes = torch.tensor([maths.KINDS.index(kind)] * 2), torch.tensor([LATE_MOTIONS.index(motion)] * 2)
    judged = [maths.KINDS[i] for i in cycles.judged(codes[0], torch.tensor([True, False]), codes[1])]
    others = set(maths.Kind) - {maths.Kind.fixed_point}
    untold = {"rests": others, "stops": others}
    slow = ("fixed_point", "slider", "drifting", "diverging")
    untold["slows"] = {maths.Kind[name] for name in slow}
    if kind is maths.Kind.fixed_point and motion.name in ("moves", "grows"):
        assert [k.name for k in judged] == ["drifting", "unresolved"]
    elif kind in untold.get(motion.name, ()):
        assert judged == [maths.Kind.unresolved] * 2
    elif motion.name == "approaches" and kind is not maths.Kind.unresolved:
        assert judged == [maths.Kind.fixed_point] * 2  # a path of finite length ends at a point
    else:
        assert judged == [kind] * 2


def test_the_trajectory_that_is_drawn_is_typical():
    orbit, point = (
        next(i for i, k in enumerate(maths.KINDS) if k.name == n) for n in ("orbit", "fixed_point")
    )
    kinds = torch.tensor([[orbit, orbit], [orbit, point]])
    periods, quality = torch.tensor([[8.0, 2.0], [2.0, 1.0]]), torch.tensor([[1.0, 0.97], [0.98, 1.0]])
    assert cycles.example_trajectory(kinds, quality, periods) == (1, 0)
    assert cycles.example_trajectory(kinds.where(kinds == point, point), quality, periods / periods) == (0, 0)
    # three of four rest: too few for that verdict, so that the figure shows one that moves
    kinds = torch.tensor([[point, point], [point, orbit]])
    assert cycles.example_trajectory(kinds, quality, periods) == (1, 1)
    assert cycles.example_trajectory(kinds, quality, periods, 0.75) == (1, 0)


def test_an_example_that_moves_somewhere_is_named_where_nearly_all_rest():
    result = measured(lambda x: 0.5 * x, starts(6), 24)
    assert result.verdict.name == "fixed_point" and result.sentence == result.verdict.sentence
    kinds = result.kind_index.clone()
    kinds[0, 0] = [k.name for k in maths.KINDS].index("orbit")
    moves = dataclasses.replace(result, kind_index=kinds).sentence
    assert moves.endswith(f"But in 1 of {len(kinds)} examples there is a position that does not.")


@pytest.fixture(scope="module")
def pair():
    """A loop of four layers whose state converges, recorded without and with its layers."""
    model = ls.models.build(
        "universal", vocabulary=5, width=16, heads=2, layers=(0, 4, 0), injection="concat", position="rotary",
        step_code="none", seed=0,
    ).eval()  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "embed" not in name:
                weight.normal_(0, 0.2 / 4, generator=generator)
    tokens = torch.randint(0, 5, (3, 6), generator=torch.Generator().manual_seed(0))
    sites = ["core.*.hook_resid_post"]
    return ls.record(model, tokens, 12), ls.record(model, tokens, 12, sites=sites)


def test_layers_have_limits_of_their_own(pair):
    bare, whole = (ls.analyses.measure("cycles", run).layers for run in pair)
    assert bare.names == whole.names == tuple(f"core.{i}.hook_resid_post" for i in range(4))
    assert torch.allclose(bare.similarity, whole.similarity, atol=1e-5)
    assert float(whole.residual.max()) < 1e-5
    assert whole.cosine.diagonal().tolist() == pytest.approx([1] * 4)
    assert whole.distinct
    assert whole.degeneracy == pytest.approx(float(whole.cosine[0].min()))
    assert whole.same_layer_fraction > 0.9
    assert "converge to distinct points" in whole.sentence
    moving = dataclasses.replace(whole, residual=whole.residual + 0.02)
    assert "converge" not in moving.sentence and "distinct directions there" in moving.sentence


def test_the_last_layer_is_the_state(pair):
    _, run = pair
    result = ls.analyses.measure("cycles", run, unrolled_iterations=3)
    after = ls.resume(run.model, run, 12 + 64)
    last = after["core.3.hook_resid_post"].tensor[:3].flatten(1, 2).double()
    states = after.states.tensor[1:4].flatten(1, 2).double()
    assert torch.equal(last, states)
    assert torch.allclose(result.layers.similarity[3::4, 3::4], maths.cosine_map(states), atol=1e-6)


def test_one_layer_is_neither(pair):
    model = ls.models.build(
        "universal", vocabulary=5, width=16, heads=2, injection="add", norm="stream", seed=0
    ).eval()
    result = ls.analyses.measure("cycles", ls.record(model, torch.ones(1, 4, dtype=torch.long), 16))
    assert not result.layers.distinct
    assert "The block has one layer" in str(result)


def test_a_wrapped_module_without_its_model_is_judged_by_what_was_recorded(tmp_path):
    class Long(Loop):
        turns = 40

    short, long = (
        ls.load_run(ls.record(ls.wrap(build_loop(kind), body="core"), batch()).save(tmp_path / kind.__name__))
        for kind in (Loop, Long)
    )
    with pytest.raises(
        ls.LoopscopeError, match="cycles need 12 states or more, but there are .* Record more"
    ):
        ls.analyses.measure("cycles", short)
    assert ls.analyses.measure("cycles", long).verdict.name == "fixed_point"


def test_a_run_without_its_model_is_judged_by_what_was_recorded(tmp_path):
    run = ls.iterate(lambda x: x @ turned(1.0), starts(), 60)
    run.save(tmp_path / "run.safetensors")
    result = ls.analyses.measure("cycles", ls.load_run(tmp_path / "run.safetensors"))
    assert result.angle.flatten().tolist() == pytest.approx([1.0] * 3)
    assert "so only what was recorded is used" in str(result)


def test_everything_is_in_the_json_and_the_figures_draw():
    result = measured(lambda x: x @ turned(1.0), starts())
    data = json.loads(result.to_json())
    assert data["verdict"]["name"] == "orbit"
    assert data["thresholds"]["coherence"] == 0.95
    for panel in cycles.panels(result):
        assert panel.figure.data
        assert panel.observation.endswith(".")
        panel.figure.to_json()


def test_the_first_states_of_a_trajectory_that_ends_far_away_are_told_apart():
    result = measured(lambda x: 3 * x, starts(), 60)  # to 3^60: beside its middle the start is rounding
    drawn = result.figure().data[0]
    assert len(set(drawn.x)) == len(drawn.x) >= 4


@pytest.mark.parametrize("direction", [(3.0, 1.0), (-3.0, -1.0), (0.5, -2.0)])
def test_a_path_that_drifts_outward_is_drawn_outward(direction):
    """Whatever the sign of the principal directions."""
    step = torch.tensor(direction, dtype=DOUBLE)
    result = measured(lambda x: x + step, starts(1))
    assert result.verdict.name == "slider" and result.projection[0].tolist() == [0, 0]
    away = result.projection.norm(dim=1)
    assert bool((away[1:] > away[:-1]).all()) and bool((result.projection[-1] >= 0).all())


@pytest.mark.parametrize(
    ("map", "start", "verdict"),
    [(lambda x: 4 * x, starts(), "slider"), (lambda x: x**2 * 1.1, starts() + 3, "diverging")],
)
def test_the_axes_of_a_growing_trajectory_hold_its_first_states(map, start, verdict):
    result = measured(map, start, 8)
    assert result.verdict.name == verdict
    trace = result.figure().data[0]
    first_step = math.dist(result.projection[0], result.projection[1])
    assert len(trace.x) > 1 and max(abs(x - trace.x[0]) for x in trace.x) <= 101 * first_step
    assert (trace.x[0], trace.y[0]) == (0, 0)
    panel = cycles.panels(result)[0]
    assert "drawn to where it is 100 times" in panel.reading
    assert "100 times" not in cycles.panels(measured(torch.cos, starts()))[0].reading


def test_the_trained_entry_settles():
    model = ls.models.load("universal-prefix-parity")
    result = ls.analyses.measure("cycles", ls.record(model, model.task.batch(16, seed=0).tokens))
    assert result.verdict.name == "fixed_point"


@pytest.mark.parametrize("rate", [1.0, 0.97])
def test_dynamic_modes_lie_on_the_circle_or_inside(rate):
    pytest.importorskip("pydmd")
    result = measured(lambda x: x @ turned(0.7, rate), starts(1), 60, dmd=True)
    lead = result.modes[0]
    assert abs(lead) == pytest.approx(rate, rel=1e-3)
    assert abs(math.atan2(lead.imag, lead.real)) == pytest.approx(0.7, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"extra": -1}, "extra must be a whole number, 0 or more .or None., but is -1"),
        ({"coherance": 0.9}, "no option of cycles called 'coherance'. .*coherence"),
        ({"noise": 3.0}, "the threshold noise must be a fraction between 0 and 1"),
        ({"layers": ["nowhere"]}, "nowhere"),
    ],
)
def test_what_cannot_be_measured_is_said(options, sentence, pair):
    with pytest.raises(ls.LoopscopeError, match=sentence):
        ls.analyses.measure("cycles", pair[0], **options)


@pytest.mark.parametrize("verdict", cycles.CyclesVerdict)
def test_every_verdict_is_reached_by_its_shares(verdict):
    shares = dict.fromkeys((kind.name for kind in maths.KINDS), 0.0)
    if verdict.name == "mixed":
        shares |= {"fixed_point": 0.5, "orbit": 0.5}
    elif verdict.name == "unresolved":
        shares |= {"fixed_point": 0.6, "unresolved": 0.4}
    elif verdict.name == "unclear":  # no function of shares: of bootstrap samples that disagree
        return
    else:
        shares[verdict.name] = 0.9
    assert cycles.verdict_of(shares) is verdict
    assert cycles.verdict_of(dict.fromkeys(shares, math.nan)).name == "unresolved"
