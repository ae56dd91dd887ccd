"""PartState: a state of several tensors, of which each is what one part of the body returned last.

In HRM an iteration calls one module several times, then another, and the next iteration reads what
both returned. No call receives these tensors as they are (the model adds them), so they are known
by who returned them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..common.errors import LoopscopeError
from ..core.hooks import TemporaryHooks
from ..core.sites import Path, find_tensor, get_at
from .body_state import BodyState, SeenPass
from .wiring import Feed, Wiring


class PartState(BodyState):
    """The state by the parts of the body that return it; the first one is the body's last."""

    received_again = False

    def __init__(self, parts: Mapping[str, str], body: Sequence[str]) -> None:
        """
        Arguments:
            parts: by name of a tensor, the part of the body that returns it.
            body: the names of the body's parts.

        Raises:
            LoopscopeError: a part is there twice, or the first isn't the body's last.
        """
        super().__init__()
        self.parts = dict(parts)
        numbers = [body.index(part) for part in parts.values()]
        if len(set(numbers)) < len(numbers) or numbers[0] != len(body) - 1:
            raise LoopscopeError(
                "state must name each part of the body once, and first the one that ends an iteration, "
                f"{body[-1]!r}, but is {dict(parts)}."
            )
        self.numbers = numbers
        """By tensor, the number of its part in the body."""

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(self.parts)

    def targets_of(self, number: int, last: bool, output: Any, like: Tensor | None) -> list[tuple[int, Path]]:
        path = find_tensor(output, like) if number in self.numbers else None
        return [] if path is None else [(self.numbers.index(number), path)]

    def learn(self, wiring: Wiring, last: SeenPass) -> bool:
        return False

    def others(self, wiring: Wiring, last: SeenPass | None) -> list[Feed]:
        return []

    def watched(self, hooks: TemporaryHooks, modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """The site of each further tensor, with what its part returned last."""
        latest: dict[str, Tensor] = {}

        def attach(site: str, part: nn.Module) -> None:
            def after(args: Any, kwargs: Any, output: Any) -> Any:
                path = find_tensor(output)
                if path is not None:
                    latest[site] = get_at(output, path)
                return output

            hooks.attach(part, after=after)

        for site, name in list(zip(self.sites, self.parts.values(), strict=True))[1:]:
            attach(site, modules[name])
        return latest

    def check_edits(self, edits: Sequence[Any], schedule: Sequence[Any]) -> None:
        """Raise LoopscopeError for an edit that can't be made in the module's own pass: what a part
        returned is read in the same iteration, too."""
        further = [edit for edit in edits if str(edit.site) in self.sites[1:]]
        for edit in [*further, *schedule]:
            raise LoopscopeError(
                f"{edit}: in the module's own pass what {', '.join(list(self.parts.values())[1:])} returned "
                "is read in the same iteration, too, so the state can't be moved alone. Do it between two "
                "iterations: ls.resume(model, run, run.iterations, start=1, edits=[...])."
            )


def part_state(state: Any, body: Sequence[str]) -> PartState | None:
    """The state that the argument `state` of `wrap` names by parts of the body; None if it names
    arguments."""
    if not isinstance(state, Mapping) or len(body) < 2 or not state:
        return None
    if not all(isinstance(name, str) and part in body for name, part in state.items()):
        return None
    bad = next((name for name in state if not name.isidentifier()), None)
    if bad is not None:
        raise LoopscopeError(f"a tensor of the state must have a name of one word, but {bad!r} is none.")
    return PartState(state, body)
