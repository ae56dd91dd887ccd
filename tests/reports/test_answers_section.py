"""Answers as they are drawn: boards as boards, tokens by their names, and observations over all
examples."""

import re

import pytest
import torch

import loopscope as ls
from loopscope.plots.boards import CORRECT, GIVEN, WRONG
from loopscope.recorder import pretrained
from loopscope.recorder.labels import example_names, inputs_of, position_names
from loopscope.recorder.run_score import score_of
from loopscope.reports import answers

from ..toys.padded_loop import padded, padded_loop, ragged
from ..toys.small_models import hrm_text_folder
from .test_accuracy_section import parity_run, score


@pytest.fixture(scope="module")
def sudoku():
    model = ls.models.load("hrm-sudoku")
    return ls.record(model, model.task.batch(40, seed=0).tokens, 4)


def panel_of(run):
    section = answers.section(run)
    assert section is not None
    return section.panels[0]


def test_a_board_shows_every_cell_where_it_lies_and_whether_it_is_right(sudoku):
    panel, own = panel_of(sudoku), score_of(sudoku)
    assert own is not None
    labels = sudoku.model.task.label(sudoku.tokens)
    menu, slider = panel.controls
    assert slider.labels == [str(k) for k in range(5)]
    assert len(panel.frames) == len(menu.labels) * 5
    for b, name in enumerate(menu.labels):
        row = int(re.match(r"(\d+):", name)[1])
        for k in range(5):
            answer, solution = (panel.frames[b * 5 + k].update[trace] for trace in (0, 1))
            given = sudoku.logits[k][row].argmax(-1).view(4, 4)
            for i in range(4):
                for j in range(4):
                    p = 4 * i + j
                    right, digit = int(labels.targets[row, p]), int(given[i, j])
                    shown = "." if digit == 0 else str(digit)
                    if not labels.mask[row, p]:
                        assert (answer["z"][i][j], answer["text"][i][j]) == (GIVEN, f"<b>{right}</b>")
                    elif digit == right:
                        assert (answer["z"][i][j], answer["text"][i][j]) == (CORRECT, f"{shown} ✓")
                    else:
                        assert (answer["z"][i][j], answer["text"][i][j]) == (WRONG, f"{shown} ✗")
                    assert solution["text"][i][j].strip("</b>") == str(right)


def test_the_menu_says_how_each_board_ends(sudoku):
    own = score_of(sudoku)
    for name in panel_of(sudoku).controls[0].labels:
        row, fate = re.match(r"(\d+): \d+ to fill, (.*)", name).groups()
        solved = own.solved[:, int(row)].tolist()
        if fate == "not solved":
            assert not solved[-1]
        else:
            k = int(re.match(r"solved from k = (\d+)", fate)[1])
            assert all(solved[k:])
            assert k == 0 or not solved[k - 1]


def test_the_boxes_of_a_board_are_drawn(sudoku):
    shapes = panel_of(sudoku).figure.layout.shapes
    across = sorted({s.y0 for s in shapes if s.y0 == s.y1})
    assert across == [-0.5, 1.5, 3.5]
    assert ls.tasks.sudoku(size=6).box_shape == (2, 3)


def test_an_example_that_the_model_fails_on_is_among_those_drawn():
    run = parity_run(12)
    right = [[True, True]] * 12
    wrong = [*right[:10], [True, False], [False, False]]
    assert answers._rows(run, score([wrong, right])) == list(range(8))
    assert answers._rows(run, score([right, wrong])) == [*range(6), 10, 11]
    early = [[False, False], *right[1:11], [True, False]]
    assert answers._rows(run, score([right, early])) == list(range(8))  # a failure is there already


