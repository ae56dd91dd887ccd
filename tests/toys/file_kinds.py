"""Each kind of file that loopscope writes, small, with what its loader makes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import loopscope as ls
from loopscope.common.files import save_file
from loopscope.core.states import States
from loopscope.lenses.translator import KLGain, Translator
from loopscope.training import AdamW, Fixed, Recipe, checkpoint
from loopscope.training.export import export

from .family_doubles import OuroConfig, OuroForCausalLM

CONFIG = {"vocabulary": 3, "width": 4, "heads": 2, "iterations": 2, "norm": "stream", "injection": "add"}
RECIPE = Recipe("universal", "prefix-parity", 3, Fixed(2), config=CONFIG, options={"length": 8}, batch=2)


@dataclass(frozen=True)
class FileKind:
    """A kind of file."""

    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    """What the loader gives, in a form that can be compared with `same`."""


def same(one: Any, other: Any) -> bool:
    """Whether two contents are equal, bit for bit."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        alike = one.dtype == other.dtype and one.shape == other.shape
        return alike and torch.equal(
            *(x.resolve_conj().contiguous().reshape(-1).view(torch.uint8) for x in (one, other))
        )
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return repr(one) == repr(other)


def site(value: Any) -> Any:
    """A site's content."""
    if not isinstance(value, States):
        return value
    return [value.axes, value.iteration_range, dict(value.items()), value.rows]


def write_run(path: Path) -> Any:
    start = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0))
    run = ls.iterate(torch.tanh, start, 3, seed=0)
    names = {"a": run.states, "a/1": run.states[::2], "": run.states[1], "tokens": run.states[2:]}
    run = run.with_sites({"state": run.states, **names})
    run.inputs.update(
        mask=torch.ones(2, 3, dtype=torch.bool), scale=0.5, more=[(1, None), {"k": torch.ones(2)}]
    )
    return run.save(path)


def read_run(path: Path) -> Any:
    run = ls.load_run(path)
    sites = {name: site(run[name]) for name in run.names}
    return [sites, run.tokens, run.inputs, run.output, run.iterations, run.origin, str(run)]


def write_generation(path: Path) -> Any:
    torch.manual_seed(0)
    model = ls.wrap(OuroForCausalLM(OuroConfig(total_ut_steps=2, hidden_size=8)).eval())
    return ls.generate(model, torch.tensor([[1, 2], [3, 4]]), max_new_tokens=2).save(path)


def read_generation(path: Path) -> Any:
    out = ls.load_run(path)
    passes = [[{name: site(run[name]) for name in run.names}, run.tokens, run.origin] for run in out]
    places = out.places if isinstance(out.tokens, Tensor) else None
    return [
        passes,
        out.tokens,
        out.output,
        out.prompt,
        str(out.keep),
        str(vars(places or out.keep)),
        str(out),
    ]


def write_history(path: Path) -> Any:
    curve = {"loss": [1.0, 0.5, float("nan")], "accuracy": [0.0, 0.5, 1.0]}
    lines = [{"step": step, "sets": {"train": curve, "test": curve}, "norm": 1.5} for step in (0, 5)]
    model = ls.models.build("universal", **CONFIG)
    weights = {f"{step}/{n}": v + step for step in (0, 5) for n, v in model.state_dict().items()}
    recipe = RECIPE.to_json()
    header = {
        "kind": "history",
        "entry": "tiny",
        "recipe": recipe,
        "config": recipe["config"],
        "lines": lines,
    }
    return save_file(path, weights, header)


def read_history(path: Path) -> Any:
    history = ls.load_history(path)
    curves = [history.accuracy(name) for name in history.sets] + [history.loss(name) for name in history.sets]
    weights = [dict(history.model(step).state_dict()) for step in history.checkpoints]
    return [history.recipe, history.lines, curves, history.norm, weights, str(history), history.task.options]


def _trained() -> tuple[Any, torch.optim.Optimizer]:
    model = ls.models.build("universal", **CONFIG)
    optimiser = AdamW(lr=0.01, warmup=1, decay=1).build(model.parameters())
    return model, optimiser


def write_checkpoint(path: Path) -> Any:
    model, optimiser = _trained()
    tokens = torch.zeros((1, 2), dtype=torch.long)
    model(tokens).square().sum().backward()
    optimiser.step()
    average = {"unembed.weight": torch.ones(2)}
    settings = RECIPE.to_json()
    checkpoint.save(path.parent, model, optimiser, settings, step=1, average=average, carry=[torch.ones(3)])
    return (path.parent / checkpoint.FILE).rename(path)


def read_checkpoint(path: Path) -> Any:
    model, optimiser = _trained()
    average = {"unembed.weight": torch.zeros(2)}
    path.replace(path.parent / checkpoint.FILE)
    header, carry = checkpoint.load(path.parent, model, optimiser, RECIPE.to_json(), average=average)
    return [dict(model.state_dict()), optimiser.state_dict()["state"], average, header, carry]


def write_probes(path: Path) -> Any:
    start = torch.randn(40, 2, 3, generator=torch.Generator().manual_seed(1))
    run = ls.iterate(torch.tanh, start, 1)
    return ls.Probes.fit(run, start[:, 0, 0] > 0, random=False).save(path)


def read_probes(path: Path) -> Any:
    probes = ls.load_probes(path)
    return [vars(probes), str(probes)]


def write_lens(path: Path) -> Any:
    numbers = [torch.arange(3.0) + i for i in range(5)]
    translator = Translator(
        (0, 1, 2), torch.randn(3, 4, 4), torch.randn(3, 4), torch.tensor([True, False, True])
    )
    training = {
        "shared": False,
        "seed": 0,
        "decay": 1e-3,
        "steps": 5,
        "positions": "all",
        "held": 2,
        "examples": 9,
    }
    gain = KLGain((0, 1, 2), *numbers)
    return ls.TunedLens("coda", {"a/b": translator}, {"a/b": gain}, ("Tiny", "00ff"), training).save(path)


def read_lens(path: Path) -> Any:
    lens = ls.TunedLens.load(path)
    places = [{name: vars(one) for name, one in parts.items()} for parts in (lens.translators, lens.kl)]
    return [lens.read, *places, lens.model, lens.training, str(lens)]


def write_entry(path: Path) -> Any:
    model = ls.models.build("universal", **CONFIG)
    model.task = ls.tasks.build("prefix-parity", length=8)
    return export(path, model, "tiny", RECIPE, step=3, seconds={"seconds": 1.0, "processor_seconds": 1.0})


def read_entry(path: Path) -> Any:
    model = ls.models.load(path)
    header = ls.models.header(path)
    return [
        dict(model.state_dict()),
        model.name,
        getattr(model.task, "options", None),
        header,
        ls.models.parameters(path),
    ]


KINDS = {
    "run": FileKind(write_run, read_run),
    "generation": FileKind(write_generation, read_generation),
    "history": FileKind(write_history, read_history),
    "checkpoint": FileKind(write_checkpoint, read_checkpoint),
    "probes": FileKind(write_probes, read_probes),
    "tuned lens": FileKind(write_lens, read_lens),
    "entry": FileKind(write_entry, read_entry),
}
