"""Copies and pickles, for joblib and multiprocessing: values travel, and a model is found by its
name."""

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import loopscope as ls
from loopscope.common.to_json import to_json
from loopscope.core.states import States

from ..toys.moody_loop import MoodyLoop, tokens
from ..toys.small_models import hrm_text

COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def flat(value: Any, depth: int = 0) -> Any:
    """What a value holds, comparable by ==, without the readers of runs."""
    if isinstance(value, Tensor):
        return (value.dtype, tuple(value.shape), value.detach().double().nan_to_num(-1.5).flatten().tolist())
    if isinstance(value, States):
        return (value.name, value.axes, value.iteration_range, [(k, flat(v)) for k, v in value.items()])
    if isinstance(value, ls.runs.Run):
        parts = (value.tokens, value.inputs, value.output, value.origin, value.halting)
        return [flat(part) for part in parts] + [flat(value[name]) for name in value.names]
    if isinstance(value, dict):
        return {str(key): flat(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [flat(one) for one in value]
    if hasattr(value, "__dict__") and type(value).__module__.startswith("loopscope") and depth < 6:
        return (
            type(value).__name__,
            {k: flat(v, depth + 1) for k, v in vars(value).items() if k != "_reader"},
        )
    return value if isinstance(value, str | int | float | bool | None) else repr(type(value))


@pytest.fixture(scope="module")
def run() -> ls.Run:
    model = ls.models.load("universal-prefix-parity")
    return ls.record(
        model, model.task.batch(12, seed=0).tokens, iterations=6, sites=["core.0.hook_resid_post"]
    )


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_a_run_of_the_zoo_computes_the_same(run, how):
    again = COPIES[how](run)
    assert flat(again) == flat(run) and again.origin is not run.origin
    assert torch.equal(again.logits[3], run.logits[3])
    assert torch.equal(
        ls.resume(again.model, again, 9).states.tensor, ls.resume(run.model, run, 9).states.tensor
    )
    assert to_json(ls.analyses.measure("convergence", again)) == to_json(
        ls.analyses.measure("convergence", run)
    )
    twice = COPIES[how](again)
    assert torch.equal(twice.logits[2], run.logits[2])


@pytest.mark.parametrize("how", COPIES)
def test_a_run_of_another_model_keeps_it_in_this_process_alone(how):
    run = ls.record(MoodyLoop().eval(), tokens(), seed=0)
    again = COPIES[how](run)
    assert flat(again) == flat(run) and again.has_model == (how != "pickle")
    if how == "pickle":
        with pytest.raises(ls.LoopscopeError, match="came from another process .* ls.load_run"):
            again.logits[2]
    else:
        assert torch.equal(again.logits[2], run.logits[2]) and again.model is run.model


def test_a_pickled_run_does_not_find_a_model_whose_weights_were_others():
    model = ls.models.load("universal-prefix-parity")
    with torch.no_grad():
        next(model.parameters()).mul_(1.5)
    run = ls.record(model, model.task.batch(4, seed=0).tokens, iterations=2)
    with pytest.raises(ls.LoopscopeError, match="must have the weights of this run's recording"):
        COPIES["pickle"](run).logits[1]
    edited = ls.record(model, run.tokens, iterations=2, edits=[ls.ablate("state", iteration=1)])
    with pytest.raises(ls.LoopscopeError, match="has edits|weights"):
        COPIES["pickle"](edited).logits[1]


@pytest.mark.parametrize("how", ["copy", "deepcopy", "pickle"])
def test_what_is_written_to_a_deep_copy_or_a_pickle_changes_nothing(run, how):
    again, kept = COPIES[how](run), run.states[2].clone()
    if how == "copy":
        again.origin["note"] = 1
        assert "note" not in run.origin
        return
    again.states[2].zero_()
    again.tokens.zero_()
    assert torch.equal(run.states[2], kept) and bool(run.tokens.any())


@pytest.mark.parametrize("how", COPIES)
def test_a_run_with_gradients_can_be_copied(how):
    run = ls.record(MoodyLoop().eval(), tokens(), grad=True)
    again = COPIES[how](run)
    assert flat(again) == flat(run)
    assert again.states[2].requires_grad == (how != "pickle")
    if how != "pickle":
        assert torch.autograd.grad(again.output.sum(), run.states[2])[0].any()


# What else users hold


def edits() -> dict[str, Any]:
    value = torch.ones(8)
    return {
        "patch": ls.patch("state", iteration=1, value=value),
        "ablate": ls.ablate("core", iteration=1),
        "add": ls.add(value=value, iteration=1),
        "freeze": ls.freeze("state", iteration=2),
        "skip": ls.skip(1),
        "repeat": ls.repeat(1, 2),
        "swap": ls.swap(1, 2),
        "halt_at": ls.halt_at(2),
        "noise": ls.noise(1.0),
    }


@pytest.mark.parametrize("how", ["pickle", "deepcopy"])
@pytest.mark.parametrize("name", edits())
def test_edits(name, how):
    edit = edits()[name]
    again = COPIES[how](edit)
    assert str(again) == str(edit)
    if name in ("patch", "ablate", "add", "freeze", "skip", "repeat", "swap"):
        model = MoodyLoop().eval()
        one, other = (ls.record(model, tokens(), edits=[each]).output for each in (edit, again))
        assert torch.equal(one, other)


@pytest.mark.parametrize("how", ["pickle", "deepcopy"])
def test_keeps_generations_lenses_readings_and_effects(run, how):
    torch.manual_seed(0)
    model = ls.wrap(hrm_text().eval())
    prompt = torch.tensor([[5, 6, 7]])
    held: list[Any] = [
        ls.generate(model, prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=2, do_sample=False),
        ls.lens(run, "coda"),
        ls.effects(run, "mean", iterations=[2], positions=[0]),
        ls.answer(run.model, run.tokens, iterations=2),
        ls.keep.every(2),
        run.states,
        run.logits,
        run.halting,
        ls.TunedLens("coda", {}, {}, ("Model", "0"), {}),
        ls.mediation(run, ls.record(run.model, run.tokens, iterations=6, edits=[ls.skip(2)])),
    ]
    for one in held:
        assert flat(COPIES[how](one)) == flat(one), type(one)


@pytest.mark.slow
@pytest.mark.parametrize("analysis", ls.analyses.names())
def test_the_result_of_every_analysis(run, analysis):
    try:
        result = ls.analyses.measure(analysis, run)
    except ls.LoopscopeError:  # of another kind of run
        return
    for how in ("pickle", "deepcopy"):
        again = COPIES[how](result)
        assert str(again) == str(result) and again.verdict is result.verdict
        assert to_json(again) == to_json(result)


@pytest.mark.slow
def test_another_process_measures_what_this_one_does(run, tmp_path):
    (tmp_path / "run.pickle").write_bytes(pickle.dumps(run))
    script = (
        "import pickle, sys, torch; torch.set_num_threads(1)\n"
        "run = pickle.load(open(sys.argv[1], 'rb')); print(run.logits[3].double().sum().item())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "run.pickle")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) == run.logits[3].double().sum().item()
