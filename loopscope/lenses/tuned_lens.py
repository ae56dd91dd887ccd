"""TunedLens: an affine map before the read-out, trained so that it foretells the final answer
(Belrose et al. 2023, arXiv 2303.08112).

    tuned = TunedLens.fit(runs, sites=["state"], seed=0)
    print(tuned.kl)                      # on examples that it was not trained on
    tuned.save("lens.safetensors")
    read = lens(run, TunedLens.load("lens.safetensors"))
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.files import load_file, save_file
from ..runs.run import Run
from .lens_types import KINDS
from .places import Sight
from .translator import _GAIN, Gain, Translator, identity

ReadOutName = Literal["coda", "logit"]


@dataclass(frozen=True, eq=False)
class TunedLens:
    """A trained lens: a translator for each place, and what it gained. Holds no model, and fits
    only the weights it was trained on. At the last iteration of the state nothing is translated:
    there the model's answer is the lens's."""

    read: ReadOutName
    """What reads the translated vectors."""
    translators: dict[str, Translator] = field(repr=False)
    """By place."""
    kl: dict[str, Gain] = field(repr=False)
    """By place, on the examples held out."""
    model: tuple[str, str]
    """The architecture and the digest of the weights."""
    made: dict[str, Any] = field(repr=False)
    """How: seed, decay, numbers of examples and items, and which positions."""
    name: str = "tuned"
    exact: bool = True

    @staticmethod
    def fit(
        runs: Run | Sequence[Run],
        sites: str | Sequence[str] = "state",
        *,
        shared: bool = False,
        read: ReadOutName = "coda",
        seed: int = 0,
        decay: float = 1e-3,
        steps: int = 100,
        positions: Literal["answers", "all"] = "answers",
        check: bool = True,
    ) -> "TunedLens":
        """Train a lens on recorded runs of one model. See
        `loopscope.lenses.tuned_lens_training.fit`."""
        from .tuned_lens_training import fit

        return fit(
            [runs] if isinstance(runs, Run) else list(runs), sites, shared, read, seed, decay, steps, positions, check
        )  # fmt: skip

    def logits(self, run: Run, sight: Sight) -> Tensor:
        base = KINDS[self.read]
        if sight.plain and sight.k == run.iterations:
            return base.logits(run, sight)
        label = sight.place.label
        if label not in self.translators:
            raise LoopscopeError(
                f"this lens was fitted for {', '.join(map(repr, self.translators))}, but '{label}' was "
                f"asked for. Fit one: TunedLens.fit(runs, sites=[{sight.place.site!r}])."
            )
        h = self.translators[label].apply(sight.h, sight.k)
        return base.logits(run, sight if h is None else replace(sight, h=h, translated=True))

    def require(self, run: Run) -> None:
        """Raise unless the run's model has the weights that this lens was trained on."""
        own = identity(run)
        if own != self.model:
            raise LoopscopeError(
                f"a tuned lens fits only the weights it was trained on, {self.model[0]} {self.model[1]}, "
                f"but this run's model is {own[0]} {own[1]}. Fit one for it: ls.TunedLens.fit(runs)."
            )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as one safetensors file with a JSON header."""
        tensors: dict[str, Tensor] = {}
        for number, (label, own) in enumerate(self.translators.items()):
            kl = self.kl[label]
            parts = {"a": own.a, "b": own.b, "used": own.used} | {name: getattr(kl, name) for name in _GAIN}
            tensors |= {f"{number}/{name}": value for name, value in parts.items()}
        header = {
            "kind": "tuned lens",
            "read": self.read,
            "places": {label: list(own.iterations) for label, own in self.translators.items()},
            "model": list(self.model),
            "made": self.made,
        }
        return save_file(path, tensors, header)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "TunedLens":
        """Read what `save` wrote. Whether it fits a model is seen when a run is read through it."""
        tensors, header = load_file(path, kind="tuned lens")
        translators, kl = {}, {}
        try:
            for number, (label, iterations) in enumerate(header["places"].items()):
                part = {name: tensors[f"{number}/{name}"] for name in ("a", "b", "used", *_GAIN)}
                translators[label] = Translator(tuple(iterations), part["a"], part["b"], part["used"])
                kl[label] = Gain(tuple(iterations), *(part[name] for name in _GAIN))
            return TunedLens(
                header["read"], translators, kl, (header["model"][0], header["model"][1]), header["made"]
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise LoopscopeError(
                f"{path} lacks what a tuned lens needs ({error!r}): take another copy, or fit it again."
            ) from error

    def summary(self) -> str:
        """What it gained, at each place: KL before and after at its iterations."""
        lines = []
        for label, kl in self.kl.items():
            told = ", ".join(
                f"{k}: {before:.3g} -> {after:.3g}"
                for k, before, after in zip(kl.iterations, kl.before.tolist(), kl.after.tolist(), strict=True)
            )
            lines.append(f"'{label}', KL to the final answer in nats by iteration, {told}.")
        how = "one map for all iterations" if self.made["shared"] else "a map for each iteration"
        return (
            f"Tuned lens before the read-out '{self.read}', {how}, on {self.made['held']} examples held out "
            f"of {self.made['examples']} ({self.made['positions']} positions). " + " ".join(lines)
        )

    def __str__(self) -> str:
        return self.summary()
