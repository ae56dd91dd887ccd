"""History: what a training left behind of its way, with the model at every step that was kept."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from .. import models, tasks
from ..common import discovery
from ..common.errors import LoopscopeError
from ..common.files import load_file
from ..core.states import States
from ..tasks import Task

if TYPE_CHECKING:
    from ..nn import LoopedModule
    from ..runs.run import Run


from ..maths.changepoints import Dated, crossing

ENDING = ".history"
"""Between an entry's name and `.safetensors`."""


class History:
    """Looks at a model in training, and its weights at some of them.

    >>> history = ls.load_history("grokking-modular")
    >>> history.accuracy("test")[:, -1]              # over the steps, after the last iteration
    >>> model = history.model(history.checkpoints[3])
    >>> history.record(tokens).states[200]           # (iteration, batch, position, width) as they were after step 200
    """

    def __init__(self, header: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """
        Arguments:
            header: entry, recipe, config, lines.
            weights: by "STEP/NAME".
        """
        self.entry = str(header["entry"])
        self.recipe: dict[str, Any] = dict(header["recipe"])
        """As JSON says it; `loopscope.training.Recipe.from_json` makes a recipe of it."""
        self.lines: list[dict[str, Any]] = list(header["lines"])
        """What was seen at each look; see `loopscope.training.Schedule`."""
        self._config, self._weights = dict(header["config"]), weights
        self.steps = [line["step"] for line in self.lines]
        """Optimiser steps that were done at each look, 0 first."""
        self.checkpoints = sorted({int(name.split("/")[0]) for name in weights})
        """Those of them whose weights are kept."""

    @property
    def task(self) -> Task:
        """What was trained on."""
        return tasks.build(self.recipe["task"], **self.recipe["options"])

    @property
    def sets(self) -> list[str]:
        """The sets of examples that were looked at."""
        return list(self.lines[0]["sets"])

    @property
    def iterations(self) -> int:
        """How many the model runs."""
        return len(self.lines[0]["sets"][self.sets[0]]["loss"]) - 1

    @property
    def norm(self) -> Float[Tensor, " step"]:
        """Norm of all trained weights, side by side."""
        return torch.tensor([line["norm"] for line in self.lines])

    def accuracy(self, set: str) -> Float[Tensor, "step iteration"]:
        """The task's score on a set, had the loop stopped after k = 0..n iterations."""
        return self._curve(set, "accuracy")

    def loss(self, set: str) -> Float[Tensor, "step iteration"]:
        """The task's loss, in nats per answer where it is of tokens, had the loop stopped after k =
        0..n iterations."""
        return self._curve(set, "loss")

    def model(self, step: int) -> "LoopedModule":
        """The model as it was when `step` optimiser steps were done, in evaluation mode. Negative
        counts from the last kept."""
        if -len(self.checkpoints) <= step < 0:
            step = self.checkpoints[step]
        if step not in self.checkpoints:
            raise LoopscopeError(
                f"step must be one whose weights were kept, but is {step}. Kept: "
                f"{', '.join(map(str, self.checkpoints))}."
            )
        model = models.build(self.recipe["architecture"], **self._config)
        prefix = f"{step}/"
        own = {n.removeprefix(prefix): value for n, value in self._weights.items() if n.startswith(prefix)}
        model.load_state_dict(own)
        model.name, model.task = self.entry, self.task
        return model.eval()

    def record(
        self,
        tokens: Tensor,
        iterations: int | None = None,
        *,
        steps: Sequence[int] | None = None,
        **options: Any,
    ) -> "Records":
        """The same tokens through the model of every step that was kept, or of `steps`.

        Arguments:
            options: of `loopscope.record`: sites, edits, keep, grad, seed.
        """
        from ..recorder.record_run import record

        chosen = self.checkpoints if steps is None else list(steps)
        return Records({step: record(self.model(step), tokens, iterations, **options) for step in chosen})

    def _curve(self, set: str, what: str) -> Tensor:
        discovery.checked_name("set of examples", set, self.sets)
        return torch.tensor([line["sets"][set][what] for line in self.lines], dtype=torch.float64)

    def __len__(self) -> int:
        return len(self.lines)

    def __repr__(self) -> str:
        return (
            f"History {self.entry} · {len(self.lines)} looks at {', '.join(self.sets)} · "
            f"{len(self.checkpoints)} checkpoints · steps {self.steps[0]}..{self.steps[-1]}"
        )


class Records:
    """One run for each step of a training: `records[200]` is the Run of step 200. Sites have the
    axis `step` first."""

    def __init__(self, runs: Mapping[int, "Run"]) -> None:
        self.runs = dict(sorted(runs.items()))

    @property
    def steps(self) -> list[int]:
        return list(self.runs)

    @property
    def states(self) -> States:
        """(step, iteration, batch, position, width): `states[200]` is that of step 200,
        `states[200, 3]` after 3 iterations."""
        return self.site("state")

    def site(self, name: str) -> States:
        """A site's values over the steps, and over iterations within each: axes `step`,
        `iteration`, and its own."""
        values: dict[tuple[int, ...], Tensor] = {}
        axes: tuple[str, ...] = ()
        for step, run in self.runs.items():
            site = run[name]
            if isinstance(site, States):
                axes = ("step", *site.axes)
                values |= {(step, *index): value for index, value in site.items()}
            else:
                from ..core.sites import axes_of

                axes = ("step", *axes_of(name, site))
                values[(step,)] = site
        return States(name, values, axes, max(self.runs, default=-1) + 1)

    def __getitem__(self, step: int) -> "Run":
        if step not in self.runs:
            raise LoopscopeError(f"step {step} was not recorded. Recorded: {', '.join(map(str, self.runs))}.")
        return self.runs[step]

    def __len__(self) -> int:
        return len(self.runs)

    def __repr__(self) -> str:
        return (
            f"Records of steps {', '.join(map(str, self.runs))}: [step] is a Run, .states has the axis step"
        )


def load_history(source: str | os.PathLike[str]) -> History:
    """What a training left behind.

    Arguments:
        source: an entry that ships its history, the folder of a training (also while it goes on),
            or a file NAME.history.safetensors.

    Raises:
        LoopscopeError: there is none; the sentence says which entries have one.
    """
    path = Path(source)
    if path.is_dir():
        from .history_writer import read_folder

        return History(*read_folder(path))
    if path.suffix != ".safetensors":
        known = shipped()
        if str(source) not in known:
            raise LoopscopeError(
                "A history is kept by entries whose recipe asks for it "
                f"({', '.join(known) or 'none is shipped'}), but {str(source)!r} is none of them, and no "
                "folder or file of a training. Give a recipe history=Schedule(), and train it."
            )
        path = known[str(source)]
    weights, header = load_file(path, kind="history")
    return History(header, weights)


def shipped() -> dict[str, Path]:
    """The files of the entries that ship their history, by entry."""
    return {
        name.removesuffix(ENDING): path
        for name, path in discovery.files("models", ".safetensors").items()
        if name.endswith(ENDING)
    }


LEVEL = 0.95
"""The accuracy that counts as learned."""


def reached(history: History, level: float = LEVEL) -> dict[str, Dated | None]:
    """When each set's accuracy, after the last iteration, reached `level` to stay; None: never."""
    steps = torch.tensor(history.steps, dtype=torch.float64)
    return {name: crossing(steps, history.accuracy(name)[:, -1], level) for name in history.sets}
