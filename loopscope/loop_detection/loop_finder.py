"""Loops: which parts of a module run again and again on what they gave before, and how `wrap` is
told so.

    found = ls.find_loops(module, tokens)
    print(found)                               # in sentences, with the call of `wrap` for each loop

A part is in a loop if its calls come round, if each works on what an earlier one gave, and if most
parameters that run in a round are the same in every round. One forward pass is looked at, through
the calls of modules and the tensor operations.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..adapters import is_known
from ..common.errors import LoopscopeError
from ..common.result import Verdict
from ..core.sites import modules_of
from .call_trace import traced
from .repetition_search import Round, Rounds, Search

ONLY_CALLS = (
    "Only calls of modules are seen: a loop over weights that are used directly, without calling their "
    "module, is not, nor one whose number of iterations was 1 for this example."
)


class Sharing(Verdict):
    """How the iterations of a loop come to have the same parameters."""

    SAME_MODULE = "The same module is called again."
    SEVERAL_NAMES = "One module is registered under several names."
    SHARED_STORAGE = "Different modules share the storage of their parameters."


@dataclass(frozen=True)
class Loop:
    """A part of a module that runs again and again."""

    body: tuple[str, ...]
    """Names of the modules called one after another in an iteration, in the order of their calls.
    Of modules that share their parameters, the first."""
    times: int
    """Iterations, for a loop in a loop those in one iteration around it. The most, if it is not
    always as many."""
    fewest: int
    """The fewest; `times` if it is always as many."""
    streams: int
    """How many inputs the loop is applied to one apart from another; 1 unless a module loops over
    several inputs."""
    period: int
    """After how many iterations what is computed between them comes again: 1 if it is always alike.
    If more, one part may serve several roles, as the network of a tiny recursive model does."""
    sharing: Sharing
    names: tuple[str, ...]
    """Every name of the body's modules, also of those that share their parameters."""
    parameters: int
    """Parameters of the body, each counted once."""
    share: float
    """The fraction of the whole module's parameters outside embeddings that is in the body,
    0..1."""
    inner: dict[str, str]
    """Names for the loops in an iteration and the module whose calls they count, as `wrap` takes
    them."""
    loops: tuple["Loop", ...]
    """The loops in an iteration."""
    suggestion: str
    """The call of `wrap` that gives this loop an iteration axis; empty if no call of `wrap` can."""

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self, inside: bool = False) -> Iterator[str]:
        each = "In each iteration " if inside else ""
        count = _number(self.times) if self.times == self.fewest else f"{self.fewest} to {self.times} times"
        runs = "runs" if len(self.body) == 1 else "run one after another,"
        yield f"{each}{', '.join(self.body)} {runs} {count}. {self.sharing}"
        if len(self.names) > len(self.body):
            yield f"  Names of the same parameters: {_some(self.names)}."
        yield f"  It holds {self.parameters:,} parameters, {self.share:.0%} of those outside embeddings."
        if self.streams > 1:
            yield (
                f"  It is applied to {self.streams} inputs one apart from another; wrap counts the "
                "iterations of all."
            )
        if self.period > 1:
            yield (
                f"  What is computed between its calls differs, and comes again every {self.period} calls: "
                "the part may serve several roles in turn. Calls don't tell roles; only an adapter that "
                "knows the model does."
            )
        for loop in self.loops:
            for line in loop._lines(inside=True):
                yield f"  {line}"
        if not inside:
            told = "No call of wrap can name this loop: its last part runs several times in an iteration."
            yield f"  {self.suggestion or told}"


@dataclass(frozen=True)
class Loops:
    """What `find_loops` found. False if there is no loop."""

    kind: str
    """The class of the module."""
    loops: tuple[Loop, ...]
    """Those that stand in no other, in the order of their first calls."""
    passed_over: tuple[str, ...]
    """What ran more than once and is no loop, with the reason: a sentence each."""
    known: bool = False
    """Whether `wrap` knows the module's family, and needs no body."""

    def __bool__(self) -> bool:
        return bool(self.loops)

    def __len__(self) -> int:
        return len(self.loops)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if self.loops:
            yield f"{self.kind}: {len(self.loops)} {'loop' if len(self.loops) == 1 else 'loops'} found."
        elif self.passed_over:
            yield f"{self.kind}: no loop found. Nothing that ran more than once is a loop."
        else:
            yield f"{self.kind}: no loop found. Every part with parameters that ran, ran once."
        yield from (str(loop) for loop in self.loops)
        if self.known:
            yield f"{self.kind} is of a known family: ls.wrap(model) alone gives it the four functions too."
        if self.passed_over:
            yield "No loops:" if self.loops else "What ran more than once:"
            yield from (f"  {sentence}" for sentence in self.passed_over)
        if not self.loops:
            yield ONLY_CALLS


