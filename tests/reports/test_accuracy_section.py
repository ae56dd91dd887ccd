"""One accuracy: that of the run's own examples, with its interval, in every sentence that quotes
it; and sentences that their numbers bear out."""

import dataclasses
import math
import pickle
import re
from typing import Any

import pytest
import torch

import loopscope as ls
from loopscope.common.evidence import Estimate, share_interval
from loopscope.common.score_band import score_band
from loopscope.common.text import level_range, percent
from loopscope.recorder.run_depth import RunDepth, depth_of
from loopscope.recorder.run_score import RunScore, score_of
from loopscope.reports import accuracy, answers
from loopscope.reports.accuracy_by_difficulty import GROUPS, comparison, difficulty_groups

from ..toys import hostile_strings

NAN = math.nan


def parity_run(examples: int = 24, iterations: int = 6, **options):
    torch.manual_seed(0)
    model = ls.models.build("universal", width=16, vocabulary=3, iterations=4, injection="add").eval()
    model.task = ls.tasks.prefix_parity(length=6)
    return ls.record(model, model.task.batch(examples, seed=0).tokens, iterations, **options)


def score(correct, difficulty=None, iterations=None) -> RunScore:
    """A score of boolean answers; None where none is to be given."""
    values = torch.tensor([[[NAN if a is None else float(a) for a in row] for row in k] for k in correct])
    mask = ~values[0].isnan()
    difficulty = torch.zeros(len(mask)) if difficulty is None else torch.tensor(difficulty).float()
    ks = tuple(range(len(values))) if iterations is None else iterations
    return RunScore(ls.tasks.prefix_parity(), ks, values, mask, difficulty)


def test_every_sentence_quotes_the_share_that_the_runs_own_answers_have():
    run = parity_run()
    labels = run.model.task.label(run.tokens)
    by_hand = [
        float((run.logits[k].argmax(-1) == labels.targets)[labels.mask].double().mean()) for k in range(7)
    ]
    own = score_of(run)
    assert own is not None
    assert own.mean().value.tolist() == pytest.approx(by_hand)
    section, other = accuracy.section(run), answers.section(run)
    assert section is not None
    assert other is not None
    low, high = (percent(float(part[4])) for part in (own.mean().low, own.mean().high))
    assert section.tiles[0].value == percent(by_hand[4])  # the model's own depth
    assert "answers correct after 4 iterations (24 examples of this run" in section.tiles[0].caption
    assert section.panels[0].observation.startswith(
        f"After 4 iterations {percent(by_hand[4])} (95 % interval {low} to {high}) of the answers are correct"
    )
    assert f"{percent(by_hand[0])} are correct before the loop" in other.panels[0].observation
    assert f"{percent(by_hand[6])} after 6 iterations" in other.panels[0].observation
    assert "in the run's 24 examples" in other.panels[0].observation  # of which 8 are drawn
    assert len(other.panels[0].frames) == 8


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_model_that_answers_one_token_everywhere_is_said_to(everywhere: bool):
    run = parity_run(iterations=4)
    model, mask = run.model, run.model.task.label(run.tokens).mask
    unembed = model.unembed
    states = run.states[4][mask]
    with torch.no_grad():  # the sign of what varies most decides, or nothing that varies
        direction = torch.linalg.svd(states - states.mean(0)).Vh[0]
        unembed.weight[:] = torch.stack([direction, -direction, 0 * direction]) * (not everywhere)
        unembed.bias[:] = torch.tensor([0.0, 9.0, 0.0]) if everywhere else -unembed.weight @ states.mean(0)
        model.ln_final = torch.nn.Identity()
    answers = ls.record(model, run.tokens, 4)
    assert (len(answers.logits[4].argmax(-1)[mask].unique()) == 1) == everywhere
    assert ("It answers “1” everywhere, whatever the input." in accuracy.section(answers).claim) == everywhere


@pytest.mark.parametrize(("row", "said"), [([2, 0, 0, 0], False), ([2, 0, 1, 0], True)])
def test_one_answer_says_nothing_where_only_one_is_correct(row: list[int], said: bool):
    model = parity_run(2, 4).model
    with torch.no_grad():
        model.unembed.weight.zero_()
        model.unembed.bias[:] = torch.tensor([9.0, 0.0, 0.0])
    section = accuracy.section(ls.record(model, torch.tensor([row]), 4))
    assert section is not None and ("whatever the input" in section.claim) == said


