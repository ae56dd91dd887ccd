"""Deep equilibrium models (Bai, Kolter & Koltun 2019, arXiv 1909.01377): the answer is read from a
fixed point.

- What loops: f(h; e), one or a few transformer blocks. The output of the model is a state h* =
  f(h*; e).
- What is injected: the embedded tokens e, in every iteration.
- How it halts: when every position's residual ‖f(h) - h‖ / ‖f(h)‖ is below `Config.tolerance`. The
  model has no depth of its own; `Config.iterations` is a limit for evaluation.

One iteration is one iterate of a solver, `Config.solver`:

    plain      h <- f(h)
    damped     h <- h + damping (f(h) - h)
    anderson   evaluates f `memory` times, each time at a combination of the previous values of f
               with weights that sum to one and minimise the residual (Anderson 1965; Walker & Ni
               2011), then restarts. Sites inside f have the axis `inner`.

All solvers have the same fixed points, and h is the whole state. So the gradient by implicit
differentiation (`loopscope.training.Implicit`) is the same for all: Anderson's weights may be
treated as constants, because at h* every combination is h*. They are computed at each position and
depend on no later one.

`penalty` is the Jacobian regulariser (Bai, Koltun & Kolter 2021, arXiv 2106.14342): ‖J^T v‖² / n
with v normal, which is Hutchinson's estimate of ‖J‖² / n (Frobenius). It keeps f contracting.

Differences from the paper: e is added to the state (or concatenated, W [h ; e]), not to queries,
keys and values; rotary positions and no memory of earlier segments; no weight norm, no dropout.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from loopscope.common.arguments import Count, Positive, PositiveCount
from loopscope.common.errors import LoopscopeError
from loopscope.halting.halting_record import Halting, solver_halting
from loopscope.halting.model_rules import solver_rule
from loopscope.halting.rule import Rule
from loopscope.nn import Embedding, Injection, LoopedModule, Norm, Positions, Stack, check_choices
from loopscope.training import AdamW, Fixed, Growing, Implicit, Ramp, Recipe


@dataclass(frozen=True)
class Config:
    """The size of a deep equilibrium model, and its solver."""

    vocabulary: PositiveCount = 2
    """Number of tokens."""
    width: PositiveCount = 32
    """Width of the state at each position."""
    heads: PositiveCount = 2
    """Attention heads, each of width / heads."""
    layers: PositiveCount = 1
    """Blocks in f."""
    iterations: Count = 100
    """Largest number of iterations in evaluation."""
    norm: Norm = "post"
    gain: bool = False
    """Whether the blocks' norms have a learned scale; the paper's have none."""
    injection: Literal["add", "concat"] = "add"
    solver: Literal["plain", "damped", "anderson"] = "plain"
    damping: Positive = 0.5
    """Of the solver "damped"."""
    memory: PositiveCount = 4
    """Of the solver "anderson": evaluations of f in an iteration."""
    tolerance: Positive = 1e-4
    """The residual below which a position counts as converged."""


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    injected: Tensor
    """(batch, position, width): the embedded tokens."""
    positions: Positions


class State(NamedTuple):
    """The iterate and its residual."""

    h: Tensor
    """(batch, position, width)"""
    gap: Tensor
    """(batch, position): ‖f(h) - h‖ / ‖f(h)‖ at the previous iterate; 1 before the loop."""


class Equilibrium(LoopedModule):
    """A transformer of implicit depth. Causal: a position attends to itself and earlier ones."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.iterations, config.vocabulary, State._fields)
        check_choices(config, "solver")
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
        """The map whose fixed point is the output."""
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
        return solver_rule(self.config.tolerance)

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
    """sum_i w_i f(x_i), with weights that sum to one and minimise ‖sum_i w_i (f(x_i) - x_i)‖ at
    each position.

    Arguments:
        iterates, images: x_i and f(x_i), (batch, position, width) each. The weights have no
            gradient.
    """
    with torch.no_grad():
        f = torch.stack(images, 2).double()
        gaps = f - torch.stack(iterates[: len(images)], 2).double()
        gaps = gaps / gaps.norm(dim=3).amax(2)[..., None, None].clamp(min=1e-300)
        gram = gaps @ gaps.mT
        # Constrained least squares: gram w = const with sum 1. The ridge makes the solution unique
        # where two residuals are equal.
        ridge = 1e-10 * torch.eye(len(images), dtype=gram.dtype, device=gram.device)
        ones = gram.new_ones(*gram.shape[:-1], 1)
        weights = torch.linalg.solve(gram + ridge, ones)
        weights = (weights / weights.sum(2, keepdim=True)).to(images[0])
    return (weights * torch.stack(images, 2)).sum(2)


def _gap(h: Tensor, f: Tensor) -> Tensor:
    return ((f - h).norm(dim=2) / f.norm(dim=2).clamp(min=1e-30)).detach()


Model = Equilibrium

RECIPES = {
    # Regularised, and on short strings: the implicit gradient is that of the loss only if the loop
    # converges. See the card.
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
