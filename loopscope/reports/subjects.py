"""What a report can be of, told apart before anything long runs."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .. import models
from ..common.errors import LoopscopeError, nearest
from ..common.files import load_layout
from ..recorder.generation import Generation
from ..recorder.generation_storage import KIND as GENERATION
from ..recorder.pretrained import is_pretrained_name
from ..run_loading import EXAMPLES, is_checkpoint, named_run
from ..runs.run import Run
from ..training.history import History, load_history
from ..training.step_log import LOG

Kind = Literal["run", "saved run", "entry", "checkpoint", "model", "training"]


@dataclass(frozen=True)
class Recording:
    """How a subject is recorded that is no run yet."""

    iterations: int | None
    examples: int | None
    seed: int
    texts: tuple[str, ...]
    trust_remote_code: bool
    budget: str = ""
    """What the analyses may cost, in words; empty where it wasn't said."""

    @property
    def options(self) -> str:
        """Those that differ from their defaults, as the command line has them."""
        parts = [
            f"--{name} {value}"
            for name, value in (("iterations", self.iterations), ("examples", self.examples))
            if value is not None
        ]
        parts += [f"--seed {self.seed}"] if self.seed else []
        parts += [f"--text {shlex.quote(text)}" for text in self.texts]
        parts += ["--trust-remote-code"] if self.trust_remote_code else []
        parts += [f"--budget {shlex.quote(self.budget)}"] if self.budget else []
        return "".join(f" {part}" for part in parts)


@dataclass(frozen=True)
class Subject:
    """One thing that a page is about."""

    kind: Kind
    name: str
    """As it was passed; empty for a run or a history in memory."""
    value: Run | History | None = None
    """What was passed in memory."""

    @property
    def entry(self) -> str | None:
        """Whose card the page shows."""
        if self.kind in ("entry", "checkpoint"):
            return self.name
        if isinstance(self.value, Run) and self.value.origin.get("entry") in models.entries():
            return self.value.origin["entry"]
        return None

    def command(self, recording: Recording) -> str:
        """What makes its page again."""
        if self.name:
            return f"loopscope report {shlex.quote(self.name)}{recording.options} -o report.html"
        what = "history" if isinstance(self.value, History) else "run"
        budget = f', budget="{recording.budget}"' if recording.budget else ""
        return f'ls.report({what}{budget}).save("report.html")   # with the {what} described above'

    def load(self, recording: Recording) -> Run | History:
        """The run, recorded if it is none yet, or the history of a training.

        Raises:
            LoopscopeError: as `loopscope.run_loading.named_run` and `loopscope.load_history`.
        """
        if self.value is not None:
            return self.value
        if self.kind == "training":
            return _training(self.name, recording)
        options = (recording.iterations, recording.examples, recording.seed, recording.texts)
        return named_run(self.name, *options, trust_remote_code=recording.trust_remote_code)

    def recording_comment(self, run: Run, recording: Recording) -> str:
        """What was recorded of an entry, as a comment under the command."""
        if self.kind not in ("entry", "checkpoint"):
            return ""
        batch = f"model.task.batch({recording.examples or EXAMPLES}, seed={recording.seed})"
        return f"\n# records {batch}, {run.iterations} iterations"


def subjects_of(subject: Any, recording: Recording) -> list[Subject]:
    """The subjects of a page: one, or several to be compared.

    Raises:
        LoopscopeError: a page can't be about this, a name stands for nothing, or an option has no
            effect on it.
    """
    if not isinstance(subject, list | tuple):
        return [_subject(subject, recording)]
    if not subject:
        raise LoopscopeError(
            "a report must be about something, but the list is empty. Pass a run, or the name of an entry."
        )
    subjects = [_subject(one, recording) for one in subject]
    trainings = [one.name or "a History" for one in subjects if one.kind == "training"]
    if len(subjects) > 1 and trainings:
        raise LoopscopeError(
            "a comparison must be of runs, entries, checkpoints or models, but "
            f"{trainings[0]} is a training. Report on it alone."
        )
    return subjects


def _subject(subject: Any, recording: Recording) -> Subject:
    subject = subject.run if isinstance(subject, Generation) else subject
    if isinstance(subject, Run | History):
        kind: Kind = "run" if isinstance(subject, Run) else "training"
        name, result = f"a {type(subject).__name__}", Subject(kind, "", subject)
    else:
        name = os.fspath(subject)
        result = Subject(_kind(name), name)
    if result.kind in ("run", "saved run"):
        _check_without_effect(name, recording)
    if recording.texts and result.kind != "model":
        raise LoopscopeError(
            f"a text needs the tokenizer of a Hugging Face model, but {name} has none. Leave it out."
        )
    return result


def _check_without_effect(name: str, recording: Recording) -> None:
    passed = [
        f"{option}={value}"
        for option, value in (("iterations", recording.iterations), ("examples", recording.examples))
        if value is not None
    ] + ([f"seed={recording.seed}"] if recording.seed else [])
    if passed:
        raise LoopscopeError(
            f"{name} is recorded already, so {passed[0]} has no effect. Leave it out, or name the entry."
        )


def _kind(name: str) -> Kind:
    """What a name stands for, by files' beginnings alone."""
    path = Path(name)
    if name in models.entries():
        return "entry"
    if path.suffix == ".safetensors":
        if path.name.endswith(".history.safetensors"):
            load_history(path)
            return "training"
        if is_checkpoint(name):
            return "checkpoint"
        load_layout(path, "run", GENERATION)
        return "saved run"
    if os.path.isdir(path) and not (path / "config.json").is_file():
        if (path / LOG).is_file() or _weights(path):
            return "training"
        raise LoopscopeError(
            "a folder must be that of a training (with its log and weights) or of a Hugging Face model (with "
            f"config.json), but {name} is neither. Pass the path of the file or folder itself."
        )
    if is_pretrained_name(name):
        return "model"
    raise LoopscopeError(
        "a report is about a run, the name of an entry, or the path of a checkpoint, a saved run, a "
        f"training's folder or a Hugging Face model, but {name!r} is none of them. "
        f"{nearest(name, models.entries())}"
    )


def _training(folder: str, recording: Recording) -> Run | History:
    """A training's history; if it kept none, a run of the weights that it has written."""
    try:
        return load_history(folder)
    except LoopscopeError:
        weights = _weights(Path(folder))
        if not weights:
            raise
        return named_run(weights[0], recording.iterations, recording.examples, recording.seed)


def _weights(folder: Path) -> Sequence[str]:
    """The final weights in a training's folder."""
    return [str(p) for p in sorted(folder.glob("*.safetensors")) if is_checkpoint(str(p))]
