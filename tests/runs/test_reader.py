"""What is computed from a run: as in its recording, or not at all."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import loopscope as ls
from loopscope.common.to_json import to_json
from loopscope.dynamics.iteration_map import IterationMap
from loopscope.lenses.translator import model_identity
from loopscope.recorder.extend import continue_run, states_past_halting
from loopscope.recorder.subset import select_examples

from ..toys.moody_loop import Config, MoodyLoop, tokens

Consumer = Callable[[ls.Run], Any]

CONSUMERS: dict[str, Consumer] = {
    "logits": lambda run: run.logits[2],
    "all logits": lambda run: run.logits.tensor,
    "coda lens": lambda run: ls.lens(run, "coda").logits(2),
    "logit lens": lambda run: ls.lens(run, "logit").logits(2),
    "resume": lambda run: ls.resume(run.model, run, 6).states.tensor,
    "resume from the middle": lambda run: ls.resume(run.model, run, 4, start=1).output,
    "continued": lambda run: continue_run(run, 3).states.tensor,
    "recorded again": lambda run: continue_run(run, 3, sites=["core"]).run["core"].tensor,
    "past halting": lambda run: states_past_halting(run, 6).tensor,
    "some examples": lambda run: select_examples(run, [4, 1]).logits[2],
    "map": lambda run: IterationMap(run, [0, 1]).starts,
    "one step": lambda run: next_state(IterationMap(run, double=False), run),
    "effects": lambda run: ls.effects(run, "zero", metric="kl").values,
    "effects inside": lambda run: ls.effects(run, "mean", sites="core", metric="kl").values,
    "attribution": lambda run: ls.effects(run, "mean", method="attribution", exact_cells=0).values,
    "a copy": lambda run: copy.deepcopy(run).logits[2],
    "the model": lambda run: run.model.core.weight.detach().clone(),
}
"""Everything that computes from a run by its model."""


def next_state(loop: IterationMap, run: ls.Run) -> Tensor:
    return loop(loop.at(1, run), 1).detach()


def made(**options: Any) -> MoodyLoop:
    return MoodyLoop(Config(**options)).eval()


def same(one: Any, other: Any) -> bool:
    return torch.equal(torch.as_tensor(one), torch.as_tensor(other)) and one.dtype == other.dtype


# Modes and settings


def half_training(model: nn.Module) -> None:
    model.get_submodule("coda").train()


MODES: dict[str, Callable[[MoodyLoop], Any]] = {
    "evaluation": lambda model: model.eval(),
    "training": lambda model: model.train(),
    "one part in training": lambda model: half_training(model.eval()),
}


@pytest.fixture(autouse=True)
def default_settings():
    yield
    torch.set_default_dtype(torch.float32)


def autocast(on: bool) -> Any:
    return torch.autocast("cpu", torch.bfloat16, enabled=on)


@pytest.mark.parametrize("name", CONSUMERS)
@pytest.mark.parametrize(
    ("recorded", "cast"), [("evaluation", True), ("training", False), ("one part in training", True)]
)
def test_what_is_computed_later_has_the_bits_of_what_is_computed_at_once(name, recorded, cast):
    consume, model = CONSUMERS[name], made()
    MODES[recorded](model)
    with autocast(cast):
        run = ls.record(model, tokens())
        modes = [module.training for module in model.modules()]
        at_once = consume(run)
    for later, change in MODES.items():
        for cast_later in (False, True):
            change(model)
            before = [module.training for module in model.modules()]
            with autocast(cast_later), torch.inference_mode(later == "training"):
                assert same(consume(run), at_once), (later, cast_later)
                assert torch.is_autocast_enabled("cpu") == cast_later
            assert [module.training for module in model.modules()] == before
    assert len(modes) == len(before)


def test_the_default_dtype_and_the_kinds_of_attention_are_those_of_the_recording():
    run = ls.record(made(), tokens())
    seen = []
    model = run.model
    model.unembed.register_forward_hook(
        lambda *_: seen.append((torch.get_default_dtype(), torch.backends.cuda.flash_sdp_enabled()))
    )
    torch.set_default_dtype(torch.float64)
    torch.backends.cuda.enable_flash_sdp(False)
    try:
        run.logits[2]
        assert seen == [(torch.float32, True)]
        assert (torch.get_default_dtype(), torch.backends.cuda.flash_sdp_enabled()) == (torch.float64, False)
    finally:
        torch.backends.cuda.enable_flash_sdp(True)


@pytest.mark.parametrize("grad", [False, True])
def test_gradients_are_those_of_the_recording_also_inside_inference_mode(grad):
    model, given = made(), tokens()
    with torch.inference_mode():
        run = ls.record(model, given, grad=grad)
        inside = run.logits[2]
    assert inside.requires_grad == run.logits[2].requires_grad == grad
    assert not run.states[2].is_inference()
    with torch.no_grad():
        assert run.logits[2].requires_grad == grad


# Random draws


WITHOUT_DRAWS = ("the model", "recorded again", "some examples", "map")
"""They compute nothing that the recording has drawn for, or draw by the recording's own seed."""


