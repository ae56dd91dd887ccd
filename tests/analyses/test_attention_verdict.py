"""Whether attention converges, from patterns made by hand; and the panel that shows patterns."""

import math

import pytest
import torch

import loopscope as ls
from loopscope.analyses.attention import AttentionVerdict as V  # pyright: ignore[reportMissingImports]
from loopscope.analyses.attention import panels, verdict  # pyright: ignore[reportMissingImports]
from loopscope.analyses.attention.pattern_panel import (  # pyright: ignore[reportMissingImports]
    CELLS,
    LABELLED,
    pattern_panel,
    pattern_sample,
    spread,
)

N, RUN, EPS = 24, 12, 1e-7
T = torch.arange(N).double()


def mixed_with_uniform(share):
    """(iteration, query, key): attention to oneself in this share, else to all."""
    return share[:, None, None] * torch.eye(3) + (1 - share)[:, None, None] * torch.full((3, 3), 1 / 3)


SOON, LATER = mixed_with_uniform(0.5**T), mixed_with_uniform((T < RUN + 2).double() * (T % 2))
MOVES = mixed_with_uniform(T % 2)
EXAMPLES = {
    V.settled: [SOON, SOON],
    V.late: [SOON, LATER],
    V.partly: [SOON, MOVES],
    V.moving: [MOVES, MOVES],
}


def decided(examples, eps=EPS, iterations=RUN):
    """The verdict on examples, each a list of a pattern for each head."""
    x = torch.stack([torch.stack(heads, 1) for heads in examples], 1)[:, None].float()
    return verdict.attention_verdict(verdict.settling(x, 0.01, eps), iterations, 0.95)


def of(*counts):
    return [EXAMPLES[v] for v, count in counts for _ in range(count)]


@pytest.mark.parametrize("member", V)
def test_each_verdict_has_its_patterns(member: V):
    if member is V.unresolved:
        result, _ = decided(of((V.settled, 16)), eps=0.1)
    elif member is V.mixed:
        result, _ = decided(of((V.settled, 8), (V.moving, 8)))
    elif member is V.unclear:
        result, evidence = decided(of((V.settled, 15), (V.moving, 1)))
        assert evidence.alternatives == (V.settled, V.mixed)
    else:
        result, evidence = decided(of((member, 16)))
        assert evidence.support == {member.name: 1.0}
    assert result is member


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (((V.settled, 8), (V.late, 8)), V.late),
        (((V.settled, 63), (V.late, 1)), V.settled),
        (((V.partly, 8), (V.moving, 8)), V.partly),
        (((V.settled, 8), (V.late, 8), (V.moving, 48)), V.mixed),
        (((V.settled, 30), (V.late, 33), (V.moving, 1)), V.late),
        (((V.settled, 1), (V.late, 15)), V.late),  # whether nearly all are late or some
        (((V.moving, 1), (V.partly, 15)), V.partly),
        (((V.settled, 15), (V.late, 1)), V.unclear),
        (((V.settled, 1),), V.settled),
        (((V.settled, 1), (V.moving, 1)), V.mixed),
    ],
)
def test_examples_are_first_asked_whether_attention_converges(counts, expected):
    result, evidence = verdict.overall([v for v, count in counts for _ in range(count)])
    assert result is expected
    assert evidence.examples == sum(count for _, count in counts)


@pytest.mark.parametrize(
    ("counts", "allowed"),
    [
        (((V.settled, 56), (V.late, 5), (V.moving, 3)), {V.settled, V.late, V.mixed}),
        (((V.settled, 48), (V.late, 8), (V.moving, 8)), {V.late, V.mixed}),  # too few settle within the run
        (((V.settled, 61), (V.moving, 3)), {V.settled, V.mixed}),
    ],
)
def test_the_verdicts_allowed_follow_from_the_counts(counts, allowed):
    result, evidence = verdict.overall([v for v, count in counts for _ in range(count)])
    assert result is V.unclear and set(evidence.alternatives) == allowed


def test_a_last_small_change_alone_is_no_convergence():
    stops = MOVES.clone()
    stops[-2:] = MOVES[-1]
    assert decided([[stops, stops]] * 16)[0] is V.moving
    stops[-4:] = MOVES[-1]
    assert decided([[stops, stops]] * 16)[0] is V.late


def test_a_head_settles_where_half_of_the_examples_do():
    x = torch.stack([torch.stack(h, 1) for h in of((V.settled, 3), (V.partly, 1))], 1)[:, None].float()
    first = verdict.settling(x, 0.01, EPS).first
    assert first.shape == (1, 2) and first.isfinite().all()
    most = torch.stack([torch.stack(h, 1) for h in of((V.settled, 1), (V.partly, 3))], 1)[:, None].float()
    assert verdict.settling(most, 0.01, EPS).first[0].isnan().tolist() == [False, True]


