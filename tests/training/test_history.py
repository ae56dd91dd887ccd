"""History: what a training leaves behind of its way changes nothing in it, and is the same however
often it was stopped."""

from dataclasses import replace

import pytest
import torch

import loopscope as ls
from loopscope.common import files
from loopscope.training import AdamW, Fixed, Recipe, Schedule, checkpoint, step_log, train
from loopscope.training.history import load_history
from loopscope.training.history_writer import LINES, WEIGHTS, scores

PLAIN = Recipe(
    architecture="nanda",
    task="modular-addition",
    steps=30,
    depth=Fixed(2),
    config={"vocabulary": 8, "width": 16, "heads": 2, "iterations": 2},
    options={"modulus": 7},
    batch=None,
    optimiser=AdamW(lr=0.01, warmup=4, weight_decay=1.0),
)
RECIPE = replace(PLAIN, history=Schedule(finest=2, coarsest=6, checkpoints=5))


def trained(folder, recipe=RECIPE, **options):
    return train(recipe, folder, **({"progress": False, "checkpoint_every": 4} | options))


def line(step, accuracy, loss=1.0):
    return {"step": step, "sets": {"test": {"loss": [loss], "accuracy": [accuracy]}}, "norm": 1.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    trained(folder)
    return folder


def test_keeping_a_history_changes_no_weight(folder, tmp_path):
    trained(tmp_path, PLAIN)
    one, other = (files.load_file(f / checkpoint.FILE, checkpoint.KIND)[0] for f in (folder, tmp_path))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("stops", [[1], [5, 6, 13], [29]])
def test_a_training_that_was_stopped_leaves_the_same_history(folder, tmp_path, stops):
    for steps in stops:
        trained(tmp_path, steps=steps)
    trained(tmp_path)
    assert step_log.read(tmp_path / LINES) == step_log.read(folder / LINES)
    one, other = (files.load_file(f / "nanda.history.safetensors", "history") for f in (folder, tmp_path))
    assert one[1] == other[1] and one[0].keys() == other[0].keys()
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])


def test_a_line_after_the_last_checkpoint_is_seen_again_and_not_twice(folder, tmp_path):
    trained(tmp_path, steps=8)
    for ahead in step_log.read(
        folder / LINES
    ):  # as a training that was killed between two checkpoints leaves them
        if ahead["step"] > 8:
            step_log.append(tmp_path / LINES, ahead)
    trained(tmp_path)
    assert step_log.read(tmp_path / LINES) == step_log.read(folder / LINES)
    assert load_history(tmp_path).checkpoints == load_history(folder).checkpoints, "weights and all"


def test_the_first_and_the_last_weights_are_kept_and_are_those_of_the_training(folder):
    history = load_history(folder)
    assert history.checkpoints[0] == 0 and history.checkpoints[-1] == 30 == history.steps[-1]
    last = dict(history.model(-1).named_parameters())
    final = files.load_file(folder / "nanda.safetensors", "checkpoint")[0]
    assert all(torch.equal(value, final[name]) for name, value in last.items())
    first = dict(history.model(0).named_parameters())
    fresh = dict(ls.models.build("nanda", seed=0, **PLAIN.config).named_parameters())
    assert all(torch.equal(value, fresh[name]) for name, value in first.items())


def test_the_folder_and_the_file_tell_the_same(folder):
    one, other = load_history(folder), load_history(folder / "nanda.history.safetensors")
    assert one.lines == other.lines and one.checkpoints == other.checkpoints and one.task == other.task
    assert len(list((folder / WEIGHTS).glob("*.safetensors"))) == len(one.checkpoints) <= 6


def test_every_look_is_what_the_kept_model_gives(folder):
    history = load_history(folder)
    for step in history.checkpoints:
        model = history.model(step)
        for name in history.sets:
            seen = scores(model, history.task, history.task.full_batch(name))
            at = history.steps.index(step)
            assert history.accuracy(name)[at].tolist() == pytest.approx(seen["accuracy"])
            assert history.loss(name)[at].tolist() == pytest.approx(seen["loss"])


def test_states_have_a_step_axis_besides_the_iteration(folder):
    history = load_history(folder)
    tokens = history.task.full_batch("test").tokens
    records = history.record(tokens, sites=["core.0.attn.hook_pattern"], steps=history.checkpoints[:3])
    states = records.states
    assert states.axes == ("step", "iteration", "batch", "position", "width")
    assert states.shape == (3, 3, len(tokens), 3, 16)
    step = records.steps[1]
    assert torch.equal(states[step], ls.record(history.model(step), tokens).states.tensor)
    assert torch.equal(states[step, 2], records[step].states[2])
    assert records.site("core.0.attn.hook_pattern").axes[:3] == ("step", "iteration", "batch")
    with pytest.raises(ls.LoopscopeError, match="Present: "):
        states[step + 1]


def test_looks_come_after_a_share_of_the_steps_and_sooner_where_something_changes():
    schedule = Schedule(growth=1.5, finest=2, coarsest=100, change=0.1)
    assert schedule.next_look([]) == 0 and schedule.next_look([line(0, 0)]) == 2
    assert schedule.next_look([line(30, 0.0), line(40, 0.0)]) == 60
    assert schedule.next_look([line(30, 0.0), line(40, 0.5)]) == 45  # a quarter of the gap
    assert schedule.next_look([line(1000, 0.0), line(2000, 0.0)]) == 2100


def test_checkpoints_are_log_spaced_and_dense_where_accuracy_changes():
    schedule = Schedule(checkpoints=12)
    flat = [line(step, 0.0) for step in range(0, 2000, 10)]
    kept = schedule.checkpoint_steps(flat)
    ratios = [(b + 10) / (a + 10) for a, b in zip(kept[:-2], kept[1:-1], strict=True)]
    assert len(kept) <= 13 and max(ratios) / min(ratios) < 2.6
    jump = [line(step, float(step > 1000)) for step in range(0, 2000, 10)]
    kept = schedule.checkpoint_steps(jump)
    assert 1000 in kept or any(900 <= step <= 1000 for step in kept)
    assert any(1000 < step <= 1020 for step in kept)


def test_what_cannot_be_had_is_said(folder, tmp_path):
    history = load_history(folder)
    with pytest.raises(ls.LoopscopeError, match="weights were kept"):
        history.model(3)
    with pytest.raises(ls.LoopscopeError, match="no set of examples called 'tset'"):
        history.loss("tset")
    with pytest.raises(ls.LoopscopeError, match="must hold a training that keeps a history"):
        load_history(tmp_path)
    with pytest.raises(ls.LoopscopeError, match="universal-prefix-parity' is none of them"):
        load_history("universal-prefix-parity")
    with pytest.raises(ls.LoopscopeError, match="must hold a history"):
        load_history(folder / "nanda.safetensors")
