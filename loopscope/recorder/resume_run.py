"""resume: go on with a run from any of its states."""

from pathlib import Path
from typing import Any

from torch import Tensor

from ..adapters.base import Adapter
from ..common.arguments import Count, FilePath, Index, Seed
from ..common.errors import LoopscopeError
from ..common.guard import guarded
from ..core.copied import copied
from ..core.lazy_values import LazyValues, chosen
from ..core.lazy_values import joined as in_order
from ..core.looped_model import checked_iterations
from ..core.pattern_sites import listed
from ..core.sites import Sites, is_state, resolve, site_modules
from ..core.state_tree import map_state
from ..core.states import States
from ..interventions.edit_checks import Edits
from ..runs.collector import Collector
from ..runs.keep import Keep
from ..runs.reader import Reader
from ..runs.rebuilt_reader import rebuilt_reader
from ..runs.run import Run, check_uncached
from ..runs.run_folder import places_of
from ..runs.spilled import is_large_in_files, spilling
from ..wrapping.wrap_module import Wrapped
from .disk_recording import begin, disk_store, stored
from .pass_settings import pass_settings
from .provenance import check_same_model, circumstances
from .recorded_pass import changes_in_place, check_looped, halting_record, recorded_pass
from .recording_plan import Span, edits_of


# It is long because its docstring explains six arguments.
@guarded
def resume(
    model: Any,
    run: Run,
    iterations: Count,
    *,
    start: Index | None = None,
    sites: Sites = (),
    edits: Edits = (),
    seed: Seed | None = None,
    to: FilePath | None = None,
) -> Run:
    """Go on with a run from any of its states. The result equals `record(model, tokens,
    iterations)`, bitwise.

    >>> run = ls.record(model, tokens, iterations=32)
    >>> longer = ls.resume(model, run, 64)                                  # 32 more iterations
    >>> edited = ls.resume(model, run, 32, start=8, edits=[ls.skip(10)])    # from states[8] on

    Arguments:
        iterations: of the whole result, those of the run included.
        start: the state to go on from; None means the last. Up to there the result has the values
            of the run.
        sites: what to record from there on, besides the sites that the run has.
        edits: for the iterations from `start` on; an edit of `state` at `start` counts.
        seed: as for `record`. A run of a model in training mode whose iterations draw random
            numbers goes on only with a seed, and then with other draws than `record` would make.
        to: a folder for the result, as for `record`; what the run has is copied there first.

    Raises:
        LoopscopeError: the model lacks the four functions or isn't the one that made the run, its
            weights have changed, the run has no state at `start`, or `iterations` ends before it.
    """
    model = model.iterated if isinstance(model, Wrapped) else model
    check_looped(model)
    check_uncached(run)
    if run.has_model and run.reader.refusal is not None:
        raise LoopscopeError(run.reader.refusal)
    reader = _reader(model, run)
    if "short" in run.origin:
        raise LoopscopeError(
            f"a run goes on from states as they were computed, but this one's were rounded to "
            f"{run.origin['short']} (keep={run.origin['keep']}), so it would go on otherwise than the model. "
            "Record again without the dtype, or record as many iterations as are needed."
        )
    n = checked_iterations(iterations)
    k = run.states.iteration_at(run.iterations if start is None else start)
    if n < k:
        raise LoopscopeError(
            f"iterations counts the whole run, so it must be {k} or more to resume from state {k}, but is "
            f"{n}."
        )
    _check_rows(run, k)
    edited = edits_of(model, edits)
    _check_folder(run, to)
    with disk_store(to, None, reader.grad) as store:
        collector = Collector(Keep(), reader.grad, careful=changes_in_place(model), store=store)
        seeded = seed is not None
        with (
            reader.as_recorded(draws=seeded, seeded=seeded),
            pass_settings(model, reader.grad, seed) as before,
        ):
            # every byte, with the buffers of the recording
            check_same_model(model, run.origin, "resume needs")
            state = map_state(Tensor.clone, run.state(k))  # the model may write into it
            tokens, inputs = copied(run.tokens), copied(run.inputs)
            origin = circumstances(model, edited, None, seed)
            origin |= {
                "requested_iterations": n,
                "resumed_at": k,
                "edits": [*run.origin.get("edits", []), *origin["edits"]],
                **{name: run.origin[name] for name in ("token_strings",) if name in run.origin},
            }
            begin(store, tokens, inputs, {"origin": origin | {"fields": run.origin.get("fields", [])}})
            run = run if store is None else run.with_sites(store.copied(run, k))
            earlier = _earlier(model, run, reader, n, k)
            span = Span(tokens, inputs, n, k, (reader.context, state), run.mask, earlier)
            names = _recorded_sites(model, run, sites)
            with spilling(store is None and is_large_in_files(run, n - k)):
                later = recorded_pass(
                    model, span, names, edited, collector=collector, origin=origin, before=before
                )
            result = later.with_sites(_joined(run, later, k)).with_counted(run.counted)
            result.halting = halting_record(model, result) if run.halting is not None else None
        return stored(store, result)


