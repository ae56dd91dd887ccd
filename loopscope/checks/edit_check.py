"""Whether an edit acts where it says (site, iteration, position), nowhere before, and then as it
acts when PyTorch's own hooks make it."""

from collections.abc import Callable
from typing import Any

from ..common.errors import LoopscopeError
from ..core.sites import Path, get_at, is_state, put_at, site_modules
from ..core.states import States
from ..interventions.edits import add
from ..runs.run import Run
from ..wrapping.wrap_module import Wrapped
from .finding import Finding, failed, inapplicable, largest_difference, same
from .output_check import unsteady_output
from .plain_calls import Change
from .state_check import state_path
from .subject import Subject

SHIFT = 1.0
"""What the edits add."""
Make = Callable[[Any], Any]


def edit_of_a_state(subject: Subject) -> Finding:
    """Add to one position of the state in the middle of the loop."""
    if unsteady := unsteady_output(subject):
        return unsteady
    with subject.comparable() as record:
        run = record()
        if not run.iterations:
            return inapplicable("the loop ran no iteration")
        k = max(1, run.iterations // 2)
        return _edited(subject, record, run, "state", (k,), lambda: _state_calls(subject, run, k))


def edit_inside_an_iteration(subject: Subject) -> Finding:
    """Add to one position of a module's output in the middle of the loop."""
    if unsteady := unsteady_output(subject):
        return unsteady
    with subject.comparable() as record:
        full = record(sites="all")
        place = _inner_place(full)
        if place is None:
            return inapplicable("no module inside the loop gives floating-point numbers")
        site, index = place
        run = record(sites=[site])
        return _edited(subject, record, run, site, index, lambda: _site_calls(subject, run, site, index))


def _edited(
    subject: Subject,
    record: Callable[..., Run],
    run: Run,
    site: str,
    index: tuple[int, ...],
    calls: Callable[[], "tuple[list[Any], int, Path] | None"],
) -> Finding:
    if run[site].get(index) is None:
        return failed(f"'{site}' has no value at {index}, though the loop ran {run.iterations} iterations")
    where = _where(run[site], index)
    inner = dict(zip(run[site].axes[1 : len(index)], index[1:], strict=True))
    edit = add(site, value=SHIFT, iteration=index[0], **where, **inner)
    sites = [] if is_state(site) else [site]
    edited = record(sites=sites, edits=[edit])
    mistake = _misplaced(run, edited, site, index, where)
    if mistake is not None:
        return mistake
    what = f"'{site}' at {', '.join(map(str, [f'iteration {index[0]}', *_words(where | inner)]))}"
    reference = calls()
    idle = not largest_difference(_after(run, index[0]), _after(edited, index[0]))
    if idle and (is_state(site) or reference is None):
        text = f"{what} was edited, but neither a later state nor the output changed"
        unread = not is_state(site) or (index[0] == run.iterations and _keeps_accounts(run.model))
        return inapplicable(text) if unread else failed(text)
    if reference is None:
        return same(0.0, f"{what}: nothing before it changes, what follows does (no hook shows the state)")
    modules, number, path = reference
    shifts = [
        _replacing(number, path, _grid(run[site], where)),
        _writing(number, path, _grid(run[site], where)),
    ]
    off = min(largest_difference(edited.output, subject.watched(modules, shift).output) for shift in shifts)
    return same(
        off,
        f"{what}: nothing before it changes, and the output is as a plain hook edits it",
        f"an edit of {what} gives another output than the edit of a plain hook, which differs",
    )


def _misplaced(
    run: Run, edited: Run, site: str, index: tuple[int, ...], where: dict[str, int]
) -> Finding | None:
    """That the edit acted elsewhere than it says; None if it didn't."""
    last = index[0] - is_state(site)
    for k in range(last + 1):
        off = largest_difference(run.states.get((k,)), edited.states.get((k,)))
        if off:
            return failed(f"an edit of '{site}' at iteration {index[0]} changed states[{k}], before it", off)
    for other, value in run[site].items():
        if other < index and (off := largest_difference(value, edited[site].get(other))):
            return failed(f"an edit of '{site}' at {index} changed its value at {other}, before it", off)
    expected = run[site].get(index).clone()
    expected[_grid(run[site], where)] += SHIFT
    off = largest_difference(expected, edited[site].get(index))
    return failed(f"an edit of '{site}' at {index} didn't make of it what it says", off) if off else None


def _state_calls(subject: Subject, run: Run, k: int) -> "tuple[list[Any], int, Path] | None":
    """The modules whose calls return the state, the number of the call that returns states[k], and
    where; None where no hook sees it, or the loop keeps accounts of what these modules return,
    which a hook on them would change too."""
    if _keeps_accounts(subject.model):
        return None
    try:
        ends = subject.ends
    except LoopscopeError:  # an adapter that knows of no such module
        return None
    modules = ends.modules["state"]
    calls = subject.watched(modules).calls
    path = state_path(run, "state", calls, ends.first)
    number = k - ends.first
    if path is None or path[:1] == ("argument",) or number >= len(calls):
        return None
    return modules, number, path


def _keeps_accounts(model: Any) -> bool:
    """Whether the answer is read from what the loop keeps of its states, as with ACT."""
    return getattr(model, "recurrent_fields", ()) != getattr(model, "fields", ())


def _site_calls(
    subject: Subject, run: Run, site: str, index: tuple[int, ...]
) -> "tuple[list[Any], int, Path] | None":
    """As `_state_calls`, for a module's output; None unless one call alone returned the value."""
    model = subject.model
    modules = dict(model.module.named_modules()) if isinstance(model, Wrapped) else site_modules(model)
    if site not in modules:
        return None
    calls, value = subject.watched([modules[site]]).calls, run[site].get(index)
    hits = [
        (number, path)
        for number, call in enumerate(calls)
        for path, returned in call.returned.items()
        if path[:1] != ("argument",) and largest_difference(returned, value) == 0
    ]
    return ([modules[site]], *hits[0]) if len(hits) == 1 else None


def _inner_place(run: Run) -> tuple[str, tuple[int, ...]] | None:
    """A site inside the loop, of the modules deepest inside others, and the first index that it has
    from the middle of the loop on."""
    for site in sorted(run.names, key=lambda name: name.count("."), reverse=True):
        value = run[site]
        if is_state(site) or site == "core_in" or "@" in site or not isinstance(value, States):
            continue
        if value.axes[0] != "iteration":  # called several times, but outside the loop
            continue
        indices = [index for index, tensor in value.items() if tensor.is_floating_point() and tensor.ndim > 1]
        later = [
            index for index in indices if index[0] >= max(min(1, run.iterations - 1), run.iterations // 2)
        ]
        if later:
            return site, later[0]
    return None


def _where(states: States, index: tuple[int, ...]) -> dict[str, int]:
    """The last position, or else the last example; all of a value whose rows have left. (A causal
    layer has but one key to attend to at the first position, whatever its query.)"""
    axes, shape = states.axes[len(index) :], states.get(index).shape  # pyright: ignore[reportOptionalMemberAccess]
    if states.rows:
        return {}
    sizes = dict(zip(axes, shape, strict=True))
    return next(({name: sizes[name] - 1} for name in ("position", "batch") if sizes.get(name, 1) > 1), {})


def _grid(states: States, where: dict[str, int]) -> tuple[Any, ...]:
    """Where the edit acts, as an index of a value."""
    depth = len(next(iter(states.items()))[0])
    return tuple(where.get(name, slice(None)) for name in states.axes[depth:])


def _replacing(number: int, path: Path, grid: tuple[Any, ...]) -> Change:
    """Returns the output with another tensor in its place."""

    def change(call: int, module: Any, output: Any) -> Any:
        if call != number:
            return None
        new = get_at(output, path).clone()
        new[grid] += SHIFT
        return put_at(output, path, new)

    return change


def _writing(number: int, path: Path, grid: tuple[Any, ...]) -> Change:
    """Writes into the tensor, for a module that doesn't read what its body returns."""

    def change(call: int, module: Any, output: Any) -> Any:
        if call == number:
            get_at(output, path).data[grid] += SHIFT
        return None

    return change


def _after(run: Run, k: int) -> Any:
    return [run.output, *(value for (index, *_), value in run.states.items() if index > k)]


def _words(where: dict[str, int]) -> list[str]:
    return [f"{name} {number}" for name, number in where.items()]
