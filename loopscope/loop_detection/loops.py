"""What `find_loops` returns: the loops of a module, in sentences, with the call of `wrap` for
each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..common.verdict import Verdict

ONLY_CALLS = (
    "Only calls of modules are traced. A loop that uses weights directly, without calling their module, "
    "isn't detected, nor one that ran a single iteration for this example."
)


class Sharing(Verdict):
    """How the iterations of a loop share their parameters."""

    SAME_MODULE = "The same module is called again."
    SEVERAL_NAMES = "One module is registered under several names."
    SHARED_STORAGE = "Different modules share the storage of their parameters."


@dataclass(frozen=True)
class Loop:
    """A part of a module that runs repeatedly, each time on its own earlier result."""

    body: tuple[str, ...]
    """Names of the modules called in an iteration, in the order of their calls. Of modules that
    share their parameters, the first."""
    times: int
    """The number of iterations; for an inner loop, in one iteration of the outer loop. The largest,
    if the number varies."""
    fewest: int
    """The smallest number of iterations; equal to `times` if the number doesn't vary."""
    streams: int
    """The number of inputs that the loop is applied to independently; mostly 1."""
    period: int
    """The period, in iterations, of the operations between calls: 1 if they are all equal. If it is
    larger, one part may serve several roles, as the network of a tiny recursive model does."""
    sharing: Sharing
    names: tuple[str, ...]
    """Every name of the body's modules, also of those that share their parameters."""
    parameters: int
    """Parameters of the body, each counted once."""
    share: float
    """The fraction of the module's parameters outside embeddings that is in the body, 0..1."""
    inner: dict[str, str]
    """For each loop in an iteration a name, and the module whose calls count its iterations; `wrap`
    accepts this."""
    loops: tuple["Loop", ...]
    """The loops in an iteration."""
    wrapped_body: tuple[str, ...]
    """The body that `wrap` takes; empty if no call of `wrap` can name this loop."""
    suggestion: str
    """The call of `wrap` that gives this loop an iteration axis, with all that it takes to; empty
    if none can."""

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
                f"  It is applied to {self.streams} inputs independently; wrap counts the iterations of all."
            )
        if self.period > 1:
            yield (
                f"  The operations between its calls differ, and repeat every {self.period} calls: the part "
                "may serve several roles in turn. Calls don't tell the roles apart; only an adapter for this "
                "model can."
            )
        for loop in self.loops:
            for line in loop._lines(inside=True):
                yield f"  {line}"
        if not inside:
            reason = "No call of wrap can name this loop: its last part runs several times in an iteration."
            yield f"  {self.suggestion or reason}"


@dataclass(frozen=True)
class Loops:
    """The result of `find_loops`. False if there is no loop."""

    kind: str
    """The class of the module."""
    loops: tuple[Loop, ...]
    """The outermost loops, in the order of their first calls."""
    rejected: tuple[str, ...]
    """The parts that ran more than once and are no loops: a sentence with the reason for each."""
    has_adapter: bool = False
    """Whether there is an adapter for the module's family, so that `wrap` needs no body."""

    def __bool__(self) -> bool:
        return bool(self.loops)

    def __len__(self) -> int:
        return len(self.loops)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if self.loops:
            yield f"{self.kind}: {len(self.loops)} {'loop' if len(self.loops) == 1 else 'loops'} found."
        elif self.rejected:
            yield f"{self.kind}: no loop found. Nothing that ran more than once is a loop."
        else:
            yield f"{self.kind}: no loop found. Every part with parameters that ran, ran once."
        yield from (str(loop) for loop in self.loops)
        if self.has_adapter:
            yield f"There is an adapter for {self.kind}: ls.wrap(model) alone gives it the four functions."
        if self.rejected:
            yield "No loops:" if self.loops else "What ran more than once:"
            yield from (f"  {sentence}" for sentence in self.rejected)
        if not self.loops:
            yield ONLY_CALLS


def wrap_call(body: Sequence[str], options: Mapping[str, Any]) -> str:
    """The call of `wrap` with this body, as code."""
    values = {"body": body[0] if len(body) == 1 else list(body)} | dict(options)
    words = [f"{name}={value!r}" for name, value in values.items() if value is not None]
    return f"ls.wrap(model, {', '.join(words)})".replace("'", '"')


def _number(times: int) -> str:
    return {1: "once", 2: "twice"}.get(times, f"{times} times")


def _some(names: tuple[str, ...], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" ... ({len(names)} in all)" if len(names) > most else "")
