"""Spending: how much of a page's budget each of its analyses may cost."""

import math
import time
from collections.abc import Sequence

from .. import analyses as questions
from ..common.price import Budget, passes_text
from ..recorder.prices import passes_of
from ..recorder.within_budget import fitted, price_of
from ..runs.run import Run

LARGE = 20_000_000
"""Parameters of a model, from which on a page has a budget of its own accord ..."""
DEFAULT = Budget(None, 600.0)
"""... if all of it would take longer than this."""


class Spending:
    """What is left of a budget, and how it is shared: whatever costs less than an even share is
    done whole, and what it leaves goes to the others."""

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
        prices = {one: price_of(questions.module(one), self._run, {}).passes for one in self._rest}
        allowed = max(level(list(prices.values()), self.left), 1e-6)
        self._rest.remove(name)
        self.spend(getattr(fitted(module, self._run, {}, allowed), "price", None))
        return None if prices[name] <= allowed else f"{allowed:.6f} passes"

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
