"""Depth against difficulty, on loops that take as many iterations as was planned for each
example."""

import dataclasses
import math

import pytest
import torch
from torch.nn.functional import one_hot

import loopscope as ls
from loopscope.analyses.depth_use.measure import verdict_on  # pyright: ignore[reportMissingImports]
from loopscope.analyses.depth_use.order_share import order_share  # pyright: ignore[reportMissingImports]
from loopscope.analyses.depth_use.result import DepthUseVerdict, relation_of  # pyright: ignore[reportMissingImports]
from loopscope.common import discovery
from loopscope.common.errors import LoopscopeError
from loopscope.maths import Slope, slope

from ..toys.reading_loops import Reads, depth_of, reads
from ..toys.table_loop import planted
from .test_halting import TASK

N, BATCH = 12, 64
K = torch.arange(N + 1)[:, None, None]
PLACE = torch.arange(9)[None, None]


def depth_use_of(right, by="example", **options):
    batch = TASK.batch(BATCH, seed=0)
    run = planted(right.expand(N + 1, BATCH, 9), TASK, batch)
    return ls.analyses.measure("depth_use", run, by=by, max_inputs=0, **options)


def hard():
    return TASK.batch(BATCH, seed=0).difficulty[None, :, None]


def test_a_loop_that_needs_as_many_iterations_as_its_difficulty_has_slope_one():
    result = depth_use_of(hard() <= K)
    for name in ("settled", "correct"):
        depth = depth_of(result, name)
        assert torch.equal(depth.iterations, result.difficulty)
        assert depth.slope.slope == pytest.approx(1) and depth.slope.correlation == pytest.approx(1)
        assert (depth.slope.low, depth.slope.high) == pytest.approx((1, 1))
        assert torch.allclose(depth.mean_by_level, result.levels)
    assert result.verdict.name == "later" and result.unit == "ones in the string" and result.unsettled == 0


def test_a_loop_that_always_takes_the_same_has_slope_zero():
    result = depth_use_of(K >= 5)
    assert result.verdict.name == "same"
    assert result.depths[0].slope.slope == 0 and (result.depths[0].iterations == 5).all()


def test_a_loop_that_takes_longer_for_what_is_easy_is_called_so():
    result = depth_use_of(10 - hard() <= K)
    assert result.verdict.name == "earlier" and result.depths[0].slope.slope == pytest.approx(-1)


def test_depths_at_random_say_nothing():
    depth = torch.randint(1, N, (BATCH,), generator=torch.Generator().manual_seed(0))
    result = depth_use_of(depth[None, :, None] <= K)
    low, high = result.depths[0].slope.low, result.depths[0].slope.high
    assert result.verdict.name == "unclear" and low < 0 < high
    assert DepthUseVerdict.same in result.evidence.alternatives and "allow both" in result.sentence


def test_wrong_answers_that_wander_longer_are_no_use_of_depth():
    solved = hard() <= 4
    batch = TASK.batch(BATCH, seed=0)
    right = ((K >= 3) & solved).expand(N + 1, BATCH, 9)
    run = planted(right, TASK, batch, turning=True)  # the wrong ones turn to the end
    result = ls.analyses.measure("depth_use", run, by="example", max_inputs=0)
    assert result.depths[0].slope.low > 0, "the hard ones settle later, or never"
    assert (
        depth_of(result, "correct").iterations[~depth_of(result, "correct").iterations.isnan()] == 3
    ).all()
    assert result.verdict.name == "in_part"
    assert result.unsettled == int((~solved).sum())
    assert result.correct.tolist() == [float(level <= 4) for level in result.levels]


def test_an_answer_that_comes_back_counts_from_when_it_stays():
    result = depth_use_of((K == 2) | (K >= 6))
    assert (result.depths[0].iterations == 6).all()


def test_of_several_answers_the_last_decides_and_each_by_itself_if_asked_for():
    front = PLACE <= K  # one place further in each iteration
    result = depth_use_of(front)
    assert (result.depths[0].iterations == 8).all(), "the last of eight answers"
    each = depth_use_of(front, by="answer")
    assert each.unit == "answers before it" and len(each.difficulty) == 8 * BATCH
    assert torch.equal(each.depths[0].iterations, each.difficulty + 1)
    assert each.depths[0].slope.slope == pytest.approx(1) and each.depths[0].slope.groups == BATCH
    assert depth_use_of(front, by=None).by == "answer", "as the task is causal and asks for several"


