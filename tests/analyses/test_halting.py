"""Halting: the analysis against a count by hand, and the error for a model that doesn't halt."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import loopscope as ls
from loopscope.analyses.halting.measure import verdict_on  # pyright: ignore[reportMissingImports]
from loopscope.analyses.halting.result import (  # pyright: ignore[reportMissingImports]
    DIFFICULTY_ORDER,
    POSITION_ORDER,
    HaltingVerdict,
)
from loopscope.analyses.halting.variation import Variation, order, variation  # pyright: ignore[reportMissingImports]
from loopscope.common import discovery
from loopscope.common.errors import LoopscopeError
from loopscope.common.files import load_file, save_file

TASK = ls.tasks.prefix_parity(length=8)


def halting_model(bias: float = -1.0, gate: float = 1.0):
    model = ls.models.build(
        "universal", width=16, vocabulary=3, halting="interpolated", halting_bias=bias, seed=3
    )
    with torch.no_grad():
        model.act.gate.weight.mul_(gate)
    model.task = TASK
    return model.eval()


def planted(
    iterations: torch.Tensor, n: int, halted: torch.Tensor | None = None, tokens: torch.Tensor | None = None
):
    """A real run whose halting is replaced by one where the answers are known."""
    batch = TASK.batch(len(iterations), seed=0)
    run = ls.record(halting_model(), batch.tokens if tokens is None else tokens, n)
    run.iterations = n
    weights = torch.nn.functional.one_hot(iterations, n).permute(2, 0, 1).float()
    halted = torch.ones_like(iterations, dtype=torch.bool) if halted is None else halted
    remainder = torch.full(iterations.shape, 0.25)
    run.halting = ls.Halting(
        weights, iterations, halted, remainder, iterations + 1 + remainder, "adaptive computation time"
    )
    return run


def test_the_distribution_is_that_of_a_count_by_hand():
    run = ls.record(halting_model(gate=4.0), TASK.batch(32, seed=0).tokens, 24)
    result = ls.analyses.measure("halting", run)
    when, halted = run.halting.iteration, run.halting.halted
    for t in range(run.iterations):
        hits = (when == t) & halted
        assert result.share[t] == pytest.approx(hits[:, 1:].float().mean().item())  # position 0 is no answer
        for p in range(9):
            assert result.by_position[p, t] == pytest.approx(hits[:, p].float().mean().item())
    assert result.share.sum() + result.not_halted == pytest.approx(1)
    assert result.mean == pytest.approx(1 + when[:, 1:].float().mean().item())
    assert result.cost == pytest.approx(run.halting.cost[:, 1:].mean().item())
    assert result.remainder == pytest.approx(run.halting.remainder[:, 1:].mean().item())


def test_a_gate_that_says_one_half_halts_everywhere_after_two_iterations():
    run = ls.record(halting_model(bias=0.0, gate=0.0), TASK.batch(8, seed=0).tokens, 12)
    result = ls.analyses.measure("halting", run)
    assert result.verdict.name == "constant"
    assert result.mean == 2 == result.iterations
    assert result.remainder == pytest.approx(0.5)
    assert result.cost == pytest.approx(2.5)  # N = 2, R = 0.5
    assert "ponder cost, iterations plus remainder, is 2.50" in str(result)
    assert np.isnan(result.correlation)
    assert "the same at all of them" in panels_of(result)[0].observation
    assert "unknown" not in str(result) and "-0.00" not in str(result) and "nan" not in str(result)


def panels_of(result):
    return discovery.module("analyses", "halting").panels(result)


def test_halting_later_along_the_string_is_seen_as_such():
    later = planted(torch.arange(9).expand(16, 9).clone(), 10)
    result = ls.analyses.measure("halting", later)
    assert result.verdict.name == "positions" and "Later positions halt later." in result.sentence
    assert result.correlation == pytest.approx(1)
    assert result.mean_by_position.tolist() == list(range(1, 10))
    earlier = ls.analyses.measure("halting", planted(torch.arange(9).flip(0).expand(16, 9).clone(), 10))
    assert earlier.position_order == "earlier" and "halt earlier" in earlier.sentence
    assert earlier.correlation == pytest.approx(-1)


def test_the_mark_that_is_asked_nothing_counts_in_no_number_of_answers():
    times = torch.arange(9).expand(16, 9).clone()
    times[:, 0] = 9
    result = ls.analyses.measure("halting", planted(times, 10))
    assert result.correlation == pytest.approx(1) and result.mean == pytest.approx(5.5)


def test_where_all_positions_halt_alike_only_examples_are_said_to_differ():
    times = (torch.arange(64) % 8)[:, None].expand(64, 9).clone()
    result = ls.analyses.measure("halting", planted(times, 10))
    assert result.verdict.name == "examples" and np.isnan(result.correlation)
    assert result.position_spread == 0 and result.example_spread == pytest.approx(5.25**0.5)
    assert "positions, on average, do not" in result.sentence


def test_examples_with_other_positions_do_not_make_positions_differ():
    """Each example, halting as a whole, has answers at other places, as boards have."""
    used = (torch.arange(64) % 8).double()[:, None].expand(64, 9).clone()
    answers = torch.rand(64, 9, generator=torch.Generator().manual_seed(0)) < 0.3
    result = variation(used, used >= 0, answers, None, torch.arange(64))
    assert result.positions == 0 and result.examples > 2 and math.isnan(result.position_order)


def test_the_noise_of_single_answers_is_no_difference_between_positions_or_examples():
    generator = torch.Generator().manual_seed(0)
    used = torch.randn(64, 16, generator=generator, dtype=torch.float64) * 3
    every = torch.ones(64, 16, dtype=torch.bool)
    result = variation(used, every, every, None, torch.arange(64))
    assert result.positions < 0.3 and result.examples < 0.4 and result.deviation > 2
    effects = torch.randn(16, generator=generator, dtype=torch.float64)
    result = variation(used + effects, every, every, None, torch.arange(64))
    assert result.positions == pytest.approx(float(effects.std(correction=0)), rel=0.2)


@pytest.mark.parametrize(
    ("positions", "examples", "verdict"),
    [(0.5, 0.5, "both"), (0.5, 0.49, "positions"), (0.49, 0.5, "examples"), (0.49, 0.49, "varied")],
)
def test_positions_and_examples_differ_from_half_an_iteration_on(positions, examples, verdict):
    result = Variation(0.0, 1.0, 0.2, 0.4, positions, examples, math.nan, math.nan)
    assert verdict_on(result).name == verdict


def test_an_order_is_said_where_the_bootstrap_samples_agree_on_it():
    generator = torch.Generator().manual_seed(0)
    noise = 6 * torch.randn(64, 9, generator=generator)
    rising = torch.arange(9)[None].expand(64, 9)
    clear = ls.analyses.measure("halting", planted(rising.clone(), 10))
    weak = ls.analyses.measure("halting", planted((rising + noise).round().clamp(0, 9).long(), 10))
    assert clear.position_order == "later"
    assert weak.correlation > 0.9 and weak.position_order == "unclear"


def times_of(verdict: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    positions, examples = torch.arange(9)[None], (torch.arange(64) % 5)[:, None]
    return {
        "constant": torch.full((64, 9), 4),
        "positions": positions.expand(64, 9).clone(),
        "examples": examples.expand(64, 9).clone(),
        "both": (positions // 2 + examples).clone(),
        "varied": (positions + examples * 5) % 2 * 3 + torch.zeros(64, 9).long(),
        "unclear": torch.where(torch.rand(64, 1, generator=generator) < 0.24, 7, 4).expand(64, 9).clone(),
        "cut": torch.full((64, 9), 9),
    }[verdict]


@pytest.mark.parametrize("verdict", HaltingVerdict)
def test_every_verdict_is_reached_and_draws_itself(verdict):
    times = times_of(verdict.name)
    if verdict.name == "varied":  # each example and each position has as many early as late ones
        times = torch.where((torch.arange(64)[:, None] + torch.arange(9)) % 2 == 0, 1, 5)
    halted = torch.full(times.shape, verdict.name != "cut")
    result = ls.analyses.measure("halting", planted(times, 10, halted))
    assert result.verdict is verdict
    value, caption = discovery.module("analyses", "halting").headline(result)
    assert "nan" not in str(result) and len(caption) < 80
    if verdict.name == "cut":  # no answer halts
        assert len(panels_of(result)) == 1 and value == "none"
    else:
        assert 2 <= len(panels_of(result)) <= 4
        assert float(value.split(" of ")[0]) <= 10 and value.endswith("of 10")
    if verdict.name == "unclear":
        assert "allow both" in result.sentence


@pytest.mark.parametrize("seed", range(10))
def test_a_few_examples_that_never_halt_do_not_make_examples_differ(seed):
    late = torch.rand(64, 1, generator=torch.Generator().manual_seed(seed)) < 0.06
    times = torch.where(late, 15, 1).expand(64, 9).clone()  # their standard deviation is 3 iterations
    result = ls.analyses.measure("halting", planted(times, 16, ~late.expand(64, 9)))
    assert result.verdict.name == "constant" and result.near == pytest.approx(1 - float(late.double().mean()))


def test_halting_spread_over_three_iterations_is_not_constant():
    times = (torch.arange(64) % 3)[:, None].expand(64, 9).clone()  # all within one of the median
    result = ls.analyses.measure("halting", planted(times, 10))
    assert result.near == 1 and result.same < 0.5 and result.verdict.name == "examples"


@pytest.mark.parametrize(
    ("value", "name"), [(math.nan, "unclear"), (0.9, "later"), (-1.0, "earlier"), (0.0, "none")]
)
def test_every_order_is_reached_and_a_correlation_that_is_unknown_is_none(value, name):
    assert order(value, 0.9) == name
    assert set(POSITION_ORDER) == set(DIFFICULTY_ORDER) == {"later", "earlier", "none", "unclear"}


def test_one_example_gives_no_verdict_and_one_position_no_positions():
    result = ls.analyses.measure("halting", planted(torch.arange(9)[None], 10))
    assert result.verdict.name == "unclear" and "too few" in result.sentence and panels_of(result)
    single = torch.zeros(64, 9, dtype=torch.bool)
    single[:, 4] = True
    used = (torch.arange(64) % 8).double()[:, None].expand(64, 9).clone()
    result = variation(used, used >= 0, single, None, torch.arange(64))
    assert math.isnan(result.positions) and verdict_on(result).name == "examples"


def test_only_adaptive_computation_time_has_a_ponder_cost():
    run = planted(torch.full((16, 9), 3), 4)
    act = ls.analyses.measure("halting", run)
    assert act.cost == pytest.approx(4.25) and "3" not in panels_of(act)[0].title
    run.halting = dataclasses.replace(run.halting, kind="Q-head")
    result = ls.analyses.measure("halting", run)
    words = " ".join([str(result), *(p.observation + p.reading for p in panels_of(result))])
    assert math.isnan(result.cost) and "ponder" not in words and "remainder" not in words
    assert discovery.module("analyses", "halting").headline(result)[0] == "4.0 of 4"


def test_no_order_is_seen_where_there_is_none():
    times = torch.tensor([3, 7, 1, 5, 2, 8, 4, 1, 6]).expand(16, 9).clone()
    result = ls.analyses.measure("halting", planted(times, 10))
    assert result.verdict.name == "positions" and result.position_order == "none"


def test_a_loop_that_ended_too_early_is_told_first():
    times = torch.full((16, 9), 4)
    halted = torch.zeros((16, 9), dtype=torch.bool)
    halted[:, :4] = True
    result = ls.analyses.measure("halting", planted(times, 5, halted))
    assert result.verdict.name == "cut"
    assert result.not_halted == pytest.approx(5 / 8)
    assert result.share[4] == pytest.approx(3 / 8)
    assert "62 % of the answers had not halted" in str(result)


def test_difficulty_is_the_tasks_own():
    batch = TASK.batch(64, seed=0)
    times = batch.difficulty.long()[:, None].expand(64, 9).clone()
    result = ls.analyses.measure("halting", planted(times, 10, tokens=batch.tokens))
    assert result.difficulty == TASK.difficulty_unit
    assert result.difficulty_correlation == pytest.approx(1)
    assert torch.equal(result.mean_by_level, result.levels + 1)
    assert result.difficulty_order == "later" and "Harder examples halt later." in result.sentence
    assert int(result.examples.sum()) == 64
    noise = torch.randint(0, 9, (64, 9), generator=torch.Generator().manual_seed(1))
    result = ls.analyses.measure("halting", planted(noise, 10, tokens=batch.tokens))
    assert result.difficulty_correlation == pytest.approx(
        spearmanr(batch.difficulty, noise[:, 1:].float().mean(1)).statistic
    )


def test_a_run_of_an_unknown_task_has_no_difficulty():
    run = planted(torch.arange(9).expand(16, 9).clone(), 10)
    run.model.task = None
    run.origin["task"] = None
    result = ls.analyses.measure("halting", run)
    assert result.difficulty is None
    assert "difficulty (" not in str(result) and "Harder" not in str(result)
    assert len(panels_of(result)) == 2


def test_every_level_has_a_distribution_of_its_own_and_every_example_its_mean():
    batch = TASK.batch(64, seed=0)
    times = batch.difficulty.long()[:, None].expand(64, 9).clone()
    result = ls.analyses.measure("halting", planted(times, 10, tokens=batch.tokens))
    for level, shares in zip(result.levels.long(), result.by_level, strict=True):
        assert shares[level] == 1 and shares.sum() == 1
    assert torch.equal(result.by_example, batch.difficulty + 1)


def test_entropy_is_that_of_the_weights_in_nats():
    halves = planted(torch.ones(16, 9, dtype=torch.long), 4)
    assert ls.analyses.measure("halting", halves).entropy == 0
    halves.halting.weights[:] = torch.tensor([0.5, 0.5, 0, 0])[:, None, None]
    result = ls.analyses.measure("halting", halves)
    assert result.entropy == pytest.approx(np.log(2)) and result.share_entropy == 0
    spread = planted(torch.tensor([0, 1, 2, 3]).repeat(4)[:, None].expand(16, 9).clone(), 4)
    assert ls.analyses.measure("halting", spread).share_entropy == pytest.approx(np.log(4))


def test_a_rule_gives_the_same_view_of_any_run():
    model = ls.models.build("universal", width=16, vocabulary=3, seed=3).eval()
    model.task = TASK
    run = ls.record(model, TASK.batch(16, seed=0).tokens, 8)
    result = ls.analyses.measure("halting", run, rule="argmax", threshold=3)
    assert result.kind == "rule argmax" and "rule argmax" in str(result)
    answers = run.logits.tensor[1:].argmax(-1)
    for p in range(9):
        for b in range(16):
            first = [t for t in range(3, 8) if (answers[t - 3 : t + 1, b, p] == answers[t, b, p]).all()]
            halting = ls.rules.rule_halting(run, "argmax", 3)
            assert halting.iteration[b, p] == (first[0] if first else 7) and bool(
                halting.halted[b, p]
            ) == bool(first)
    whole = ls.rules.rule_halting(run, "kl", level="example").iteration
    assert (whole == whole[:, :1]).all()
    with pytest.raises(LoopscopeError, match="Pass rule= too"):
        ls.analyses.measure("halting", run, threshold=3)


def test_the_kind_is_kept_in_a_file_and_old_files_still_load(tmp_path):
    run = ls.record(halting_model(), TASK.batch(4, seed=0).tokens, 6)
    assert run.halting.kind == "adaptive computation time"
    path = run.save(tmp_path / "run.safetensors")
    assert ls.load_run(path).halting.kind == run.halting.kind
    tensors, header = load_file(path, kind="run")
    # An older file, in which the names of tensors were made of those of the sites
    places = {f"site/{name}/{key}": place for name, site in header["sites"].items()
              for key, place in site.pop("values").items()}  # fmt: skip
    places |= {f"halting/{name}": place for name, place in header.pop("halting").items() if name != "kind"}
    places |= {name: header.pop(name)["tensor"] for name in ("tokens", "output")}
    header |= {"aliases": {name: place for name, place in places.items() if name not in tensors}}
    old = ls.load_run(save_file(path, tensors, header | {"inputs": {}}))
    assert old.halting.kind == "model's own halting"
    assert torch.equal(old.halting.iteration, run.halting.iteration)
    assert torch.equal(old.states.tensor, run.states.tensor) and torch.equal(old.output, run.output)


def test_a_solver_gives_a_position_up_at_its_tolerance():
    model = ls.models.build("equilibrium", vocabulary=3, width=16, heads=2, tolerance=1e-2, seed=0).eval()
    run = ls.record(model, TASK.batch(4, seed=0).tokens, 30)
    gap = run["state.gap"].tensor[1:]
    assert run.halting.kind == "solver tolerance" and run.halting.halted.any()
    for b in range(4):
        for p in range(9):
            below = [t for t in range(run.iterations) if gap[t, b, p] < 1e-2]
            assert run.halting.iteration[b, p] == (below[0] if below else run.iterations - 1)
            assert bool(run.halting.halted[b, p]) == bool(below)
    assert torch.equal(ls.rules.rule_halting(run, "model").iteration, run.halting.iteration)


def test_a_finding_draws_itself_and_serialises():
    result = ls.analyses.measure(
        "halting", ls.record(halting_model(gate=4.0), TASK.batch(32, seed=0).tokens, 24)
    )
    assert result.figure().data[0].type == "heatmap"
    assert '"difficulty": "ones in the string"' in result.to_json()
    for threshold in ("0.2", "0.5", "0.9", "0.3"):
        assert threshold in str(result)


def test_a_model_that_does_not_halt_gets_a_sentence():
    run = ls.record(ls.models.build("universal", width=16, vocabulary=3), TASK.batch(4, seed=0).tokens, 6)
    with pytest.raises(LoopscopeError, match="every position used all 6 iterations"):
        ls.analyses.measure("halting", run)


def test_where_no_answer_halts_nothing_is_drawn_of_positions_that_give_none():
    times = torch.full((16, 9), 9)
    times[:, 0], halted = 2, torch.zeros(16, 9, dtype=torch.bool)
    halted[:, 0] = True  # the first position gives no answer, and halts
    result = ls.analyses.measure("halting", planted(times, 10, halted))
    assert result.not_halted == result.others_halted == 1
    assert "before any answer had halted" in result.sentence
    (panel,) = panels_of(result)
    assert "No answer halts within the 10 iterations that were run. Of the positions without an answer " in (
        panel.observation
    )
    assert result.figure().data[0].type == "bar"
    assert [bar.y[0] for bar in panel.figure.data if "not halted" in bar.name] == [1]


def test_a_position_shows_the_examples_that_have_an_answer_there():
    model = ls.models.load("memory-sudoku")
    batch = model.task.batch(16, seed=0)
    run = ls.record(model, batch.tokens, 8)
    result = ls.analyses.measure("halting", run)
    hits = run.halting.halted & batch.mask
    counts = batch.mask.sum(0)
    weighed = (result.by_position.sum(1) * counts)[counts > 0].sum()
    assert float(weighed) == pytest.approx(float(hits.sum()))
    means = (result.mean_by_position * counts)[counts > 0].sum() / counts.sum()
    assert float(means) == pytest.approx(result.mean), "one mean, by position and over all answers"


def test_examples_that_all_run_alike_are_no_histogram():
    titles = [p.title for p in panels_of(ls.analyses.measure("halting", planted(torch.full((16, 9), 3), 10)))]
    assert not any("by example" in title for title in titles)
