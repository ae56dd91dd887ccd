"""loopscope: what a looped transformer does between its iterations.

import loopscope as ls

model = ls.models.load("universal-prefix-parity")
run = ls.record(model, model.task.batch(64, seed=0).tokens, iterations=32)
run.states[3]        # (batch, position, width): the state after 3 iterations
"""

from typing import TYPE_CHECKING

from . import analyses as analyses
from . import keep as keep
from . import models as models
from . import rules as rules
from . import tasks as tasks
from .adapter import Adapter as Adapter
from .clock import Clock as Clock
from .driver import Looped as Looped
from .driver import drive as drive
from .early import Answer as Answer
from .early import answer as answer
from .edits import Edit as Edit
from .edits import ablate as ablate
from .edits import add as add
from .edits import bias_halting as bias_halting
from .edits import halt_at as halt_at
from .edits import patch as patch
from .edits import repeat as repeat
from .edits import skip as skip
from .edits import swap as swap
from .errors import LoopscopeError as LoopscopeError
from .errors import LoopscopeIndexError as LoopscopeIndexError
from .errors import LoopscopeWarning as LoopscopeWarning
from .finding import Finding as Finding
from .finding import Verdict as Verdict
from .freeze import Freeze as Freeze
from .freeze import freeze as freeze
from .function import iterate as iterate
from .generation import Generation as Generation
from .generation import generate as generate
from .generation import recording as recording
from .halting import Halting as Halting
from .history import History as History
from .history import load_history as load_history
from .hub import from_pretrained as from_pretrained
from .lenses import Readings as Readings
from .lenses import TunedLens as TunedLens
from .lenses import lens as lens
from .loops import Loop as Loop
from .loops import Loops as Loops
from .loops import find_loops as find_loops
from .patching import Effects as Effects
from .patching import Mediation as Mediation
from .patching import effects as effects
from .patching import mediation as mediation
from .patching import noise as noise
from .probing import Probes as Probes
from .probing import load_probes as load_probes
from .recorder import record as record
from .recorder import resume as resume
from .run import Run as Run
from .run import load_run as load_run
from .states import States as States
from .wrapper import Wrapped as Wrapped
from .wrapper import wrap as wrap

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