def test_a_difficulty_of_ones_own():
    own = torch.arange(BATCH) % 4
    result = depth_use_of(own[None, :, None] * 2 <= K - 1, difficulty=own, unit="quarters")
    assert (
        result.depths[0].slope.slope == pytest.approx(2)
        and result.unit == "quarters"
        and "quarters" in str(result)
    )


def test_a_models_own_halting_is_a_depth_too():
    batch = TASK.batch(BATCH, seed=0)
    run = planted((K >= 3).expand(N + 1, BATCH, 9), TASK, batch)
    when = batch.difficulty.long()[:, None].expand(BATCH, 9)
    weights, all_halt = one_hot(when, N).permute(2, 0, 1).float(), torch.ones_like(when, dtype=torch.bool)
    run.halting = ls.Halting(weights, when, all_halt, when.float(), when.float(), "plan")
    result = ls.analyses.measure("depth_use", run, by="example", max_inputs=0)
    assert depth_of(result, "halting").slope.slope == pytest.approx(1)
    assert torch.equal(depth_of(result, "halting").iterations, batch.difficulty.double() + 1), (
        "it stops in that iteration"
    )
    assert result.verdict.name == "same", "though the answers were there before"
    assert result.halting == "later" and "uses its depth adaptively" in result.sentence


def test_a_model_of_fixed_depth_is_never_said_to_use_it_adaptively():
    for right in (hard() <= K, K >= 5, 10 - hard() <= K):
        result = depth_use_of(right)
        assert result.halting is None and "adaptive" not in str(result)
        assert "depth is fixed: it computes 12 iterations for every item" in result.sentence


def test_a_slope_that_shuffled_difficulties_reach_too_is_no_verdict():
    """One hard example that settles late, and a bootstrap interval above 0."""
    x = torch.cat([torch.full((30,), 1.0), torch.full((30,), 2.0), torch.full((4,), 4.0)])
    y = torch.full((64,), 2.0)
    y[-1] = 16.0
    result = slope(x, y, torch.arange(64))
    assert result.slope > 0.5 and not result.is_beyond_chance
    assert relation_of(result, 3.0) == "unclear"


NAN = (math.nan, math.nan)


@pytest.mark.parametrize(
    ("low", "high", "ranks", "chance", "expected"),
    [
        (0.5, 1.5, (0.4, 0.8), (-0.2, 0.2), "later"),
        (-1.5, -0.5, (-0.8, -0.4), (-0.2, 0.2), "earlier"),
        (0.5, 1.5, (0.4, 0.8), (-0.7, 0.7), "unclear"),  # chance gives as much
        (0.5, 1.5, (-0.1, 0.8), (-0.2, 0.2), "unclear"),
        (-0.04, 0.04, (-0.3, 0.3), (-0.2, 0.2), "same"),
        (0.01, 0.04, (0.1, 0.3), (-0.1, 0.1), "same"),  # significant, but too small to matter
        (-0.4, 0.4, (-0.3, 0.3), (-0.2, 0.2), "unclear"),
        (-0.06, -0.01, (-0.5, -0.2), (-0.1, 0.1), "unclear"),  # perhaps 0.6 iterations, likely 0.35
        (0.01, 0.06, (0.2, 0.5), (-0.1, 0.1), "unclear"),
        (-1.5, -0.5, (0.4, 0.8), (-0.2, 0.2), "unclear"),  # ranks and iterations differ in sign
        (0.5, 1.5, (-0.8, -0.4), (-0.2, 0.2), "unclear"),
        (math.nan, math.nan, NAN, NAN, "unclear"),
        (0.5, 1.5, NAN, NAN, "unclear"),
    ],
)
def test_a_relation_needs_its_interval_and_chance(low, high, ranks, chance, expected):
    middle = sum(ranks) / 2
    result = Slope((low + high) / 2, low, high, middle, chance, 64, 64, ranks, chance)
    assert relation_of(result, 10.0) == expected
    assert relation_of(dataclasses.replace(result, items=19), 10.0) == "unclear"


