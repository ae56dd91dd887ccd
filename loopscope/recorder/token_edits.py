"""Edits at a token: which pass of a generation computes which token is told as the pass begins, and
an edit with `token=` applies in the passes of its tokens alone."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

from ..common.errors import LoopscopeError
from ..common.text import plural
from ..core.indexing import Selector
from ..interventions.edit_checks import AnyEdit
from ..interventions.edits import Edit
from ..interventions.selectors import selects
from .pass_readings import PassReadings

TOKEN = "token"


class TokenEditError(LoopscopeError):
    """An edit at a token that can't apply in this generation."""


class TokenEdits:
    """The edits of a recording, and those of the pass that begins."""

    def __init__(self, edits: Sequence[AnyEdit]) -> None:
        """
        Raises:
            TokenEditError: a token is counted from the end, which is known only afterwards.
        """
        self.edits = list(edits)
        self.at_tokens = [edit for edit in self.edits if TOKEN in _where(edit)]
        self.prompt: int | None = None
        """How many positions the prompt has; None before the first pass."""
        self.count = 0
        """How many tokens the passes have computed so far."""
        self.token: int | None = None
        """The token that the pass which runs computes."""
        self.width: int | None = None
        """How many tokens it will have read at its end."""
        self.prepared = False
        """Whether generate itself prepares its passes."""
        for edit in self.at_tokens:
            if any(number < 0 for number in _bounds(_where(edit)[TOKEN])):
                raise TokenEditError(
                    f"{edit}: how many tokens come is known only afterwards, so that tokens must be counted "
                    "from the start, as 0, 1, ... Choose one of 0 or more."
                )

    def of_pass(self, readings: PassReadings) -> list[AnyEdit]:
        """The edits of the pass that begins, without their tokens.

        An edit at a token is of the position from which the token is read, if it names no other.

        Raises:
            TokenEditError: the pass doesn't compute the next token alone.
        """
        if not self.at_tokens:
            return self.edits
        self.token = token = self._token(readings)
        return [
            edit if TOKEN not in _where(edit) else _of_one_pass(edit)
            for edit in self.edits
            if TOKEN not in _where(edit) or (token is not None and selects(_where(edit)[TOKEN], token, None))
        ]

    def check_reading(self, readings: PassReadings) -> None:
        """Raise TokenEditError if a pass read other tokens than it seemed to when it began; else
        its token is computed."""
        reading = readings.readings[-1]
        width = None if reading.history is None else reading.history.shape[1]
        if self.at_tokens and not reading.inner and width != self.width:
            self._refuse(readings, reading.describe(), number=len(readings.readings) - 1)
        if self.token is not None:
            self.count = self.token + 1

    def check_applied(self) -> None:
        """Raise TokenEditError if an edit names a token that no pass has computed."""
        for edit in self.at_tokens:
            selector = _where(edit)[TOKEN]
            hit = [token for token in range(self.count) if selects(selector, token, None)]
            named = [] if isinstance(selector, slice) else _numbers(selector)
            missing = [token for token in named if token not in hit]
            if missing or not hit:
                what = f"did not apply at token {missing[0]}" if missing and hit else "never applied"
                many = f" (0..{self.count - 1})" if self.count else ""
                raise TokenEditError(
                    f"{edit} {what}: {plural(self.count, 'token')} came{many}. Choose one of them, or "
                    "generate more: max_new_tokens=..."
                )

    def _token(self, readings: PassReadings) -> int | None:
        """The number of the token that the pass computes; None if it computes none: it reads a
        chunk of the prompt, or is one of guidance."""
        prepared, history = readings.is_prepared, readings.tokens_so_far()
        self.width = None if history is None else history.shape[1]
        if readings.is_inner:
            self._refuse(readings, "a draft")
        if self.prepared and not prepared:
            return None
        self.prepared = self.prepared or prepared
        if history is None:
            self._refuse(readings, "tokens that aren't known")
        if self.prompt is None:
            given, width = readings.prompt, history.shape[1]
            same = min(width, 0 if given is None else given.shape[1])
            begins = given is not None and bool((given[0, :same] == history[0, :same]).all()) and same > 0
            self.prompt = given.shape[1] if given is not None and begins else width
        token = history.shape[1] - self.prompt
        if token < 0:
            return None
        if token != self.count:
            self._refuse(readings, f"tokens up to that before token {token}, where {self.count} comes next")
        return token

    def _refuse(self, readings: PassReadings, what: str, *, number: int | None = None) -> NoReturn:
        number = len(readings.readings) if number is None else number
        raise TokenEditError(
            f"{self.at_tokens[0]}: an edit at a token needs passes that compute one new token each, in their "
            f"order, but pass {number} reads {what}. Generate once, without drafts (assistant_model, "
            "prompt_lookup_num_tokens), or leave token= out."
        )


def _of_one_pass(edit: Any) -> Any:
    where = {name: at for name, at in edit.where.items() if name != TOKEN}
    if where.setdefault("position", -1) == slice(None):
        del where["position"]  # of all positions, or of a site that has none
    source = {"source": edit.source or edit} if isinstance(edit, Edit) else {}
    return replace(edit, where=where, **source)


def _where(edit: Any) -> dict[str, Any]:
    return getattr(edit, "where", {})


def _numbers(selector: Selector) -> list[int]:
    if isinstance(selector, list) and isinstance(selector[0], bool):
        return [number for number, chosen in enumerate(selector) if chosen]
    return [selector] if isinstance(selector, int) else list(selector) if isinstance(selector, list) else []


def _bounds(selector: Selector) -> list[int]:
    """The numbers that a selector is made of."""
    if isinstance(selector, slice):
        return [bound for bound in (selector.start, selector.stop, selector.step) if bound is not None]
    return _numbers(selector)
