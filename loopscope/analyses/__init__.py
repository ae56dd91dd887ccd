"""The shelf of the analyses: questions that can be put to a run, found by name in the folder
`analyses/`.

>>> import loopscope as ls
>>> result = ls.analyses.measure("convergence", run)          # the folder analyses/convergence
>>> result.verdict, result.figure(), print(result)
>>> ls.analyses.measure("my_analysis.py", run)                # one's own; also its module
"""

import inspect
import math
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common import discovery
from ..common.analysis_shelf import ANALYSES
from ..common.arguments import Scheduler
from ..common.errors import LoopscopeError
from ..common.guard import guarded
from ..common.progress import progress

if TYPE_CHECKING:
    from ..common.analysis_result import AnalysisResult
    from ..common.price import Price
    from ..recorder.generation import Generation
    from ..runs.run import Run
    from ..training.history import History

BLOCKS = "blocks"
"""Among the NEEDS of an analysis's module: it needs no more of a run's states than a block at a
time."""

__path__ = discovery.folders("analyses")


def names() -> list[str]:
    """The names of all analyses: ours, then those of the user and of packages."""
    return ANALYSES.names()


def module(name: str) -> Any:
    """The module of an analysis, with its `measure` and `draw`."""
    return ANALYSES.get(name)


def name_of(analysis: Any) -> str:
    """The name of an analysis, which is on the shelf from now on: a name stands for itself, the
    path of a file or a folder, a module and a function `measure` for one of your own."""
    return ANALYSES.place(analysis)


@guarded
def measure(
    name: Any,
    run: "Run | Generation | History | str | os.PathLike[str]",
    *,
    mask: Any = None,
    scheduler: Scheduler | None = None,
    budget: float | str | None = None,
    **options: Any,
) -> "AnalysisResult":
    """Run an analysis.

    >>> result = ls.analyses.measure("cycles", run)
    >>> result.verdict.sentence

    Arguments:
        name: one of `names()`, or one of your own: the path of its file or folder, its module, or
            its function `measure`.
        run: what `loopscope.record` returned; for analyses of a training, such as grokking, what
            `loopscope.load_history` returned. A generation is measured at its new tokens, which are
            the positions (`generation.run`). Or the path of a saved run or generation, or a
            training's folder. A run that is larger than the memory is measured block by block.
        mask: which positions count, bool (batch, position); None: those of `run.mask`, which leaves
            out what an attention mask hides and pad tokens at both ends. Others have no influence
            on any number, and are absent (NaN) from numbers by position.
        scheduler: who computes the blocks: "threads" or "processes" of this machine, or the address
            of a running dask scheduler. None: threads, where there is much to do.
        budget: what it may cost: forward passes of the recorded batch, such as 500 or "500 passes",
            or a time, such as "2 min". Where the whole costs more (`price`), it is measured with
            fewer examples or directions, and its evidence says so. None: no limit.
        options: of the analysis; its `measure` documents them.

    Returns:
        A frozen dataclass of numbers with a `verdict`, `summary()`, `figure()` and `to_json()`.

    Raises:
        LoopscopeError: there is no analysis or option of that name, the mask doesn't fit, the
            analysis can't be computed from this run, or not within the budget, or isn't computed
            in blocks and a scheduler was named; or an example that counts left the loop before its
            end, where the analysis goes through all states.
    """
    from ..core.outside_modes import outside_modes  # the names of the analyses need no torch

    name = name_of(name)
    question = guarded(module(name).measure, name)
    run = _subject(run, mask)
    _check_options(name, options)
    _check_rows(name, run)
    with outside_modes(), _scheduled(name, scheduler), progress(f"measuring {name}"):
        if budget is None:
            return question(_measurable(run), **options)
        return _within(name, question, _measurable(run), options, budget)


