"""Depth against difficulty, on loops that take as many iterations as was planned for each
example."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

import loopscope as ls
from loopscope.analyses.depth_use.integration_window import IntegrationWindows, integration_windows  # pyright: ignore[reportMissingImports]
from loopscope.analyses.depth_use.measure import verdict_on  # pyright: ignore[reportMissingImports]
from loopscope.analyses.depth_use.order_share import order_share  # pyright: ignore[reportMissingImports]
from loopscope.analyses.depth_use.result import DepthUseVerdict, relation_of  # pyright: ignore[reportMissingImports]
from loopscope.common import discovery
from loopscope.common.errors import LoopscopeError
from loopscope.maths import Slope, slope
from loopscope.nn import LoopedModule

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


def depth_of(result, name):
    return next(depth for depth in result.depths if depth.name == name)


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
    depth = dataclasses.replace(
        result.depths[0], slope=dataclasses.replace(result.depths[0].slope, slope=slope)
    )
    levels = torch.tensor([1.0, 11.0])
    other = dataclasses.replace(
        result, verdict=DepthUseVerdict[verdict], depths=(depth,), levels=levels, correct=None, unit="ones"
    )
    assert ls.analyses.module("depth_use").headline(other) == tile


@pytest.mark.parametrize("verdict", DepthUseVerdict)
def test_every_verdict_is_reached(verdict):
    relations = ("later", "same", "earlier", "irregular", "unclear")
    reached = {verdict_on(s, c) for s in relations for c in (None, *relations)}
    assert verdict in reached
    assert verdict_on("later", "unclear") is DepthUseVerdict.unclear, "not significant is not the same"
    assert verdict_on("later", "same") is verdict_on("later", "earlier") is DepthUseVerdict.in_part


def test_few_examples_give_no_verdict_however_many_items_they_have():
    batch = TASK.batch(8, seed=0)
    run = planted((PLACE <= K).expand(N + 1, 8, 9), TASK, batch)
    result = ls.analyses.measure("depth_use", run, max_inputs=0)
    assert len(result.difficulty) == 64 and result.verdict.name == "unclear"
    assert "too few" in result.sentence


# Windows


class Reads(LoopedModule):
    """Tokens (fact, when, query). In iteration `when` the query's state takes the fact's; that is
    its answer."""

    def __init__(self) -> None:
        super().__init__(8, 8)
        self.setup()

    def encode(self, tokens: Tensor) -> Tensor:
        return tokens

    def initial(self, context: Tensor) -> Tensor:
        return one_hot(context, 8).float()

    def step(self, state: Tensor, context: Tensor, t: int) -> Tensor:
        new = state.clone()
        now = state[:, 1].argmax(-1) == t
        new[:, 2] = torch.where(now[:, None], state[:, 0], state[:, 2])
        return new

    def decode(self, state: Tensor, context: Tensor) -> Tensor:
        return state


class Passes(Reads):
    """A chain of places: each takes in every iteration what the one before it had, the first reads
    its token anew."""

    def step(self, state: Tensor, context: Tensor, t: int) -> Tensor:
        return torch.cat([one_hot(context[:, :1], 8).float(), state[:, :-1]], 1)


def reads(size: int = 60):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 8, (size, 3), generator=generator)
    tokens[:, 2] = 0
    return tokens


def test_the_window_of_an_input_ends_where_it_is_read():
    tokens = reads()
    run = ls.record(Reads().eval(), tokens)
    result = ls.analyses.measure(
        "depth_use", run, difficulty=tokens[:, 1], unit="when", max_inputs=None, points=None
    )
    windows = result.windows
    assert (windows.position == 0).sum() > 40 and windows.iterations == tuple(range(9))
    fact = windows.position == 0
    assert torch.equal(windows.end[fact], tokens[windows.item[fact], 1].double())
    assert torch.equal(windows.changes[fact], windows.state_changes[fact]), (
        "the context is never read, so the state is all that there is"
    )
    for row, when in zip(windows.changes[fact], tokens[windows.item[fact], 1], strict=True):
        assert row.tolist() == [k <= when for k in range(9)]
    assert depth_of(result, "window").slope.slope == pytest.approx(1)


def test_what_is_read_on_and_on_turns_the_answer_as_long_as_it_can_still_arrive():
    tokens = torch.randint(0, 8, (40, 4), generator=torch.Generator().manual_seed(1))
    run = ls.record(Passes().eval(), tokens)
    result = ls.analyses.measure("depth_use", run, difficulty=tokens[:, 1], max_inputs=None, points=None)
    windows = result.windows
    # three iterations carry it from the first place to the last, and the one before them reads it
    assert set(windows.position.tolist()) == {0} and (windows.end == 8 - 3).all()
    assert windows.changes.tolist() == [[k <= 5 for k in range(9)]] * len(windows.item)
    assert windows.state_changes.tolist() == [[k == 5 for k in range(9)]] * len(windows.item), (
        "later tokens overwrite the others"
    )
    assert windows.late_fraction == 1 and "keeps reading" in str(result)


def test_a_fact_that_is_read_from_the_context_has_its_window_there():
    from ..toys.known_circuit import CLUE, WRITE, written

    run = written(60)
    result = ls.analyses.measure(
        "depth_use", run, difficulty=torch.arange(60) % 3, max_inputs=None, points=None
    )
    windows = result.windows
    assert set(windows.position.tolist()) == {CLUE}, "the idle fact is read too, but answers nothing"
    assert (windows.end == WRITE).all() and not windows.state_changes.any()
    assert windows.candidates == 60 * 5


def test_no_clue_is_said_so():
    tokens = reads()
    tokens[:, 1] = 7
    model = Reads().eval()
    run = ls.record(model, tokens, 4)  # it ends before anything is read
    result = ls.analyses.measure("depth_use", run, difficulty=torch.arange(60) % 3)
    assert (
        not len(result.windows.item)
        and result.changes_by_level is None
        and "No relevant input was found" in str(result)
    )
    assert len(discovery.module("analyses", "depth_use").panels(result)) == 1


@pytest.mark.parametrize("entry", ["universal-prefix-parity", "ouro-mano", "huginn-hops", "trm-sudoku"])
def test_a_clue_is_where_another_token_turns_the_answer(entry):
    """Where only the embedding comes before the loop, exchanging it there is the same; after the
    last iteration it is nothing."""
    model = ls.models.load(entry)
    batch = model.task.batch(12, seed=0)
    run = ls.record(model, batch.tokens, seed=0)
    answer_positions = batch.mask.clone()
    if entry == "universal-prefix-parity":
        answer_positions[:, :-1] = False
    windows = integration_windows(
        run, torch.arange(12), answer_positions, causal=False, max_inputs=12, points=4, seed=0
    )
    assert windows.candidates == 24 and len(windows.item) == min(windows.relevant, 12)
    if entry == "universal-prefix-parity":  # every earlier bit turns the last parity
        assert windows.relevant == 24
    assert f"{windows.relevant} of 24 tested inputs are relevant" in windows.sentence
    assert ("drawn at random were measured" in windows.sentence) == (windows.relevant > 12)
    if (
        entry == "huginn-hops"
    ):  # its prelude spreads the token, its coda looks at other positions, its start is drawn anew
        return
    assert not windows.changes[:, -1].any() and not windows.state_changes[:, -1].any()
    assert windows.changes[:, 0].all()
    other = batch.tokens[windows.item].clone()
    other[torch.arange(len(other)), windows.position] = windows.token
    turned = ls.record(model, other).output.argmax(-1) != run.output[windows.item].argmax(-1)
    assert (turned & answer_positions[windows.item]).any(1).all()


# The rest


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
    assert f"{min(counts)} to {max(counts)} items" in module.panels(result)[0].reading or all(
        f"{n} at {float(x):g}" in module.panels(result)[0].reading
        for x, n in zip(result.levels, counts, strict=True)
    )


def test_one_constant_answer_is_said_so():
    result = depth_use_of(hard() <= K)
    assert not result.alike and "same token" not in result.sentence
    constant = dataclasses.replace(result, alike=True)
    assert "All final answers are the same token, whatever the input." in constant.sentence


@pytest.mark.parametrize(
    ("late", "words"),
    [
        (0, "by then it has integrated its inputs"),
        (1, "by then it has integrated most of its inputs"),
        (2, "the loop keeps reading half of its inputs or more"),
        (4, "the loop keeps reading its inputs"),
    ],
)
def test_what_is_said_of_inputs_follows_from_how_many_still_change_the_answer(late, words):
    changes = torch.ones(4, 3, dtype=torch.bool)
    changes[late:, 1:] = False
    windows = IntegrationWindows(
        torch.arange(4), torch.zeros(4).long(), torch.ones(4).long(), (0, 2, 4), changes, changes, 4, 4
    )
    assert f": {words}." in windows.sentence
