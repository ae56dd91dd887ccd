"""A loop that respects its padding: causal attention in which padding is seen by itself alone, a
state of two tensors, and an exit gate. Whatever stands at pads changes nothing elsewhere."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from loopscope.halting.halting_record import gate_halting
from loopscope.halting.model_rules import exit_rule
from loopscope.nn import LoopedModule, Positions, Stack
from loopscope.tasks import Batch, Task

PAD, SYMBOLS = 0, 4


@dataclass(frozen=True)
class Maximum(Task):
    """The largest symbol so far, in examples that may be padded at both ends."""

    length: int = 6

    name, symbols = "padded-maximum", tuple("_123")
    difficulty_option, difficulty_unit = "length", "largest symbol"

    @property
    def pad_token(self) -> int:
        return PAD

    def solve(self, tokens: Tensor) -> Tensor:
        return torch.where(tokens == PAD, tokens, tokens.cummax(1).values)

    def mask(self, tokens: Tensor) -> Tensor:
        return torch.ones_like(tokens, dtype=torch.bool)

    def draw(self, size: int, generator: torch.Generator, /, **options: int) -> Tensor:
        return torch.randint(1, SYMBOLS, (size, options["length"]), generator=generator)

    def example_count(self, **options: int) -> int:
        return (SYMBOLS - 1) ** options["length"]

    def make_batch(self, tokens: Tensor) -> Batch:
        return Batch(tokens, self.solve(tokens), self.mask(tokens), tokens.amax(1).float())


class State(NamedTuple):
    h: Tensor
    z: Tensor


@dataclass(frozen=True)
class Config:
    width: int = 6
    at_pads: float = 0.5
    """What the state holds where padding is."""


class PaddedLoop(LoopedModule):
    update_sites = {"h": (), "z": ()}

    def __init__(self, config: Config) -> None:
        super().__init__(6, SYMBOLS, State._fields)
        self.config, self.task = config, Maximum()
        self.embed = nn.Embedding(SYMBOLS, config.width)
        self.core = Stack(1, config.width, heads=2)
        self.mix = nn.Linear(config.width, config.width, bias=False)
        self.gate = nn.Linear(config.width, 1)
        self.core_in = HookPoint()
        self.unembed = nn.Linear(config.width, SYMBOLS)
        with torch.no_grad():
            self.unembed.weight.mul_(4)
        self.setup()
        self.double()

    def encode(self, tokens: Tensor) -> dict[str, Tensor]:
        pad, length = tokens == PAD, tokens.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        seen = causal & (~pad[:, None, :] | torch.eye(length, dtype=torch.bool))
        return {"x": self._written(self.embed(tokens), pad), "pad": pad, "mask": seen[:, None]}

    def initial(self, context: dict[str, Tensor]) -> State:
        zero = self._written(torch.zeros_like(context["x"]), context["pad"])
        return State(zero, zero.clone())

    def step(self, state: State, context: dict[str, Tensor], t: int) -> State:
        read = state.h + state.z + context["x"]
        # NaN times zero attention would still be NaN
        read = torch.where(context["pad"][..., None] & ~read.isfinite(), 0, read)
        new = self.core(self.core_in(read), Positions(context["mask"], None, None))
        z = 0.3 * state.z + 0.5 * torch.tanh(new)
        h = 0.5 * state.h + 0.5 * torch.tanh(2 * self.mix(new))
        return State(self._written(h, context["pad"]), self._written(z, context["pad"]))

    def decode(self, state: State, context: dict[str, Tensor]) -> Tensor:
        return self.unembed(state.h)

    def exit_probability(self, state: State) -> Tensor:
        return torch.sigmoid(2 * self.gate(state.h)[..., 0] - 1)

    @property
    def rule(self) -> Any:
        return exit_rule(0.6, self.exit_probability)

    def halting(self, run: Any) -> Any:
        return gate_halting(run, lambda h: torch.sigmoid(2 * self.gate(h)[..., 0] - 1), 0.6)

    def _written(self, value: Tensor, pad: Tensor) -> Tensor:
        return torch.where(pad[..., None], self.config.at_pads, value)


def padded_loop(at_pads: float = 0.5) -> PaddedLoop:
    """The loop with these numbers in the states of padding, with the same weights always."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return PaddedLoop(Config(at_pads=at_pads)).eval()


def padded(tokens: Tensor, left: int, right: int) -> Tensor:
    """Tokens with pads before and after them."""
    return nn.functional.pad(tokens, (left, right), value=PAD)


def ragged(tokens: Tensor) -> Tensor:
    """Tokens of which every third row is one shorter and every fourth two, with pads at the
    end."""
    tokens = tokens.clone()
    tokens[::3, -1:], tokens[::4, -2:] = PAD, PAD
    return tokens
