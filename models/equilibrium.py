"""Deep equilibrium models (Bai, Kolter & Koltun 2019, arXiv 1909.01377): the answer is read from a
fixed point.

- What loops: f(h; e), one or a few transformer blocks; the model's output is a state h* = f(h*; e).
- What is injected: the embedded tokens e, in every iteration.
- How it halts: when every position's residual ‖f(h) - h‖ / ‖f(h)‖ is below `Config.tolerance`. No
  number of iterations belongs to the model; `Config.iterations` is only the most that evaluation
  waits for.

One iteration is one iterate of a solver, of which plain iteration is one (`Config.solver`):

    plain      h <- f(h)
    damped     h <- h + damping (f(h) - h)
    anderson   `memory` evaluations of f, each at the combination of the iterates so far, with weights that sum to one, whose
               residual is least (Anderson 1965; Walker & Ni 2011); then it starts afresh. Sites
               inside f have the axis `inner`.

All have the same fixed points, and none remembers anything but h, so that a gradient by implicit
differentiation (`loopscope.training.Implicit`) is the same for all: Anderson's weights may be held
constant for it, as at h* every combination is h*. They are taken position by position; a position's
weights read nothing of what comes after it.

`penalty` is the Jacobian regulariser (Bai, Koltun & Kolter 2021, arXiv 2106.14342): ‖J^T v‖² / n
with v normal, an estimate (Hutchinson) of the mean square of J's rows, which keeps f contracting.

What differs: e is added to the state (or mixed, W [h ; e]), not to queries, keys and values; rotary
positions and no memory of earlier segments; no weight norm, no dropout.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from loopscope.common.errors import LoopscopeError
from loopscope.halting.exit_rules import Rule, gap_rule
from loopscope.halting.halting_record import Halting, solver_halting
from loopscope.nn import Embedding, Injection, LoopedModule, Norm, Positions, Stack, checked_kinds
from loopscope.training import AdamW, Fixed, Growing, Implicit, Ramp, Recipe


@dataclass(frozen=True)
class Config:
    """A deep equilibrium model's shape, and how it is solved."""

    vocabulary: int = 2
    """Tokens."""
    width: int = 32
    """Numbers in a state, per position."""
    heads: int = 2
    """Attention heads; they share the width."""
    layers: int = 1
    """Blocks in f."""
    iterations: int = 100
    """The most that evaluation waits for."""
    norm: Norm = "post"
    gain: bool = False
    """Whether the blocks' norms have a learned scale; the paper's have none."""
    injection: Literal["add", "concat"] = "add"
    solver: Literal["plain", "damped", "anderson"] = "plain"
    damping: float = 0.5
    """Of "damped"."""
    memory: int = 4
    """Of "anderson": evaluations in an iteration."""
    tolerance: float = 1e-4
    """Of the residual, below which a position is at rest."""


class Context(NamedTuple):
    injected: Tensor
    """(batch, position, width): the embedded tokens."""
    positions: Positions


class State(NamedTuple):
    h: Tensor
    """(batch, position, width)"""
    gap: Tensor
    """(batch, position): ‖f(h) - h‖ / ‖f(h)‖ at the iterate before; 1 before the loop."""


