"""StateAxes: the names of the axes of a wrapped module's state and sites.

A state of three axes is (batch, position, width), unless the body says otherwise: a convolution
reads (batch, channel, position). Where that can't be known, or there are four axes or more, the
names are neutral (`axis_1`, `axis_2`), and nothing is pooled over positions.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from ..common.errors import LoopscopeError
from ..core.sites import axes_of, is_state
from ..core.turns import modules_within

BY_CONVENTION = ("batch", "position", "width")


class StateAxes:
    """Names axes in one pass, once the state was seen (`see`)."""

    def __init__(self, names: tuple[str, ...] | None, body: Sequence[nn.Module], tokens: Any) -> None:
        """
        Arguments:
            names: the names of the state's axes, as the user says them.
            body: the modules of the loop's body.
            tokens: the input of the whole module.
        """
        self.fixed, self.body = names, body
        self.names: tuple[str, ...] | None = names
        """The names of the state's axes; None: those of the convention."""
        self.sizes: tuple[int, ...] = ()
        self.modules: dict[str, nn.Module] = {}
        """The module of each recorded site."""
        integers = isinstance(tokens, Tensor) and tokens.ndim == 2 and not tokens.is_floating_point()
        self._length = tokens.shape[1] if integers else None

    def see(self, state: Tensor) -> None:
        """The state that the body receives first.

        Raises:
            LoopscopeError: it has another number of axes than names were given for, or its first
                axis isn't the batch.
        """
        self.sizes = tuple(state.shape)
        if self.fixed is not None:
            if len(self.fixed) != state.ndim:
                raise LoopscopeError(
                    f"axes must name each axis of the state, whose shape is {self.sizes}, but is "
                    f"{self.fixed}. Give {state.ndim} names."
                )
            return
        if state.ndim == 3:
            self._check_batch_first()
        if state.ndim > 3 or (state.ndim == 3 and not self._has_positions(*state.shape[1:])):
            self.names = neutral(state.ndim)

    def of(
        self, site: str, value: Tensor, state: Tensor | None, module: nn.Module | None = None
    ) -> tuple[str, ...]:
        """The names of a value's own axes.

        Arguments:
            state: the latest state, or the body's input.
            module: that gave the value; None: the one of the recorded site.
        """
        module = module or self.modules.get(site)
        if self.names is None and not _is_convolutional(module):
            return axes_of(site, value, state)
        names = self.names or BY_CONVENTION
        of_loop = is_state(site) or site == "core_in"
        if value.ndim == len(names) and (of_loop or self._like_state(value)):
            return names
        if value.ndim > 2:
            hooked = axes_of(site, value, state)
            return hooked if value.ndim == 4 and "head" in hooked else neutral(value.ndim)
        places = [self.sizes[names.index(name)] for name in ("batch", "position") if name in names]
        positions = value.ndim == 2 and len(self.sizes) > 2 and list(value.shape) == places
        return ("batch", "position") if positions else ("batch", "width")[: value.ndim]

    def _like_state(self, value: Tensor) -> bool:
        """Whether a value has the state's sizes along all axes but those of features."""
        names = self.names or ()
        return len(self.sizes) == value.ndim == len(names) and all(
            name in ("width", "channel") or size == wanted
            for name, size, wanted in zip(names, value.shape, self.sizes, strict=True)
        )

    def _has_positions(self, second: int, last: int) -> bool:
        """Whether a state (batch, second, last) is (batch, position, width), as the sizes of the
        body's parameters tell it."""
        features: set[int] = set()
        channels: set[int] = set()
        convolutional = False
        for part in (part for member in self.body for part in modules_within(member)):
            if _is_convolutional(part):
                convolutional = True
                channels |= _channels(part)
                continue
            for parameter in part._parameters.values():
                if parameter is not None and parameter.ndim <= 2:
                    features.update(parameter.shape)
                elif parameter is not None:
                    channels.update(parameter.shape[:2])
        if last in features:
            return not (convolutional and second in channels) or self._length == second
        if convolutional:
            return last in channels and second not in channels
        if self._length == last != second:
            return False
        return last in channels or second not in channels

    def _check_batch_first(self) -> None:
        for part in (part for member in self.body for part in member.modules()):
            if isinstance(part, nn.MultiheadAttention | nn.RNNBase) and not part.batch_first:
                raise LoopscopeError(
                    f"the first axis of the state must be the batch, but a {type(part).__name__} of the body "
                    "reads (position, batch, width), as its batch_first=False says. Build it with "
                    'batch_first=True, or say that the batch is first: axes=("batch", "position", "width").'
                )


def neutral(count: int) -> tuple[str, ...]:
    """Names of axes of which only the batch is known."""
    return ("batch", *(f"axis_{number}" for number in range(1, count)))[:count]


def _is_convolutional(module: nn.Module | None) -> bool:
    return isinstance(module, _ConvNd | _NormBase | nn.GroupNorm)


def _channels(module: nn.Module) -> set[int]:
    names = ("in_channels", "out_channels", "num_features", "num_channels")
    return {getattr(module, name) for name in names if isinstance(getattr(module, name, None), int)}
