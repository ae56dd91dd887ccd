"""Linear probes of the states of a loop, with their controls."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Predicate

from ..common import discovery
from ..common.arguments import Count, FilePath, Index, Meaning, SmallSeed, Values
from ..common.guard import guarded
from ..common.to_json import to_json
from ..runs.run import Run
from .figures import curves, score_map
from .labels import Kind
from .probe_fields import fit_fields
from .probe_result import SETTINGS, ProbeResult
from .probes_display import ProbesDisplay
from .random_features import RandomFeatures
from .storage import load_fields, save_fields
from .summary import summary
from .transfer import Transfer, transfer

if TYPE_CHECKING:
    import plotly.graph_objects as go

CONTROLS = 3


Estimator = Annotated[
    Any,
    Predicate(lambda one: hasattr(one, "fit") and hasattr(one, "get_params") and not isinstance(one, type)),
    Meaning("an estimator of scikit-learn, such as LogisticRegression()"),
]


@dataclass(frozen=True, repr=False)
class Probes(ProbesDisplay, ProbeResult):
    """Linear probes of every site, iteration and position, with the scores of their controls.

    >>> probes = ls.Probes.fit(run, labels)
    >>> print(probes), probes.figure()
    >>> probes.score[0, 3]                # of the first site after 3 iterations: (position)
    >>> probes.at(3).predict(run.states[3])

    Classes are separated by linear discriminant analysis with OAS shrinkage; numbers are predicted
    by ridge regression whose penalty is chosen inside the training folds. Features are standardised
    in the training folds. See `loopscope.probing.fit_linear` for why. All scores are of held-out
    groups of examples. A probe that could not be trained, because its position has too few labels
    or only one class, is NaN.
    """

    # It is long because its docstring explains fifteen arguments.
    @classmethod
    @guarded
    def fit(
        cls,
        run: Run | FilePath | Iterable[Any] | Callable[[int], Any],
        labels: Values | str | None = None,
        *,
        sites: str | Sequence[str] = "state",
        iterations: Sequence[int] | None = None,
        positions: int | Sequence[int] | str | None = None,
        groups: Values | None = None,
        mask: Values | None = None,
        baseline_labels: Values | None = None,
        kind: Kind | None = None,
        folds: Index | Values = 5,
        controls: Count = CONTROLS,
        control: str = "shuffled",
        random: RandomFeatures | Run | bool | None = None,
        estimator: Estimator | None = None,
        seed: SmallSeed = 0,
        model: Any = None,
    ) -> "Probes":
        """Train one probe for each site, iteration and position.

        Arguments:
            run: a run; the path of a run's file, which is read piece by piece; or, for more than
                fits into memory, a list of (run, labels) or a function that makes number
                i = 0, 1, ... of them again, and None after the last.
            labels: (batch) or (batch, position). Whole numbers, bools and words are classes, real
                numbers are numbers. Or the name of a fact of the run's task, such as "answer".
            sites: recorded sites with the same number of positions.
            iterations: None: all.
            positions: numbers; "each": one probe for each; "shared": one probe with all positions
                of all examples as rows; "pooled": one probe of the mean over positions. None:
                "shared" for labels of positions, else "each".
            groups: (batch): numbers or words. Examples of one group, like equal inputs, stay on one
                side of a split.
            mask: (batch) or (batch, position): where labels hold.
            baseline_labels: labels (batch) or (batch, position), or a list of them, whose own
                score is a baseline: how well do they predict `labels` without the states?
            folds: how many, or (batch) of fold numbers; folds that leak are refused.
            controls: number of sets of control labels.
            control: "shuffled" between examples, or "tokens": one label for each token type.
            random: "untrained", "projection"; None: an untrained model if one can be built; False:
                none; or a run of the same examples and sites by another model.
            estimator: a scikit-learn estimator in place of the closed forms; features are
                standardised. To choose among settings pass one that does so inside. Its probes are
                not kept.
            model: the model that made a run that was loaded from a file.

        Raises:
            LoopscopeError: labels that don't fit, a split that leaks, too few groups.
        """
        fields = fit_fields(
            run, labels, mask=mask, sites=sites, iterations=iterations, positions=positions, groups=groups,
            baseline_labels=baseline_labels, kind=kind, folds=folds, controls=controls, control=control,
            random=random, estimator=estimator, seed=seed, model=model,
        )  # fmt: skip
        return cls(**fields)

    @guarded
    def transfer(
        self, run: Run | None = None, labels: Values | str | None = None, **options: Any
    ) -> Transfer:
        """Train at one iteration, test at another. See `loopscope.probing.transfer`."""
        return transfer(self, run, labels, **options)

    @guarded
    def save(self, path: FilePath) -> Path:
        """Write everything as one safetensors file with a JSON header, for `load_probes`; returns
        the path."""
        return save_fields(self, path)

    @staticmethod
    @guarded
    def load(path: FilePath) -> "Probes":
        """Read what `save` wrote."""
        return load_probes(path)

    @guarded
    def figure(self, site: str | None = None) -> "go.Figure":
        """A heat map of iterations and positions, or curves over iterations where there is one
        position."""
        if site is not None:
            discovery.checked_name("probed site", site, self.sites)
        return score_map(self, site) if len(self.positions) > 1 else curves(self, site)

    def to_dict(self) -> dict[str, Any]:
        """Every number as JSON values, without weights and labels."""
        tensors = ["score", "low", "high", "control", "random", "baseline", "majority", "rows", "selectivity"]
        return {name: to_json(getattr(self, name)) for name in (*SETTINGS, *tensors)} | {"summary": str(self)}

    def __str__(self) -> str:
        return summary(self)

    def __repr__(self) -> str:
        s, k, p = self.score.shape
        shape = f"{s} site(s) · {k} iterations · {p} position(s)"
        return f"Probes of {shape} · {self.kind} · {self.groups} groups in {self.folds} folds"


@guarded
def load_probes(path: FilePath) -> Probes:
    """Read probes that `Probes.save` wrote.

    >>> path = ls.Probes.fit(run, labels).save("probes.safetensors")
    >>> probes = ls.load_probes(path)

    Raises:
        LoopscopeError: the file is missing, truncated, of another kind, or incomplete.
    """
    return Probes(**load_fields(path))
