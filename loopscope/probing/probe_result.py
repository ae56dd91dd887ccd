"""The scores of linear probes with their controls, and the probes' weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..common.errors import LoopscopeError
from ..maths.precision import wide
from .labels import Kind

SETTINGS = (
    "kind",
    "sites",
    "iterations",
    "positions",
    "classes",
    "groups",
    "folds",
    "seed",
    "features",
    "notes",
)
"""The fields of probes that JSON holds as they are."""


@dataclass(frozen=True)
class Probe:
    """One probe, trained on all examples."""

    weight: Float[Tensor, "width column"]
    bias: Float[Tensor, " column"]
    classes: tuple[Any, ...]
    """The class of each column; empty for numbers."""

    def scores(self, states: Float[Tensor, "*axes width"]) -> Float[Tensor, "*axes column"]:
        """The score of each class, or the predicted number.

        Raises:
            LoopscopeError: states of another width.
        """
        if states.shape[-1] != len(self.weight):
            raise LoopscopeError(
                f"this probe reads states of width {len(self.weight)}, but got {tuple(states.shape)}."
            )
        x = wide(states)
        return x @ self.weight.to(x.device) + self.bias.to(x.device)

    def predict(self, states: Float[Tensor, "*axes width"]) -> Float[Tensor, "*axes"] | Int[Tensor, "*axes"]:
        """The predicted labels or numbers; for classes that are words their indices in
        `classes`."""
        scores = self.scores(states)
        if not self.classes:
            return scores[..., 0]
        best = scores.argmax(-1)
        if any(isinstance(label, str) for label in self.classes):
            return best
        return torch.tensor(self.classes, device=best.device)[best]


@dataclass(frozen=True)
class ProbeResult:
    """Scores and weights of the probes of every site, iteration and position."""

    kind: Kind
    sites: tuple[str, ...]
    iterations: tuple[int, ...]
    positions: tuple[int | str, ...]
    """Positions, or "shared" (one probe for all positions), or "pooled" (of the mean over
    positions)."""
    score: Float[Tensor, "site iteration position"]
    """Accuracy; R² for numbers. On held-out groups."""
    low: Float[Tensor, "site iteration position"]
    """Lower end of the 95 % interval, over groups, not rows. It does not include the variation
    between training sets."""
    high: Float[Tensor, "site iteration position"]
    control: Float[Tensor, "site iteration position"]
    """Score with control labels: shuffled between examples, or drawn by token type (Hewitt & Liang
    2019); the average of several."""
    random: Float[Tensor, "site iteration position"]
    """Score with random features in place of the states: see `features`."""
    baseline: Float[Tensor, "site iteration position"]
    """Score from the baseline labels only; NaN without any."""
    majority: Float[Tensor, "site iteration position"]
    """Score of the most frequent class; 0 for numbers, whose mean has R² 0."""
    rows: Int[Tensor, "site iteration position"]
    classes: tuple[Any, ...]
    groups: int
    """Number of groups of examples. A group is never on both sides of a split."""
    folds: int
    seed: int
    features: str
    """Description of the random features."""
    notes: tuple[str, ...]
    origin: Mapping[str, Any] = field(repr=False)
    identity: Int[Tensor, " batch"] = field(repr=False)
    """A hash of each example's input, so that a transfer never tests on training examples."""
    fold: Int[Tensor, " batch"] = field(repr=False)
    labels: Tensor = field(repr=False)
    """(batch) or (batch, position): class numbers, or numbers."""
    mask: Bool[Tensor, "..."] = field(repr=False)
    weights: Mapping[tuple[int, int, int], Float[Tensor, "fold width column"]] = field(repr=False)
    """By index (site, iteration, position): trained without each fold; the last on all examples."""
    biases: Mapping[tuple[int, int, int], Float[Tensor, "fold column"]] = field(repr=False)

    def at(self, iteration: int, site: str | None = None, position: int | str | None = None) -> Probe:
        """One probe, trained on all examples.

        Arguments:
            iteration: k for the state, t for a site inside the loop; negative counts from the end.
            site, position: needed where there are several.

        Raises:
            LoopscopeError: there is no such probe, or it was not kept.
        """
        index = self.index(iteration, site, position)
        if index not in self.weights:
            raise LoopscopeError(
                "this probe was not kept: it could not be trained, or an estimator made it. Fit without "
                "estimator=."
            )
        return Probe(self.weights[index][-1], self.biases[index][-1], self.classes)

    @property
    def selectivity(self) -> Float[Tensor, "site iteration position"]:
        """Score minus the score with control labels (Hewitt & Liang 2019, arXiv 1909.03368)."""
        return self.score - self.control

    @property
    def accuracy(self) -> Float[Tensor, "site iteration position"]:
        """The score, of classes.

        Raises:
            LoopscopeError: the labels are numbers.
        """
        if self.kind != "classes":
            raise LoopscopeError("numbers have no accuracy, but R²: read .score.")
        return self.score

    @property
    def chance(self) -> float:
        """The accuracy of guessing evenly among the classes; 0 for numbers."""
        return 1 / len(self.classes) if self.kind == "classes" else 0.0

    @property
    def floor(self) -> Float[Tensor, "site iteration position"]:
        """The best score without the trained states: of control labels, random features, majority
        and baseline labels."""
        nothing = torch.tensor(-torch.inf, dtype=self.score.dtype)
        parts = [self.control, self.random, self.baseline, self.majority]
        best = torch.stack([torch.where(part.isnan(), nothing, part) for part in parts]).amax(0)
        return torch.where(self.score.isnan(), torch.nan, best)

    @property
    def decodable(self) -> Bool[Tensor, "site iteration position"]:
        """Where the labels can be decoded: the lower end of the interval is above control and
        majority."""
        return self.low > torch.fmax(self.control, self.majority)

    @property
    def learned(self) -> Bool[Tensor, "site iteration position"]:
        """Where they can be decoded because of training: the lower end of the interval is above the
        whole floor, random features included."""
        return self.low > self.floor

    def index(
        self, iteration: int, site: str | None = None, position: int | str | None = None
    ) -> tuple[int, int, int]:
        """The index (site, iteration, position) of one probe in the scores; arguments as of `at`.

        Raises:
            LoopscopeError: there is no such probe, or there are several.
        """
        if site is None and len(self.sites) > 1:
            raise LoopscopeError(f"there are probes of several sites: pass site=, one of {list(self.sites)}.")
        if position is None and len(self.positions) > 1:
            raise LoopscopeError("there are probes of several positions: pass position=.")
        s = _index(self.sites, next(iter(self.sites)) if site is None else site, "site")
        p = _index(self.positions, next(iter(self.positions)) if position is None else position, "position")
        k = iteration + self.iterations[-1] + 1 if iteration < 0 else iteration
        return s, _index(self.iterations, k, "iteration"), p


def _index(names: Sequence[Any], name: Any, axis: str) -> int:
    if axis == "position" and isinstance(name, int) and name < 0:
        name += int(names[-1]) + 1 if isinstance(names[-1], int) else 0
    if name not in names:
        raise LoopscopeError(
            f"there is no probe at {axis} {name!r}. There are: {', '.join(map(str, names))}."
        )
    return names.index(name)
