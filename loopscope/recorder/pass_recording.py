"""recording: every forward pass of a wrapped model inside a with-block, and what each one read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from ..adapters.base import Adapter
from ..common.errors import LoopscopeError
from ..common.guard import guarded
from ..core.hooks import TemporaryHooks
from ..core.sites import Sites
from ..core.states import States
from ..core.turns import check_no_pass, parts_of, running_pass, turn
from ..interventions.edit_checks import Edits
from ..runs.keep import Keep
from ..wrapping.synthetic_loop import SyntheticLoop
from ..wrapping.wrap_module import Wrapped
from .generation import Generation
from .looped_passes import LoopedPasses
from .pass_readings import PassReadings
from .pass_recorder import PassRecorder
from .token_edits import TokenEdits


@guarded
@contextmanager
def recording(
    model: Any, *, sites: Sites = (), edits: Edits = (), keep: Keep | None = None
) -> Iterator[Generation]:
    """Record every forward pass of a wrapped model inside the with-block: those of another
    package's `generate`, or of your own code.

    >>> with ls.recording(model) as out:
    ...     AutoregressiveWrapper(model.module).generate(prompt, seq_len=8)
    >>> out.at(token=0).states

    A pass that goes on with the one before by one token computed a token. If your code made other
    passes (drafts, beams), set `out.tokens` to the tokens that it returned, prompt and new ones.

    Arguments:
        model: what `wrap` returned.
        sites, edits, keep: as for `generate`; the first pass of your own code reads the prompt.

    Raises:
        LoopscopeError: the model isn't wrapped, or an edit is one that `generate` refuses.
    """
    if not isinstance(model, Adapter | Wrapped):
        raise LoopscopeError(
            f"recording needs what ls.wrap makes of a model, but got {type(model).__name__}. For one pass "
            "of a model with the four functions there is ls.record(model, tokens)."
        )
    readings = PassReadings()
    out = Generation([], None, readings, keep=keep)
    passes_of: Any = LoopedPasses if isinstance(model, SyntheticLoop) else PassRecorder
    recorder = passes_of(model, sites, edits, keep, runs=out.runs)
    if isinstance(model, Wrapped):
        _check_counted_from_start(recorder.edits)
    passes = _ReadPasses(recorder, readings)
    parts = parts_of(model)
    check_no_pass(parts, "a recording")
    with turn(parts), running_pass(parts), TemporaryHooks() as hooks, readings.watching(model.module):
        hooks.attach(model.module, before=passes.begin, after=passes.end)
        try:
            yield out
        finally:
            recorder.remove_hooks()
    passes.token_edits.check_applied(readings)
    if out.tokens is None and len(readings.outputs) == 1:  # a generate of the model itself
        out.output = readings.outputs[0]
        out.tokens = getattr(out.output, "sequences", out.output)


def _check_counted_from_start(edits: Sequence[Any]) -> None:
    for edit in edits:
        where = getattr(edit, "iteration", None)
        if isinstance(where, slice):
            where = [bound for bound in (where.start, where.stop) if bound is not None]
        if any(number < 0 for number in ([where] if isinstance(where, int) else where or ())):
            raise LoopscopeError(
                f"{edit}: how many iterations a module wrapped by its body runs is known only after each "
                "pass, so iterations must be counted from the start while it generates. Choose one of 0 or "
                "more."
            )


class _ReadPasses:
    """Records each pass, and what it read."""

    def __init__(self, recorder: PassRecorder | LoopedPasses, readings: PassReadings) -> None:
        self.recorder, self.readings = recorder, readings
        self.token_edits = TokenEdits(recorder.edits)
        self.ending = False
        """Whether a pass is being made a run, which may take passes of its own."""

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Before a pass."""
        if not self.ending:
            self.readings.begin(args, kwargs)
            if self.token_edits.needed:
                self.recorder.use(self.token_edits.of_pass(self.readings))
        return self.recorder.begin(args, kwargs)

    def end(self, args: Any, kwargs: Any, output: Any) -> Any:
        """After a pass."""
        if self.ending:
            return self.recorder.end(args, kwargs, output)
        runs, self.ending = self.recorder.runs, True
        before = len(runs)
        try:
            result = self.recorder.end(args, kwargs, output)
        finally:
            self.ending = False
        if len(runs) == before:  # it ran no iteration
            self.readings.leave(output)
            return result
        state = self.recorder.tracker.last_output
        reading = self.readings.end(output, None if state is None or state.ndim != 3 else state.shape[1])
        self.token_edits.check_reading(self.readings)
        run = runs[-1]
        # What the first part of an iteration receives need not be what `record` calls core_in.
        same = "core_in" in run and _is_core_in(self.recorder.model, run["core_in"], state)
        if not same:
            run = run.with_sites({name: run[name] for name in run.names if name != "core_in"})
        run.inputs = self.readings.inputs(kwargs)
        run.origin |= {"pass": f"{before}: {reading.describe()}", "cached": reading.cached}
        runs[-1] = run
        return result


def _is_core_in(model: Any, value: States, state: Any) -> bool:
    if not isinstance(model, Adapter):
        return True
    shape = value.shape[-1:] if value.iterations else ()
    return "core_in" in model.loop_sites and isinstance(state, Tensor) and shape == state.shape[-1:]