class Equilibrium(LoopedModule):
    """A transformer of implicit depth. Causal: a position sees itself and what came before."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.iterations, config.vocabulary, State._fields)
        checked_kinds(config, "solver")
        if not (0 < config.damping <= 1 and config.memory >= 1 and 0 < config.tolerance < 1):
            raise LoopscopeError(
                "a solver needs damping in (0, 1], memory of 1 or more and a tolerance in (0, 1), but has "
                f"damping={config.damping}, memory={config.memory}, tolerance={config.tolerance}."
            )
        self.config = config
        self.recurrent_fields = self.fields[:1]
        self.embed = Embedding(config.vocabulary, config.width)
        self.injection = Injection(config.injection, config.width)
        self.core_in = HookPoint()
        self.core = Stack(config.layers, config.width, config.heads, norm=config.norm, gain=config.gain)
        self.ln_final = nn.RMSNorm(config.width)
        self.unembed = nn.Linear(config.width, config.vocabulary)
        self.setup()

    def f(self, h: Tensor, context: Context) -> Tensor:
        """The map whose fixed point is looked for."""
        return self.core(self.core_in(self.injection(h, context.injected)), context.positions)

    def encode(self, tokens: Tensor) -> Context:
        e = self.embed(tokens)
        return Context(e, Positions.of(e, causal=True, rotary=self.config.width // self.config.heads))

    def initial(self, context: Context) -> State:
        h = torch.zeros_like(context.injected)
        return State(h, torch.ones_like(h[..., 0]))

    def step(self, state: State, context: Context, t: int) -> State:
        h = state.h
        if self.config.solver == "anderson":
            return self._anderson(h, context)
        f = self.f(h, context)
        plain = self.config.solver == "plain"
        return State(f if plain else torch.lerp(h, f, self.config.damping), _gap(h, f))

    def _anderson(self, h: Tensor, context: Context) -> State:
        iterates, images = [h], []
        for _ in self.clock.loop("inner", range(self.config.memory)):
            images.append(self.f(iterates[-1], context))
            iterates.append(combined(iterates, images))
        return State(iterates[-1], _gap(iterates[-2], images[-1]))

    def decode(self, state: State, context: Context) -> Tensor:
        return self.logits_of(state.h, context)

    @property
    def rule(self) -> Rule:
        return gap_rule(self.config.tolerance)

    def finished(self, state: State) -> bool:
        return bool((state.gap < self.config.tolerance).all())

    def halting(self, run: Any) -> Halting | None:
        return solver_halting(run, self.config.tolerance)

    def penalty(self, state: State, context: Context) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        with torch.enable_grad():
            h = state.h.detach().requires_grad_()
            f = self.f(h, context)
            (back,) = torch.autograd.grad(f, h, torch.randn_like(f), create_graph=True)
        return back.square().mean()


def combined(iterates: list[Tensor], images: list[Tensor]) -> Tensor:
    """sum_i w_i f(x_i) with the weights, summing to one, whose residual ‖sum_i w_i (f(x_i) - x_i)‖
    is least at each position.

    Arguments:
        iterates, images: x_i and f(x_i), (batch, position, width) each. No gradient goes through
            the weights.
    """
    with torch.no_grad():
        f = torch.stack(images, 2).double()
        gaps = f - torch.stack(iterates[: len(images)], 2).double()
        gaps = gaps / gaps.norm(dim=3).amax(2)[..., None, None].clamp(min=1e-300)
        gram = gaps @ gaps.mT
        # Constrained least squares: gram w = const with sum 1. The ridge decides where two
        # residuals are one.
        ridge = 1e-10 * torch.eye(len(images), dtype=gram.dtype, device=gram.device)
        ones = gram.new_ones(*gram.shape[:-1], 1)
        weights = torch.linalg.solve(gram + ridge, ones)
        weights = (weights / weights.sum(2, keepdim=True)).to(images[0])
    return (weights * torch.stack(images, 2)).sum(2)


def _gap(h: Tensor, f: Tensor) -> Tensor:
    return ((f - h).norm(dim=2) / f.norm(dim=2).clamp(min=1e-30)).detach()


Model = Equilibrium

RECIPES = {
    # Regularised, and on short strings: the implicit gradient is the loss's only while the loop
    # comes to rest. See the card.
    "equilibrium-prefix-parity": Recipe(
        architecture="equilibrium",
        config={"vocabulary": 3, "width": 32, "heads": 2, "iterations": 64, "norm": "stream", "gain": True},
        task="prefix-parity",
        options={"length": 10},
        steps=1400,
        curriculum=Growing(start=5, steps=700),
        depth=Fixed(50),
        gradient=Implicit(tolerance=1e-3, most=30),
        penalty=Ramp(weight=0.2, start=0, steps=200),
        optimiser=AdamW(lr=1.5e-3, warmup=100, decay=500, weight_decay=0.05),
    ),
}
