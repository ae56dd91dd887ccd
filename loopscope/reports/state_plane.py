"""The plane of the first two principal components of a run's states, and the paths in it."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray as Array
from torch import Tensor

from ..maths.leading_directions import leading_directions
from ..plots.heatmaps import token_label
from ..recorder.labels import inputs_of, labels_of, symbol_of
from ..runs.run import Run
from ..runs.run_mask import mask_at

VECTORS = 20_000
"""State vectors that the components are fitted to."""
EXAMPLES, SINGLE, MOST = 6, 3, 16
"""Examples drawn together; those that are drawn by themselves; positions drawn of one."""
REST = 0.01
"""A state hardly moves when its last step is shorter than this part of its largest distance from
its end."""


@dataclass(frozen=True)
class StatePlane:
    """The states of a run in the plane of two principal components."""

    iterations: Sequence[int]
    states: Float[Array, "state batch position 2"]
    shares: tuple[float, float]
    """Of the variance, by component."""
    drawn: Bool[Array, "batch position"]
    """The positions that are drawn: those with an answer to give, or else all that count."""
    resting: Bool[Array, "batch position"]
    """Whether the last step is nearly none; see REST."""
    names: list[list[str]]
    """What is under the pointer, by example and position."""
    answers: list[list[str]] | None
    """The correct answers, by example and position; None where they aren't known."""

    @functools.cached_property
    def positions(self) -> dict[int, list[int]]:
        """The positions that are drawn, of the first examples that have any."""
        rows = np.flatnonzero(self.drawn.any(1))[:EXAMPLES].tolist()
        return {b: np.flatnonzero(self.drawn[b]).tolist() for b in rows}


@dataclass(frozen=True)
class Path:
    """One position of one example, as a view draws it."""

    example: int
    position: int
    caption: str = ""


def state_plane(run: Run) -> StatePlane | None:
    """The plane; None if states aren't finite, have one number only, or never differ, or if later
    iterations have other positions."""
    ks = run.states.iterations
    if len({run.states[k].shape for k in ks}) > 1:
        return None
    states = torch.stack([run.states[k].detach().float().cpu() for k in ks]).numpy()
    mask = mask_at(run, run.states).numpy()
    if not np.isfinite(states[:, mask]).all() or states.shape[-1] < 2:
        return None
    labels = labels_of(run)
    drawn = mask
    if labels is not None and labels.mask.shape == mask.shape and bool(labels.mask.any()):
        drawn = labels.mask.numpy() & mask
    flat = states[:, drawn].reshape(-1, states.shape[-1])
    sample = np.random.default_rng(0).permutation(len(flat))[:VECTORS]
    if (flat[sample] == flat[sample[0]]).all():
        return None
    centre, axes, shares = _plane(torch.from_numpy(flat[sample]).double())
    safe = np.where(mask[None, :, :, None], states, 0.0)
    size = np.linalg.norm(safe - safe[-1], axis=-1).max(0)
    last = np.linalg.norm(safe[-1] - safe[-2], axis=-1)
    names, answers = _names(run, mask.shape)
    return StatePlane(
        iterations=ks,
        states=((safe.reshape(-1, safe.shape[-1]) - centre) @ axes).reshape(*safe.shape[:-1], 2),
        shares=shares,
        drawn=drawn,
        resting=last <= REST * size,
        names=names,
        answers=answers,
    )


def _plane(
    x: Float[Tensor, "vector width"],
) -> tuple[Float[Array, " width"], Float[Array, "width 2"], tuple[float, float]]:
    """(the vectors' mean, the two principal directions, each one's share of the variance)."""
    mean = x.mean(0)
    x = x - mean
    found, sizes = leading_directions(x, 2)
    axes, shares = torch.zeros(x.shape[1], 2), torch.zeros(2).double()
    axes[:, : len(found)], shares[: len(found)] = found.T, sizes.square() / x.square().sum()
    return mean.float().numpy(), axes.numpy(), (float(shares[0]), float(shares[1]))


def _names(run: Run, shape: tuple[int, ...]) -> tuple[list[list[str]], list[list[str]] | None]:
    """`names` and `answers` of a plane."""
    inputs, labels, symbol = inputs_of(run), labels_of(run), symbol_of(run)
    batch, positions = shape
    names = [[f"example {b}, position {p}" for p in range(positions)] for b in range(batch)]
    if inputs is None or len(inputs[0]) != positions:
        return names, None
    names = [
        [f"{name}, input {token_label(token)}" for name, token in zip(row, tokens, strict=True)]
        for row, tokens in zip(names, inputs, strict=True)
    ]
    if labels is None:
        return names, None
    answers = [[symbol(token) for token in row] for row in labels.targets.tolist()]
    names = [
        [
            f"{name}, correct answer {token_label(answer)}" if wanted else name
            for name, answer, wanted in zip(row, line, mask, strict=True)
        ]
        for row, line, mask in zip(names, answers, labels.mask.tolist(), strict=True)
    ]
    return names, answers


def last_positions(plane: StatePlane) -> list[Path]:
    """The last position of each example."""
    return [Path(b, positions[-1]) for b, positions in plane.positions.items()]


def single_examples(plane: StatePlane) -> dict[str, list[Path]]:
    """The positions of single examples that have several, by what the menu says of them."""
    views = {}
    for b, positions in list(plane.positions.items())[:SINGLE]:
        some = positions[:: -(-len(positions) // MOST)]
        which = "all" if len(some) == len(positions) else f"{len(some)} of"
        if len(positions) > 1:
            views[f"example {b}, {which} {len(positions)} positions"] = [Path(b, p, str(p)) for p in some]
    return views