def find_loops(module: nn.Module, example: Any = None, **inputs: Any) -> Loops:
    """Run a module once and tell which of its parts loop, and how to `wrap` them.

    The pass runs without gradients, in the mode the module is in. Random generators, buffers and
    hooks are left as they were.

    A loop's body holds at least 1 % of the parameters outside embeddings, and at least three
    quarters of those that run in an iteration. Each iteration works on what an earlier one gave: a
    part that is applied to several inputs is no loop.

    Arguments:
        module: any PyTorch module.
        example: what its forward takes first, such as tokens of shape (batch, position); None to
            pass only `inputs`.
        inputs: further arguments by name.

    Raises:
        LoopscopeError: `module` is no module. What the module itself raises is passed on.
    """
    if not isinstance(module, nn.Module):
        raise LoopscopeError(
            f"find_loops needs a torch.nn.Module, but got {type(module).__name__}. Pass the model itself."
        )
    root, operations = traced(module, () if example is None else (example,), inputs)
    search = Search(module, operations)
    names = _Names(module)
    total = search.weight([module])
    result, refused = search.rounds(root, total)
    loops = tuple(_loop(rounds, names, search, total) for rounds in result)
    sentences = tuple(dict.fromkeys(reason.format(names.of(part)) for part, reason in refused))
    return Loops(type(module).__name__, loops, sentences, known=is_known(module))


class _Names:
    """The names of a module's parts. One part can have several."""

    def __init__(self, module: nn.Module) -> None:
        self.parts = modules_of(module)
        self.all: dict[nn.Module, list[str]] = {}
        for name, part in self.parts.items():
            self.all.setdefault(part, []).append(name)

    def of(self, part: nn.Module) -> str:
        return self.all[part][0]

    def listed(self, parts: list[nn.Module]) -> list[str]:
        """Names for these modules in this order: that of a list, where they are all that it
        holds."""
        for name, part in self.parts.items():
            if isinstance(part, nn.ModuleList) and len(parts) > 1 and list(part) == parts:
                return [name]
        return [self.of(part) for part in parts]


def _loop(rounds: Rounds, names: _Names, search: Search, total: int) -> Loop:
    parts = rounds.parts
    body = tuple(dict.fromkeys(names.of(part.modules[0]) for part in parts))
    modules = [module for part in parts for module in part.modules]
    every = [
        name for part in parts for alias in search.alike(part.modules[0]) for name in names.all.get(alias, [])
    ]
    if any(len(part.modules) > 1 for part in parts):
        sharing = Sharing.SHARED_STORAGE
    elif any(len(names.all[module]) > 1 for module in modules):
        sharing = Sharing.SEVERAL_NAMES
    else:
        sharing = Sharing.SAME_MODULE
    loops = tuple(_loop(inner, names, search, total) for inner in rounds.inner)
    inner = _inner(rounds, names)
    return Loop(
        body=body,
        times=rounds.times,
        fewest=rounds.fewest,
        streams=rounds.streams,
        period=rounds.period,
        sharing=sharing,
        names=tuple(dict.fromkeys(every)),
        parameters=search.count(modules),
        share=search.weight(modules) / total if total else 0.0,
        inner=inner,
        loops=loops,
        suggestion=_suggestion(parts, inner, names),
    )


def _inner(rounds: Rounds, names: _Names) -> dict[str, str]:
    """A name for each loop in an iteration. `wrap` counts the calls of one module, so what has
    several is left out."""
    counted = [loop.parts[-1].modules[0] for loop in rounds.inner if len(loop.parts[-1].modules) == 1]
    if len(counted) == 1:
        return {"low": names.of(counted[0])}
    named: dict[str, str] = {}
    for part in counted:
        words = [word for word in names.of(part).split(".") if not word.isdigit()]
        word = words[-1] if words else "inner"
        axis, number = word, 1
        while axis in named:
            number += 1
            axis = f"{word}_{number}"
        named[axis] = names.of(part)
    return named


def _suggestion(parts: list[Round], inner: dict[str, str], names: _Names) -> str:
    # An iteration begins with its first part and ends with its last, so each has to run once in it,
    # but for an inner loop that opens it. What opens it with the state and more side by side, such
    # as an adapter, takes no state to record.
    while parts and parts[-1].again:
        parts = parts[:-1]
    while len(parts) > 1 and (
        (parts[0].again and names.of(parts[0].modules[0]) not in inner.values())
        or (parts[-1].gives and not parts[0].takes & parts[-1].gives)
    ):
        parts = parts[1:]
    if not parts:
        return ""
    if any(len(part.modules) > 1 for part in parts):
        parts = parts[-1:]  # wrap takes modules that share their parameters for an iteration each
    body = names.listed(list(dict.fromkeys(module for part in parts for module in part.modules)))
    named = repr(body[0]) if len(body) == 1 else repr(body)
    text = f"ls.wrap(model, body={named}" + (f", inner={inner!r})" if inner else ")")
    return text.replace("'", '"')


def _number(times: int) -> str:
    return {1: "once", 2: "twice"}.get(times, f"{times} times")


def _some(names: tuple[str, ...], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" ... ({len(names)} in all)" if len(names) > most else "")
