"""Normalised effects of patches, example by example: their means with intervals, and the best
position of each example, measured with another donor than it was chosen with."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.evidence import Estimate, estimate
from loopscope.patching import effects
from loopscope.patching.effects_result import Effects
from loopscope.patching.patch_grid import with_sites
from loopscope.patching.replacements import Replacement, replacement_for
from loopscope.runs.location import Place
from loopscope.runs.run import Run

from .third_answers import split, with_third_answers


@dataclass(frozen=True)
class NormalisedEffects:
    """The effects of one patch of each iteration in each example (a pair of an example and its
    donor)."""

    changes: Float[Tensor, "iteration example"]
    """Of the metric, by the patch; NaN where an example has none."""
    differences: Float[Tensor, " example"]
    """The donor's metric minus the run's: a whole effect."""

    def mean(self, rows: Tensor | None = None) -> Float[Tensor, " iteration"]:
        """Mean change over mean difference, of these examples (None: all); NaN where none has
        both."""
        changes, differences = self.changes, self.differences.expand_as(self.changes)
        if rows is not None:
            changes, differences = changes[:, rows], differences[:, rows]
        present = ~(changes.isnan() | differences.isnan())
        return changes.where(present, 0).sum(1) / differences.where(present, 0).sum(1)

    def of(self, rows: Tensor) -> "NormalisedEffects":
        """Those of these examples."""
        return NormalisedEffects(self.changes[:, rows], self.differences[rows])

    def estimate(self, name: str, i: int) -> Estimate:
        """The effect at the i-th iteration with its 95 % interval over examples."""
        part = NormalisedEffects(self.changes[i : i + 1], self.differences)
        return estimate(name, lambda rows: float(part.mean(rows)), len(self.differences))

    def is_whole(self, i: int, threshold: float) -> bool:
        """Whether the effect at the i-th iteration is at least this in every example."""
        shares = self.changes[i] / self.differences
        return bool((shares[~shares.isnan()] >= threshold).all()) and bool((~shares.isnan()).any())

    def largest_fall(self, iterations: Sequence[int]) -> Estimate | None:
        """How much the mean effect falls from one iteration to a later one, at most; None where its
        interval doesn't exclude that it never falls."""
        means = self.mean().nan_to_num()
        highest = means.cummax(0)
        j = int((highest.values - means).argmax())
        i = int(highest.indices[j])
        name = f"fall of the normalised effect of the whole state from {iterations[i]} to {iterations[j]}"
        part = NormalisedEffects(self.changes[[i, j]], self.differences)
        fall = estimate(name, lambda rows: float(-part.mean(rows).diff()), len(self.differences))
        return fall if fall.low > 0 else None

    def intervals(self) -> Float[Tensor, "iteration 2"]:
        """The 95 % interval at each iteration; NaN for a single example."""
        all = [self.estimate("", i) for i in range(len(self.changes))]
        return torch.tensor([[one.low, one.high] for one in all])


def whole_effects(grid: Effects) -> NormalisedEffects:
    """The effects of a grid whose only group of positions is all of them."""
    assert grid.target is not None
    return NormalisedEffects(_counted_values(grid)[:, 0], grid.target - grid.base)


def best_position_effects(
    run: Run, grid: Effects, donor: Run, *, sites: list[str], answer_positions: Tensor
) -> tuple[NormalisedEffects, Float[Tensor, "iteration example"]]:
    """The effects of the best position of each example, by a pass of its own, and the fraction of
    its answers that are third ones. The largest of many effects is too large an estimate of what
    that position does; measured with another donor than it was chosen with, it isn't.

    Arguments:
        grid: the effects by which positions are chosen, each position by itself.
        donor: from which they are patched.
    """
    best = _counted_values(grid).nan_to_num(-torch.inf, torch.inf).argmax(1)  # (iteration, example)
    numbers = torch.tensor([group[0] for group in grid.positions], device=best.device)
    chosen = dict(zip(grid.iterations, numbers[best], strict=True))
    donor = with_sites(donor, sites)
    metric = with_third_answers(run, donor, answer_positions)
    patched, third = split(
        effects(
            run,
            _at_chosen(replacement_for(run, donor)[0], chosen),
            sites=sites,
            jointly=True,
            iterations=grid.iterations,
            positions="all",
            metric=metric,
        )
    )
    base = run.logits[run.iterations]
    difference = (metric(donor.logits[donor.iterations].expand_as(base)) - metric(base))[:, 0]
    return NormalisedEffects(_counted_values(patched)[:, 0], difference.detach()), third


def _at_chosen(replacement: Replacement, chosen: dict[int, Tensor]) -> Replacement:
    """The replacement, at one position of each example alone.

    Arguments:
        chosen: by iteration, the position of each example.
    """

    def at_chosen(place: Place, iteration: int, value: Tensor) -> Tensor:
        axis = place.axis("position")
        assert axis is not None
        here = torch.nn.functional.one_hot(chosen[iteration], value.shape[axis]).bool().to(value.device)
        here = here.reshape([n if a in (0, axis) else 1 for a, n in enumerate(value.shape)])
        return torch.where(here, replacement(place, iteration, value).to(value.dtype), value)

    return at_chosen


def _counted_values(grid: Effects) -> Float[Tensor, "iteration position example"]:
    """The effects of a grid of one site; NaN where an example doesn't count."""
    values = grid.values[0, :, :, 0]
    return values if grid.counted is None else values.where(grid.counted, torch.nan)
