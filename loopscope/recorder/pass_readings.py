"""PassReadings: what each pass of a generation read, and which rows met their end.

Transformers' generate prepares every pass with its sequences so far, and asks its stopping criteria
about them: both are watched, on the model's own instance. Passes of other code are followed by
their caches.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from .returned_rows import key
from .token_places import UNKNOWN, Reading

CACHES = ("past_key_values", "past_key_value", "cache", "past", "cache_params", "kv_cache")
"""Names by which models take a cache."""
IDS = ("decoder_input_ids", "input_ids")
EMBEDDINGS = ("decoder_inputs_embeds", "inputs_embeds")


class PassReadings:
    """Collects the Reading of each pass: `begin` and `end` are called before and after it."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.hits: set[bytes] = set()
        """The sequences of which the stopping criteria said that they end."""
        self.watched = False
        """Whether stopping criteria were seen."""
        self.outputs: list[Any] = []
        """What generate returned, by call."""
        self.on_sequences: Callable[[Any], None] = lambda sequences: None
        """Called with generate's sequences each time that it has new tokens."""
        self.chosen: int | None = None
        """How many tokens generate's sequences have, prompt included, since its last choice; None
        before the first one, or if that isn't seen."""
        self.inside = False
        """Whether a pass is running."""
        self.prompt: Tensor | None = None
        """The tokens that generate was given; None if it was given others, or none is seen."""
        self.mask: Tensor | None = None
        """The pass's attention mask (row, position), of the positions that it computes."""
        self._depth = 0
        self._cache: Any = None
        self._cached: int | None = None
        self._tokens: Tensor | None = None
        self._sequences: Tensor | None = None
        self._prepared: tuple[dict[str, Any], Tensor, Tensor | None] | None = None
        self._lineages: list[tuple[list[Any], Reading]] = []
        """The last reading of every chain of passes, with the objects that were its cache."""

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Read the tokens of a pass and the length of its cache, before it changes."""
        self.inside, self.mask = True, None
        ids, embeddings = tokens_of(args, kwargs), _first(kwargs, EMBEDDINGS)
        self._cache = _first(kwargs, CACHES)
        self._cached = None if self._cache is None else cache_length(self._cache)
        self._tokens, self._sequences = None, None
        given = ids if isinstance(ids, Tensor) and ids.ndim == 2 else embeddings
        if isinstance(given, Tensor) and given.ndim >= 2:
            self._tokens = _integers(ids) if given is ids else torch.full(given.shape[:2], UNKNOWN)
            self._take_prepared(ids, embeddings, kwargs.get("attention_mask"))

    @property
    def is_prepared(self) -> bool:
        """Whether generate itself prepared the pass that runs."""
        return self._sequences is not None

    @property
    def is_inner(self) -> bool:
        """Whether the pass that runs is of a generate inside generate."""
        return self._depth > 1

    def tokens_so_far(self) -> Tensor | None:
        """All tokens up to the end of the pass that has begun, those in its cache included; None if
        that isn't known. Whether a model leaves out what its cache has shows at the end."""
        tokens = self._tokens
        if tokens is None:
            return None
        before = self.readings[-1].history if self.readings else None
        longer = before is not None and before.shape[1] < tokens.shape[1]
        if before is not None and longer and torch.equal(tokens[:, : before.shape[1]], before):
            return tokens  # all are given again, also those in the cache
        return self._history(tokens, tokens.shape[1])

    def end(self, output: Any, positions: int | None) -> Reading:
        """Keep and return the reading of a pass, after it.

        Arguments:
            positions: how many positions its state has; None if it has none.
        """
        tokens = self._tokens
        length = 0 if tokens is None else tokens.shape[1] if positions is None else positions
        history = None if tokens is None or length > tokens.shape[1] else self._history(tokens, length)
        prepared, inner = self._sequences is not None, self._depth > 1
        reading = Reading(history, length, prepared=prepared, inner=inner)
        self.readings.append(reading)
        self.leave(output, reading)
        return reading

    def leave(self, output: Any = None, reading: Reading | None = None) -> None:
        """Remember the cache of a pass, after it."""
        self.inside = False
        caches = [one for one in (self._cache, *_caches_in(output)) if one is not None]
        self._lineages = [
            lineage for lineage in self._lineages if not any(_among(one, caches) for one in lineage[0])
        ][-8:]
        if reading is not None:
            self._lineages.append((caches, reading))

    def inputs(self, kwargs: dict[str, Any]) -> dict[str, Tensor]:
        """The inputs of a pass that say which positions count, and where they are. A mask of ones
        says nothing."""
        if self.mask is None or bool((self.mask != 0).all()):
            return {}
        inputs = {"attention_mask": self.mask.clone()}
        positions = kwargs.get("position_ids")
        if isinstance(positions, Tensor) and positions.shape == self.mask.shape:
            inputs["position_ids"] = positions.clone()
        return inputs

    def forget(self) -> None:
        """Let the caches go, at the end of the recording."""
        self._lineages, self._cache, self._prepared = [], None, None

    def _take_prepared(self, ids: Any, embeddings: Any, mask: Any) -> None:
        """The whole sequences with which generate prepared this pass, and their mask."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            inputs, sequences, given = prepared
            if _equal(_first(inputs, IDS), ids) and _equal(_first(inputs, EMBEDDINGS), embeddings):
                self._sequences = sequences
                # A cache of fixed length gets a mask of four axes instead.
                mask = mask if isinstance(mask, Tensor) and mask.ndim == 2 else given
        if isinstance(mask, Tensor) and mask.ndim == 2 and self._tokens is not None:
            self.mask = mask[:, -self._tokens.shape[1] :] if len(mask) == len(self._tokens) else None

    def _history(self, tokens: Tensor, length: int) -> Tensor | None:
        """The tokens in the cache and those of the pass.

        Arguments:
            length: how many positions it computed; fewer than tokens where it was given all again.
        """
        whole = self._sequences
        known = tokens if whole is None or whole.shape[1] < tokens.shape[1] else whole
        if self._cache is None or length < tokens.shape[1]:
            return known
        parent = next((r for caches, r in reversed(self._lineages) if _among(self._cache, caches)), None)
        if parent is None and whole is None and self._lineages:
            parent = self._lineages[-1][1]  # a cache may be made anew after each pass
        before = parent.history if parent is not None else None
        cached = self._cached
        if cached is None:
            if before is None:
                return None
            cached = before.shape[1]
        missing = cached + tokens.shape[1] - known.shape[1]
        if missing <= 0:
            return known
        if before is None or len(before) != len(known) or before.shape[1] < missing:
            before = torch.full((len(known), missing), UNKNOWN)
        return torch.cat([before[:, :missing], known], 1)

    @contextmanager
    def watching(self, owner: Any) -> Iterator[None]:
        """Watch what a model's generate does, while the with-block runs."""
        before = {name: vars(owner).get(name) for name in _WATCHED if hasattr(owner, name)}
        for name in before:
            vars(owner)[name] = getattr(self, f"_watch_{name.removeprefix('_')}")(getattr(owner, name))
        try:
            yield
        finally:
            for name, tokens in before.items():
                if tokens is None:
                    vars(owner).pop(name, None)
                else:
                    vars(owner)[name] = tokens
            self.forget()

    def _watch_generate(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def generate(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            if self._depth == 1:
                given = tokens_of(args, {"input_ids": kwargs.get("inputs")} | kwargs)
                whole = isinstance(given, Tensor) and given.ndim == 2 and not given.is_floating_point()
                self.prompt = _integers(given) if whole else None
            try:
                output = original(*args, **kwargs)
            finally:
                self._depth -= 1
            if not self._depth:
                self.outputs.append(output)
            return output

        return generate

    def _watch_prepare_inputs_for_generation(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def prepare(input_ids: Any, *args: Any, **kwargs: Any) -> Any:
            inputs = original(input_ids, *args, **kwargs)
            if isinstance(input_ids, Tensor) and isinstance(inputs, dict):
                mask = kwargs.get("attention_mask")
                mask = mask if isinstance(mask, Tensor) and mask.ndim == 2 else None
                self._prepared = (inputs, _integers(input_ids), mask)
            return inputs

        return prepare

    def _watch_get_stopping_criteria(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def get(*args: Any, **kwargs: Any) -> Any:
            criteria = original(*args, **kwargs)
            if self._depth > 1:  # of a draft, whose ends are no ends
                return criteria
            self.watched = True
            return _watched(criteria, self._met_end)

        return get

    def _watch_valid_auto_compile_criteria(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A compiled pass would be traced with the hooks of one pass."""
        return lambda *args, **kwargs: False

    def _met_end(self, sequences: Any, done: Any) -> None:
        self.on_sequences(sequences)
        self.chosen = sequences.shape[-1] if isinstance(sequences, Tensor) else None
        if isinstance(done, Tensor) and done.ndim == 1 and len(done) == len(sequences):
            for row in _integers(sequences)[done.cpu().bool()]:
                self.hits.add(key(row))


def _watched(criteria: Any, met_end: Callable[[Any, Any], None]) -> Any:
    """A list of stopping criteria that reports what it says of the sequences."""

    class Watched(type(criteria)):
        def __call__(self, input_ids: Any, *rest: Any, **options: Any) -> Any:
            done = super().__call__(input_ids, *rest, **options)
            met_end(input_ids, done)
            return done

    return Watched(criteria)


_WATCHED = (
    "generate",
    "prepare_inputs_for_generation",
    "_get_stopping_criteria",
    "_valid_auto_compile_criteria",
)


def tokens_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The tokens of a call of a model; None if it was given something else."""
    named = _first(kwargs, IDS)
    return named if named is not None else args[0] if args else None


def cache_length(cache: Any) -> int | None:
    """How many positions a cache holds; None if it doesn't say."""
    if hasattr(cache, "get_seq_length"):
        return int(cache.get_seq_length())
    try:
        return int(cache[0][0].shape[-2])  # by layer: keys and values
    except (TypeError, IndexError, KeyError, AttributeError):
        return None


def _integers(ids: Any) -> Tensor:
    return ids.detach().to("cpu", torch.long, copy=True)


def _first(inputs: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((inputs[name] for name in names if inputs.get(name) is not None), None)


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    both = isinstance(one, Tensor) and isinstance(other, Tensor) and one.shape == other.shape
    return both and torch.equal(one.to(other.device), other)


def _among(one: Any, others: list[Any]) -> bool:
    return one is not None and any(one is other for other in others)


def _caches_in(output: Any) -> list[Any]:
    """What a pass returned that may be given to the next one as its cache."""
    named = [getattr(output, name, None) for name in CACHES]
    parts = [part for part in output if not isinstance(part, Tensor)] if isinstance(output, tuple) else []
    return [part for part in [*named, *parts] if part is not None]
