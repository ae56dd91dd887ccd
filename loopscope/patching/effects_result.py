"""The result of a grid of patches, with its figure."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jaxtyping import Bool, Float
from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from ..core.masked import masked_mean
from ..core.sites import is_state
from .effects_display import EffectsDisplay, position_names
from .figures import ITERATION, ITERATIONS_RUN, effect_map

if TYPE_CHECKING:
    import plotly.graph_objects as go

Method = Literal["exact", "attribution"]


@dataclass(frozen=True)
class AttributionAgreement:
    """Agreement of attribution patching with exact patches, on cells drawn at random."""

    cells: int
    correlation: float
    """Pearson's, over cells and examples."""
    same_sign: float
    """Fraction of them whose estimate has the sign of the exact effect, where that is not 0."""


@dataclass(frozen=True)
class Effects(EffectsDisplay):
    """The effect of each patch on the metric. Made by `loopscope.effects`."""

    values: Float[Tensor, "site iteration position head batch ..."]
    """Metric of the patched pass minus metric of the run; NaN where a site has no value, or an
    example has no metric."""
    sites: tuple[str, ...]
    """Each turn of an inner loop is a site, such as "low=0 core.0.hook_resid_post"."""
    iterations: tuple[int, ...]
    """t of a site inside the body, k of `state`."""
    positions: tuple[tuple[int, ...], ...]
    """Groups of positions that were patched jointly. One empty group: all, or a site without
    positions."""
    heads: tuple[int, ...]
    """Empty where all heads were patched jointly."""
    method: Method
    metric: str
    unit: str
    source: str
    """What replaced the values, in words."""
    base: Float[Tensor, "batch ..."]
    """The metric of the run."""
    target: Float[Tensor, "batch ..."] | None
    """The metric of the donor run itself; None without one."""
    agreement: AttributionAgreement | None = None
    """Of attribution with exact patches; None for exact grids."""
    counted: Bool[Tensor, "position batch"] | None = None
    """Which examples are in the means, by group of positions: those in which one of the positions
    counts (`run.mask`), in a donor too. None: all."""

    @property
    def mean(self) -> Float[Tensor, "site iteration position head"]:
        """Average over the examples that count and have a metric; NaN where none does."""
        return masked_mean(self.values.flatten(4), self._present, -1)

    @property
    def carried(self) -> Float[Tensor, "site iteration position head"]:
        """The effect as a fraction of the difference between the donor's metric and the run's,
        both averaged over examples: 0 none of it, 1 all of it.

        Raises:
            LoopscopeError: there was no donor run.
        """
        if self.target is None:
            raise LoopscopeError(
                "the fraction carried over is relative to a donor run, but there was none. Look at .mean."
            )
        difference = (self.target - self.base).flatten()
        # of the examples that the cell has an effect in
        present = self._present & ~difference.isnan()
        return self.mean / masked_mean(difference.expand(present.shape), present, -1)

    @property
    def _present(self) -> Bool[Tensor, "site iteration position head example"]:
        """Which values are in the means."""
        present = ~self.values.isnan()
        if self.counted is not None:
            rows = self.counted[:, None]
            present = present & rows.reshape(*rows.shape, *(1,) * (self.values.ndim - 5))
        return present.flatten(4)

    def figure(self, site: str | None = None) -> "go.Figure":
        """A heat map of the average effect, iteration by position, or by head where one group of
        positions was patched."""
        name = self.sites[0] if site is None else site
        if name not in self.sites:
            raise LoopscopeError(f"there is no site {name!r} in this grid. {nearest(name, self.sites)}")
        cells = self.mean[self.sites.index(name)]
        y = ITERATIONS_RUN if is_state(name.split(" ")[-1]) else ITERATION
        quantity = f"change of {self.metric}" + (f" [{self.unit}]" if self.unit else "")
        title = f"Effect of patching {self.source} into '{name}'"
        if len(self.heads) > 1 and len(self.positions) == 1:
            return effect_map(
                cells[:, 0], self.iterations, self.heads, title, x="head", y=y, quantity=quantity
            )
        if len(self.heads) > 1:
            title += ", average over heads"
        columns = position_names(self)
        return effect_map(
            cells.nanmean(-1), self.iterations, columns, title, x="position", y=y, quantity=quantity
        )

    def __repr__(self) -> str:
        return (
            f"Effects of {self.source} on {self.metric} · {self.method} · {len(self.sites)} sites × "
            f"{len(self.iterations)} iterations × {len(self.positions)} positions × "
            f"{max(1, len(self.heads))} heads × {len(self.base)} examples"
        )
