"""On a device other than the CPU everything gives what it gives on the CPU: on a GPU where there is
one, and on a second device whose numbers are computed on the CPU, which shows where tensors of two
devices meet."""

import copy
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import loopscope as ls
from loopscope.core.states import States
from loopscope.dynamics.iteration_map import IterationMap
from loopscope.maths import precision
from tests.toys.looped_gpt2 import LoopedGPT2
from tests.toys.second_device import NEEDS_SECOND_DEVICE, SecondDevice
from tests.toys.small_models import hrm_text

GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]
DEVICES = [
    pytest.param("second", marks=[NEEDS_SECOND_DEVICE, pytest.mark.slow]),
    pytest.param("second without 64 bits", marks=NEEDS_SECOND_DEVICE),
    pytest.param("cuda", marks=GPU),
]
SITE = "core.0.hook_resid_post"


@pytest.fixture(scope="module", params=DEVICES)
def device(request) -> Iterator[torch.device]:
    if request.param == "cuda":
        yield torch.device("cuda")
        return
    wide = request.param == "second"
    with pytest.MonkeyPatch.context() as patch, SecondDevice(float64=wide) as second:
        patch.setattr(precision, "WITHOUT_64_BITS", set() if wide else {second.type})
        yield second


@pytest.fixture(scope="module")
def made(device):
    torch.manual_seed(0)
    here = ls.models.build("universal", vocabulary=5, width=8, heads=2).eval()
    tokens = torch.randint(0, 5, (6, 5), generator=torch.Generator().manual_seed(0))
    there = copy.deepcopy(here).to(device)
    pair = [(here, tokens), (there, tokens.to(device))]
    runs = [ls.record(model, ids, 4, sites=[SITE, "core.0.attn.hook_pattern"]) for model, ids in pair]
    return SimpleNamespace(pair=pair, runs=runs, there=there, tokens=pair[1][1])


def close(one: Any, other: Any) -> bool:
    one, other = (x.tensor if isinstance(x, States) else x for x in (one, other))
    return torch.allclose(one.detach().cpu(), other.detach().cpu(), rtol=1e-4, atol=1e-5)


def is_on(value: Tensor, device: torch.device) -> bool:
    return value.device.type == device.type


def test_states_sites_and_logits(made, device):
    here, there = made.runs
    assert is_on(there.states[2], device) and is_on(there.logits[2], device)
    assert all(close(here[name], there[name]) for name in here.names)
    assert close(here.output, there.output) and close(here.logits[2], there.logits[2])
    assert there.states.to_xarray().shape == tuple(here.states.shape)


def test_values_of_edits_move_to_their_site(made):
    donor = made.runs[0].states[3]  # on the CPU, for both
    edits = [
        ls.patch("state", iteration=1, value=donor[:, 0], position=0),
        ls.add("state", value=torch.ones(8, dtype=torch.float64), iteration=2, position=[1, 2]),
        ls.steer(torch.arange(8.0), norm=2.0, iteration=2),
        ls.ablate("core.0.attn.hook_z", iteration=1, head=0),
        ls.freeze("state", iteration=3, position=-1),
    ]
    one, other = (ls.record(model, tokens, 4, edits=edits) for model, tokens in made.pair)
    assert close(one.states, other.states) and not close(one.states, made.runs[0].states)


def test_resume_and_lenses(made):
    longer = [ls.resume(run.model, run, 6, start=2) for run in made.runs]
    assert close(longer[0].states, longer[1].states)
    for lens, sites in (("coda", "state"), ("logit", SITE)):
        one, other = (ls.lens(run, lens, sites=sites, check=lens == "coda") for run in made.runs)
        assert close(one.entropy(), other.entropy())


def test_states_kept_on_the_cpu_go_back_where_they_are_needed(made, device):
    whole, kept = made.runs[1], ls.record(
        made.there, made.tokens, 4, sites=[SITE], keep=ls.keep.to(device="cpu")
    )  # fmt: skip
    assert is_on(kept.states[2], torch.device("cpu")) and type(kept.states[2]) is Tensor
    assert torch.equal(kept.states.tensor, whole.states.tensor.cpu())
    assert is_on(kept.logits[2], device)
    assert torch.equal(kept.logits[2].cpu(), whole.logits[2].cpu())
    assert is_on(kept.state(2), device)
    later = [ls.resume(made.there, run, 6).states.tensor for run in (kept, whole)]
    assert torch.equal(later[0], later[1].cpu()) and is_on(later[1], device)
    for sites in ("state", SITE):
        lens = "coda" if sites == "state" else "logit"
        one, other = (ls.lens(run, lens, sites=sites, check=lens == "coda") for run in (kept, whole))
        assert torch.equal(one.entropy().cpu(), other.entropy().cpu())


