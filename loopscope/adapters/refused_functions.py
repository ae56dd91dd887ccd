"""The four functions of an adapter, refused once they were found to differ from the model's own
forward."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..common.errors import LoopscopeError
from .self_check import refusal

FOUR_FUNCTIONS = ("encode", "initial", "step", "decode")


class RefusedFunctions:
    """Which comparisons an adapter has passed, and that nothing is computed after one that it
    hasn't."""

    checked: set[Any]
    mismatch: str | None

    def refuse(self, mismatch: str) -> None:
        """Compute nothing from the four functions any more: they differ from the model's own
        forward.

        Arguments:
            mismatch: how, as a sentence.
        """
        self.mismatch = mismatch

        def refused(*_: Any, **__: Any) -> Any:
            raise LoopscopeError(refusal(mismatch))

        vars(self).update(dict.fromkeys(FOUR_FUNCTIONS, refused))

    def check_again(self) -> None:
        """Compare the four functions with the model's own forward at the next pass, whatever was
        found before: the model is another one now, such as in another precision."""
        self.checked.clear()
        self.mismatch = None
        for name in FOUR_FUNCTIONS:
            vars(self).pop(name, None)

    @contextmanager
    def functions_allowed(self) -> Iterator[None]:
        """Inside the with-block the four functions compute, even if they were found to differ."""
        refused = {name: vars(self).pop(name) for name in FOUR_FUNCTIONS if name in vars(self)}
        try:
            yield
        finally:
            vars(self).update(refused)
