"""A loop as the search finds it: the modules of an iteration, and the loops inside it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import nn

from .call_trace import Call, Shape


@dataclass(frozen=True)
class BodyPart:
    """One part of a loop's body."""

    modules: list[nn.Module]
    """The modules that are this part in some iteration; more than one if they share their
    parameters."""
    repeated: bool
    """Whether it runs several times in an iteration."""
    input_shapes: set[Shape]
    output_shapes: set[Shape]


@dataclass(frozen=True)
class LoopCandidate:
    """A loop; its fields are those of `Loop`."""

    parts: list[BodyPart]
    times: int
    fewest: int
    streams: int
    period: int
    inner: list["LoopCandidate"]

    @property
    def modules(self) -> list[nn.Module]:
        """The modules of its body."""
        return [module for part in self.parts for module in part.modules]

    def with_times(self, times: list[int]) -> "LoopCandidate":
        """The same loop with the largest and smallest of these numbers of iterations."""
        return replace(self, times=max(times), fewest=min(times))


def body_part(calls: list[Call], repeated: bool) -> BodyPart:
    """The part that these calls are, one or more in each iteration."""
    input_shapes = {shape for call in calls for shape in call.input_shapes}
    output_shapes = {shape for call in calls for shape in call.output_shapes}
    return BodyPart(distinct(call.module for call in calls), repeated, input_shapes, output_shapes)


def merged(loops: list[LoopCandidate]) -> list[LoopCandidate]:
    """Loops over the same modules as one, with its fewest and most iterations."""
    result: list[LoopCandidate] = []
    for loop in loops:
        same = next((i for i, other in enumerate(result) if other.modules == loop.modules), None)
        if same is None:
            result.append(loop)
        else:
            other = result[same]
            longest = max(other, loop, key=lambda each: each.times)
            result[same] = longest.with_times([other.times, other.fewest, loop.times, loop.fewest])
    return result


def distinct(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """Each module once, in order of first appearance."""
    return list(dict.fromkeys(modules))
