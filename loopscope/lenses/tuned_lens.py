"""TunedLens: an affine map before the read-out, trained to predict the final answer (Belrose et al.
2023, arXiv 2303.08112).

    tuned = TunedLens.fit(runs, sites=["state"], seed=0)
    print(tuned.kl)                      # on held-out examples
    tuned.save("lens.safetensors")
    read = lens(run, TunedLens.load("lens.safetensors"))
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..common.arguments import FilePath, NotNegative, PositiveCount, SmallSeed
from ..common.errors import LoopscopeError
from ..common.guard import guarded
from ..core.outside_modes import outside_modes
from ..runs.run import Run
from .lens_input import LensInput
from .lens_types import UNTRAINED
from .translator import KLGain, Translator, model_identity
from .tuned_lens_storage import load_fields, save_fields
from .tuned_lens_training import Positions, ReadOutName, train_tuned_lens


@dataclass(frozen=True, eq=False)
class TunedLens:
    """A trained lens: a translator for each place, and its gain over the untuned lens. It holds no
    model and fits only the weights it was trained on. At the last iteration of the state nothing is
    translated, so the lens gives the model's own answer.

    >>> tuned = ls.TunedLens.fit(ls.record(model, model.task.batch(512, seed=0).tokens), seed=0)
    >>> print(tuned)
    >>> read = ls.lens(run, tuned)
    """

    read: ReadOutName
    """The read-out of the translated vectors."""
    translators: dict[str, Translator] = field(repr=False)
    """By place."""
    kl: dict[str, KLGain] = field(repr=False)
    """By place, on held-out examples."""
    model: tuple[str, str]
    """The architecture and the digest of the weights."""
    training: dict[str, Any] = field(repr=False)
    """Its settings (seed, decay, steps, positions, shared) and the numbers of examples and
    positions."""
    name: str = "tuned"
    exact: bool = True

    @staticmethod
    @guarded
    @outside_modes()
    def fit(
        runs: Run | Sequence[Run],
        sites: str | Sequence[str] = "state",
        *,
        shared: bool = False,
        read: ReadOutName = "coda",
        seed: SmallSeed = 0,
        decay: NotNegative = 1e-3,
        steps: PositiveCount = 100,
        positions: Positions = "answers",
        check: bool = True,
    ) -> "TunedLens":
        """Train a lens on recorded runs of one model, as `loopscope.lenses.tuned_lens_training`
        describes.

        Arguments:
            runs: recorded with `sites`; several runs are more data than one run holds.
            sites: as for `loopscope.lens`.
            shared: one map for all iterations of a site, or one for each.
            read: the read-out of the translated vectors: "coda", the model's whole read-out, or
                "logit", only the final norm and the unembedding.
            seed: of the division into training, validation and test examples.
            decay: weight of the penalty that draws the map towards the identity.
            steps: of the optimiser, for each map.
            positions: "answers": those of the task, where it is known (else all but padding);
                "all": all but padding.
            check: raise if the read-out does not give the model's own logits at the last iteration.

        Raises:
            LoopscopeError: no runs, runs of several models, or too few examples.
        """
        runs = [runs] if isinstance(runs, Run) else list(runs)
        translators, kl, counts = train_tuned_lens(
            runs, sites, shared=shared, read=read, seed=seed, decay=decay, steps=steps, positions=positions,
            check=check,
        )  # fmt: skip
        settings = {"shared": shared, "seed": seed, "decay": decay, "steps": steps, "positions": positions}
        return TunedLens(read, translators, kl, model_identity(runs[0]), settings | counts)

    def logits(self, run: Run, inputs: LensInput) -> Float[Tensor, "batch position vocab"]:
        """The logits of the vectors of a place.

        Raises:
            LoopscopeError: the lens wasn't fitted for this place or iteration.
        """
        base = UNTRAINED[self.read]
        if inputs.is_state and inputs.k == run.iterations:
            return base.logits(run, inputs)
        label = inputs.place.label
        if label not in self.translators:
            raise LoopscopeError(
                f"this lens was fitted for {', '.join(map(repr, self.translators))}, but '{label}' was "
                f"requested. Fit one: TunedLens.fit(runs, sites=[{inputs.place.site!r}])."
            )
        h = self.translators[label].apply(inputs.h, inputs.k)
        return base.logits(run, inputs if h is None else replace(inputs, h=h, is_translated=True))

    @guarded
    def require(self, run: Run) -> None:
        """Raise LoopscopeError unless the run's model has the weights that this lens was trained
        on."""
        model = model_identity(run)
        if model != self.model:
            raise LoopscopeError(
                f"a tuned lens fits only the weights it was trained on, {self.model[0]} {self.model[1]}, "
                f"but this run's model is {model[0]} {model[1]}. Fit one for it: ls.TunedLens.fit(runs)."
            )

    @guarded
    def save(self, path: FilePath) -> Path:
        """Write it as one safetensors file with a JSON header; returns the path."""
        fields = ("read", "translators", "kl", "model", "training")
        return save_fields({name: getattr(self, name) for name in fields}, path)

    @staticmethod
    @guarded
    def load(path: FilePath) -> "TunedLens":
        """Read what `save` wrote. `loopscope.lens` checks that it fits the run's model.

        Raises:
            LoopscopeError: the file is missing, of another kind, or incomplete.
        """
        return TunedLens(**load_fields(path))

    def summary(self) -> str:
        """Its gain at each place: KL before and after, by iteration."""
        lines = []
        for label, kl in self.kl.items():
            values = ", ".join(
                f"{k}: {before:.3g} -> {after:.3g}"
                for k, before, after in zip(kl.iterations, kl.before.tolist(), kl.after.tolist(), strict=True)
            )
            lines.append(f"'{label}', KL to the final answer in nats by iteration, {values}.")
        how = "one map for all iterations" if self.training["shared"] else "a map for each iteration"
        return (
            f"Tuned lens before the read-out '{self.read}', {how}, on {self.training['held']} held-out "
            f"examples of {self.training['examples']} ({self.training['positions']} positions). "
            + " ".join(lines)
        )

    def __str__(self) -> str:
        return self.summary()
