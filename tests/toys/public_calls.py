"""A working call of every public function of loopscope: the law of bad input changes one argument
after the other."""

import inspect
import shutil
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch

import loopscope as ls
from loopscope.common import discovery
from loopscope.core.looped_model import Looped
from loopscope.lenses import chain_matrix
from loopscope.shelves import SHELVES, new
from loopscope.shelves.new import TEMPLATES

from .family_doubles import OuroConfig, OuroForCausalLM
from .finding_calls import finding_calls
from .looped_gpt2 import LoopedGPT2
from .text_tokenizers import bytes_tokenizer, looped_gpt2


@dataclass(frozen=True)
class Call:
    """A function with arguments that work."""

    name: str
    function: Callable[..., Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    further: tuple[str, ...] = ()
    """Names of arguments that its **keywords take."""
    functions: tuple[str, ...] = (
        "map", "function", "metric", "kind", "lens", "replacement", "sites", "site", "module",
        "on_token",
    )  # fmt: skip
    """Names of arguments that take a function of the user's."""

    fixed: tuple[str, ...] = ()
    """Names of arguments that go to the user's own code, whose errors are the user's."""

    @property
    def parameters(self) -> list[str]:
        """The arguments that can be changed."""
        signature = inspect.signature(self.function).parameters.values()
        several = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        names = [p.name for p in signature if p.kind not in several] + list(self.further)
        return [name for name in names if name not in self.fixed]


@cache
def model(halting: str = "none") -> Any:
    """A small Universal Transformer with a task."""
    task = ls.tasks.prefix_parity(length=8)
    options = {"width": 8, "heads": 2, "iterations": 4, "halting": halting}
    built = ls.models.build("universal", vocabulary=task.vocabulary, **options)
    built.task = task
    return built.eval()


@cache
def run() -> ls.Run:
    """A run of it."""
    return ls.record(model(), model().task.batch(24, seed=0).tokens, 4, sites="core.0.attn.hook_z")


@cache
def other() -> ls.Run:
    """A run of other examples."""
    return ls.record(model(), model().task.batch(24, seed=1).tokens, 4)


@cache
def probes() -> ls.Probes:
    """Probes on the run."""
    return ls.Probes.fit(run(), run().tokens % 2, folds=2, controls=0)


def _half(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x


def _core() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh())


def _iterated(**arguments: Any) -> torch.Tensor:
    """What is judged only when the states of a module wrapped by its body are read out."""
    read = ls.record(ls.wrap(**arguments), torch.arange(10).reshape(2, 5))
    return ls.lens(ls.resume(ls.wrap(**arguments), read, 5)).logits(2)


_iterated.__signature__ = inspect.signature(ls.wrap)  # pyright: ignore[reportFunctionMemberAccess]


STATE = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(2, 6)
MATRIX = torch.linspace(-1, 1, 64, dtype=torch.float64).reshape(16, 4).sin()
CURVE = torch.linspace(0, 1, 12, dtype=torch.float64)
PATTERN = torch.softmax(MATRIX[:4, :4], -1)
LOGITS = torch.linspace(0, 9, 27, dtype=torch.float64).reshape(3, 3, 3).cos()


def calls() -> Iterator[Call]:
    """Every public function with arguments that work. Files are written into the working folder."""
    tokens = run().tokens
    yield Call("record", ls.record, {"model": model(), "tokens": tokens, "iterations": 2}, ("mask",))
    yield Call(
        "record_many", _recorded_many, {"model": model(), "batches": [tokens[:4], tokens[4:6]], "to": "many"}
    )
    yield Call("record to disk", _recorded_to_disk, {"model": model(), "tokens": tokens, "to": "run"})
    looped, tokenizer = ls.wrap(looped_gpt2(), body="transformer.h.0"), bytes_tokenizer()
    yield Call("record text", ls.record, {"model": looped, "tokens": "A loop", "tokenizer": tokenizer})
    yield Call("generate text", ls.generate, {"model": looped, "tokens": ["A loop"], "tokenizer": tokenizer})
    yield Call("resume", ls.resume, {"model": model(), "run": run(), "iterations": 5})
    yield Call(
        "iterate", ls.iterate, {"function": _half, "initial": STATE, "iterations": 3}, ("seed", "keep")
    )
    yield Call("wrap", ls.wrap, {"module": _core(), "body": "0"})
    yield Call("wrap, repeated", ls.wrap, {"module": _core(), "body": "0", "repeat": 2, "update": "damped"})
    yield Call("wrap, in order", ls.wrap, {"module": _core(), "body": "0", "order": [0, 0]})
    read_out = {"head": "head", "norm": "norm", "count": "num_steps"}
    axes = ["batch", "position", "width"]
    yield Call(
        "wrap.body", _iterated, {"module": LoopedGPT2().eval(), "body": "block", "axes": axes} | read_out
    )
    yield Call(
        "find_loops", ls.find_loops, {"module": _core(), "example": torch.ones(2, 8)}, fixed=("example",)
    )
    yield Call("check", ls.check, {"model": _core(), "tokens": torch.ones(2, 3, 8), "body": "0"})
    yield Call("check text", ls.check, {"model": looped, "tokens": "A loop", "tokenizer": tokenizer})
    yield Call("generate", ls.generate, {"model": ls.wrap(_core(), body="0"), "tokens": tokens})
    yield Call("from_pretrained", ls.from_pretrained, {"name": "no-such-folder"})
    yield Call("answer", ls.answer, {"model": model(), "tokens": tokens, "rule": "kl"})
    yield Call("lens", ls.lens, {"run": run()})
    yield Call("lenses.chain_matrix", chain_matrix, {"run": _chained()})
    yield Call("effects", ls.effects, {"run": run(), "replacement": other(), "positions": [0]})
    yield Call("mediation", ls.mediation, {"run": run(), "edited": _edited()})
    yield Call("noise", ls.noise, {"norm": 1.0})
    yield Call("report", ls.report, {"subject": run(), "analyses": []})
    yield Call("load_run", ls.load_run, {"path": run().save("run.safetensors")})
    yield Call("load_probes", ls.load_probes, {"path": probes().save("probes.safetensors")})
    yield Call("load_history", ls.load_history, {"source": "grokking-modular"})
    yield from _edits()
    yield from _methods()
    yield from _shelves()
    yield from _maths()


def _recorded_to_disk(model: Any, tokens: Any, to: Any) -> ls.Run:
    """`ls.record` to disk, with the folder removed again."""
    result = ls.record(model, tokens, 2, to=to)
    if to is not None:
        shutil.rmtree(to)
    return result


def _recorded_many(model: Any, batches: Any, to: Any, iterations: Any = 2, seed: Any = None) -> torch.Tensor:
    """The states of `ls.record_many`, with the folder removed again."""
    try:
        return ls.record_many(model, batches, to=to, iterations=iterations, seed=seed).states.tensor.clone()
    finally:
        shutil.rmtree("many", ignore_errors=True)


def _edited() -> ls.Run:
    return ls.record(model(), run().tokens, 4, edits=[ls.ablate("core.0.attn.hook_z", head=0)])


def _chained() -> ls.Run:
    task = ls.tasks.modular_chain(modulus=5, operations=3)
    built = ls.models.build("universal", vocabulary=task.vocabulary, width=8, heads=2, iterations=3).eval()
    built.task = task
    return ls.record(built, task.batch(24, seed=0, exactly=3).tokens)


def _two_states() -> ls.Run:
    task = ls.tasks.prefix_parity(length=8)
    options = {"width": 8, "heads": 2, "layers": 1, "low_updates": 2, "cycles": 2, "segments": 2, "length": 9}
    built = ls.models.build("trm", vocabulary=task.vocabulary, **options).eval()
    built.task = task
    return ls.record(built, run().tokens)


def _edits() -> Iterator[Call]:
    """Edits are made and recorded: some of what they say can be judged only there."""

    def recorded(make: Callable[..., Any], halting: str = "none") -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            return ls.record(model(halting), run().tokens, 4, edits=[make(**arguments)])

        call.__signature__ = inspect.signature(make)  # pyright: ignore[reportFunctionMemberAccess]
        return call

    where = ("position", "batch")
    value = torch.ones(8)
    yield Call("patch", recorded(ls.patch), {"value": value, "iteration": 2}, where)
    yield Call("add", recorded(ls.add), {"value": value, "iteration": 2}, where)
    yield Call("steer", recorded(ls.steer), {"direction": value, "norm": 2.0, "iteration": 2}, where)
    yield Call("ablate", recorded(ls.ablate), {"site": "core.0.attn.hook_z"}, (*where, "head"))
    yield Call("freeze", recorded(ls.freeze), {"iteration": 1}, where)
    yield Call("skip", recorded(ls.skip), {"iteration": 1})
    yield Call("skip at positions", recorded(ls.skip), {"iteration": 1, "position": 0}, where)
    yield Call("repeat", recorded(ls.repeat), {"iteration": 1, "times": 2})
    yield Call("swap", recorded(ls.swap), {"first": 1, "second": 2})
    yield Call("halt_at", recorded(ls.halt_at, "accumulated"), {"iteration": 1}, where)
    yield Call("bias_halting", recorded(ls.bias_halting, "accumulated"), {"value": 0.5}, where)
    for name in ("every", "last", "positions", "reduce"):
        kept = {"every": {"stride": 2}, "last": {"count": 2}, "positions": {"where": 0}}
        make = getattr(ls.keep, name)
        yield Call(f"keep.{name}", recorded_with(make), kept.get(name, {"function": torch.abs}))
    yield Call("keep.to", recorded_with(ls.keep.to), {"device": "cpu", "dtype": torch.float16})


def recorded_with(make: Callable[..., Any]) -> Callable[..., Any]:
    """A function that records with `keep=make(...)`."""

    def call(**arguments: Any) -> Any:
        return ls.record(model(), run().tokens, 4, keep=make(**arguments))

    call.__signature__ = inspect.signature(make)  # pyright: ignore[reportFunctionMemberAccess]
    return call


def _methods() -> Iterator[Call]:
    states, lens = run().states, ls.TunedLens.fit(run(), steps=2, positions="all", check=False)
    yield Call("Run.__getitem__", lambda site: run()[site], {"site": "state"})
    yield Call("Run.state", run().state, {"k": 1})
    yield Call("Run.select_inputs", run().select_inputs, {"rows": [0]})
    yield Call("Run.cache", run().cache, {"iteration": 1})
    yield Call("Run.save", run().save, {"path": "run again.safetensors"})
    yield Call("Generation.save", _generation().save, {"path": "generation.safetensors"})
    yield Call("Generation.at", _generation().at, {"token": 0})
    yield Call("measure a generation", ls.analyses.measure, {"name": "geometry", "run": _generation()})
    yield Call("Run.logits", lambda index: run().logits[index], {"index": 1})
    yield Call("States.__getitem__", lambda index: states[index], {"index": 1})
    yield Call("States.iteration_at", states.iteration_at, {"index": 1})
    yield Call("States.at", states.at, {}, ("position", "batch", "width"))
    yield Call(
        "Probes.fit", ls.Probes.fit, {"run": run(), "labels": run().tokens % 2, "folds": 2, "controls": 0}
    )
    yield Call("Probes.transfer", probes().transfer, {"run": other(), "labels": other().tokens % 2})
    page = ls.report(run(), [])
    yield Call("Report.save", page.save, {"path": "page.html"})
    result = ls.analyses.measure("convergence", run())
    yield Call("result.to_pandas", result.to_pandas, {"field": "state.step"})
    yield Call("Probes.save", probes().save, {"path": "probes again.safetensors"})
    yield Call("Probes.figure", probes().figure, {"site": "state"})
    yield Call(
        "TunedLens.fit", ls.TunedLens.fit, {"runs": run(), "steps": 2, "positions": "all", "check": False}
    )
    yield Call("TunedLens.require", lens.require, {"run": run()})
    yield Call("TunedLens.save", lens.save, {"path": "lens.safetensors"})
    yield Call("TunedLens.load", ls.TunedLens.load, {"path": lens.save("lens.safetensors")})


@cache
def _generation() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        wrapped = ls.wrap(OuroForCausalLM(OuroConfig(hidden_size=8)).eval())
        return ls.generate(wrapped, torch.tensor([[1, 2], [3, 4]]), max_new_tokens=2)


def _copied(name: str, folder: Any, rename: str | None) -> Any:
    """`ls.models.copy`, with the copy removed again."""
    copy = ls.models.copy(name, folder, rename)
    copy.unlink()
    return copy


def _used(thing: Any) -> list[str]:
    """`ls.use`, with what it placed removed again."""
    before = {kind: dict(shelf.placed) for kind, shelf in SHELVES.items()}
    try:
        return ls.use(thing)
    finally:
        for kind, shelf in SHELVES.items():
            shelf.placed.clear()
            shelf.placed.update(before[kind])


def _written(kind: Any, name: Any, folder: Any) -> int:
    """`loopscope.shelves.new`, with the files removed again; how many they were."""
    files = new(kind, name, folder)
    for file in files:
        file.unlink()
    return len(files)


def _shelves() -> Iterator[Call]:
    halting = ls.record(model("accumulated"), run().tokens, 4)
    known = {
        "grokking": {"run": ls.load_history("grokking-modular")},
        "halting": {"run": halting},
        "halting_prediction": {"run": halting},
        "roles": {"run": _two_states()},
    }
    for name in ls.analyses.names():
        measure = discovery.module("analyses", name).measure

        def call(analysis: str = name, **arguments: Any) -> Any:
            return ls.analyses.measure(analysis, **arguments)

        call.__signature__ = inspect.signature(measure)  # pyright: ignore[reportFunctionMemberAccess]
        yield Call(f"analyses.{name}", call, known.get(name, {"run": run()}))
    yield Call("analyses.measure", ls.analyses.measure, {"name": "convergence", "run": run()})
    yield Call("analyses.price", ls.analyses.price, {"name": "convergence", "run": run()})
    for name in ls.models.names():
        fields = inspect.signature(discovery.module("models", name).Config).parameters

        def build(architecture: str = name, **config: Any) -> Looped:
            return ls.models.build(architecture, **config)

        yield Call(f"models.build {name}", build, {}, tuple(fields))
    yield Call("models.build", ls.models.build, {"architecture": "recall"})
    yield Call("models.load", ls.models.load, {"entry": "recall-plain"})
    yield Call("models.card", ls.models.card, {"entry": "recall-plain"})
    yield Call("models.header", ls.models.header, {"entry": "recall-plain"})
    yield Call("models.parameters", ls.models.parameters, {"entry": "recall-plain"})
    yield Call("models.path", ls.models.path, {"entry": "recall-plain"})
    yield Call("models.copy", _copied, {"name": "recall", "folder": ".", "rename": "my_recall"})
    for name, function, arguments, fixed in finding_calls():
        yield Call(name, function, arguments, fixed=fixed)
    for name in ls.tasks.names():
        task = ls.tasks.build(name)

        def options(task_name: str = name, **values: Any) -> Any:
            return ls.tasks.build(task_name, **values).batch(2, seed=0)

        yield Call(f"tasks.build {name}", options, {}, tuple(task.options))
        yield Call(f"tasks.{name}.batch", task.batch, {"size": 2, "seed": 0}, tuple(task.options))
        yield Call(f"tasks.{name}.label", task.label, {"tokens": task.batch(2, seed=0).tokens})
        yield Call(f"tasks.{name}.results", task.results, {"tokens": task.batch(2, seed=0).tokens})
    yield Call("tasks.build", ls.tasks.build, {"name": "hops"})
    yield Call("use", _used, {"thing": TEMPLATES / "my_task.py"})
    yield Call("shelves.new", _written, {"kind": "task", "name": "largest", "folder": "."})
    yield Call("LoopedModule.save", model().save, {"path": "model.safetensors", "name": "a"})


def _maths() -> Iterator[Call]:
    known: dict[str, dict[str, Any]] = {
        "causal": {"length": 4},
        **dict.fromkeys(("concentration", "mixing", "received"), {"pattern": PATTERN}),
        "residual_entropy": {"states": MATRIX},
        "sink_rate": {"pattern": PATTERN[None]},
        "slope": {"x": CURVE, "y": CURVE, "group": torch.arange(12), "draws": 10},
        "crossing": {"steps": CURVE, "values": CURVE, "level": 0.5},
        "transitions": {"steps": CURVE, "values": CURVE},
        "kappa": {"first": torch.arange(4) % 2, "second": torch.arange(4) % 2},
        "contraction": {"distance": [2.0**-k for k in range(9)], "floor": 1e-9},
        **dict.fromkeys(("effective_rank", "participation_ratio"), {"x": MATRIX}),
        "solve": {"map": _half, "start": STATE},
        **dict.fromkeys(
            ("along_sums", "excluded_loss", "restricted_loss"), {"logits": LOGITS, "frequencies": [1]}
        ),
        "gini": {"values": CURVE},
        "key_frequencies": {"logits": LOGITS},
        "power": {"values": LOGITS},
        "jacobian": {"map": _half, "state": STATE},
        "jvp": {"map": _half, "state": STATE, "tangent": STATE},
        "vjp": {"map": _half, "state": STATE, "cotangent": STATE},
        "backward_gain": {"map": _half, "state": STATE, "iterations": 2},
        **dict.fromkeys(
            ("exponents", "lyapunov"), {"map": _half, "state": STATE, "iterations": 5, "transient": 1}
        ),
        "period": {"states": MATRIX[:, None]},
        "cluster": {"points": MATRIX, "distance": 0.1},
        "recurrence": {"states": MATRIX},
        "sensitivity": {"map": lambda x, y: 0.5 * x + y, "state": STATE[0], "inputs": STATE[0]},
        "cka": {"x": MATRIX, "y": MATRIX},
        **dict.fromkeys(("cka_map", "cosine_map", "distance_map"), {"values": LOGITS}),
        "singular_value": {"map": _half, "state": STATE},
        "mode": {"differences": MATRIX, "floor": 1e-9},
        **dict.fromkeys(("eigenvalues", "spectrum"), {"map": _half, "state": STATE, "count": 2}),
        "spectral_radius": {"map": _half, "state": STATE},
        "limits": {"states": MATRIX[:, None]},
        "stream": {"chunks": [MATRIX[:, None]]},
    }
    known["excluded_loss"] = known["excluded_loss"] | {"train": torch.ones(3, 3, dtype=torch.bool)}
    for name in public_functions(ls.maths):
        yield Call(f"maths.{name}", getattr(ls.maths, name), known[name])
    for name in ("get_rule", "model_rule", "names", "rule_halting"):
        arguments: dict[str, dict[str, Any]] = {
            "get_rule": {"model": model(), "rule": "kl"}, "model_rule": {"model": model()},
            "rule_halting": {"run": run(), "rule": "kl"},
        }  # fmt: skip
        yield Call(f"rules.{name}", getattr(ls.rules, name), arguments.get(name, {}))


def public_functions(module: types.ModuleType) -> list[str]:
    """The functions that a module of loopscope offers."""
    names = {name for name in dir(module) if name[0] != "_"} - {"lazy_names"}
    values = {name: getattr(module, name) for name in sorted(names)}
    offered = [name for name, value in values.items() if inspect.isfunction(value)]
    return [name for name in offered if values[name].__module__.startswith("loopscope")]
