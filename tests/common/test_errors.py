"""Bad input gets a sentence: what must hold, what came, what to do. And nothing is lost."""

import json

import pytest
import torch
from safetensors.torch import save_file

import loopscope as ls

from ..toys.full_disk import largest_file

BITS = torch.tensor([[2, 0, 1, 1]])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return ls.models.build("universal", vocabulary=3, width=8, heads=2, layers=(0, 2, 0)).eval()


@pytest.fixture
def tokens():
    return torch.randint(0, 3, (2, 5), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "make, text",
    [
        (
            lambda t: t.float(),
            r"needs integer tokens \(int64\), but got torch.float32\. Use tokens.long\(\)",
        ),
        (
            lambda t: t[0],
            r"needs tokens of the shape \(batch, position\) .* but got \(5,\)\. Add the missing axis",
        ),
        (lambda t: t[:, :0], r"with at least one position, but got \(2, 0\)"),
        (lambda t: t + 9, r"this model needs tokens in 0\.\.2, but they reach from 9 to 11"),
        (lambda t: t - 9, r"but they reach from -9 to -7"),
    ],
)
def test_tokens_of_wrong_shape_type_or_range(model, tokens, make, text):
    for call in (model, lambda t: ls.record(model, t)):
        with pytest.raises(ls.LoopscopeError, match=text):
            call(make(tokens))


def test_a_model_itself_takes_a_tensor_alone(model, tokens):
    with pytest.raises(ls.LoopscopeError, match=r"needs its tokens as a Tensor of integers .* got a list"):
        model(tokens.tolist())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_every_type_of_integer_is_a_token(model, tokens, dtype):
    assert torch.equal(model(tokens.to(dtype)), model(tokens))
    parity = ls.tasks.prefix_parity()
    assert torch.equal(parity.solve(BITS.to(dtype)), parity.solve(BITS))


@pytest.mark.parametrize(
    "options, text",
    [
        (
            {"sites": ["core.0.attn.hook_patern"]},
            r"no site 'core.0.attn.hook_patern' .* Did you mean .*core.0.attn.hook_pattern",
        ),
        ({"sites": "core.7.*"}, r"there is no site 'core.7.\*'"),
        ({"sites": [3]}, r"sites must be a string, a sequence of strings or a function, but is \[3\]"),
        ({"iterations": -1}, r"iterations must be a whole number, 0 or more \(or None\), but is -1"),
        ({"iterations": 2.5}, r"but is 2.5"),
        ({"iterations": True}, r"but is True"),
        ({"mask": 1}, r"takes tokens alone, but \['mask'\] were passed too"),
        (
            {"edits": ["state"]},
            r"made by patch, ablate, add, steer, freeze, skip, repeat, swap, halt_at or bias_halting, "
            r"but is \['state'\]",
        ),
        ({"edits": [ls.skip(6)]}, r"skip iteration 6: the iteration must lie in 0..5 for this run"),
        (
            {"edits": [ls.patch(iteration=7, value=0.0)]},
            r"patch of 'state' at iteration=7: the iteration must lie in 0..6",
        ),
        ({"edits": [ls.ablate("core_in", iteration=6)]}, r"zero of 'core_in' at iteration=6: .* lie in 0..5"),
        ({"edits": [ls.ablate("core_inn")]}, r"no site 'core_inn' in this model\. Did you mean .*core_in"),
        ({"edits": [ls.ablate("core_in", head=0)]}, r"this site has no axis 'head'"),
        (
            {"edits": [ls.ablate("core_in", position=5)]},
            r"zero of 'core_in' at position=5: the site has the shape \(2, 5, 8\), .* there is no position 5",
        ),
        (
            {"edits": [ls.patch(iteration=2, value=torch.zeros(2, 4, 8))]},
            r"patch of 'state' at iteration=2: the value must have the site's shape \(2, 5, 8\) "
            r"or fit the selected part \(2, 5, 8\), but has \(2, 4, 8\)",
        ),
        (
            {"edits": [ls.patch(iteration=2, value=torch.zeros(3), position=1)]},
            r"patch of 'state' at iteration=2, position=1: .* fit the selected part \(2, 8\), but has \(3,\)",
        ),
        (
            {"edits": [ls.patch(iteration=2, value=(torch.zeros(2), torch.zeros(2)))]},
            r"1 tensor\(s\) .*, but the value has 2",
        ),
    ],
)
def test_a_recording_that_cannot_be(model, tokens, options, text):
    options = {"iterations": 6} | options
    with pytest.raises(ls.LoopscopeError, match=text):
        ls.record(model, tokens, **options)
    assert not any(module._forward_hooks for module in model.modules()), "nothing stays attached"


def test_what_was_not_recorded(model, tokens):
    run = ls.record(model, tokens, iterations=6, sites=["core_in"])
    with pytest.raises(ls.LoopscopeError, match=r"'core.1.hook_resid_post' was not recorded in this run"):
        run["core.1.hook_resid_post"]
    with pytest.raises(
        ls.LoopscopeIndexError, match=r"iteration 40 was requested, but this run has 0..6\. Record more"
    ):
        run.states[40]
    with pytest.raises(
        ls.LoopscopeIndexError, match=r"'core_in' at iteration 6 was requested, but this run has 0..5"
    ):
        run["core_in"][6]
    with pytest.raises(ls.LoopscopeIndexError, match="iteration 7 was requested"):
        run.logits[7]
    with pytest.raises(ls.LoopscopeError, match=r"must be 6 or more to resume from state 6, but is 4"):
        ls.resume(model, run, 4)


