"""How Probes are shown, and their table of pandas."""

from typing import TYPE_CHECKING, Any

from ..common.notebook import paragraph, show, table, with_figure
from ..common.text import number
from ..common.tidy_table import tidy

if TYPE_CHECKING:
    from .probe_result import ProbeResult

SCORES = ("score", "low", "high", "control", "random", "baseline", "majority", "rows")
"""The columns of the table, besides site, iteration and position."""


class ProbesDisplay:
    """The methods of Probes that show or convert them."""

    def to_pandas(self: Any) -> Any:
        """A DataFrame with a row for each probe: site, iteration, position, its score with the 95 %
        interval, and the scores of its controls.

        Raises:
            LoopscopeError: pandas isn't installed (extra: pandas).
        """
        coordinates = {"site": self.sites, "iteration": self.iterations, "position": self.positions}
        return tidy({name: getattr(self, name) for name in SCORES}, tuple(coordinates), coordinates)

    def _repr_html_(self: Any) -> str:
        return with_figure(_description(self), self.figure())

    def _ipython_display_(self: Any) -> None:
        show(_description(self), self.figure(), str(self))


def _description(probes: "ProbeResult") -> str:
    """The summary, and the best probe of each site and position."""
    rows = []
    for s, site in enumerate(probes.sites):
        for p, position in enumerate(probes.positions[:20]):
            scores = probes.score[s, :, p]
            if bool(scores.isnan().all()):
                continue
            k = int(scores.nan_to_num(-1e9).argmax())
            low, high, control = (float(x[s, k, p]) for x in (probes.low, probes.high, probes.control))
            score = f"{number(float(scores[k]))} ({number(low)} to {number(high)})"
            rows.append((site, position, probes.iterations[k], score, number(control)))
    measure = "accuracy" if probes.kind == "classes" else "R²"
    header = ("site", "position", "best iteration", f"{measure} (95 % interval)", "with control labels")
    return paragraph(str(probes)) + table(header, rows)