def test_longer_examples_cost_what_is_counted_for_each_of_their_positions(monkeypatch: pytest.MonkeyPatch):
    run, counted = parity_run(), []
    step = type(run.model).step

    def counting(self: Any, state: torch.Tensor, context: Any, t: int) -> torch.Tensor:
        counted.append(state.shape[0] * state.shape[1])
        return step(self, state, context, t)

    monkeypatch.setattr(type(run.model), "step", counting)
    run.model(run.tokens)
    bare = sum(counted) / run.model.iterations * run.iterations
    score = score_of(run)
    assert score is not None
    counted.clear()
    accuracy._longer(run, score)
    passes = sum(counted) / bare  # a little less than twice and three times: each has a position to begin
    assert passes <= accuracy.longer_price(run).passes <= 1.2 * passes


def test_longer_examples_are_fresh_and_said_to_be_so():
    section = accuracy.section(parity_run())
    assert section is not None
    names = [trace.name for trace in section.panels[0].figure.data if trace.name]
    assert names[0] == "answers correct, this run's 24 examples"
    assert names[1] == "sequences wholly correct, the same examples"
    assert names[2:] == [f"answers correct at length = {n}, 128 fresh examples" for n in (12, 18)]


def test_a_run_with_edits_is_not_compared_with_the_model_without_them():
    section = accuracy.section(parity_run(edits=[ls.ablate("state", iteration=1)]))
    assert section is not None
    assert not [trace.name for trace in section.panels[0].figure.data if "fresh" in (trace.name or "")]


def test_a_run_without_labels_has_no_accuracy():
    run = parity_run()
    run.model.task = None
    run.origin["task"] = None
    assert score_of(run) is None
    assert accuracy.section(run) is None
    section = answers.section(run)
    assert section is not None
    assert section.panels[0].observation.startswith("The correct answers are not known")


def test_sites_without_positions_have_no_answers():
    assert answers.section(ls.iterate(lambda x: 0.5 * x, torch.ones(3, 2), 4)) is None


# The interval


def test_the_interval_counts_examples_not_answers():
    alike = torch.tensor([[[1.0] * 8] * 9 + [[0.0] * 8] * 3])  # 96 answers of 12 examples
    band = score_band(alike, torch.ones(12, 8, dtype=torch.bool))
    low, high = share_interval(9, 12)
    assert [float(part[0]) for part in (band.value, band.low, band.high)] == pytest.approx([0.75, low, high])
    mixed = (torch.arange(96) % 4 > 0).float().view(1, 12, 8)
    narrow = score_band(mixed, torch.ones(12, 8, dtype=torch.bool))
    assert float(narrow.value) == 0.75
    assert float(narrow.low) == float(narrow.high) == 0.75  # every example has 6 of 8


def test_an_example_with_more_answers_has_more_weight():
    mask = torch.tensor([[True, False, False], [True, True, True]])
    band = score_band(torch.tensor([[[1.0, NAN, NAN], [0.0, 0.0, 1.0]]]), mask)
    assert float(band.value) == 0.5
    assert band.examples == 2


def test_of_one_example_and_of_none_no_interval_is_made_up():
    one = score_band(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[True, True]]))
    assert float(one.value) == 0.5
    assert one.low.isnan().all()
    none = score_band(torch.tensor([[[NAN, NAN]]]), torch.tensor([[False, False]]))
    assert none.value.isnan().all()
    assert none.examples == 0
    broken = score_band(torch.tensor([[[NAN, 1.0]], [[1.0, 1.0]]]), torch.tensor([[True, True]]))
    assert broken.value.isnan().tolist() == [True, False]


def test_the_names_are_those_of_what_is_counted():
    own = score([[[True, True]], [[True, True]]])
    assert (own.name, own.whole_name) == ("answers correct", "sequences wholly correct")
    boards = dataclasses.replace(own, task=ls.tasks.sudoku(size=4))
    assert (boards.name, boards.whole_name) == ("cells correct", "boards solved")
    numbers = dataclasses.replace(own, task=ls.tasks.regression())
    assert (numbers.name, numbers.whole_name) == ("variance explained", None)
    assert score([[[None, True]]]).whole_name is None  # one answer each: the same as the accuracy


# Sentences


@pytest.mark.parametrize(
    ("share", "iterations", "examples", "sentence"),
    [
        ([[0.0], [1.0], [1.0]], (0, 1, 2), 8, "Position 0, the only one with an answer, is correct in at "
         "least 95 % of the 8 examples from 1 iteration on."),
        ([[1.0], [1.0]], (0, 1), 1, "Position 0, the only one with an answer, is correct in at least 95 % of "
         "the 1 example from before the loop on."),
        ([[0.0, 0.0], [1.0, 1.0]], (0, 5), 8, "All 2 positions are correct in at least 95 % of the 8 "
         "examples from 5 iterations on."),
        ([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], (0, 1, 2), 8, "1 of 2 positions is correct in at least 95 % "
         "of the 8 examples from 2 iterations on."),
        ([[0.0, NAN, 1.0, 0.0], [1.0, NAN, 1.0, 0.9]], (0, 3), 8, "2 of 3 positions are correct in at least "
         "95 % of the 8 examples at the end: position 2 from before the loop on, position 0 as the last from "
         "3 iterations on."),
        ([[1.0, 1.0], [0.5, 0.5]], (0, 1), 8, "At the end no position is correct in at least 95 % of the 8 "
         "examples."),
        ([[NAN, NAN]], (0,), 8, "At the end no position is correct in at least 95 % of the 8 examples."),
        ([[0.0, 0.95], [1.0, 0.94], [1.0, 0.95]], (0, 1, 2), 8, "All 2 positions are correct in at least "
         "95 % of the 8 examples at the end: position 0 from 1 iteration on, position 1 as the last from 2 "
         "iterations on."),
    ],
)  # fmt: skip
def test_a_sentence_about_positions_is_true(share, iterations, examples, sentence):
    assert accuracy._position_sentence(torch.tensor(share), iterations, examples) == sentence


