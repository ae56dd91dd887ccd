"""Edits at a token: which tokens a pass of a generation computes is told as it begins, and an edit
with `token=` applies in the passes of its tokens alone.

A pass over drafts computes several, of which generate accepts the first ones; the next pass begins
with the first that was not accepted.
"""

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
        """How many tokens the passes have computed so far, and generate has accepted."""
        self.tokens = range(0)
        """The tokens that the pass which runs computes, at its last positions."""
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

    @property
    def needed(self) -> bool:
        """Whether an edit depends on which tokens a pass computes."""
        return any(TOKEN in _where(edit) or "position" in _where(edit) for edit in self.edits)

    def of_pass(self, readings: PassReadings) -> list[AnyEdit]:
        """The edits of the pass that begins, without their tokens.

        An edit at a token is of the position from which the token is read, if it names no other.

        Raises:
            TokenEditError: it isn't known which tokens the pass computes, or an edit names a
                position where it computes several.
        """
        tokens = self._computed(readings)
        if isinstance(tokens, str):
            if self.at_tokens:
                self._refuse(readings, tokens)
            tokens = range(0)
        self.tokens = tokens
        several = len(tokens) > 1 or readings.is_inner
        result: list[AnyEdit] = []
        for edit in self.edits:
            where = _where(edit)
            at = [token for token in tokens if TOKEN in where and selects(where[TOKEN], token, None)]
            if several and "position" in where and (at or TOKEN not in where):
                self._refuse_position(edit, readings)
            result += [_of_one_pass(edit, token - tokens.stop) for token in at]
            result += [] if TOKEN in where else [edit]
        return result

    def check_reading(self, readings: PassReadings) -> None:
        """Raise TokenEditError if a pass read other tokens than it seemed to when it began; else
        its tokens are computed."""
        reading = readings.readings[-1]
        width = None if reading.history is None else reading.history.shape[1]
        if self.at_tokens and not reading.inner and width != self.width:
            self._refuse(readings, reading.describe(), number=len(readings.readings) - 1)
        if self.tokens:
            self.count = self.tokens.stop

    def check_applied(self, readings: PassReadings) -> None:
        """Raise TokenEditError if an edit names a token that no pass has computed."""
        self.count = self._accepted(readings)
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

    def _computed(self, readings: PassReadings) -> range | str:
        """The numbers of the tokens that the pass computes: none, if it reads a chunk of the
        prompt, or is a draft or one of guidance. If they aren't known, what it reads."""
        prepared, history = readings.is_prepared, readings.tokens_so_far()
        if readings.is_inner:  # a draft: only what checks it computes tokens
            return range(0)
        self.width = None if history is None else history.shape[1]
        if self.prepared and not prepared:
            return range(0)
        self.prepared = self.prepared or prepared
        if history is None:
            return "tokens that aren't known"
        if self.prompt is None:
            given, width = readings.prompt, history.shape[1]
            same = min(width, 0 if given is None else given.shape[1])
            begins = given is not None and bool((given[0, :same] == history[0, :same]).all()) and same > 0
            self.prompt = given.shape[1] if given is not None and begins else width
        last, count = history.shape[1] - self.prompt, self._accepted(readings)
        if last < 0:
            return range(0)
        if last < count or (last > count and readings.chosen is None and self.count > 0):
            return f"tokens up to that before token {last}, where {count} comes next"
        return range(count, last + 1)

    def _accepted(self, readings: PassReadings) -> int:
        """How many new tokens generate has chosen; where that isn't seen, those that passes have
        computed."""
        chosen = None if readings.chosen is None or self.prompt is None else readings.chosen - self.prompt
        seen = chosen is not None and self.count > 0 and 0 < chosen <= self.count
        return chosen if seen and chosen is not None else self.count

    def _refuse_position(self, edit: Any, readings: PassReadings) -> NoReturn:
        raise TokenEditError(
            f"{edit}: a position is one of a pass, which must compute one new token alone, but pass "
            f"{len(readings.readings)} is a draft or checks one. Name the tokens, such as "
            "token=slice(0, None), and no position; or generate without drafts (assistant_model, "
            "prompt_lookup_num_tokens)."
        )

    def _refuse(self, readings: PassReadings, what: str, *, number: int | None = None) -> NoReturn:
        number = len(readings.readings) if number is None else number
        raise TokenEditError(
            f"{self.at_tokens[0]}: an edit at a token needs passes that compute new tokens in their order, "
            f"but pass {number} reads {what}. Generate once, or leave token= out."
        )


def _of_one_pass(edit: Any, position: int) -> Any:
    where = {name: at for name, at in edit.where.items() if name != TOKEN}
    if where.setdefault("position", position) == slice(None):
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
