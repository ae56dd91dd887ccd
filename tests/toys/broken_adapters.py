"""A small looped language model with its adapter, and adapters and models that are wrong in one
way each, which the self-check must see."""

from typing import Any

import torch
from torch import Tensor, nn

from loopscope.adapters.base import Adapter

WIDTH, VOCABULARY = 8, 11


class Block(nn.Module):
    """Mixes each position with the mean of those that a mask leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, h: Tensor, counts: Tensor) -> Tensor:
        mean = (h * counts).sum(1, keepdim=True) / counts.sum(1, keepdim=True)
        return torch.tanh(self.mix(torch.cat([h, mean.expand_as(h)], -1)))


class Small(nn.Module):
    """An iteration is a call of `block` and one of `norm`."""

    depth = 4

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.block = nn.Embedding(VOCABULARY, WIDTH), Block()
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY)
        self.register_buffer("scale", torch.ones(()))

    def counts(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        mask = torch.ones_like(tokens) if mask is None else mask
        return mask[..., None].to(self.embed.weight.dtype)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        h, counts = self.embed(input_ids), self.counts(input_ids, attention_mask)
        for _ in range(self.depth):
            h = self.norm(self.block(h, counts))
        return self.head(h)

    @torch.no_grad()
    def generate(self, input_ids: Tensor, max_new_tokens: int = 4) -> Tensor:
        for _ in range(max_new_tokens):
            input_ids = torch.cat([input_ids, self(input_ids)[:, -1:].argmax(-1)], 1)
        return input_ids


class Right(Adapter):
    """The adapter of Small, without a mistake."""

    family = "an iteration is a call of block and norm"
    followed_inputs = ("attention_mask",)
    body_receives_state = True

    @property
    def iterations(self) -> int:
        return self.module.depth

    @property
    def vocabulary(self) -> int:
        return VOCABULARY

    def loop_ends(self) -> tuple[nn.Module, nn.Module]:
        return self.module.block, self.module.norm

    def encode(self, tokens: Tensor, attention_mask: Tensor | None = None) -> Any:
        return self.module.embed(tokens), self.module.counts(tokens, attention_mask)

    def initial(self, context: Any) -> Tensor:
        return context[0]

    def step(self, state: Tensor, context: Any, t: int) -> Tensor:
        return self.module.norm(self.module.block(self.core_in(state), context[1]))

    def decode(self, state: Tensor, context: Any) -> Tensor:
        return self.module.head(state)


# Adapters


class Inexact(Right):
    """Its step is off by a millionth."""

    def step(self, state: Tensor, context: Any, t: int) -> Tensor:
        return super().step(state, context, t) + 1e-6


class ShortOfOne(Right):
    """Runs one iteration less than the model."""

    @property
    def iterations(self) -> int:
        return self.module.depth - 1


class MovedWhenSeen(Right):
    """Computes something else while the inside of the block is recorded."""

    def step(self, state: Tensor, context: Any, t: int) -> Tensor:
        off = 1e-3 * ("forward" in vars(self.module.block.mix))
        return super().step(state, context, t) + off


class CutElsewhere(Right):
    """Its state is what the block returns, before the norm that an iteration is said to end
    with."""

    def step(self, state: Tensor, context: Any, t: int) -> Tensor:
        return self.module.block(self.core_in(self.module.norm(state) if t else state), context[1])

    def decode(self, state: Tensor, context: Any) -> Tensor:
        return self.module.head(self.module.norm(state))


class EarlyState(Right):
    """Passes each state through its site one iteration early, so that edits act there."""

    def at_state(self, state: Any) -> Any:
        k = self.clock.index[0]
        if k == self.iterations:
            return state
        self.clock.set(("iteration", k + 1))
        return super().at_state(state)


class TurnedState(Right):
    """Shows the positions of its state in the other order."""

    def at_state(self, state: Any) -> Any:
        return super().at_state(state.flip(1)).flip(1)


class DeafState(Right):
    """Goes on from what it computed, whatever an edit made of it."""

    def step(self, state: Tensor, context: Any, t: int) -> Tensor:
        self.last = super().step(state if t == 0 else self.last, context, t)
        return self.last


class EarlySite(Right):
    """Counts an iteration ahead, so that edits inside one act in the one before."""

    def step(self, state: Tensor, context: Any, t: int) -> Tensor:
        self.clock.set(("iteration", t + 1))
        return super().step(state, context, t)


class WideInHalf(Right):
    """Computes in 32 bits where the model computes in 16."""

    def step(self, state: Tensor, context: Any, t: int) -> Tensor:
        block, dtype = self.module.block.mix, state.dtype
        if dtype == torch.float32:
            return super().step(state, context, t)
        mean = (state * context[1]).sum(1, keepdim=True) / context[1].sum(1, keepdim=True)
        both = torch.cat([state, mean.expand_as(state)], -1).float()
        new = torch.tanh(nn.functional.linear(both, block.weight.float(), block.bias.float()))
        norm = self.module.norm
        wide = nn.functional.layer_norm(new, (WIDTH,), norm.weight.float(), norm.bias.float())
        return (1.25 * wide).to(dtype)


class WithoutMask(Right):
    """Takes the mask and doesn't read it."""

    def encode(self, tokens: Tensor, attention_mask: Tensor | None = None) -> Any:
        return super().encode(tokens)


