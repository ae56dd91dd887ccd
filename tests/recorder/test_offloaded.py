"""A model whose weights accelerate keeps elsewhere gives what it gives with them at hand, and has
them where they were afterwards."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import loopscope as ls
from loopscope.core.turns import parts_of, turn
from loopscope.dynamics.iteration_map import IterationMap
from tests.toys.looped_gpt2 import LoopedGPT2
from tests.toys.small_models import hrm_text

TOKENS = torch.randint(1, 20, (2, 5), generator=torch.Generator().manual_seed(0))


def first_state_of_its_own() -> Any:
    """A model that holds its first state itself, outside the parts that are loaded for a call."""
    model = hrm_text()
    with torch.no_grad():
        model.model.z_L_init.normal_()
    return model


KINDS = {
    "adapter": (first_state_of_its_own, ls.wrap),
    "body": (lambda: LoopedGPT2("injection"), lambda module: ls.wrap(module, body="block")),
}


@pytest.fixture(scope="module", params=["adapter", "body"])
def made(request, tmp_path_factory):
    import accelerate

    torch.manual_seed(0)
    make, wrap = KINDS[request.param]
    module = make().eval()
    cpu, disk, mapped = (copy.deepcopy(module) for _ in range(3))
    accelerate.cpu_offload(cpu, execution_device=torch.device("cpu"), offload_buffers=True)
    accelerate.disk_offload(disk, tmp_path_factory.mktemp("weights"), execution_device=torch.device("cpu"))
    parts = [*mapped.named_children(), *mapped.named_parameters(recurse=False)]
    places = {name: "cpu" for name, _ in parts}
    accelerate.dispatch_model(mapped, places, main_device="cpu", force_hooks=True)
    return SimpleNamespace(
        plain=wrap(module), wrap=wrap, ways={"cpu": cpu, "disk": disk, "device map": mapped}
    )


def answers(run: Any) -> list[torch.Tensor]:
    return list(run.output.values()) if isinstance(run.output, dict) else [run.output]


WAYS = pytest.mark.parametrize("way", ["cpu", "disk", "device map"])


def away(module: torch.nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.is_meta]


@WAYS
def test_everything_is_bitwise_what_it_is_with_the_weights_at_hand(made, way):
    module = made.ways[way]
    before, wrapped = away(module), made.wrap(module)
    assert bool(before) == (way != "device map")
    edit = ls.ablate("state", iteration=2, position=-1)
    one, other = (ls.record(model, TOKENS, sites="all") for model in (made.plain, wrapped))
    assert one.names == other.names
    assert all(torch.equal(*logits) for logits in zip(*map(answers, (one, other)), strict=True))
    for name in one.names:
        values = [run[name].tensor if hasattr(run[name], "tensor") else run[name] for run in (one, other)]
        assert torch.equal(*(value.nan_to_num() for value in values)), name
    assert torch.equal(one.logits[1], other.logits[1])
    edited = [ls.record(model, TOKENS, edits=edit).states[-1] for model in (made.plain, wrapped)]
    assert torch.equal(*edited) and not torch.equal(edited[0], one.states[-1])
    longer = [ls.resume(m, run, run.iterations + 2) for m, run in ((made.plain, one), (wrapped, other))]
    assert torch.equal(longer[0].states[-1], longer[1].states[-1])
    entropies = [ls.lens(run).entropy() for run in (one, other)]
    assert torch.equal(*entropies)
    assert away(module) == before, "a pass that is left before its end leaves weights loaded"


@WAYS
def test_the_map_of_an_iteration_is_the_same_in_the_same_precision(made, way):
    module = made.ways[way]
    before = away(module)
    maps = [IterationMap(ls.record(model, TOKENS)) for model in (made.plain, made.wrap(module))]
    starts, images = zip(*((loop.starts, loop(loop.starts).detach()) for loop in maps), strict=True)
    assert maps[0].double and maps[1].double
    assert torch.equal(*starts) and torch.equal(*images)
    assert away(module) == before


def test_weights_are_put_away_after_an_error_too(made):
    module = made.ways["cpu"]
    wrapped, before = made.wrap(module), away(module)
    inner = [part for part in module.modules() if isinstance(part, torch.nn.Linear)][-1]
    handle = inner.register_forward_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("broken")))
    with pytest.raises(RuntimeError, match="broken"):
        ls.record(wrapped, TOKENS)
    handle.remove()
    assert away(module) == before


def test_weights_that_the_caller_has_loaded_stay_loaded(made):
    from accelerate.utils import align_module_device

    module = made.ways["cpu"]
    part = next(part for part in module.modules() if isinstance(part, torch.nn.Linear))
    with align_module_device(part):
        with turn(parts_of(module)):
            pass
        assert not any(parameter.is_meta for parameter in part.parameters(recurse=False))