@pytest.mark.parametrize("name", [name for name in CONSUMERS if name not in WITHOUT_DRAWS])
def test_a_draw_of_the_recording_cannot_be_repeated_and_that_is_said(name):
    run = ls.record(made(dropout=0.5).train(), tokens(), seed=0)
    before = torch.get_rng_state()
    with pytest.raises(ls.LoopscopeError, match="draws random numbers"):
        CONSUMERS[name](run)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_says_which_draws_a_run_goes_on_with():
    model = made(dropout=0.5).train()
    run = ls.record(model, tokens(), seed=0)
    one, other = (ls.resume(model, run, 6, seed=3) for _ in range(2))
    assert torch.equal(one.states.tensor, other.states.tensor) and one.origin["seed"] == 3
    assert torch.equal(one.states[4], run.states[4])


# Weights


def in_place(model: MoodyLoop) -> None:
    with torch.no_grad():
        model.core.weight.add_(0.1)


def by_a_step(model: MoodyLoop) -> None:
    model(tokens()).sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1 * parameter.grad


def by_numpy(model: MoodyLoop) -> None:
    model.core.weight.detach().numpy()[0, 0] += 1


def by_data(model: MoodyLoop) -> None:
    model.unembed.bias.data[2] = 5.0


def by_other_data(model: MoodyLoop) -> None:
    model.core.weight.data = model.core.weight.data * 1.5


def same_numbers_elsewhere(model: MoodyLoop) -> None:
    model.core.weight = nn.Parameter(model.core.weight.detach().clone())


def gain_by_data(model: MoodyLoop) -> None:
    model.gain.data.mul_(2)


def table_in_place(model: MoodyLoop) -> None:
    model.table += 1


CHANGES: dict[str, Callable[[MoodyLoop], Any]] = {
    "in place": in_place,
    "a step of gradient descent": by_a_step,
    "NumPy": by_numpy,
    ".data in place": by_data,
    ".data replaced": by_other_data,
    "rows permuted by .data": lambda m: m.core.weight.data.copy_(m.core.weight.data.flip(0)),
    "another Parameter": lambda m: setattr(m, "core", nn.Linear(8, 8)),
    "an equal Parameter": same_numbers_elsewhere,
    "a Parameter more": lambda m: setattr(m, "more", nn.Parameter(torch.ones(1))),
    "a part more": lambda m: setattr(m, "more", nn.Linear(2, 2)),
    "a Parameter less": lambda m: m.core.register_parameter("bias", None),
    "load_state_dict": lambda m: m.load_state_dict(MoodyLoop(seed=1).state_dict()),
    "load_state_dict by assignment": lambda m: m.load_state_dict(MoodyLoop(seed=1).state_dict(), assign=True),
    "another dtype": lambda m: m.double(),
    "buffer in place": lambda m: m.gain.mul_(2),
    "buffer by .data": gain_by_data,
    "another buffer": lambda m: setattr(m, "gain", 2 * m.gain),
    "a buffer more": lambda m: m.register_buffer("more", torch.ones(1)),
    "a buffer less": lambda m: m.register_buffer("gain", None),
    "derived buffer in place": table_in_place,
}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_computed_once_the_weights_have_changed(change):
    model = made()
    run = ls.record(model, tokens())
    edited = ls.record(model, tokens(), edits=[ls.ablate("state", iteration=2)])
    CHANGES[change](model)
    consumers = CONSUMERS | {"mediation": lambda run: ls.mediation(run, edited)}
    for name, consume in consumers.items():
        if name == "continued":
            assert "weights were changed" in continue_run(run, 3).description
            continue
        with pytest.raises(ls.LoopscopeError, match="weights were changed"):
            consume(run)


def test_a_write_that_no_sample_sees_is_seen_before_a_run_goes_on(tmp_path):
    model = made(width=300)
    run = ls.record(model, tokens())
    run.save(tmp_path / "run.safetensors")
    flat = model.core.weight.data.view(-1)
    flat[300] += 1  # the sample has pieces of 256 numbers, from 0 and from 2,894 on
    with pytest.raises(ls.LoopscopeError, match="resume needs the model that made the run"):
        ls.resume(model, run, 6)
    with pytest.raises(ls.LoopscopeError, match="load_run needs"):
        ls.load_run(tmp_path / "run.safetensors", model)
    flat[300] -= 1


# Buffers that the model changes itself


def test_a_counter_in_the_model_is_no_change_and_the_run_keeps_its_value():
    model = made(counts=True)
    one = ls.record(model, tokens())
    two = ls.record(model, tokens())
    model(tokens())
    assert torch.equal(one.logits[4], one.output) and model.calls == 3
    assert torch.allclose(one.logits[2] + 1, two.logits[2])
    assert torch.equal(ls.resume(model, one, 4, start=0).output, one.output) and model.calls == 3