@pytest.mark.parametrize(
    ("verdict", "slope", "tile"),
    [
        ("later", 0.5, ("0.5", "iterations later to settle per unit of difficulty (ones)")),
        ("earlier", -0.5, ("0.5", "iterations earlier to settle per unit of difficulty (ones)")),
        ("same", -0.0047, ("0.047", "iterations to settle between the easiest and the hardest (ones)")),
        ("unclear", math.nan, ("no slope", "of iterations to settle over difficulty (ones)")),
    ],
)
def test_a_tile_says_which_way_the_slope_goes_and_of_none_how_little(verdict, slope, tile):
    result = depth_use_of(hard() <= K)
    means = torch.full_like(result.depths[0].mean_by_level, 3.0)
    means[0] = 3.047
    depth = dataclasses.replace(
        result.depths[0],
        slope=dataclasses.replace(result.depths[0].slope, slope=slope),
        mean_by_level=means,  # the figure's caption has the same difference
    )
    levels = result.levels.clone()
    other = dataclasses.replace(
        result, verdict=DepthUseVerdict[verdict], depths=(depth,), levels=levels, correct=None, unit="ones"
    )
    assert ls.analyses.module("depth_use").headline(other) == tile
    alike = dataclasses.replace(other, verdict=DepthUseVerdict.constant)
    assert ls.analyses.module("depth_use").headline(alike) == ("-", "all final answers are the same token")


@pytest.mark.parametrize("verdict", DepthUseVerdict)
def test_every_verdict_is_reached(verdict):
    relations = ("later", "same", "earlier", "irregular", "unclear")
    reached = {verdict_on(s, c) for s in relations for c in (None, *relations)}
    assert verdict in reached | {DepthUseVerdict.constant}  # which the answers themselves say
    assert verdict_on("later", "unclear") is DepthUseVerdict.unclear, "not significant is not the same"
    assert verdict_on("later", "same") is verdict_on("later", "earlier") is DepthUseVerdict.in_part


def test_few_examples_give_no_verdict_however_many_items_they_have():
    batch = TASK.batch(8, seed=0)
    run = planted((PLACE <= K).expand(N + 1, 8, 9), TASK, batch)
    result = ls.analyses.measure("depth_use", run, max_inputs=0)
    assert len(result.difficulty) == 64 and result.verdict.name == "unclear"
    assert "too few" in result.sentence


def test_it_draws_itself_and_says_its_thresholds():
    tokens = reads()
    run = ls.record(Reads().eval(), tokens)
    result = ls.analyses.measure("depth_use", run, difficulty=tokens[:, 1], unit="when")
    assert len(discovery.module("analyses", "depth_use").panels(result)) == 2
    assert (
        "a difference of less than 0.5 iterations from the easiest to the hardest" in str(result)
        and '"verdict"' in result.to_json()
    )
    assert len(result.windows.item) <= 20 and len(result.windows.iterations) == 9


def test_what_cant_be_measured_gets_a_sentence():
    run = ls.record(Reads().eval(), reads())
    assert not discovery.module("analyses", "depth_use").applies(run)
    for options, sentence in (
        ({}, "the difficulty of each example must be known"),
        (
            {"difficulty": torch.ones(60)},
            "two difficulties or more are needed to compare, but all 60 items have the same",
        ),
        ({"difficulty": torch.ones(3)}, "one number for each of the 60 examples"),
        ({"by": "row"}, "by must be 'example' or 'answer' .or None., but is 'row'"),
    ):
        with pytest.raises(LoopscopeError, match=sentence):
            ls.analyses.measure("depth_use", run, **options)
    edited = ls.record(Reads().eval(), reads(), edits=[ls.skip(1)])
    with pytest.raises(
        LoopscopeError, match="depth_use needs a run of one iteration or more, whole and without edits"
    ):
        ls.analyses.measure("depth_use", edited, difficulty=torch.arange(60))


# Trained entries


@pytest.mark.parametrize(
    ("entry", "least", "most"),
    [("universal-prefix-parity", 0.5, 0.8), ("universal-prefix-parity-act", 0.2, 0.35)],
)
def test_the_front_of_prefix_parity_moves_with_the_iterations(entry, least, most):
    model = ls.models.load(entry)
    result = ls.analyses.measure(
        "depth_use", ls.record(model, model.task.batch(64, seed=5).tokens), max_inputs=0
    )
    assert result.verdict.name == "later"
    assert result.halting == ("later" if entry.endswith("act") else None)
    assert least < result.depths[0].slope.low and result.depths[0].slope.high < most
    assert abs(result.depths[0].slope.shuffled[1]) < 0.1