def _check_rows(run: Run, k: int) -> None:
    """Raise LoopscopeError if an example has left the loop before state k: there is none to go on
    from."""
    for name in run.names:
        rows = run[name].rows.get((k,)) if is_state(name) else None
        if rows is not None and not bool(rows.all()):
            raise LoopscopeError(
                f"every example must be in the loop to its end, but {int((~rows).sum())} of {len(rows)} have "
                f"no state {k} to go on from. Record with iterations=, so that none leaves, or go on "
                "from an earlier state: start=."
            )


def _check_folder(run: Run, to: Any) -> None:
    """Raise LoopscopeError if the result would be written over the files that the run reads."""
    if to is None:
        return
    place = Path(to).resolve()
    if place in places_of(run):
        raise LoopscopeError(
            f"to= must be another folder than that of the run, whose values are read from there, but is "
            f"{to}. Choose a new folder."
        )


def _earlier(model: Any, run: Run, reader: Reader, n: int, k: int) -> tuple[Any, ...]:
    """states[:k], if the model's answer after n iterations may be read from them."""
    early = isinstance(model, Adapter) and model.answers_early(reader.context, n)
    return tuple(run.state(j) for j in range(k)) if early else ()


def _reader(model: Any, run: Run) -> Reader:
    """The reader of a run with this model: the run's own, or a new one for a model like its own."""
    if run.has_model and run.reader.made_by(model):
        run.reader.require_unchanged()
        if run.reader.context is not None:  # None: a pass that the model made by itself
            return run.reader
    check_same_model(model, run.origin, "resume needs")
    return rebuilt_reader(model, run.origin, run.tokens, run.inputs)


def _recorded_sites(model: Any, run: Run, sites: Sites) -> list[str]:
    """The sites inside the loop that the run has, and further ones."""
    recorded = [
        name for name in run.names if "@" not in name and not is_state(name) and isinstance(run[name], States)
    ]
    modules = site_modules(model)
    further = resolve(sites, modules, list(getattr(model, "hook_dict", listed(modules))))
    return list(dict.fromkeys([*recorded, *further]))


def _joined(run: Run, later: Run, k: int) -> dict[str, States | Tensor]:
    """The values of `run` before iteration k, and of `later` from there on."""
    joined: dict[str, States | Tensor] = {name: run[name] for name in run.names}
    for name in later.names:
        new = later[name]
        if isinstance(new, States):
            # states[k] passed its site again, where an edit may have changed it: it is the later
            # one
            before = run[name].by_index if name in run else {}
            after: Any = new.by_index
            if before and not isinstance(before, LazyValues):
                # where the run's values are, as they may have been moved when they were recorded
                here = next(iter(before.values())).device
                after = {index: value.to(here) for index, value in after.items()}
            values = in_order([chosen(before, lambda index: index[0] < k), after])
            joined[name] = States(name, values, new.axes, later.iterations + is_state(name))
    return joined
