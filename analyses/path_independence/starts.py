"""Where a loop ends from other starts, and the search for adversarial ones."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.dynamics.followed_starts import FollowedStarts
from loopscope.dynamics.iteration_map import IterationMap

from .alignment import cosine
from .ends import Ends, Goal, follow_to_end, run_to_end


@dataclass(frozen=True)
class Restart:
    """A loop that is run again from other starts."""

    loop: IterationMap
    origin: Float[Tensor, "example number"]
    """The model's own start for each example."""
    free: Bool[Tensor, " number"]
    """The numbers of a state that a start sets; the others keep the model's own start."""
    iterations: int
    goal: Goal | None
    """Of each example; None for a loop that isn't the same map in every iteration."""

    def away(self, values: Float[Tensor, "example start free"]) -> Float[Tensor, "example start"]:
        """How far starts are from the model's own, in the primary tensor."""
        batch, count, _ = values.shape
        starts = self._whole(values)
        own = self.loop.primary(self.origin).flatten(1)[:, None]
        return (self.loop.primary(starts.flatten(0, 1)).reshape(batch, count, -1) - own).norm(dim=2)

    def starts(self, values: Float[Tensor, "example start free"]) -> Float[Tensor, "example start number"]:
        """Whole states to start from."""
        return torch.stack([self.loop.cleaned(start) for start in self._whole(values).unbind(1)], 1)

    def run(self, begun: FollowedStarts) -> Ends:
        """Where the loop ends from these starts, (example, start, number).

        Arguments:
            begun: the starts, and how far they were followed.
        """
        batch, count, _ = begun.starts.shape
        repeated = self.loop.select_rows([row for row in range(batch) for _ in range(count)])
        if self.goal is None:
            ends = run_to_end(repeated, begun.starts.flatten(0, 1), self.iterations)
        else:
            each = [part.repeat_interleave(count, 0) for part in vars(self.goal).values()]
            there = Ends(begun.states.flatten(0, 1), begun.earlier.flatten(0, 1), -1)
            ends = follow_to_end(
                repeated, there, begun.iterations.flatten(), self.iterations, goal=Goal(*each)
            )
        states, earlier = (part.reshape(begun.starts.shape) for part in (ends.states, ends.earlier))
        return Ends(states, earlier, ends.overflow)

    def _whole(self, values: Float[Tensor, "example start free"]) -> Float[Tensor, "example start number"]:
        starts = self.origin[:, None].repeat(1, values.shape[1], 1)
        starts[:, :, self.free] = values
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
