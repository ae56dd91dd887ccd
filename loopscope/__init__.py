"""loopscope: what a looped transformer does between its iterations.

import loopscope as ls

model = ls.models.load("universal-prefix-parity")
run = ls.record(model, model.task.batch(64, seed=0).tokens, iterations=32)
run.states[3]        # (batch, position, width): the state after 3 iterations

Every name is imported when it is first used, so that `import loopscope` costs nothing by itself.
What serves annotations only is imported from its folder, such as `loopscope.interventions.Edit`.
"""

import gc
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import analyses as analyses
    from . import findings as findings
    from . import maths as maths
    from . import models as models
    from . import tasks as tasks
    from .checks import check as check
    from .common.errors import LoopscopeError as LoopscopeError
    from .common.errors import LoopscopeIndexError as LoopscopeIndexError
    from .common.errors import LoopscopeWarning as LoopscopeWarning
    from .core.states import States as States
    from .halting import exit_rules as rules
    from .halting.answer_with_exit import answer as answer
    from .halting.halting_record import Halting as Halting
    from .interventions.edits import ablate as ablate
    from .interventions.edits import add as add
    from .interventions.edits import patch as patch
    from .interventions.freeze import freeze as freeze
    from .interventions.halting_edits import bias_halting as bias_halting
    from .interventions.halting_edits import halt_at as halt_at
    from .interventions.schedule import repeat as repeat
    from .interventions.schedule import swap as swap
    from .interventions.skip import skip as skip
    from .interventions.steer import steer as steer
    from .lenses import TunedLens as TunedLens
    from .lenses import lens as lens
    from .loop_detection import find_loops as find_loops
    from .patching import effects as effects
    from .patching import mediation as mediation
    from .patching import noise as noise
    from .probing import Probes as Probes
    from .probing import load_probes as load_probes
    from .recorder import from_pretrained as from_pretrained
    from .recorder import generate as generate
    from .recorder import iterate as iterate
    from .recorder import record as record
    from .recorder import record_many as record_many
    from .recorder import recording as recording
    from .recorder import resume as resume
    from .reports import report as report
    from .run_loading import load_run as load_run
    from .runs import keep
    from .runs.run import Run as Run
    from .shelves import use as use
    from .training import load_history as load_history
    from .wrapping import wrap as wrap

_MODULES = {
    "analyses": "analyses",
    "findings": "findings",
    "keep": "runs.keep",
    "maths": "maths",
    "models": "models",
    "rules": "halting.exit_rules",
    "tasks": "tasks",
}
_OBJECTS = {
    "Halting": "halting",
    "LoopscopeError": "common.errors",
    "LoopscopeIndexError": "common.errors",
    "LoopscopeWarning": "common.errors",
    "Probes": "probing",
    "Run": "runs",
    "States": "core",
    "TunedLens": "lenses",
    "ablate": "interventions",
    "add": "interventions",
    "answer": "halting",
    "bias_halting": "interventions",
    "check": "checks",
    "effects": "patching",
    "find_loops": "loop_detection",
    "freeze": "interventions",
    "from_pretrained": "recorder",
    "generate": "recorder",
    "halt_at": "interventions",
    "iterate": "recorder",
    "lens": "lenses",
    "load_history": "training",
    "load_probes": "probing",
    "load_run": "run_loading",
    "mediation": "patching",
    "noise": "patching",
    "patch": "interventions",
    "record": "recorder",
    "record_many": "recorder",
    "recording": "recorder",
    "repeat": "interventions",
    "report": "reports",
    "resume": "recorder",
    "skip": "interventions",
    "steer": "interventions",
    "swap": "interventions",
    "use": "shelves",
    "wrap": "wrapping",
}
"""Each public name, and the folder that it is imported from when it is first used."""

__all__ = [
    "Halting", "LoopscopeError", "LoopscopeIndexError", "LoopscopeWarning", "Probes", "Run", "States",
    "TunedLens", "ablate", "add", "analyses", "answer", "bias_halting", "check", "effects", "find_loops",
    "findings", "freeze", "from_pretrained", "generate", "halt_at", "iterate", "keep", "lens", "load_history",
    "load_probes", "load_run", "maths", "mediation", "models", "noise", "patch", "record",
    "record_many", "recording", "repeat", "report", "resume", "rules", "skip", "steer", "swap", "tasks",
    "use", "wrap",
]  # fmt: skip


def __getattr__(name: str) -> object:
    """The public object of a name. No garbage is looked for while it is imported: what an import
    makes stays, and to look through all that torch has made takes longer than the import."""
    collects = gc.isenabled()
    gc.disable()
    try:
        if name in _MODULES:
            return import_module(f".{_MODULES[name]}", __name__)
        if name in _OBJECTS:
            return getattr(import_module(f".{_OBJECTS[name]}", __name__), name)
    finally:
        if collects:
            gc.enable()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