class Leaving(Right):
    """Leaves something behind in each pass."""

    def __init__(self, module: nn.Module, what: str) -> None:
        super().__init__(module)
        self.what = what

    def encode(self, tokens: Tensor, **inputs: Any) -> Any:
        module: Any = self.module
        weight = module.head.weight
        if self.what == "a hook":
            module.norm.register_forward_hook(lambda *_: None)
        elif self.what == "an attribute":
            module.block.last_tokens = tokens
        elif self.what == "a mode":
            module.norm.train(not module.norm.training)
        elif self.what == "no gradients":
            weight.requires_grad_(False)
        elif self.what == "a gradient":
            weight.grad = torch.ones_like(weight)
        elif self.what == "a new version":
            weight.mul_(1)
        elif self.what == "a weight":
            weight.data[0, 0] += 1
        elif self.what == "another parameter":
            module.head.bias = nn.Parameter(module.head.bias.detach().clone())
        elif self.what == "a buffer":
            module.scale += 1
        elif self.what == "a random number":
            torch.rand(1)
        elif self.what == "a setting of torch":
            torch.use_deterministic_algorithms(not torch.are_deterministic_algorithms_enabled())
        return super().encode(tokens, **inputs)


LEFT = (
    "a hook", "an attribute", "a mode", "no gradients", "a gradient", "a new version", "a weight",
    "another parameter", "a buffer", "a random number", "a setting of torch",
)  # fmt: skip
"""What `Leaving` can leave."""


# Models


class Shy(Small):
    """Computes something else while it is recorded."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return super().forward(input_ids, attention_mask) + 1e-3 * ("forward" in vars(self.block))


class MaskIgnored(Small):
    """Takes a mask and doesn't read it."""

    def counts(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        return super().counts(tokens, None)


class ShyInGeneration(Small):
    """Generates something else while it is recorded."""

    @torch.no_grad()
    def generate(self, input_ids: Tensor, max_new_tokens: int = 4) -> Tensor:
        watched = "forward" in vars(self)
        return (super().generate(input_ids, max_new_tokens) + watched) % VOCABULARY


def small(kind: type[Small] = Small) -> Any:
    """A model with weights from a seed."""
    torch.manual_seed(0)
    return kind().eval()


def tokens() -> Tensor:
    """Random tokens (batch, position)."""
    return torch.randint(0, VOCABULARY, (2, 5), generator=torch.Generator().manual_seed(1))
