"""MoEUT: a group of layers with mixtures of experts, applied again and again (Csordás et al. 2024,
arXiv 2405.16039).

An iteration is a pass through the group. The routers of a layer are in `layers.<i>.ffn` and
`layers.<i>.attention`. In training the model also adds a loss on what its routers chose; a
recording keeps the logits alone, and leaves the routers' lists of choices as they were.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..common.errors import LoopscopeError
from .base import Adapter


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    embedded: Tensor
    """(batch, position, width)"""
    args: tuple[Any, ...]
    """Further inputs of every layer: the mask."""
    kwargs: dict[str, Any]
    tokens: Any
    inputs: Mapping[str, Any]
    """Of the whole model."""


class Moeut(Adapter):
    """The class MoEUTLM."""

    family = "an iteration is a pass through the group of layers"
    followed_inputs = ("mask",)
    body_receives_state = True

    @property
    def layers(self) -> Any:
        """The layers of an iteration."""
        return self.module.transformer.layers

    @property
    def iterations(self) -> int:
        return int(self.module.transformer.n_repeats)

    @property
    def vocabulary(self) -> int:
        return self.module.embedding.num_embeddings

    def logits_in(self, output: Any) -> Any:
        return output.outputs

    def encode(self, tokens: Tensor, **inputs: Any) -> Context:
        args, kwargs = self.first_inputs(self.layers[0], tokens, **inputs)
        return Context(args[0], args[1:], kwargs, tokens, inputs)

    def initial(self, context: Context) -> Tensor:
        return context.embedded

    def step(self, state: Tensor, context: Context, t: int) -> Tensor:
        h = self.core_in(state)
        with _kept_choices(self.layers):
            for layer in self.layers:
                h, _ = layer(h, *context.args, **context.kwargs)
        return h

    def decode(self, state: Tensor, context: Context) -> Tensor:
        output = SimpleNamespace(outputs=state, reg_loss=state.new_zeros(1), cache=None)
        return self.logits_in(
            self.read_out(self.module.transformer, output, context.tokens, **context.inputs)
        )

    def logits_of(self, h: Tensor, context: Context) -> Tensor:
        return self.decode(h, context)

    def loop_ends(self) -> tuple[nn.Module, nn.Module]:
        return self.layers[0], self.layers[-1]


@contextmanager
def _kept_choices(layers: nn.Module) -> Iterator[None]:
    """What the routers note down in training is afterwards what it was: the model empties these
    lists only at the end of its own pass."""
    parts: list[Any] = [
        part for part in layers.modules() if isinstance(getattr(part, "sel_hist", None), list)
    ]
    before = [list(part.sel_hist) for part in parts]
    try:
        yield
    finally:
        for part, choices in zip(parts, before, strict=True):
            part.sel_hist = choices


def adapt(module: nn.Module) -> Moeut:
    """The adapter of a MoEUTLM.

    Raises:
        LoopscopeError: it has no group of layers that repeats.
    """
    group = getattr(module, "transformer", None)
    if not hasattr(group, "n_repeats") or not hasattr(group, "layers"):
        raise LoopscopeError(
            "a MoEUTLM must have transformer.layers, and their number of passes as transformer.n_repeats, "
            "to be wrapped without a body, but hasn't. Name the part that repeats: ls.wrap(model, body=...)."
        )
    return Moeut(module)