def test_the_statistics_of_a_batch_norm_stay_the_models_own():
    class Normed(MoodyLoop):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(8)

        def decode(self, state: Tensor, context: Tensor) -> Tensor:
            return self.unembed(self.norm(state.transpose(1, 2)).transpose(1, 2))

    model = Normed().train()
    run = ls.record(model, tokens())
    mean, expected = model.norm.running_mean, run.logits[2]
    kept = mean.clone()
    run.logits[1]
    assert model.norm.running_mean is mean and torch.equal(mean, kept)
    model(tokens(seed=3))
    assert not torch.equal(mean, kept) and torch.equal(run.logits[2], expected)
    quiet = ls.record(model.eval(), tokens())
    model.train()(tokens(seed=4))
    with pytest.raises(ls.LoopscopeError, match="'norm.running_mean' has changed"):
        quiet.logits[2]


def test_a_table_that_a_model_makes_anew_is_that_of_the_recording():
    model = made()
    run = ls.record(model, tokens())
    expected = run.logits[2]
    model.table = torch.full((1,), 0.5)
    model.register_buffer("longer", torch.ones(4), persistent=False)
    assert torch.equal(run.logits[2], expected)
    assert torch.equal(ls.resume(model, run, 4, start=0).states.tensor, run.states.tensor)
    assert float(model.table) == 0.5 and model.longer.sum() == 4


# Other models


def other_models() -> dict[str, Any]:
    renamed = type("Renamed", (MoodyLoop,), {})
    return {
        "weights": MoodyLoop(seed=1).eval(),
        "configuration": made(iterations=5),
        "architecture": renamed().eval(),
    }


@pytest.mark.parametrize("kind", ["weights", "configuration", "architecture"])
def test_another_model_is_refused(kind, tmp_path):
    run, other = ls.record(made(), tokens()), other_models()[kind]
    run.save(tmp_path / "run.safetensors")
    donor = ls.record(other, tokens(seed=1), iterations=4)
    with pytest.raises(ls.LoopscopeError, match="resume needs the model that made the run"):
        ls.resume(other, run, 6)
    with pytest.raises(ls.LoopscopeError, match="load_run needs as model= the model that made the run"):
        ls.load_run(tmp_path / "run.safetensors", model=other)
    with pytest.raises(ls.LoopscopeError, match="runs of one model"):
        ls.effects(run, donor)
    with pytest.raises(ls.LoopscopeError, match="runs of one model"):
        ls.mediation(run, donor)
    tuned = ls.TunedLens("coda", {}, {}, model_identity(run), {})
    if kind != "configuration":
        with pytest.raises(ls.LoopscopeError, match="fits only the weights"):
            ls.lens(ls.record(other, tokens()), tuned)


def test_an_equal_model_serves_and_under_the_conditions_of_the_recording(tmp_path):
    model = made()
    half_training(model)
    with autocast(True):
        run = ls.record(model, tokens())
    run.save(tmp_path / "run.safetensors")
    loaded = ls.load_run(tmp_path / "run.safetensors", model=made())
    assert same(loaded.logits[2], run.logits[2])
    assert same(ls.resume(made(), run, 6).states[6], ls.resume(model, run, 6).states[6])


def test_why_a_loaded_run_computes_nothing_is_said(tmp_path):
    model = made(dropout=0.5)
    ls.record(model, tokens(), edits=[ls.ablate("state", iteration=1)]).save(tmp_path / "edited.safetensors")
    ls.record(model, tokens()).save(tmp_path / "alone.safetensors")
    with pytest.raises(ls.LoopscopeError, match="has edits, whose values are not in its file"):
        ls.load_run(tmp_path / "edited.safetensors", model=model).logits[2]
    with pytest.raises(ls.LoopscopeError, match="knows no model"):
        ls.load_run(tmp_path / "alone.safetensors").logits[2]
    with pytest.raises(ls.LoopscopeError, match="but got a Linear"):
        ls.load_run(tmp_path / "alone.safetensors", model=nn.Linear(2, 2))


@pytest.mark.parametrize("analysis", ls.analyses.names())
def test_every_analysis_gives_what_it_gives_in_the_mode_of_the_recording(analysis):
    model = made()
    run = ls.record(model, tokens(), sites="all")
    expected = outcome(analysis, run)
    model.train()
    with autocast(True):
        assert outcome(analysis, run) == expected


def test_every_analysis_refuses_changed_weights_or_does_without_the_model():
    model = made()
    run = ls.record(model, tokens(), sites="all")
    expected = {analysis: outcome(analysis, run) for analysis in ls.analyses.names()}
    by_data(model)
    for analysis in ls.analyses.names():
        now = outcome(analysis, run)
        assert now == expected[analysis] or "weights were changed" in str(now), analysis


def test_probes_of_other_weights_are_tested_with_a_warning():
    one, other = (ls.record(MoodyLoop(seed=seed).eval(), tokens(40)) for seed in (0, 1))
    probes = ls.Probes.fit(one, one.tokens[:, 0] % 2, controls=1)
    probes.transfer(one, position=0)
    with pytest.warns(ls.LoopscopeWarning, match="fitted on the states of another model: the weights"):
        probes.transfer(other, position=0)


def outcome(analysis: str, run: ls.Run) -> Any:
    try:
        return to_json(ls.analyses.measure(analysis, run))
    except ls.LoopscopeError as error:
        return str(error)