def test_a_mean_over_one_example_is_refused(model, tokens):
    with pytest.raises(ls.LoopscopeError, match="needs two examples or more, but there is one"):
        ls.record(model, tokens[:1], edits=[ls.ablate("core_in", how="mean")])


@pytest.mark.parametrize(
    "site, iteration", [("core.0.mlp.hook_post", 3), ("core.1.attn.hook_z", 0), ("core_in", 5)]
)
def test_nan_states_say_where_they_began_and_the_run_is_kept(model, tokens, site, iteration):
    spoil = ls.patch(site, iteration=iteration, value=float("nan"), batch=0)
    with pytest.warns(
        ls.LoopscopeWarning, match=rf"'{site}' holds NaN or infinity from iteration {iteration} on"
    ):
        run = ls.record(model, tokens, iterations=6, sites="all", edits=[spoil])
    assert run.first_nonfinite() == (site, iteration)
    assert torch.isfinite(run.states[: iteration + 1].tensor).all()
    with pytest.raises(
        ls.LoopscopeError,
        match=rf"must be finite, but '{site}' holds NaN or infinity from iteration {iteration}",
    ):
        run.require_finite()


def test_nan_states_alone_say_which_state_was_the_first(model, tokens):
    with pytest.warns(ls.LoopscopeWarning):
        run = ls.record(
            model, tokens, iterations=6, edits=[ls.patch("core_in", iteration=2, value=float("inf"))]
        )
    assert run.first_nonfinite() == ("state", 3)


def test_weights_that_changed_after_the_recording_are_noticed(model, tokens):
    run = ls.record(model, tokens, iterations=6)
    with torch.no_grad():
        model.unembed.bias.add_(1)
    assert torch.equal(run.logits[-1], run.output), "what was recorded stays"
    with pytest.raises(
        ls.LoopscopeError, match="the model's weights were changed after this run was recorded"
    ):
        run.logits[3]


def test_a_loaded_run_without_its_model_keeps_its_numbers_and_says_what_it_lacks(model, tokens, tmp_path):
    run = ls.record(model, tokens, iterations=6)
    again = ls.load_run(run.save(tmp_path / "run.safetensors"))
    assert torch.equal(again.states[3], run.states[3]) and torch.equal(again.logits[-1], run.output)
    with pytest.raises(ls.LoopscopeError, match=r"knows no model.* ls.load_run\(path, model=model\)"):
        again.logits[3]


def test_a_truncated_file(model, tokens, tmp_path):
    path = ls.record(model, tokens).save(tmp_path / "run.safetensors")
    whole = path.read_bytes()
    for size in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(
            ls.LoopscopeError, match="must be a whole safetensors file, but can't be read as one"
        ):
            ls.load_run(path)


@pytest.mark.parametrize(
    "metadata, text",
    [
        (None, "that loopscope did not write"),
        ({"format": "pt"}, "that loopscope did not write"),
        ({"loopscope": "{not json"}, "header of .* must be JSON"),
        ({"loopscope": json.dumps({"kind": "checkpoint"})}, "must hold a run, but holds a 'checkpoint'"),
    ],
)
def test_a_foreign_file(tmp_path, metadata, text):
    save_file({"x": torch.zeros(3)}, tmp_path / "x.safetensors", metadata=metadata)
    with pytest.raises(ls.LoopscopeError, match=text):
        ls.load_run(tmp_path / "x.safetensors")


def test_a_run_file_that_lost_its_parts(tmp_path):
    save_file(
        {"x": torch.zeros(3)}, tmp_path / "x.safetensors", metadata={"loopscope": json.dumps({"kind": "run"})}
    )
    with pytest.raises(ls.LoopscopeError, match="must hold what loopscope wrote, but 'iterations' "):
        ls.load_run(tmp_path / "x.safetensors")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ls.LoopscopeError, match="must be a file, but there is none"):
        ls.load_run(tmp_path / "nothing.safetensors")


def test_a_full_disk_while_saving_loses_neither_the_run_nor_the_file_that_was_there(tmp_path):
    """A limit on the size of files stands in for the full disk: the operating system refuses the
    write half-way."""
    model, tokens = ls.models.build("universal", vocabulary=3, width=64), torch.zeros(8, 16, dtype=torch.long)
    path = ls.record(model, tokens, iterations=2).save(tmp_path / "run.safetensors")
    before, run = path.read_bytes(), ls.record(model, tokens, iterations=40)
    with largest_file(100_000), pytest.raises(ls.LoopscopeError, match="could not be written") as error:
        run.save(path)
    assert "What was there before is untouched" in str(error.value)
    assert path.read_bytes() == before
    run.save(path)
    assert torch.equal(ls.load_run(path).states[40], run.states[40])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.safetensors"], "no half file stays"


def test_a_folder_that_cannot_be_written(model, tokens, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ls.LoopscopeError, match="could not be written"):
        ls.record(model, tokens).save(tmp_path / "file" / "run.safetensors")


def test_an_unknown_configuration():
    for field, value in (("norm", "prenorm"), ("injection", "cat"), ("position", "rope"), ("halting", "acc")):
        with pytest.raises(ls.LoopscopeError, match=f"{field}.* must .* but is '{value}'"):
            ls.models.build("universal", **{field: value})
    with pytest.raises(ls.LoopscopeError, match="width must be a multiple of heads, but 10 is not one of 4"):
        ls.models.build("universal", width=10)