ZIGZAG = torch.tensor([1, 2, 1, 0, 2, 2, 1, 2, 1, 2]).double()


def test_a_zigzag_with_a_trend_is_in_no_order():
    level = torch.arange(10).double().repeat(6)
    share, rest = order_share(level, ZIGZAG.repeat(6), rising=True)
    assert share < 0.5 and rest > 0.4
    trend = slope(level, ZIGZAG.repeat(6), torch.arange(60))
    assert relation_of(trend, 9.0) == "later" and relation_of(trend, 9.0, (share, rest)) == "irregular"
    flat = dataclasses.replace(trend, slope=0.0, low=-0.01, high=0.01)
    assert relation_of(flat, 9.0, (share, 0.6)) == "irregular"
    assert relation_of(flat, 9.0, (share, 0.4)) == "same", "too small to matter"
    assert relation_of(trend, 9.0, (math.nan, math.nan)) == "later"


def test_noise_within_difficulties_puts_no_trend_out_of_order():
    generator = torch.Generator().manual_seed(0)
    level = torch.arange(10).double().repeat(6)
    for sign in (1, -1):
        exact = order_share(level, sign * level, rising=sign > 0)
        assert exact == (pytest.approx(1), pytest.approx(0))
        noisy = sign * level + 2 * torch.randn(60, generator=generator, dtype=torch.float64)
        assert order_share(level, noisy, rising=sign > 0)[0] > 0.9
    assert all(math.isnan(x) for x in order_share(torch.ones(4), torch.arange(4.0), rising=True))


def test_what_settles_in_a_zigzag_is_not_said_to_settle_later():
    odd = torch.where(hard() % 2 == 1, 7, 2 + hard() // 2)  # odd numbers of ones take seven
    result = depth_use_of(odd <= K)
    assert result.depths[0].order[0] < 0.5 and result.verdict.name in ("irregular", "unclear")
    assert "settle later" not in result.verdict.sentence


def test_a_model_that_halts_at_no_answer_is_not_said_to_halt_alike():
    batch = TASK.batch(BATCH, seed=0)
    run = planted((hard() <= K).expand(N + 1, BATCH, 9), TASK, batch)
    when, weights = torch.full((BATCH, 9), N - 1), torch.ones(N, BATCH, 9) / N
    halted = torch.zeros(BATCH, 9, dtype=torch.bool)
    run.halting = ls.Halting(weights, when, halted, when.float(), when.float(), "plan")
    result = ls.analyses.measure("depth_use", run, by="example", max_inputs=0)
    assert result.halting == "never" and "No item halts within the run" in result.sentence
    assert [depth.name for depth in result.depths] == ["settled", "correct"]


def test_intervals_in_the_figure_stay_within_the_run_and_items_are_counted():
    late = (torch.arange(BATCH) % 4 > 0)[None, :, None]  # most items of a difficulty
    result = depth_use_of(torch.where(late, K >= N, K >= 1))
    module = ls.analyses.module("depth_use")
    for line in module.draw(result).data:
        top = [y + up for y, up in zip(line.y, line.error_y.array, strict=True) if y is not None]
        assert max(top) <= N + 1e-3
    counts = [int((result.difficulty == x).sum()) for x in result.levels]
    one_each = depth_use_of(torch.where(late, K >= N, K >= 1), by="answer")
    assert f"Each difficulty has {BATCH} items." in module.panels(one_each)[0].reading
    assert f"{min(counts)} to {max(counts)} items" in module.panels(result)[0].reading or all(
        f"{n} at {float(x):g}" in module.panels(result)[0].reading
        for x, n in zip(result.levels, counts, strict=True)
    )


def test_one_constant_answer_is_said_so():
    assert "same token" not in depth_use_of(hard() <= K).sentence
    batch = TASK.batch(BATCH, seed=0)
    ones = (batch.targets == 1).expand(N + 1, BATCH, 9)  # right where 1 is, so it answers 1 everywhere
    right = torch.where(hard() > K, ~ones, ones)  # from a k on that is later for harder ones
    result = ls.analyses.measure("depth_use", planted(right, TASK, batch), by="example", max_inputs=0)
    assert result.depths[0].slope.low > 0, "what settles is later all the same"
    assert result.verdict is DepthUseVerdict.constant and "says nothing of difficulty" in result.sentence
    assert "later" not in result.sentence
