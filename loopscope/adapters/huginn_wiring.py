"""The wiring of a model of Huginn's class, read from one pass of its own forward."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from .call_order import read_order
from .forward_hooks import Call, first_values


@dataclass(frozen=True)
class Wiring:
    """Which parts are called in which order, and how state and input are joined."""

    first: tuple[str, ...]
    """The parts of the first iteration, which may leave out the adapter."""
    iteration: tuple[str, ...]
    before_head: tuple[str, ...]
    """The parts after the loop up to the last block of the coda."""
    head: tuple[str, ...]
    """Those after it."""
    state_first: bool = True
    """Whether the state is the first half of the adapter's input."""
    redraws: bool = True
    """Whether `initialize_state` draws the first state, and draws it again from the same
    generator."""
    dtype: torch.dtype | None = torch.float32
    """Of the logits."""
    count: int | None = None
    """The number of iterations of the pass."""

    @property
    def joins_first(self) -> bool:
        """Whether the first iteration begins with the adapter."""
        return self.first[0] == "adapter"

    def split(self, joined: Tensor) -> tuple[Tensor, Tensor]:
        """The state and the embedded input in the adapter's input."""
        width = joined.shape[-1] // 2
        one, other = joined[..., :width], joined[..., width:]
        return (one, other) if self.state_first else (other, one)

    def joined(self, state: Tensor, embedded: Tensor) -> Tensor:
        """The adapter's input."""
        return torch.cat([state, embedded] if self.state_first else [embedded, state], dim=-1)

    @classmethod
    def published(cls, module: Any) -> "Wiring":
        """As Huginn's checkpoint has it."""
        parts = module.transformer
        core = tuple(f"core_block.{i}" for i in range(len(parts.core_block)))
        coda = tuple(f"coda.{i}" for i in range(len(parts.coda)))
        return cls(("adapter", *core), ("adapter", *core), ("ln_f", *coda), ("ln_f", "lm_head"))


def read_wiring(module: Any, calls: Sequence[Call], logits: Any) -> Wiring:
    """The wiring that the calls of a pass show; the published one where they don't tell.

    Arguments:
        calls: the calls of the model's parts.
        logits: of the pass.
    """
    published = Wiring.published(module)
    names = [call.name for call in calls]
    order = read_order(names, {name for name in names if name.startswith("core_block.")})
    if order is None or "lm_head" not in order.after or "adapter" not in order.iteration:
        return published
    blocks = ("core_block.", "coda.")
    plain = {name for name in (*order.iteration, *order.after) if not name.startswith(blocks)}
    joined = first_values(calls, "adapter", last=True)[0][0]
    width = first_values(calls, "core_block.")[0][0].shape[-1]
    if joined.shape[-1] != 2 * width or not all(
        call.takes_one_tensor for call in calls if call.name in plain
    ):
        return published
    after = order.after[: order.after.index("lm_head") + 1]
    coda = max((place for place, name in enumerate(after) if name.startswith("coda.")), default=-1)
    state_first = True
    if any(name.startswith("prelude.") for name in names):
        embedded = stream(first_values(calls, "prelude.", last=True)[1])
        one, other = (torch.equal(half, embedded) for half in joined.chunk(2, -1))
        state_first = other or not one
    return Wiring(
        order.first,
        order.iteration,
        after[: coda + 1],
        after[coda + 1 :],
        state_first,
        dtype=logits.dtype if isinstance(logits, Tensor) else None,
        count=order.count,
    )


@contextmanager
def without_noise(module: nn.Module) -> Iterator[None]:
    """Inside the with-block the model adds no noise to the state before an iteration."""
    noisy = hasattr(module, "_maybe_inject_noise")
    if noisy:
        vars(module)["_maybe_inject_noise"] = lambda x, *_, **__: x
    try:
        yield
    finally:
        if noisy:
            del vars(module)["_maybe_inject_noise"]


@contextmanager
def watched_start(module: Any) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """What the model's `initialize_state` receives and returns inside the with-block."""
    seen: list[tuple[Tensor, Tensor]] = []
    original: Any = getattr(module, "initialize_state", None)

    def watched(like: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        state = original(like, *args, **kwargs)
        seen.append((like, state.clone()))
        return state

    if original is None:
        yield seen
        return
    previous = vars(module).get("initialize_state")
    vars(module)["initialize_state"] = wraps(original)(watched)
    try:
        yield seen
    finally:
        del vars(module)["initialize_state"]
        if previous is not None:
            vars(module)["initialize_state"] = previous


def draws_start(
    wiring: Wiring, calls: Sequence[Call], starts: Sequence[tuple[Tensor, Tensor]], *, noisy: bool
) -> bool:
    """Whether the loop began with what `initialize_state` made of the embedded input.

    Arguments:
        starts: what it received and returned.
        noisy: whether noise was added to the state since.
    """
    if len(starts) != 1:
        return False
    (given, *_), _ = first_values(calls, wiring.first[0])
    first = wiring.split(given)[0] if wiring.joins_first else given
    like, state = starts[0]
    if any(call.name.startswith("prelude.") for call in calls):
        embedded = stream(first_values(calls, "prelude.", last=True)[1])
        if not torch.equal(like, embedded):
            return False
    return noisy or torch.equal(first, state)


def stream(output: Any) -> Tensor:
    """The residual stream in a block's output."""
    return output[0] if isinstance(output, tuple) else output
