"""Other starts of a loop, ordinary and adversarial, and where the loop ends from them."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.common.rng import mixed
from loopscope.dynamics.iteration_map import IterationMap
from loopscope.dynamics.limit_point import is_growing

from .alignment import cosine


@dataclass(frozen=True)
class Ends:
    """Where trajectories end."""

    states: Float[Tensor, "row number"]
    overflow: int
    """The k of the first state with NaN or infinity, the start being 0; -1 if there is none."""
    is_growing: Bool[Tensor, " row"]
    """Which trajectories grow without bound."""
    span: Float[Tensor, " row"]
    """The largest distance from the start."""
    first_step: Float[Tensor, " row"]


def run_to_end(loop: IterationMap, x: Float[Tensor, "row number"], iterations: int) -> Ends:
    """Apply the loop `iterations` times."""
    overflow, away, steps, start = -1, [], [], x
    for k, y in enumerate(loop.trajectory(x, iterations)):
        steps += [(y - x).norm(dim=1)] if k else []
        x = y
        away.append((x - start).norm(dim=1))
        if overflow < 0 and not bool(x.isfinite().all()):
            overflow = k
    distances = torch.stack(away)
    growing = is_growing(distances, torch.stack(steps))
    return Ends(x, overflow, growing, distances.nan_to_num(0.0, 0.0, 0.0).amax(0), steps[0])


@dataclass(frozen=True)
class Restart:
    """A loop that is run again from other starts."""

    loop: IterationMap
    origin: Float[Tensor, "example number"]
    """The model's own start for each example."""
    free: Bool[Tensor, " number"]
    """The numbers of a state that a start sets; the others keep the model's own start."""
    iterations: int

    def away(self, values: Float[Tensor, "example start free"]) -> Float[Tensor, "example start"]:
        """How far starts are from the model's own, in the primary tensor."""
        batch, count, _ = values.shape
        starts = self.origin[:, None].repeat(1, count, 1)
        starts[:, :, self.free] = values
        own = self.loop.primary(self.origin).flatten(1)[:, None]
        return (self.loop.primary(starts.flatten(0, 1)).reshape(batch, count, -1) - own).norm(dim=2)

    def run(self, values: Float[Tensor, "example start free"]) -> tuple[Tensor, int]:
        """The results (example, start, number), and the k of the first state with NaN or infinity,
        -1 if there is none."""
        batch, count, _ = values.shape
        starts = self.origin[:, None].repeat(1, count, 1)
        starts[:, :, self.free] = values
        starts = torch.stack([self.loop.cleaned(start) for start in starts.unbind(1)], 1)
        repeated = self.loop.select_rows([row for row in range(batch) for _ in range(count)])
        ends = run_to_end(repeated, starts.flatten(0, 1), self.iterations)
        return ends.states.reshape(starts.shape), ends.overflow


def random_starts(
    restart: Restart, ends: Float[Tensor, "example number"], count: int, seed: int
) -> Float[Tensor, "example start free"]:
    """Normal numbers of the ends' root mean square."""
    scale = ends[:, restart.free].square().mean(1, keepdim=True).sqrt()
    scale = torch.where(scale.isfinite() & (scale > 0), scale, torch.ones_like(scale))
    generator = torch.Generator().manual_seed(mixed(seed, 2))
    shape = (len(ends), count, int(restart.free.sum()))
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64).to(restart.origin)
    return drawn * scale[:, None]


def ordinary_starts(
    restart: Restart,
    ends: Float[Tensor, "example number"],
    random: Float[Tensor, "example start free"],
    exchanged: int,
) -> dict[str, Tensor]:
    """Starts (example, start, free) by kind: the ends of `exchanged` other examples, zero, random
    ones."""
    starts = {}
    if exchanged:
        shifted = [ends.roll(-shift, 0) for shift in range(1, exchanged + 1)]
        starts["exchanged"] = torch.stack(shifted, 1)[:, :, restart.free]
    starts["zero"] = torch.zeros_like(restart.origin[:, None, restart.free])
    if random.shape[1]:
        starts["random"] = random
    return starts


def adversarial_starts(
    restart: Restart,
    ends: Float[Tensor, "example number"],
    values: Float[Tensor, "example 1 free"],
    steps: int,
) -> Float[Tensor, "example 1 free"]:
    """Starts moved by gradient ascent on 1 - cosine at constant norm; the worst start of each
    example is returned."""
    loop = restart.loop
    goal = loop.primary(ends).flatten(1).detach()
    norm = values[:, 0].norm(dim=1, keepdim=True)
    x, best, lowest = values[:, 0], values[:, 0], torch.full_like(goal[:, 0], 2.0)
    for _ in range(steps + 1):
        x = x.detach().requires_grad_()
        state = restart.origin.clone()
        state[:, restart.free] = x
        state = loop.cleaned(state)
        for t in range(restart.iterations):
            state = loop(state, t)
        alignment = cosine(loop.primary(state).flatten(1), goal)
        lower = (alignment < lowest).detach()
        best = torch.where(lower[:, None], x.detach(), best)
        lowest = torch.where(lower, alignment.detach(), lowest)
        (slope,) = torch.autograd.grad(alignment.nan_to_num().sum(), x)
        size = slope.norm(dim=1, keepdim=True)
        move = torch.where(size > 0, slope / size, torch.zeros_like(slope)) * norm
        x = x.detach() - 0.5 * move
        x = x * norm / x.norm(dim=1, keepdim=True).clamp(min=1e-300)
    return best[:, None]
