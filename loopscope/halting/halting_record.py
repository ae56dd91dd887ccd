"""Halting: when each position of one run stopped, whatever mechanism decided it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from ..runs.run import Run


@dataclass(frozen=True)
class Halting:
    """Halting weights and what follows from them. Iterations are 0-based: a position that used one
    halted in iteration 0.

    >>> model = ls.models.load("universal-prefix-parity-act")
    >>> run = ls.record(model, model.task.batch(4, seed=0).tokens)
    >>> run.halting.iteration.shape                  # (batch, position): where each position halted
    torch.Size([4, 17])
    """

    weights: Float[Tensor, "iteration batch position"]
    """Share of each iteration in the output; sums to one over the iterations."""
    iteration: Int[Tensor, "batch position"]
    """The iteration in which the position halted, or the last one where the loop ended first."""
    halted: Bool[Tensor, "batch position"]
    """False where the loop ended before the position had halted."""
    remainder: Float[Tensor, "batch position"]
    """Weight of the last iteration used, Graves' R, 0..1."""
    cost: Float[Tensor, "batch position"]
    """Ponder cost N + R, with N the number of iterations used (Graves 2016, arXiv 1603.08983)."""
    kind: str = "model's own halting"
    """What decided it, in words, such as "adaptive computation time". Files written before this
    field existed have the default."""


def act_halting(run: "Run") -> Halting:
    """Adaptive computation time, read from the run's states (Graves 2016, arXiv 1603.08983).

    The state's `mass` is the cumulative halting probability; its differences are the weights. Where
    the loop ended first, the last iteration gets the rest, as in the read-out.
    """
    mass = run["state.mass"].tensor.float()
    weights = mass.diff(dim=0)
    halted = mass[-1] >= 1
    if len(weights):
        weights = torch.cat([weights[:-1], weights[-1:] + (1 - mass[-1:])])
    count = run["state.count"][-1].float()
    iteration = (count.long() - 1).clamp(min=0)
    remainder = run["state.remainder"][-1].float()
    return Halting(weights, iteration, halted, remainder, count + remainder, "adaptive computation time")


def exit_weights(chances: Float[Tensor, "iteration ..."]) -> Float[Tensor, "iteration ..."]:
    """The exit distribution over iterations: p_t = lambda_t prod_(j<t) (1 - lambda_j); the last
    iteration takes the rest.

    Sums to one over the iterations, as in Ouro's exit gate (arXiv 2510.25741) and PonderNet (arXiv
    2107.05407).

    Arguments:
        chances: lambda_t, the probability of stopping after iteration t if the loop has not stopped
            before.
    """
    survival = torch.cat([torch.ones_like(chances[:1]), (1 - chances[:-1]).cumprod(0)])
    return torch.cat([survival[:-1] * chances[:-1], survival[-1:]])


def exit_halting(
    chances: Float[Tensor, "iteration batch position"], threshold: float, kind: str = "exit gate"
) -> Halting:
    """Halting by an exit gate: a position stops after the first iteration at which the cumulative
    probability of stopping reaches `threshold`.

    Arguments:
        chances: lambda_t after each iteration of the run.
        threshold: of the cumulative probability, 0..1. A position that doesn't reach it has not
            halted.
    """
    weights = exit_weights(chances)
    reached = 1 - (1 - chances).cumprod(0) >= threshold
    halted = reached.any(0)
    last = torch.full_like(reached[0], len(chances) - 1, dtype=torch.long)
    iteration = torch.where(halted, reached.int().argmax(0), last)
    remainder = weights.gather(0, iteration[None])[0]
    return Halting(weights, iteration, halted, remainder, iteration + 1 + remainder, kind)


def gate_halting(run: "Run", gate: Callable[[Tensor], Tensor], threshold: float) -> Halting | None:
    """Halting by a gate that reads every state without being part of the loop; None for a run of no
    iterations.

    Arguments:
        gate: (batch, position, width) -> (batch, position), the probability of stopping after
            the iteration that made the state.
        threshold: as in `exit_halting`.
    """
    if run.iterations == 0:
        return None
    if "halting" in run:  # recorded, with the edits of the run applied
        chances = torch.sigmoid(run["halting"].tensor[..., 0])
    else:
        chances = torch.stack([gate(run.states[k]).detach() for k in range(1, run.iterations + 1)])
    return exit_halting(chances.float(), threshold)


def q_halting(run: "Run", cycles: int) -> Halting:
    """Halting by a Q-head, which reads the state at the end of every segment (Wang et al. 2025,
    arXiv 2506.21734).

    A sequence, with all its positions, halts at the end of the first segment of `cycles` iterations
    where the model's `q_values` decide it: halt > 0, or halt > continue where there are two. The
    run itself went on.
    """
    n, (batch, positions) = run.iterations, run.states[0].shape[:2]
    ends = list(range(cycles, n + 1, cycles))
    halts = torch.zeros(len(ends), batch, dtype=torch.bool)
    for place, k in enumerate(ends):
        q = run.model.q_values(run.state(k)).detach().cpu()
        halts[place] = q[:, 0] > (q[:, 1] if q.shape[1] > 1 else 0)
    halted = halts.any(0)
    first = torch.tensor(ends or [n])[halts.int().argmax(0) if ends else torch.zeros(batch, dtype=torch.long)]
    iteration = torch.where(halted, first - 1, max(n - 1, 0))[:, None].expand(batch, positions)
    weights = (torch.arange(n)[:, None, None] == iteration).float()
    used = iteration.float() + 1
    return Halting(
        weights,
        iteration,
        halted[:, None].expand(batch, positions),
        torch.ones_like(used),
        used + 1,
        "Q-head",
    )


def solver_halting(run: "Run", tolerance: float) -> Halting | None:
    """Halting by a solver's tolerance, read from the state's `gap`: the residual of the previous
    iterate. None for a run of no iterations.

    A position halts in the first iteration whose residual is below `tolerance`. The loop itself
    ends when all positions are below it at once; until then another position can move it again.
    """
    if run.iterations == 0:
        return None
    converged = run["state.gap"].tensor[1:] < tolerance
    halted = converged.any(0)
    iteration = torch.where(halted, converged.int().argmax(0), len(converged) - 1)
    weights = (torch.arange(len(converged), device=converged.device)[:, None, None] == iteration).float()
    one = torch.ones_like(iteration, dtype=torch.float)
    return Halting(weights, iteration, halted, one, iteration + 2 * one, "solver tolerance")
