"""loopscope: what a looped transformer does between its iterations.

import loopscope as ls

model = ls.models.load("universal-prefix-parity")
run = ls.record(model, model.task.batch(64, seed=0).tokens, iterations=32)
run.states[3]        # (batch, position, width): the state after 3 iterations
"""

from typing import TYPE_CHECKING

from . import analyses as analyses
from . import models as models
from . import tasks as tasks
from .adapters.base import Adapter as Adapter
from .common.errors import LoopscopeError as LoopscopeError
from .common.errors import LoopscopeIndexError as LoopscopeIndexError
from .common.errors import LoopscopeWarning as LoopscopeWarning
from .common.result import Finding as Finding
from .common.result import Verdict as Verdict
from .core.loop_index import Clock as Clock
from .core.looped_model import Looped as Looped
from .core.looped_model import drive as drive
from .core.states import States as States
from .halting import exit_rules as rules
from .halting.answer_with_exit import Answer as Answer
from .halting.answer_with_exit import answer as answer
from .halting.halting_record import Halting as Halting
from .interventions.edits import Edit as Edit
from .interventions.edits import ablate as ablate
from .interventions.edits import add as add
from .interventions.edits import bias_halting as bias_halting
from .interventions.edits import halt_at as halt_at
from .interventions.edits import patch as patch
from .interventions.edits import repeat as repeat
from .interventions.edits import skip as skip
from .interventions.edits import swap as swap
from .interventions.freeze import Freeze as Freeze
from .interventions.freeze import freeze as freeze
from .lenses import Readings as Readings
from .lenses import TunedLens as TunedLens
from .lenses import lens as lens
from .loop_detection.loop_finder import Loop as Loop
from .loop_detection.loop_finder import Loops as Loops
from .loop_detection.loop_finder import find_loops as find_loops
from .patching import Effects as Effects
from .patching import Mediation as Mediation
from .patching import effects as effects
from .patching import mediation as mediation
from .patching import noise as noise
from .probing import Probes as Probes
from .probing import load_probes as load_probes
from .recorder.generation import Generation as Generation
from .recorder.generation import generate as generate
from .recorder.generation import recording as recording
from .recorder.iterate_function import iterate as iterate
from .recorder.pretrained import from_pretrained as from_pretrained
from .recorder.record_run import record as record
from .recorder.record_run import resume as resume
from .run_loading import load_run as load_run
from .runs import keep
from .runs.run import Run as Run
from .training.history import History as History
from .training.history import load_history as load_history
from .wrapping.wrap_module import Wrapped as Wrapped
from .wrapping.wrap_module import wrap as wrap

if TYPE_CHECKING:
    from . import maths as maths


def __getattr__(name: str) -> object:
    """`ls.maths` without an import of its own; scipy comes with its first use, not with `import loopscope`."""
    if name == "maths":
        from importlib import import_module

        return import_module(".maths", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def report(run: Run, analyses: "list[str] | None" = None, **options: object):
    """One self-contained HTML page about a run: `ls.report(run).save("report.html")`. See `loopscope.reports`."""
    from .reports import report as make

    return make(run, analyses, **options)