@pytest.mark.parametrize(
    ("correct", "iterations", "sentence"),
    [
        ([[[False]] * 20, [[True]] * 20, [[True]] * 20], (0, 1, 2), "Of the answers in the run's 20 "
         "examples, 0 % are correct before the loop and 100 % after 2 iterations; all of them are correct "
         "after 1 iteration and from then on."),
        ([[[True]] * 20, [[True]] * 19 + [[False]]], (0, 1), "Of the answers in the run's 20 examples, 100 % "
         "are correct before the loop and 95 % after 1 iteration; all of them are correct after 0 "
         "iterations, but not at the end."),
        ([[[False]] * 20, [[False]] * 19 + [[True]]], (4, 8), "Of the answers in the run's 20 examples, 0 % "
         "are correct after 4 iterations and 5 % after 8 iterations; some are wrong after any "
         "number of iterations."),
        ([[[True, None]], [[True, None]]], (0, 1), "Of the answers in the run's 1 example, 100 % are correct "
         "before the loop and 100 % after 1 iteration; all of its answers are correct before the loop and "
         "from then on."),
    ],
)  # fmt: skip
def test_the_observation_counts_every_example(correct, iterations, sentence):
    assert answers._observation(score(correct, iterations=iterations)) == sentence


def test_the_input_stands_above_the_answers_and_the_correct_ones_below():
    run = parity_run(3)
    rows = panel_of(run).frames[2].update[1]["text"]
    labels = run.model.task.label(run.tokens)
    assert rows[:7] == list(run.model.task.render(run.tokens[2:3])[0])
    assert rows[7:] == ["", *map(str, labels.targets[2, 1:].tolist())]
    assert panel_of(run).figure.data[1].y[0] == -1
    assert panel_of(run).figure.data[1].y[-1] == run.iterations + 1


def test_a_position_that_does_not_count_is_empty():
    model = padded_loop(0.5)
    run = ls.record(model, padded(ragged(model.task.batch(4, seed=0).tokens), 1, 0), 3)
    for b, frame in enumerate(panel_of(run).frames):
        blank = [text == "" for text in frame.update[0]["text"][0]]
        assert blank == (~run.mask[b]).tolist()
        assert [z is None for z in frame.update[0]["z"][0]] == blank


# Names of tokens


def test_a_tokenizers_strings_name_inputs_and_answers():
    run = pretrained.record_pretrained(hrm_text_folder(), texts=["w1 w2 w3", "w4"])
    assert inputs_of(run) == [["w1", "w2", "w3"], ["<eos>", "<eos>", "w4"]]
    assert example_names(run, [0]) == ["example 0: w1 w2 w3"]
    frame = panel_of(run).frames[0]
    assert frame.update[1]["text"] == ["w1", "w2", "w3"]
    known = {f"w{i}" for i in range(38)} | {"&lt;unk&gt;", "&lt;eos&gt;"}
    assert {text for row in frame.update[0]["text"] for text in row} <= known


def test_tokens_that_were_tokenized_by_the_user_keep_their_strings(tmp_path):
    import transformers

    model = ls.from_pretrained(hrm_text_folder())
    tokenizer = transformers.AutoTokenizer.from_pretrained(hrm_text_folder())
    run = ls.record(model, tokenizer(["w5 w6"], return_tensors="pt", return_token_type_ids=False))
    assert inputs_of(run) == [["w5", "w6"]]
    assert set(panel_of(run).frames[0].update[1]["text"]) == {"w5", "w6"}
    again = ls.load_run(run.save(tmp_path / "run.safetensors"))
    assert inputs_of(again) == [["w5", "w6"]]


def test_without_a_tokenizer_tokens_are_ids():
    run = pretrained.record_pretrained(hrm_text_folder(), examples=2)
    assert inputs_of(run) == [[str(token) for token in row] for row in run.tokens.tolist()]


def test_positions_are_called_by_what_always_stands_there():
    run = parity_run(24)
    assert position_names(run, 7) == ["^", *map(str, range(1, 7))]
    assert position_names(run, 9) == [*map(str, range(9))]  # of a site with other positions
    assert ls.tasks.regression(points=2).position_names(4) == ["x1", "y1", "x2", "y2"]
    assert ls.tasks.sudoku(size=4).position_names(16)[4:6] == ["r2c1", "r2c2"]


def test_a_long_example_is_cut_in_the_menu():
    run = parity_run(2)
    run.tokens = torch.cat([run.tokens, torch.zeros(2, 60, dtype=torch.long)], 1)
    assert example_names(run, [1])[0].endswith(" …")
    assert len(example_names(run, [1])[0]) == len("example 1: ") + 40 + 2
