"""Small modules with the class names, the names of the parts, the wiring and the call order of the
official code of HRM and TRM, written from their published equations. What is not about the loop is
as small as it can be. Each can be wired otherwise under the same name."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class Config:
    vocab_size: int = 40
    hidden_size: int = 16
    H_cycles: int = 3
    L_cycles: int = 2
    puzzles: int = 6
    halt_max_steps: int = 4
    no_ACT_continue: bool = True
    wiring: set[str] = field(default_factory=set)
    """Of other wirings: no_input, scaled, extra_call."""


@dataclass
class InnerCarry:
    z_H: Tensor
    z_L: Tensor


@dataclass
class Carry:
    inner_carry: InnerCarry
    steps: Tensor
    halted: Tensor
    current_data: dict[str, Tensor]


class Network(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix, self.up, self.down = (nn.Linear(width, width, bias=False) for _ in range(3))

    def forward(self, hidden_states: Tensor, input_injection: Tensor, cos_sin: Any = None) -> Tensor:
        h = hidden_states + input_injection
        turned = h if cos_sin is None else h * cos_sin[0] + h.flip(-1) * cos_sin[1]
        h = F.rms_norm(h + self.mix(turned.mean(1, keepdim=True)), h.shape[-1:])
        return F.rms_norm(h + self.down(F.silu(self.up(h))), h.shape[-1:])


class Rotary(nn.Module):
    def forward(self) -> tuple[Tensor, Tensor]:
        return torch.tensor(0.8), torch.tensor(0.6)


class Inner(nn.Module):
    H_init: Tensor
    L_init: Tensor
    two_networks = True

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, width = config, config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, width)
        self.puzzle_emb = nn.Embedding(config.puzzles, width)
        self.puzzle_emb_len = 1
        self.rotary_emb = Rotary()
        self.L_level = Network(width)
        if self.two_networks:
            self.H_level = Network(width)
        self.lm_head = nn.Linear(width, config.vocab_size, bias=False)
        self.q_head = nn.Linear(width, 2)
        self.register_buffer("H_init", torch.randn(width))
        self.register_buffer("L_init", torch.randn(width))

    def _input_embeddings(self, input: Tensor, puzzle_identifiers: Tensor) -> Tensor:
        puzzle = self.puzzle_emb(puzzle_identifiers)[:, None]
        return 4 * torch.cat([puzzle, self.embed_tokens(input)], 1)

    def empty_carry(self, batch: int, length: int) -> InnerCarry:
        shape = batch, length + self.puzzle_emb_len, self.config.hidden_size
        return InnerCarry(torch.empty(shape), torch.empty(shape))

    def reset_carry(self, flag: Tensor, carry: InnerCarry) -> InnerCarry:
        flag = flag.view(-1, 1, 1)
        return InnerCarry(
            torch.where(flag, self.H_init, carry.z_H), torch.where(flag, self.L_init, carry.z_L)
        )

    def forward(self, carry: InnerCarry, batch: dict[str, Tensor]) -> Any:
        x = self._input_embeddings(batch["inputs"], batch["puzzle_identifiers"])
        angles = {"cos_sin": self.rotary_emb()}
        z_H, z_L = self.cycles(carry.z_H, carry.z_L, x, angles)
        logits = self.lm_head(1.5 * z_H if "scaled" in self.config.wiring else z_H)
        q = self.q_head(z_H[:, 0]).float()
        return InnerCarry(z_H.detach(), z_L.detach()), logits[:, self.puzzle_emb_len :], (q[:, 0], q[:, 1])

    def low(self, z_H: Tensor, z_L: Tensor, x: Tensor, angles: Any) -> Tensor:
        return self.L_level(z_L, z_H if "no_input" in self.config.wiring else z_H + x, **angles)

    def high(self, z_H: Tensor, z_L: Tensor, angles: Any) -> Tensor:
        network = self.H_level if self.two_networks else self.L_level
        z_H = network(z_H, z_L, **angles)
        return network(z_H, z_L, **angles) if "extra_call" in self.config.wiring else z_H

    def cycles(self, z_H: Tensor, z_L: Tensor, x: Tensor, angles: Any) -> tuple[Tensor, Tensor]:
        """All with no gradients but the last call of each network."""
        with torch.no_grad():
            for cycle in range(self.config.H_cycles):
                last = cycle == self.config.H_cycles - 1
                for _ in range(self.config.L_cycles - last):
                    z_L = self.low(z_H, z_L, x, angles)
                z_H = z_H if last else self.high(z_H, z_L, angles)
        z_L = self.low(z_H, z_L, x, angles)
        return self.high(z_H, z_L, angles), z_L


class InnerOfOne(Inner):
    two_networks = False

    def cycles(self, z_H: Tensor, z_L: Tensor, x: Tensor, angles: Any) -> tuple[Tensor, Tensor]:
        """The last cycle with gradients."""
        for cycle in range(self.config.H_cycles):
            with torch.set_grad_enabled(torch.is_grad_enabled() and cycle == self.config.H_cycles - 1):
                for _ in range(self.config.L_cycles):
                    z_L = self.low(z_H, z_L, x, angles)
                z_H = self.high(z_H, z_L, angles)
        return z_H, z_L


class _Segments(nn.Module):
    """One segment a call; rows that halted start anew."""

    kind: type[Inner] = Inner

    def __init__(self, *wiring: str, **options: Any) -> None:
        super().__init__()
        self.config = Config(wiring=set(wiring), **options)
        self.inner = self.kind(self.config)

    def initial_carry(self, batch: dict[str, Tensor]) -> Carry:
        count, length = batch["inputs"].shape
        return Carry(
            self.inner.empty_carry(count, length),
            torch.zeros(count, dtype=torch.int32),
            torch.ones(count, dtype=torch.bool),
            {name: torch.empty_like(value) for name, value in batch.items()},
        )

    def forward(self, carry: Carry, batch: dict[str, Tensor]) -> tuple[Carry, dict[str, Tensor]]:
        start = self.inner.reset_carry(carry.halted, carry.inner_carry)
        steps = torch.where(carry.halted, 0, carry.steps) + 1
        data = {
            name: torch.where(carry.halted.view(-1, *[1] * (old.ndim - 1)), batch[name], old)
            for name, old in carry.current_data.items()
        }
        after, logits, (q_halt, q_continue) = self.inner(start, data)
        halted = steps >= self.config.halt_max_steps
        if self.training:
            halted = halted | (q_halt > (0 if self.config.no_ACT_continue else q_continue))
        outputs = {"logits": logits, "q_halt_logits": q_halt, "q_continue_logits": q_continue}
        return Carry(after, steps, halted, data), outputs


class HierarchicalReasoningModel_ACTV1(_Segments):
    """HRM: two networks."""


class TinyRecursiveReasoningModel_ACTV1(_Segments):
    """TRM: one network in two roles."""

    kind = InnerOfOne


def batch_of(tokens: Tensor, puzzles: list[int]) -> SimpleNamespace:
    """A batch as the models take it, and the same without its tokens as a recording does."""
    further = {"puzzle_identifiers": torch.tensor(puzzles)}
    return SimpleNamespace(whole={"inputs": tokens, **further}, further=further)