@pytest.mark.parametrize(
    ("still", "expected"), [(20, V.settled), (19, V.settled), (18, V.partly), (1, V.partly)]
)
def test_attention_settles_where_19_of_20_heads_do(still: int, expected: V):
    assert decided([[SOON] * still + [MOVES] * (20 - still)] * 4)[0] is expected


def test_one_position_attends_to_itself_and_rests():
    assert decided([[torch.ones(N, 1, 1)] * 2] * 2)[0] is V.settled


def test_the_estimates_are_those_of_the_examples():
    _, evidence = decided(of((V.settled, 8), (V.partly, 8)))
    heads, examples = evidence.estimates
    assert heads.value == pytest.approx(0.75) and heads.low < 0.75 < heads.high
    assert examples.value == pytest.approx(0.5)


# The panel


def test_each_frame_is_the_pattern_that_its_controls_name():
    model = ls.models.load("ouro-mano")
    run = ls.record(model, model.task.batch(6, seed=0).tokens, sites=["core.*.attn.hook_pattern"])
    sample = ls.analyses.measure("attention", run).patterns
    panel = pattern_panel(sample)
    sizes = [len(control.labels) for control in panel.controls]
    assert [control.kind for control in panel.controls] == ["choose", "choose", "slide"]
    assert len(panel.frames) == math.prod(sizes) and sizes == [4, 8, 4]
    b, h, i = 2, 5, 3  # layer 1, head 1
    frame = panel.frames[(b * sizes[1] + h) * sizes[2] + i]
    assert frame.label.endswith("layer 1, head 1, t = 3")
    begin = int(run.mask.any(0).nonzero()[0])  # what no example counts at the ends isn't shown
    counted = run.mask[b, begin:]
    A = run["core.1.attn.hook_pattern"][3][b, 1, begin:, begin:]
    A = A.masked_fill(~(counted[:, None] & counted), math.nan)
    z = torch.tensor([[math.nan if v is None else v for v in row] for row in frame.update[0]["z"]])
    assert torch.allclose(z, A, atol=6e-3, equal_nan=True)
    symbols = [model.task.symbols[t] for t in run.tokens[b, begin:].tolist()]
    assert [name.split(" ", 1)[0] for name in frame.update[0]["x"]] == [f"{j}:" for j in range(len(symbols))]
    assert [name.split(" ", 1)[1].strip("'") for name in frame.update[0]["y"]] == symbols
    assert list(panel.figure.data[0].z[3]) == list(panel.frames[panel.first].update[0]["z"][3])


@pytest.mark.parametrize("size", [1, 3, 30, 64, 90])
def test_the_panel_stays_small_and_says_what_it_leaves_out(size: int):
    x = torch.softmax(torch.randn(40, 3, 7, 5, size, size, generator=torch.Generator().manual_seed(0)), -1)
    run = ls.iterate(lambda x: 0.5 * x, torch.ones(7, 2), 3)
    sample = pattern_sample(run, x)
    assert sample.weights.numel() <= CELLS and sample.weights.shape[-1] == min(size, 64)
    assert sample.iterations[-1] == 39 and len(set(sample.iterations)) == len(sample.iterations) <= 17
    assert f"of {40} iterations" in sample.left_out and "of 15 heads" in sample.left_out
    assert ("position" in sample.left_out) == (size > 64)
    panel = pattern_panel(sample)
    assert sample.left_out in panel.observation and panel.figure.to_json()
    assert not (sample.tokens[0] and size > LABELLED)


def test_a_head_is_named_by_its_network_and_layer():
    x = torch.softmax(torch.randn(2, 2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0)), -1)
    run = ls.iterate(lambda x: 0.5 * x, torch.ones(3, 2), 3)
    sites = [f"core.{network}.0.attn.hook_pattern" for network in ("high", "low")]
    heads = pattern_sample(run, x, sites).heads
    assert heads == tuple(f"{network}, layer 0, head {h}" for network in ("high", "low") for h in (0, 1))
    assert pattern_sample(run, x).heads[-1] == "layer 1, head 1"


def test_spread_numbers_differ_and_end_at_the_last():
    assert spread(5, 9) == [0, 1, 2, 3, 4] and spread(7, 1) == [6]
    for total in range(2, 40):
        for count in range(2, total):
            numbers = spread(total, count)
            assert len(set(numbers)) == count and (numbers[0], numbers[-1]) == (0, total - 1)


def test_a_report_shows_the_patterns_first():
    model = ls.models.load("recall-plain")
    result = ls.analyses.measure("attention", ls.record(model, model.task.batch(6, seed=0).tokens))
    assert [panel.title for panel in panels(result)][0] == "Attention patterns"
    assert result.to_json()