def test_every_example_is_in_one_group_of_difficulty():
    generator = torch.Generator().manual_seed(0)
    for count in (1, 2, 7, 64, 200):
        values = torch.randint(0, 9, (count,), generator=generator).tolist()
        groups = difficulty_groups(score([[[True]] * count], values))
        assert torch.stack(list(groups.values())).sum(0).tolist() == [1] * count
        assert len(groups) <= GROUPS
    masked = difficulty_groups(score([[[True], [None]] * 6], list(range(12))))
    assert int(torch.stack(list(masked.values())).sum()) == 6


@pytest.mark.parametrize(
    ("low", "high", "unit", "text"),
    [
        (1, 1, "hops", "1 hop"),
        (2, 5, "ones in the string", "2 to 5 ones in the string"),
        (3, 9, "larger summand", "larger summand = 3 to 9"),
        (1.4567, 2.0, "condition number of the points", "condition number of the points = 1.46 to 2"),
    ],
)
def test_a_range_of_levels_has_its_unit(low: float, high: float, unit: str, text: str):
    assert level_range(low, high, unit) == text


@pytest.mark.parametrize("iterations", [1, 2])
def test_one_iteration_is_no_several(iterations: int):
    run = parity_run(2, iterations)
    for module in (accuracy, answers):
        section = module.section(run)
        assert section is not None
        texts = [text for p in section.panels for text in (p.title, p.observation, p.reading)]
        texts += [frame.label for p in section.panels for frame in p.frames]
        assert not [text for text in texts if re.search(r"\b1 (iterations|examples|positions)\b", text)]


def test_hostile_names_are_shown_as_they_are():
    section = accuracy.section(hostile_strings.run())
    assert section is not None
    legends = [trace.name or "" for panel in section.panels for trace in panel.figure.data]
    assert not [name for name in legends if "<img" in name]


def share_right(name: str, right: int, examples: int) -> Estimate:
    """The score of so many right examples."""
    return score([[[True]] * right + [[False]] * (examples - right)]).mean().at(0, name)


@pytest.mark.parametrize(
    ("hits", "sentence"),
    [
        ((15, 13, 6, 12), "can't be told apart, but others can: 40 % (95 % interval 20 % to 64 %) at 3"),
        ((15, 13, 6, 2), "The harder ones are answered worse."),
        ((2, 13, 6, 15), "The harder ones are answered better."),
        ((12, 13, 13, 12), "All intervals overlap"),
        ((15, 15, 15, 15), "It is the same in all groups"),
    ],
)
def test_difficulty_matters_where_any_two_intervals_are_apart(hits, sentence):
    groups = [share_right(str(i + 1), right, 15) for i, right in enumerate(hits)]
    assert sentence in comparison(groups)
    unknown = score([[[True, False]]]).mean().at(0, "5")  # one example has no interval
    assert comparison([*groups, unknown]) == ""


def test_one_depth_is_the_models_own_or_where_the_loop_ended_or_what_was_recorded():
    model = parity_run().model
    tokens = model.task.batch(4, seed=0).tokens
    assert depth_of(ls.record(model, tokens, 6)) == RunDepth(4, "the model's own depth")
    short = depth_of(ls.record(model, tokens, 3))
    assert short == RunDepth(3, "all that were recorded (the model's own depth is 4)")
    bare = pickle.loads(pickle.dumps(ls.record(model, tokens, 3)))  # without its model
    assert not bare.has_model
    assert depth_of(bare) == RunDepth(3, "all that were recorded")
    ended = ls.models.load("ponder-parity")
    run = ls.record(ended, ended.task.batch(8, seed=0).tokens)
    assert run.iterations < ended.iterations
    most = f"when the loop had ended by itself for all examples (at most {ended.iterations})"
    assert depth_of(run) == RunDepth(run.iterations, most)
    section = accuracy.section(run)
    assert section is not None and f"{most}, on 8 examples" in section.claim