@guarded
def price(
    name: Any,
    run: "Run | Generation | History | str | os.PathLike[str]",
    *,
    mask: Any = None,
    **options: Any,
) -> "Price":
    """What an analysis of a run costs, in forward passes of the recorded batch, before it starts:
    within a factor of two of what is counted then. What the run remembers from other analyses costs
    nothing again, and reading states doesn't count.

    >>> ls.analyses.price("stability", run).passes

    Arguments and errors: as of `measure`.
    """
    from ..core.outside_modes import outside_modes
    from ..recorder.within_budget import price_of

    name, run = name_of(name), _subject(run, mask)
    _check_options(name, options)
    with outside_modes():
        return price_of(module(name), run, options)


def _within(name: str, question: Any, run: Any, options: dict[str, Any], budget: float | str) -> Any:
    """The result that a budget allows, whose evidence says what was left out."""
    from dataclasses import replace

    from ..common.price import Budget, Price
    from ..recorder.prices import passes_of
    from ..recorder.within_budget import fitted

    allowed = Budget.of(budget)
    fit = fitted(module(name), run, options, passes_of(allowed, run))
    if isinstance(fit, Price):
        raise LoopscopeError(
            f"{name} of this run costs {fit.text} at least, more than the budget of {allowed.text}. Pass a "
            f'larger one: budget="{math.ceil(110 * fit.passes) / 100:.2f} passes".{_doubt(module(name), run)}'
        )
    result = question(fit.run, **fit.options)
    note = fit.note(allowed.text)
    return replace(result, evidence=replace(result.evidence, how=result.evidence.how + note))


def _doubt(question: Any, run: Any) -> str:
    """A sentence where an analysis may refuse a run with any budget."""
    if not hasattr(question, "applies") or question.applies(run):
        return ""
    return " It may refuse the run even then, as its applies(run) is False."


def _check_options(name: str, options: dict[str, Any]) -> None:
    parameters = inspect.signature(module(name).measure).parameters
    for option in options:
        discovery.checked_name(f"option of {name}", option, [one for one in parameters if one != "run"])


def _check_rows(name: str, run: Any) -> None:
    """Raise LoopscopeError if an analysis that goes through the states would count those of
    examples that have left the loop."""
    from ..runs.present_rows import require_present
    from ..runs.run import Run

    if isinstance(run, Run) and {BLOCKS, "resume"} & {*getattr(module(name), "NEEDS", ())}:
        require_present(run)


def _subject(run: Any, mask: Any) -> Any:
    """What is measured: a run, or a history."""
    from ..recorder.generation import Generation

    run = _loaded(run) if isinstance(run, str | os.PathLike) else run
    run = run.run if isinstance(run, Generation) else run
    return run if mask is None else _with_mask(run, mask)


def _scheduled(name: str, scheduler: str | None) -> AbstractContextManager[None]:
    """A with-block in which blocks are computed by this scheduler."""
    if scheduler is None:
        return nullcontext()
    if BLOCKS not in getattr(module(name), "NEEDS", ()):
        raise LoopscopeError(
            f"scheduler= is for analyses that go in blocks, such as convergence and cycles, but {name} "
            "doesn't. Leave it out."
        )
    from ..runs.chunked import chunking

    return chunking(scheduler)


def _measurable(run: Any) -> Any:
    """A run with its values where there is double precision, in which they are measured."""
    from ..runs.kept_form import on_device_with_64_bits
    from ..runs.run import Run

    if not isinstance(run, Run):
        return run
    sites = {name: on_device_with_64_bits(run[name]) for name in run.names}
    return run if all(sites[name] is run[name] for name in sites) else run.with_sites(sites)


def _loaded(path: str | os.PathLike[str]) -> "Run | Generation | History":
    """The run or generation in a file, the run in a folder, or the history in a training's
    folder."""
    from ..run_loading import is_run_folder, load_run

    if os.path.isdir(path) and not is_run_folder(Path(path)):
        from ..training import load_history

        return load_history(path)
    return load_run(path)


def _with_mask(run: Any, mask: Any) -> "Run":
    if not hasattr(run, "with_mask"):
        raise LoopscopeError(
            f"mask says which positions of a run count, but a {type(run).__name__} has no positions. Leave "
            "mask= out."
        )
    return run.with_mask(mask)
