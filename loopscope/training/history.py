"""History: measurements of a model during its training, and the model at every step that was
kept."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from .. import models, tasks
from ..common import discovery
from ..common.architecture_shelf import ARCHITECTURES
from ..common.arguments import FilePath
from ..common.checked_fields import described_by
from ..common.errors import LoopscopeError
from ..common.files import open_file
from ..common.guard import guarded
from ..common.matching_tensors import first_misfit
from ..common.reading import checked_path
from ..core.states import States
from ..maths.changepoints import Dated, crossing
from ..tasks import Task
from ..tasks.shelf import TASKS
from .history_header import REMEDY, check_history
from .history_schedule import Schedule

if TYPE_CHECKING:
    from ..nn import LoopedModule
    from ..runs.run import Run

ENDING = ".history"
"""Between an entry's name and `.safetensors`."""
LEVEL = 0.95
"""The accuracy from which on a set counts as learned."""


class History:
    """Looks, each of which is one measurement of a model in training, and the weights at some of
    them.

    >>> history = ls.load_history("grokking-modular")
    >>> history.accuracy("test")[:, -1]              # by step, after the last iteration
    >>> model = history.model(history.checkpoints[3])
    >>> history.record(tokens).states[200]           # (iteration, batch, position, width), after step 200
    """

    def __init__(self, header: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """
        Arguments:
            header: entry, recipe, config, lines.
            weights: by "STEP/NAME".
        """
        self.entry = str(header["entry"])
        self.recipe: dict[str, Any] = dict(header["recipe"])
        """As JSON; `loopscope.training.Recipe.from_json` converts it to a recipe."""
        self.lines: list[dict[str, Any]] = list(header["lines"])
        """One for each look; see `loopscope.training.history_schedule.Line`."""
        self._config, self._weights = dict(header["config"]), weights
        self.steps = [line["step"] for line in self.lines]
        """Number of optimiser steps done at each look; the first is 0."""
        self.checkpoints = sorted({int(name.split("/")[0]) for name in weights})
        """The steps whose weights are kept."""

    @property
    def task(self) -> Task:
        """The task that was trained on."""
        TASKS.check_stored(self.recipe["task"], f"The history of {self.entry}")
        with described_by(f"The history of {self.entry}", REMEDY):
            return tasks.build(self.recipe["task"], **self.recipe.get("options", {}))

    @property
    def sets(self) -> list[str]:
        """The names of the sets of examples that were measured."""
        return list(self.lines[0]["sets"])

    @property
    def iterations(self) -> int:
        """The number of iterations that the model runs."""
        return len(self.lines[0]["sets"][self.sets[0]]["loss"]) - 1

    @property
    def norm(self) -> Float[Tensor, " step"]:
        """Euclidean norm of all trained weights."""
        return torch.tensor([line["norm"] for line in self.lines])

    def accuracy(self, set: str) -> Float[Tensor, "step iteration"]:
        """The task's score on a set after k = 0..n iterations."""
        return self._curve(set, "accuracy")

    def loss(self, set: str) -> Float[Tensor, "step iteration"]:
        """The task's loss on a set after k = 0..n iterations; for tokens in nats per answer."""
        return self._curve(set, "loss")

    def sampled(self, set: str) -> int | None:
        """How many examples of a set were drawn for its accuracy and loss; None if they are all
        that there are."""
        discovery.checked_name("set of examples", set, self.sets)
        task = self.task
        options = task.evaluation_sets[set][1] if set in task.evaluation_sets else {}
        if not options and task.every_example() is not None:
            return None
        return int((self.recipe.get("history") or {}).get("examples", Schedule.examples))

    def model(self, step: int) -> "LoopedModule":
        """The model after `step` optimiser steps, in evaluation mode. A negative `step` counts from
        the last checkpoint.

        Raises:
            LoopscopeError: the weights of that step were not kept.
        """
        if -len(self.checkpoints) <= step < 0:
            step = self.checkpoints[step]
        if step not in self.checkpoints:
            raise LoopscopeError(
                f"step must be one whose weights were kept, but is {step}. Kept: "
                f"{', '.join(map(str, self.checkpoints))}."
            )
        ARCHITECTURES.check_stored(self.recipe["architecture"], f"The history of {self.entry}")
        with described_by(f"The history of {self.entry}", REMEDY):
            model = models.build(self.recipe["architecture"], **self._config)
        prefix = f"{step}/"
        weights = {n.removeprefix(prefix): self._weights[n] for n in self._weights if n.startswith(prefix)}
        if misfit := first_misfit(weights, model.state_dict()):
            raise LoopscopeError(
                f"The weights of step {step} must fit {self.recipe['architecture']}, but don't: {misfit}. "
                f"Its file has changed since, or this one is damaged. {REMEDY}"
            )
        model.load_state_dict(weights)
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
        """Record the same tokens with the model of every checkpoint, or of those at `steps`.

        Arguments:
            options: of `loopscope.record`: sites, edits, keep, grad, seed.
        """
        from ..recorder.record_run import record

        recorded_steps = self.checkpoints if steps is None else list(steps)
        return Records(
            {step: record(self.model(step), tokens, iterations, **options) for step in recorded_steps}
        )

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
    """One run for each of several steps of a training: `records[200]` is the Run of step 200. Sites
    have the axis `step` first."""

    def __init__(self, runs: Mapping[int, "Run"]) -> None:
        self.runs = dict(sorted(runs.items()))

    @property
    def steps(self) -> list[int]:
        """The steps that were recorded."""
        return list(self.runs)

    @property
    def states(self) -> States:
        """(step, iteration, batch, position, width): `states[200]` are those of step 200,
        `states[200, 3]` is the state after 3 iterations."""
        return self.site("state")

    def site(self, name: str) -> States:
        """A site's values, with the axes `step`, `iteration`, and the site's own."""
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


@guarded
def load_history(source: FilePath) -> History:
    """Load the history of a training.

    >>> history = ls.load_history("grokking-modular")
    >>> history.accuracy("test")[:, -1]              # by step, after the last iteration

    Arguments:
        source: an entry that ships its history, the folder of a training (also while it runs), or a
            file NAME.history.safetensors.

    Raises:
        LoopscopeError: there is no history; the error lists the entries that have one.
    """
    path = checked_path(source, "a history")
    if os.path.isdir(path):  # False for a name that no file system can have
        from .history_writer import read_folder

        header, weights = read_folder(path)
        check_history(str(path), header, weights)
        return History(header, weights)
    if path.suffix != ".safetensors":
        entries = shipped_histories()
        if str(source) not in entries:
            raise LoopscopeError(
                "A history must be that of an entry whose recipe keeps one "
                f"({', '.join(entries) or 'none is shipped'}), but {str(source)!r} is none of them, and no "
                "folder or file of a training. Give a recipe history=Schedule(), and train it."
            )
        path = entries[str(source)]
    weights, header = open_file(path, kind="history")
    check_history(str(path), header, weights)
    return History(header, weights)


def shipped_histories() -> dict[str, Path]:
    """The history files in the zoo, by entry."""
    return {
        name.removesuffix(ENDING): path
        for name, path in discovery.files("models", ".safetensors").items()
        if name.endswith(ENDING)
    }


def learning_times(history: History, level: float = LEVEL) -> dict[str, Dated | None]:
    """When the accuracy of each set, after the last iteration, reached `level` and stayed there, in
    optimiser steps; None if it never did. Looks whose accuracy isn't finite are left out."""
    steps = torch.tensor(history.steps, dtype=torch.float64)
    curves = {name: history.accuracy(name)[:, -1] for name in history.sets}
    known = {name: curve.isfinite() for name, curve in curves.items()}
    return {
        name: crossing(steps[known[name]], curve[known[name]], level) if known[name].any() else None
        for name, curve in curves.items()
    }
