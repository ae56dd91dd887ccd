"""Applied: which edits of a pass applied, and why another one didn't.

An edit that changes nothing would leave a run that looks edited and isn't, so it is refused. Each
number that an edit names must come up (an iteration, a turn of an inner loop), and of a slice at
least one.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from ..common.errors import LoopscopeError
from ..core.indexing import Selector
from ..core.sites import is_state
from .edit_checks import check_axes
from .edits import Edit
from .freeze import FrozenSite
from .recomputation import check_not_recomputed
from .schedule import Schedule, ScheduleEdit, Swap

CALL = "call"
"""The axis of a site that is called several times at one loop index: an edit may select along
it."""


class Applied:
    """The calls of the edited sites in one pass, and the loop indices at which each edit
    applied."""

    def __init__(self) -> None:
        self._calls: dict[str, dict[tuple[tuple[str, ...], tuple[int, ...]], int]] = defaultdict(dict)
        self._turns: dict[int, dict[str, set[int]]] = {}
        self._misplaced: dict[int, tuple[str, ...]] = {}
        self._placed: set[int] = set()

    def call(self, site: str, loops: tuple[str, ...], index: tuple[int, ...]) -> int:
        """Note a call of an edited site; the number of this call at its loop index."""
        number = self._calls[site].get((loops, index), 0)
        self._calls[site][loops, index] = number + 1
        return number

    def has_axes(self, edit: Edit, axes: tuple[str, ...]) -> bool:
        """Whether a call of an edit's site has all the axes along which the edit selects; noted
        too."""
        if all(name in axes for name in edit.where):
            self._placed.add(id(edit))
            return True
        self._misplaced.setdefault(id(edit), axes)
        return False

    def apply(self, edit: Edit, loops: tuple[str, ...], index: tuple[int, ...]) -> None:
        """Note that an edit applied.

        Raises:
            LoopscopeError: a backward pass would compute its site again, without it.
        """
        check_not_recomputed(edit)
        turns = self._turns.setdefault(id(edit), defaultdict(set))
        for loop, number in zip(loops, index, strict=True):
            turns[loop].add(number)

    def check(
        self, edits: Mapping[str, Sequence[Edit]], ran: int, *, requested: int | None, schedule: Schedule
    ) -> None:
        """Raise LoopscopeError if an edit never applied, or not everywhere it names.

        Arguments:
            edits: by site.
            ran: the iterations after which the loop ended.
            requested: how many were to run; None if that isn't known.
            schedule: of the run.
        """
        for site, several in edits.items():
            for edit in several:
                self._check_masks(edit, site, requested)
                missing = self._missing(edit, site, requested)
                if missing is None or (isinstance(edit, FrozenSite) and edit.field_site is not None):
                    continue
                if id(edit) not in self._placed and id(edit) in self._misplaced:
                    check_axes(edit, self._misplaced[id(edit)])
                place = f" at {missing}" if missing and id(edit) in self._turns else ""
                verb = "did not apply" if place else "never applied"
                reason = self._reason(edit, site, ran, requested, schedule)
                raise LoopscopeError(f"{edit} {verb}{place}: {reason}")

    def _check_masks(self, edit: Edit, site: str, requested: int | None) -> None:
        """Raise LoopscopeError if a mask over a loop has more or fewer entries than the loop has
        turns."""
        calls = self._calls.get(site, {})
        for loop, selector in {"iteration": edit.iteration, **edit.where}.items():
            sizes = [
                1 + dict(zip(loops, index, strict=True))[loop] for loops, index in calls if loop in loops
            ]
            if loop == "iteration":
                sizes = [] if requested is None else [requested + is_state(site)]
            if loop == CALL:
                sizes = list(calls.values())
            mask = isinstance(selector, list) and isinstance(selector[0], bool)
            if mask and sizes and len(selector) != max(sizes):
                raise LoopscopeError(
                    f"{edit}: a mask needs an entry for each {loop}, but has {len(selector)} for "
                    f"{max(sizes)}. Use a longer or shorter one, or name numbers."
                )

    def _missing(self, edit: Edit, site: str, requested: int | None) -> str | None:
        """Where an edit should have applied but didn't: "iteration 7"; None if nowhere."""
        turns = self._turns.get(id(edit))
        if turns is None:
            return ""
        size = None if requested is None else requested + is_state(site)
        for loop, selector in {"iteration": edit.iteration, **edit.where}.items():
            if loop in turns:
                lacking = [
                    n for n in _named(selector, size if loop == "iteration" else None) if n not in turns[loop]
                ]
                if lacking:
                    return f"{loop} {lacking[0]}"
        return None

    def _reason(self, edit: Edit, site: str, ran: int, requested: int | None, schedule: Schedule) -> str:
        calls = self._calls.get(site, {})
        if not calls:
            return (
                f"'{site}' was not called in this pass, or gave no floating-point tensor (what comes before "
                "the loop isn't computed again when a run is resumed). Edit a site that runs."
            )
        inside = [dict(zip(loops, index, strict=True)) for loops, index in calls if "iteration" in loops]
        if not inside:
            return (
                f"'{site}' is called outside the loop, where there are no iterations. Leave iteration= out."
            )
        for loop in sorted({loop for turn in inside for loop in turn} & set(edit.where)) + [CALL]:
            turns = max(calls.values()) if loop == CALL else 1 + max(turn.get(loop, 0) for turn in inside)
            if loop in edit.where and not _selects_some(edit.where[loop], turns):
                return f"'{site}' has '{loop}' 0..{turns - 1}, counted from 0. Choose one of them."
        numbers = sorted({turn["iteration"] for turn in inside})
        return f"the loop ran {_words(ran, requested)}" + "".join(
            [
                f" Skipped: {schedule.skipped}." if schedule.skipped else "",
                " No value comes after the one that it is held at." if isinstance(edit, FrozenSite) else "",
                "" if is_state(site) or len(numbers) == ran else f" '{site}' was called in {numbers}.",
                " Choose an iteration that runs.",
            ]
        )


def check_schedule(edits: Sequence[ScheduleEdit | Swap], ran: int, requested: int) -> None:
    """Raise LoopscopeError if the loop ended before an iteration that is skipped, repeated or
    swapped.

    Arguments:
        ran: the iterations after which the loop ended.
        requested: how many were to run.
    """
    for edit in edits:
        if any(place % requested >= ran for place in edit.iterations):
            raise LoopscopeError(
                f"{edit} never applied: the loop ran {_words(ran, requested)} Choose an iteration that runs."
            )


def _words(ran: int, requested: int | None) -> str:
    """How many iterations a loop ran, as the end of a sentence."""
    early = (
        ""
        if requested is None or ran >= requested
        else f" of {requested}, and ended since every position had halted"
    )
    return f"{ran} iterations{early} (0..{ran - 1}; states 0..{ran})."


def _named(selector: Selector | None, size: int | None) -> list[int]:
    """The numbers that a selector names one by one; a slice names none."""
    if selector is None or isinstance(selector, slice):
        return []
    if isinstance(selector, list) and isinstance(selector[0], bool):
        return [number for number, chosen in enumerate(selector) if chosen]
    numbers = [selector] if isinstance(selector, int) else selector
    return [number + size if number < 0 and size is not None else number for number in numbers]


def _selects_some(selector: Selector, size: int) -> bool:
    """Whether a selector selects something that exists, without counting from the end."""
    if isinstance(selector, slice):
        return bool(range(*selector.indices(size)))
    return all(0 <= number < size for number in _named(selector, None))
