"""BodyState: where the loop's body receives its state, and where it returns it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..common.errors import LoopscopeError
from ..core.hooks import TemporaryHooks
from ..core.sites import Path, find_tensor, get_at
from .state_names import StateNames, described, source_text, target_text
from .wiring import Feed, Wiring


class SeenPass(NamedTuple):
    """What a pass without names took for the state."""

    inputs: Any
    output: Any
    """(args, kwargs) of the body's last call, and what it returned."""
    assumed: Feed
    constant: bool
    """Whether what was taken for the state is the same in every call."""


class BodyState:
    """Finds the tensors of the state in what the body receives and returns.

    Without names it is the tensor that goes from one call to the next, known after a pass
    (`learn`); until then the first floating-point tensor, of the shape of the last state.
    """

    received_again = True
    """Whether the body's calls receive the state as it was returned, or may."""

    def __init__(self, names: StateNames | None = None, parameters: Sequence[str] = ()) -> None:
        self.names, self.parameters = names, tuple(parameters)
        self.known: list[Feed] | None = None
        """Where each tensor is received and returned, once that was last."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the state's tensors; empty for a state of one tensor."""
        return () if self.names is None else self.names.fields

    @property
    def sites(self) -> list[str]:
        """The site of each tensor of the state, the primary one first."""
        return ["state", *(f"state.{name}" for name in self.fields[1:])]

    def sources(self, inputs: Any, like: Tensor | None) -> list[Path]:
        """The path to each tensor of the state in (args, kwargs) of a call; empty if the call
        receives no floating-point tensor.

        Raises:
            LoopscopeError: a tensor that the user named isn't there.
        """
        if self.names is not None:
            return self.names.source_paths(inputs)
        known = None if self.known is None else self.known[0].source
        path = known if known is not None and _holds(inputs, known) else find_tensor(inputs, like)
        return [] if path is None else [path]

    def targets(self, output: Any, like: Tensor | None) -> list[Path]:
        """The path to each tensor of the state in what a call returns; empty if it returns no
        floating-point tensor.

        Raises:
            LoopscopeError: a tensor that the user named isn't there.
        """
        known = None if self.known is None else [feed.target for feed in self.known]
        if known is not None and all(_holds(output, path) for path in known):
            return known
        if self.names is None:
            path = find_tensor(output, like)
            return [] if path is None else [path]
        paths = self.names.target_paths(output)
        missing = [s for s, path in zip(self.names.sources, paths, strict=True) if path is None]
        if missing:
            raise LoopscopeError(
                f"it must be known which output of the body is the next {missing[0]!r}, but no call was seen "
                f"to receive one. Say it: state={{{missing[0]!r}: ...}} with one of "
                f"{described(output)}."
            )
        return [path for path in paths if path is not None]

    def targets_of(self, number: int, last: bool, output: Any, like: Tensor | None) -> list[tuple[int, Path]]:
        """The tensors of the state in what a part of the body returns: the number of each in the
        state, and the path to it.

        Arguments:
            number: of the part in the body.
            last: whether its call ends an iteration.
        """
        return list(enumerate(self.targets(output, like))) if last else []

    def watched(self, hooks: TemporaryHooks, modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """By site, the latest of each tensor that another part than the body's last one returns."""
        return {}

    def check_edits(self, edits: Sequence[Any], schedule: Sequence[Any]) -> None:
        """Raise LoopscopeError for an edit that can't be made in the module's own pass."""

    def learn(self, wiring: Wiring, last: "SeenPass") -> bool:
        """Take over from a whole pass where the state is received and returned.

        Returns:
            whether the state is another tensor than that pass had assumed.
        """
        if self.names is not None:
            sources = self.names.source_paths(last.inputs)
            targets = [
                path if said is not None else wiring.target_of(source) or path
                for source, said, path in zip(
                    sources, self.names.targets, self.names.target_paths(last.output), strict=True
                )
            ]
            found = [Feed(s, t) for s, t in zip(sources, targets, strict=True) if t is not None]
            self.known = found if len(found) == len(sources) else None
            return False
        feeds = wiring.feeds
        if last.assumed in feeds:
            self.known = [last.assumed]
            return False
        received = [feed for feed in feeds if feed.source == last.assumed.source]
        if not received and not last.constant:
            return False  # something comes between two calls, so the next one doesn't show it
        if received or feeds:
            self.known = [(received or feeds)[0]]
        return bool(received or feeds)

    def feeds_of(self, last: SeenPass | None) -> list[Feed]:
        """Where the tensors of this state are received and returned."""
        return self.known if self.known is not None else [] if last is None else [last.assumed]

    def others(self, wiring: Wiring, last: SeenPass | None) -> list[Feed]:
        """The carried tensors that are no part of this state."""
        mine = self.feeds_of(last)
        targets, sources = {feed.target for feed in mine}, {feed.source for feed in mine}
        return [feed for feed in wiring.feeds if feed.target not in targets and feed.source not in sources]

    def name(self, feed: Feed) -> str:
        """The argument of the body that a carried tensor is."""
        return source_text(feed.source, self.parameters)

    def text(self, feed: Feed) -> str:
        """A carried tensor, in words."""
        return f"'{self.name(feed)}' (the next one is {target_text(feed.target)})"


def _holds(value: Any, path: Path) -> bool:
    """Whether there is a floating-point tensor at a path."""
    for step in path:
        if isinstance(value, Tensor):  # whose rows are no parts
            return False
        try:
            value = get_at(value, (step,))
        except (LookupError, AttributeError, TypeError):
            return False
    return isinstance(value, Tensor) and value.is_floating_point()