def test_half_of_the_digits_on_the_cpu(made, device, tmp_path):
    half = ls.keep.to(device="cpu", dtype=torch.float16)
    kept = ls.record(made.there, made.tokens, 4, sites=[SITE], keep=half)
    assert torch.equal(kept.states.tensor, made.runs[1].states.tensor.cpu().half())
    assert is_on(kept.logits[2], device)
    assert torch.allclose(kept.logits[2].cpu(), made.runs[0].logits[2], atol=2e-2)
    kept.save(tmp_path / "run.safetensors")
    loaded = ls.load_run(tmp_path / "run.safetensors", model=made.there)
    assert torch.equal(loaded.logits[2].cpu(), kept.logits[2].cpu())
    assert ls.lens(kept).entropy().shape == ls.lens(loaded).entropy().shape
    with pytest.raises(ls.LoopscopeError, match="rounded to float16"):
        ls.resume(made.there, kept, 6)


def skip_without_gradients(device: torch.device) -> None:
    """The second device has no streams, which autograd asks for. What has no float64 is measured on
    the CPU, where it needs none."""
    if device.type == "privateuseone" and SecondDevice.widest:
        pytest.skip("the second device has no gradients")


def test_an_iterated_map_is_computed_in_double_precision(made, device):
    skip_without_gradients(device)
    one, other = (IterationMap(run) for run in made.runs)
    assert one.double and other.double
    x, y = (loop(loop.starts).detach() for loop in (one, other))
    assert x.dtype == y.dtype == torch.float64 and torch.allclose(x, y.cpu(), rtol=0, atol=1e-6)


def test_values_of_several_devices_are_stacked_on_the_first(device):
    values = {(0,): torch.ones(2, 3), (1,): torch.full((2, 3), 2.0).to(device)}
    states = States("state", values, ("iteration", "batch", "width"), 2)
    assert is_on(states.tensor, torch.device("cpu"))
    assert torch.equal(states.tensor.cpu()[1], values[(1,)].cpu())


def test_effects_and_probes(made):
    donors = [ls.record(model, tokens.flip(0), 4) for model, tokens in made.pair]
    grids = [
        ls.effects(run, donor, sites=["state"], iterations=[2], metric="kl")
        for run, donor in zip(made.runs, donors, strict=True)
    ]
    assert close(grids[0].values, grids[1].values)
    labels = (made.tokens.cpu() % 2)[:, 0]
    fits = [
        ls.Probes.fit(run, labels, positions=0, iterations=[2, 4], folds=2, controls=1, random=False)
        for run in made.runs
    ]
    assert close(fits[0].score, fits[1].score)


SLOW = pytest.mark.slow


@pytest.mark.parametrize("analysis", ["convergence", pytest.param("lens", marks=SLOW)])
def test_analyses(made, analysis):
    options = {"extra": 8} if analysis == "convergence" else {}
    one, other = (ls.analyses.measure(analysis, run, **options) for run in made.runs)
    assert one.verdict == other.verdict


@SLOW
@pytest.mark.parametrize("analysis", ["attention", "cycles", "geometry", "locality", "path_independence"])
def test_analyses_that_take_long(made, device, analysis):
    if analysis == "path_independence":
        skip_without_gradients(device)
    one, other = (ls.analyses.measure(analysis, run) for run in made.runs)
    assert one.verdict == other.verdict


@pytest.mark.parametrize("kind", [pytest.param("adapter", marks=SLOW), "body"])
def test_models_of_others(device, kind):
    torch.manual_seed(0)
    module = (hrm_text() if kind == "adapter" else LoopedGPT2("timing")).eval()
    tokens = torch.randint(1, 20, (2, 4), generator=torch.Generator().manual_seed(0))
    there = copy.deepcopy(module).to(device)
    wrap = ls.wrap if kind == "adapter" else (lambda one: ls.wrap(one, body="block"))
    one, other = ls.record(wrap(module), tokens), ls.record(wrap(there), tokens.to(device))
    assert is_on(other.states[1], device)
    assert close(one.states[1:], other.states[1:]) and close(one.logits[1], other.logits[1])


ON_A_GPU = pytest.mark.parametrize("device", [DEVICES[-1]], indirect=True)


@ON_A_GPU
@pytest.mark.parametrize("analysis", ["fixed_points", "stability", "path_independence", "attention"])
def test_analyses_with_gradients(made, analysis):
    one, other = (ls.analyses.measure(analysis, run) for run in made.runs)
    assert one.verdict == other.verdict


@ON_A_GPU
def test_a_trained_lens(device):
    torch.manual_seed(0)
    model = ls.models.build("universal", vocabulary=5, width=8, heads=2).eval().to(device)
    run = ls.record(model, torch.randint(0, 5, (16, 5), device=device), 4)
    lens = ls.TunedLens.fit(run, steps=4, positions="all", check=False)
    assert ls.lens(run, lens, check=False).entropy().isfinite().all()


@ON_A_GPU
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_generation_and_the_check_of_a_model(device, dtype):
    torch.manual_seed(0)
    module = hrm_text(eos_token_id=None).eval().to(device, dtype)
    wrapped, prompt = ls.wrap(module), torch.tensor([[1, 2, 3], [4, 5, 6]], device=device)
    half = ls.keep.to(device="cpu", dtype=torch.bfloat16)
    options = {"max_new_tokens": 3, "do_sample": False}
    out = ls.generate(wrapped, prompt, keep=half, **options)
    assert torch.equal(out.tokens, module.generate(prompt, **options))
    assert is_on(out.at(token=1).states[-1], torch.device("cpu"))
    assert ls.check(wrapped, prompt).passed
