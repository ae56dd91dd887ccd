"""fitted: an analysis cut down to what a budget allows - fewer examples, directions, starts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..common.errors import LoopscopeError
from ..common.price import Price, smaller
from ..common.text import plural
from ..runs.run import Run, iterable_model
from .subset import select_examples

FEWEST = 6
"""A run isn't cut down to fewer examples than these."""
NOTE = " The budget of "
"""With it begins what follows in the evidence of a result that was cut down."""


@dataclass(frozen=True)
class Fitted:
    """An analysis as it fits into a budget."""

    run: Run
    """The run, or some of its examples."""
    options: Mapping[str, Any]
    price: Price
    whole: Price
    """What it would cost without a budget."""
    changes: tuple[str, ...] = ()
    """What was cut down, such as "examples=6"; nothing where all of it fits."""

    def note(self, budget: str) -> str:
        """What the budget left out, as a sentence; empty if nothing.

        Arguments:
            budget: in words.
        """
        if not self.changes:
            return ""
        changes = ", ".join(self.changes)
        return (
            f"{NOTE}{budget} allowed {changes}, for about {self.price.text}, where the whole costs "
            f"{self.whole.text}."
        )


def price_of(module: Any, run: Any, options: Mapping[str, Any]) -> Price:
    """What an analysis costs with these options; nothing where it doesn't say, or only reads what
    was recorded."""
    # where there is none, the analysis itself says what it needs, or does without iterating
    return _price_if_any(module, run, options) or Price(0.0)


def _price_if_any(module: Any, run: Any, options: Mapping[str, Any]) -> Price | None:
    """None where it can't be measured so."""
    price = getattr(module, "price", None)
    if price is None or not isinstance(run, Run):
        return Price(0.0)
    try:
        return price(run, **options)
    except LoopscopeError:
        return None


def fitted(module: Any, run: Any, options: Mapping[str, Any], passes: float) -> Fitted | Price:
    """An analysis as it fits into some forward passes of its run's batch: as it is, else with the
    first of its REDUCED options that fit, else of fewer examples of the run. The least price, where
    nothing fits.

    Arguments:
        module: of the analysis.
        options: that the caller chose; they stay as they are.
    """
    whole = least = price_of(module, run, options)
    if whole.passes <= passes:
        return Fitted(run, options, whole, whole)
    reduced: dict[str, Any] = {}
    for fewer in smaller(module, options):
        price = _price_if_any(module, run, {**options, **fewer})
        if price is None:
            continue
        if price.passes <= passes:
            return Fitted(run, {**options, **fewer}, price, whole, _words(fewer))
        if price.passes < least.passes:  # what saves nothing isn't left out
            reduced, least = fewer, price
    for part, share in _parts(run):
        of_part = _price_if_any(module, part, {**options, **reduced})
        if of_part is None:
            continue
        price = Price(of_part.passes * share)
        if price.passes <= passes:
            words = f"the first {len(part.tokens)} of {plural(len(run.tokens), 'example')}"
            return Fitted(part, {**options, **reduced}, price, whole, (words, *_words(reduced)))
        least = min(least, price, key=lambda one: one.passes)
    return least


def _words(options: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"no {name}" if value == () else f"{name}={value}" for name, value in options.items())


def _parts(run: Any) -> Iterator[tuple[Run, float]]:
    """Runs of a half, a quarter ... of the examples, and which share these are. The run remembers
    them, so that what is computed from one serves all analyses that are cut down to it."""
    if not isinstance(run, Run):
        return
    try:
        iterable_model(run)
    except LoopscopeError:
        return
    count = len(run.tokens)
    while (count := count // 2) >= FEWEST and not run.origin.get("edits"):
        part = run.memory.once(
            ("first examples", count), lambda count=count: select_examples(run, range(count))
        )
        yield part, count / len(run.tokens)
