"""Spending: how much of a page's budget each of its analyses may cost."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .. import analyses as questions
from ..common.price import Budget, Price, passes_text
from ..recorder.prices import passes_of
from ..recorder.within_budget import fitted, price_of
from ..runs.run import Run

LARGE = 20_000_000
"""Parameters of a model, from which on a page has a budget of its own accord ..."""
DEFAULT = Budget(None, 600.0)
"""... if all of it would take longer than this."""


class Prices(NamedTuple):
    """What an analysis costs, in forward passes."""

    least: float
    """Cut down as far as it can be."""
    whole: float


class Spending:
    """What is left of a budget, and how it is shared: first to each analysis what it costs at
    least, the cheapest first, as far as that goes; the rest evenly. Whatever costs less than its
    part is done whole, and what it leaves goes to the others."""

    def __init__(self, run: Run, names: Sequence[str], budget: Budget | None) -> None:
        """
        Arguments:
            names: of the analyses that are wanted.
            budget: None: none for small models, else DEFAULT where the page would take longer.
        """
        self._run, self._begin, self._spent = run, time.monotonic(), 0.0
        self._rest = [name for name in names if _has_price(name, run)]
        self.by_itself = budget is None and _takes_long(run, self._rest)
        """Whether nobody asked for the budget that there is."""
        self.budget = DEFAULT if self.by_itself else budget

    @property
    def left(self) -> float:
        """Forward passes of the run's batch; infinity without a budget."""
        if self.budget is None:
            return math.inf
        if self.budget.seconds is None:
            return max(0.0, (self.budget.passes or 0.0) - self._spent)
        gone = time.monotonic() - self._begin
        return max(0.0, passes_of(Budget(None, max(1e-9, self.budget.seconds - gone)), self._run))

    def share(self, name: str) -> str | None:
        """What an analysis may cost, as a budget; None without a limit. It is counted as spent."""
        if self.budget is None or name not in self._rest:
            return None
        module = questions.module(name)
        prices = {one: self._prices(one) for one in self._rest}
        allowed = max(allotted(prices, self.left, name), 1e-6)
        self._rest.remove(name)
        self.spend(getattr(fitted(module, self._run, {}, allowed), "price", None))
        return None if prices[name].whole <= allowed else f"{math.ceil(1e6 * allowed) / 1e6:.6f} passes"

    def _prices(self, name: str) -> Prices:
        module = questions.module(name)
        whole = price_of(module, self._run, {}).passes
        least = fitted(module, self._run, {}, 0.0)
        return Prices(least.passes if isinstance(least, Price) else 0.0, whole)

    def spend(self, price: "object") -> None:
        """Count a price as spent; None costs nothing."""
        self._spent += getattr(price, "passes", 0.0)

    @property
    def text(self) -> str:
        """The budget in words, with what a pass is; empty without one."""
        if self.budget is None:
            return ""
        why = " (as the whole page would take longer; budget= sets another)" if self.by_itself else ""
        as_passes = "" if self.budget.seconds is None else f", about {passes_text(self._all)}"
        return f"{self.budget.text}{as_passes}{why}; a pass is one bare forward of the recorded batch"

    @property
    def _all(self) -> float:
        assert self.budget is not None
        return passes_of(self.budget, self._run)


def allotted(prices: Mapping[str, Prices], amount: float, name: str) -> float:
    """What one of several analyses may take of an amount: what it costs at least, and its even part
    of what is left when each has that; infinity where all of it can be paid. An analysis whose
    least is too much, besides those that cost less, gets what they leave of it: too little."""
    paid: dict[str, Prices] = {}
    rest = amount
    for one in sorted(prices, key=lambda one: prices[one].least):
        if prices[one].least <= rest:
            paid[one] = prices[one]
            rest -= prices[one].least
    if name not in paid:
        return rest
    return prices[name].least + level([one.whole - one.least for one in paid.values()], rest)


def level(prices: Sequence[float], amount: float) -> float:
    """The largest part of an amount that each of several may take, where those that cost less leave
    the rest to the others; infinity where all of them can be paid."""
    for i, price in enumerate(ordered := sorted(prices)):
        even = amount / (len(ordered) - i)
        if price > even:
            return even
        amount -= price
    return math.inf


def _has_price(name: str, run: Run) -> bool:
    module = questions.module(name)
    if getattr(module, "SUBJECT", "run") != "run" or not hasattr(module, "price"):
        return False
    return not hasattr(module, "applies") or module.applies(run)


def _takes_long(run: Run, names: Sequence[str]) -> bool:
    """Whether the analyses of a large model would take longer than DEFAULT."""
    if not run.has_model or sum(p.numel() for p in run.model.parameters()) < LARGE:
        return False
    passes = sum(price_of(questions.module(name), run, {}).passes for name in names)
    return passes > 0 and passes > passes_of(DEFAULT, run)
