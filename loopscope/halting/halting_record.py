"""When each position stopped: the halting of one run, whatever mechanism decided it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Halting:
    """Halting weights and what follows from them. Iterations are 0-based: a position that used one
    halted in iteration 0."""

    weights: Float[Tensor, "iteration batch position"]
    """Share of each iteration in the output; sums to one over the iterations."""
    iteration: Int[Tensor, "batch position"]
    """The iteration in which the position halted, or the last one where the loop ended first."""
    halted: Bool[Tensor, "batch position"]
    """False where the loop ended before the position had halted."""
    remainder: Float[Tensor, "batch position"]
    """Weight of the last iteration used, Graves' R."""
    cost: Float[Tensor, "batch position"]
    """Ponder cost N + R, with N the number of iterations used."""
    kind: str = "model's own halting"
    """What decided it, in words, such as "adaptive computation time". Files from before this was
    told have the default."""


def act_halting(run: Any) -> Halting:
    """Adaptive computation time, read from the run's states (Graves 2016, arXiv 1603.08983).

    The state's `mass` is the halting probability spent; its differences are the weights. Where the
    loop ended first, the last iteration gets what is left, as in the read-out.
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
    """The chance of stopping after each iteration: p_t = lambda_t prod_(j<t) (1 - lambda_j); the
    last takes what is left.

    Sums to one over the iterations. As in Ouro's exit gate (arXiv 2510.25741) and PonderNet (arXiv
    2107.05407).

    Arguments:
        chances: lambda_t, the chance of stopping after iteration t for what has come so far.
    """
    going = torch.cat([torch.ones_like(chances[:1]), (1 - chances[:-1]).cumprod(0)])
    return torch.cat([going[:-1] * chances[:-1], going[-1:]])


def exit_halting(
    chances: Float[Tensor, "iteration batch position"], threshold: float, kind: str = "exit gate"
) -> Halting:
    """Halting by an exit gate: a position stops after the first iteration by which the summed
    chance reaches `threshold`.

    Arguments:
        chances: lambda_t after each iteration of the run.
        threshold: of the cumulative distribution, 0..1; one that isn't reached before the last
            iteration counts as not halted.
    """
    weights = exit_weights(chances)
    passed = 1 - (1 - chances).cumprod(0) >= threshold
    halted = passed.any(0)
    last = torch.full_like(passed[0], len(chances) - 1, dtype=torch.long)
    iteration = torch.where(halted, passed.int().argmax(0), last)
    remainder = weights.gather(0, iteration[None])[0]
    return Halting(weights, iteration, halted, remainder, iteration + 1 + remainder, kind)


def gate_halting(run: Any, gate: Callable[[Tensor], Tensor], threshold: float) -> Halting | None:
    """Halting by a gate that reads every state and isn't part of it; None for a run of no
    iterations.

    Arguments:
        gate: (batch, position, width) -> (batch, position), the chance of stopping after the
            iteration that made a state.
        threshold: as in `exit_halting`.
    """
    if run.iterations == 0:
        return None
    if "halting" in run:  # the gate as it was asked, with what an edit made of it
        chances = torch.sigmoid(run["halting"].tensor[..., 0])
    else:
        chances = torch.stack([gate(run.states[k]).detach() for k in range(1, run.iterations + 1)])
    return exit_halting(chances.float(), threshold)


def q_halting(run: Any, cycles: int) -> Halting:
    """Halting by a head that judges the state at the end of every segment (Wang et al. 2025, arXiv
    2506.21734).

    A sequence, with all its positions, halts at the end of the first segment of `cycles` iterations
    where the model's `q_values` say so: halt > 0, or halt > continue where there are two. The run
    went on all the same.
    """
    n, (batch, positions) = run.iterations, run.states[0].shape[:2]
    ends = list(range(cycles, n + 1, cycles))
    wants = torch.zeros(len(ends), batch, dtype=torch.bool)
    for place, k in enumerate(ends):
        q = run.model.q_values(run.state(k)).detach().cpu()
        wants[place] = q[:, 0] > (q[:, 1] if q.shape[1] > 1 else 0)
    halted = wants.any(0)
    first = torch.tensor(ends or [n])[wants.int().argmax(0) if ends else torch.zeros(batch, dtype=torch.long)]
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


def solver_halting(run: Any, tolerance: float) -> Halting | None:
    """Halting by a solver's tolerance, read from the state's `gap`: the residual of the iterate
    before. None for no iterations.

    A position halts in the first iteration whose residual is below `tolerance`, as a solver would
    that gave it up then. The loop itself ends when all are below it at once, so that a position can
    come to rest, be moved by another, and rest again.
    """
    if run.iterations == 0:
        return None
    rests = run["state.gap"].tensor[1:] < tolerance
    halted = rests.any(0)
    iteration = torch.where(halted, rests.int().argmax(0), len(rests) - 1)
    weights = (torch.arange(len(rests), device=rests.device)[:, None, None] == iteration).float()
    one = torch.ones_like(iteration, dtype=torch.float)
    return Halting(weights, iteration, halted, one, iteration + 2 * one, "solver tolerance")
