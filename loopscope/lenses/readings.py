"""Readings: what a lens reads at every place and iteration of a run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from ..maths import output_signals
from ..runs.location import Place
from ..runs.run import Run
from .lens_types import Lens
from .places import sight

CHUNK = 1 << 22
"""Logits that are looked at together, in double precision."""

Tokens = Int[Tensor, "batch position"] | Int[Tensor, " batch"] | Sequence[Any] | int
"""Tokens that are followed: one for each position of each example, one for each example, or one for
all. -1: none there."""


@dataclass(frozen=True)
class Readings:
    """What a lens reads, (site, iteration, batch, position). Made by `loopscope.lens`; logits are
    computed when they are asked for, one iteration of one site at a time, so that a large
    vocabulary never fills the memory.

    Entry k of the site `state` is the state after k iterations, of a site inside the loop its value
    in iteration k. A value that isn't there is NaN (answers: -1): no site inside the loop has one
    at k = n.
    """

    run: Run = field(repr=False)
    lens: Lens
    places: tuple[Place, ...] = field(repr=False)
    iterations: tuple[int, ...]
    """The k at which something was recorded: coordinates of the axis `iteration`."""
    checked: bool = True
    """Whether the lens was seen to give the model's own logits at the last iteration of the
    state."""

    @property
    def sites(self) -> tuple[str, ...]:
        """Coordinates of the axis `site`: names; of a site in an inner loop one for each turn, such
        as "hook_low, low 1"."""
        return tuple(place.label for place in self.places)

    @property
    def caution(self) -> str:
        """What must stand beside every number of a lens that wasn't checked; empty for one that
        was."""
        return (
            ""
            if self.checked
            else f"Unchecked: the lens {self.lens.name!r} need not give the model's own answer at the last "
            "iteration."
        )

    def __getitem__(self, site: str) -> "Readings":
        """The same of one site alone, all turns of its inner loops included."""
        chosen = tuple(place for place in self.places if site in (place.site, place.label))
        if not chosen:
            raise LoopscopeError(f"no lens looks at {site!r} here. {nearest(site, self.sites)}")
        return replace(self, places=chosen)

    def logits(self, iteration: int, site: str = "state") -> Float[Tensor, "batch position vocab"]:
        """What is read at one site after `iteration` iterations (in it, for a site inside the
        loop); negative: from the end."""
        (place, *more) = self[site].places
        if more:
            raise LoopscopeError(f"'{site}' runs in turns: name one of them, such as {place.label!r}.")
        k = self.iterations[iteration] if iteration < 0 else iteration
        told = self._logits(place, k)
        if told is None:
            raise LoopscopeError(
                f"'{place.label}' has no value at iteration {k}. Present here: {list(self.iterations)}."
            )
        return told

    # What is read

    def rank(self, tokens: Tokens) -> Float[Tensor, "site iteration batch position"]:
        """The place of the tokens among all, 1 for the likeliest. Of equal logits the lower id
        comes first, as in the answer."""
        return self._of(tokens, rank_of)

    def probability(self, tokens: Tokens) -> Float[Tensor, "site iteration batch position"]:
        """What is given to the tokens, 0..1."""
        return self._of(tokens, lambda look, ids: look.p.gather(-1, ids[..., None])[..., 0].exp())

    def margin(self, tokens: Tokens) -> Float[Tensor, "site iteration batch position"]:
        """The tokens' logit less the largest other: above 0 where they are the answer."""
        return self._of(tokens, lambda look, ids: output_signals.margin(look.logits, ids))

    def entropy(self) -> Float[Tensor, "site iteration batch position"]:
        """In nats, 0..log vocabulary."""
        return self.over(lambda look: output_signals.entropy(look.p))[0]

    def kl(self) -> Float[Tensor, "site iteration batch position"]:
        """KL(the model's final answer ‖ what is read), in nats: what is lost by taking the reading
        for it. 0 at the last iteration of the state, for a lens that was checked."""
        return self.over(lambda look: output_signals.kl_divergence(look.final, look.p))[0]

    def answers(self) -> Int[Tensor, "site iteration batch position"]:
        """The likeliest token; -1 where nothing is."""
        return self.over(lambda look: look.logits.argmax(-1))[0].nan_to_num(-1).long()

    def top(
        self, count: int = 5
    ) -> tuple[
        Int[Tensor, "site iteration batch position top"], Float[Tensor, "site iteration batch position top"]
    ]:
        """The likeliest tokens and their probabilities, the likeliest first."""
        ids, p = self.over(
            lambda look: look.p.topk(min(count, look.p.shape[-1])).indices,
            lambda look: look.p.topk(min(count, look.p.shape[-1])).values.exp(),
        )
        return ids.nan_to_num(-1).long(), p

    def flips(self) -> Bool[Tensor, "site iteration batch position"]:
        """Where an answer differs from that of the site's last value before; False at the first."""
        return flips_of(self.answers())

    def settled(self) -> Int[Tensor, "site batch position"]:
        """The iteration after which the answer at a site no longer changes: the first k from which
        on all its answers are its last one. Only what was recorded is looked at; -1 where there is
        nothing."""
        return settled_of(self.answers(), self.iterations)

    def over(self, *measures: Callable[["Look"], Tensor]) -> list[Tensor]:
        """Each measure of what is read, (site, iteration, batch, position, ...), in one pass; NaN
        where nothing is."""
        result: list[list[list[Tensor | None]]] = [[] for _ in measures]
        for place in self.places:
            for one in result:
                one.append([])
            for k in self.iterations:
                logits = self._logits(place, k)
                told = [None] * len(measures) if logits is None else self._measured(logits, measures)
                for one, value in zip(result, told, strict=True):
                    one[-1].append(value)
        return [_stacked(one) for one in result]

    def _logits(self, place: Place, k: int) -> Tensor | None:
        seen = sight(self.run, place, k)
        return None if seen is None else logits_at(self.lens, self.run, seen)

    def _measured(self, logits: Tensor, measures: Sequence[Callable[["Look"], Tensor]]) -> list[Tensor]:
        if logits.shape != self._final.shape:
            raise LoopscopeError(
                f"what a lens reads must have the shape of the model's answer {tuple(self._final.shape)} to "
                f"be held against it, but has {tuple(logits.shape)}. Look at .logits(iteration) alone."
            )
        size = max(1, CHUNK // max(1, logits[0].numel()))
        parts: list[list[Tensor]] = [[] for _ in measures]
        for start in range(0, len(logits), size):
            rows = slice(start, start + size)
            look = Look(logits[rows].detach().double(), self._final[rows], rows)
            absent = look.logits.isnan().any(-1)
            for own, measure in zip(parts, measures, strict=True):
                value = measure(look).double()
                gone = absent.reshape(absent.shape + (1,) * (value.ndim - absent.ndim))
                own.append(value.masked_fill(gone, float("nan")).cpu())
        return [torch.cat(own) for own in parts]

    @cached_property
    def _final(self) -> Tensor:
        return final_logits(self.run)

    def _of(self, tokens: Tokens, measure: Callable[["Look", Tensor], Tensor]) -> Tensor:
        ids = checked_ids(tokens, tuple(self._final.shape))

        def follow(look: Look) -> Tensor:
            own = ids[look.rows].to(look.logits.device)
            return measure(look, own.clamp(min=0)).double().masked_fill(own < 0, float("nan"))

        return self.over(follow)[0]

    def __str__(self) -> str:
        batch, positions, vocabulary = self._final.shape
        return (
            f"Readings by the lens '{self.lens.name}' at {', '.join(self.sites)} · {len(self.iterations)} "
            f"iterations × {batch} examples × {positions} positions × {vocabulary} "
            f"tokens{'. ' + self.caution if self.caution else ''}"
        )


@dataclass(frozen=True)
class Look:
    """What a measure sees: some rows of the batch, at one place and iteration."""

    logits: Float[Tensor, "row position vocab"]
    """In double precision."""
    _final: Tensor = field(repr=False)
    rows: slice
    """Which rows they are."""

    @cached_property
    def p(self) -> Float[Tensor, "row position vocab"]:
        """Log-probabilities."""
        return output_signals.log_probabilities(self.logits)

    @cached_property
    def final(self) -> Float[Tensor, "row position vocab"]:
        """Log-probabilities of the model's own answer, after the last iteration."""
        return output_signals.log_probabilities(self._final)


def logits_at(lens: Lens, run: Run, seen: Any) -> Tensor:
    """(batch, position, vocab): what a lens gives; a state without positions has one."""
    told = lens.logits(run, seen)
    return told[:, None] if told.ndim == 2 and seen.h.ndim == 2 else told


def final_logits(run: Run) -> Float[Tensor, "batch position vocab"]:
    """The model's own answer after the last iteration."""
    told = run.output
    for name in ("logits", "prediction_logits"):
        told = told[name] if isinstance(told, dict) and name in told else getattr(told, name, told)
    if isinstance(told, Tensor) and told.ndim == 2 and run.states[run.states.iterations[-1]].ndim == 2:
        told = told[:, None]
    if not isinstance(told, Tensor) or told.ndim != 3 or not told.is_floating_point():
        received = tuple(told.shape) if isinstance(told, Tensor) else type(told).__name__
        raise LoopscopeError(
            "a lens needs a model that answers with logits (batch, position, vocab), but this run's output "
            f"is {received}. Record a model with a head for every position."
        )
    if told.shape[-1] == 1:
        raise LoopscopeError(
            "a lens needs answers that are tokens, but this model answers with one number. Read "
            "run.logits[k] instead."
        )
    return _everywhere(run, told.detach())


def _everywhere(run: Run, told: Tensor) -> Tensor:
    """The answer at every position also where the model gave only that of the last ones, as in
    generation."""
    last = run.states[run.states.iterations[-1]]
    if not run.has_model or last.ndim != 3 or told.shape[1] >= last.shape[1]:
        return told
    if not run.origin.get("whole", True) or run.iterations not in run.states.iterations:
        return told
    try:
        whole = run.reader.logits(run.state(run.iterations)).detach()
    except LoopscopeError:  # by its body alone
        return told
    own = whole[:, -told.shape[1] :] if whole.ndim == 3 else whole
    off = 1e-2 * float(told.abs().max())
    return whole if own.shape == told.shape and torch.allclose(own, told.to(own), rtol=0, atol=off) else told


def checked_ids(tokens: Tokens, shape: tuple[int, ...]) -> Int[Tensor, "batch position"]:
    """The tokens to follow at every position, or the sentence that says why they aren't."""
    batch, positions, vocabulary = shape
    try:
        ids = torch.as_tensor(tokens)
    except (TypeError, ValueError, RuntimeError) as error:
        raise LoopscopeError(
            f"tokens to follow must be whole numbers, but got a {type(tokens).__name__} ({error})."
        ) from None
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise LoopscopeError(f"tokens to follow must be whole numbers, but are {ids.dtype}. Use .long().")
    ids = ids[:, None] if ids.ndim == 1 else ids
    fits = ids.ndim <= 2 and all(
        own in (1, all_) for own, all_ in zip(ids.shape, (batch, positions), strict=False)
    )
    if not fits or (ids.ndim == 2 and ids.shape[0] == 1 != batch):
        raise LoopscopeError(
            f"tokens to follow must be one id, one for each example ({batch},) or one for each position "
            f"({batch}, {positions}), but have the shape {tuple(torch.as_tensor(tokens).shape)}."
        )
    if ids.numel() and not -1 <= int(ids.min()) <= int(ids.max()) < vocabulary:
        raise LoopscopeError(
            f"tokens to follow must lie in 0..{vocabulary - 1} (-1: none there), but reach from "
            f"{int(ids.min())} to {int(ids.max())}."
        )
    return ids.long().expand(batch, positions).cpu()


def flips_of(answers: Int[Tensor, "site iteration batch position"]) -> Bool[Tensor, "*axes"]:
    """Where an answer differs from the last before it that is there."""
    flips, before = torch.zeros_like(answers, dtype=torch.bool), answers[:, 0]
    for k in range(1, answers.shape[1]):
        now = answers[:, k]
        flips[:, k] = (now >= 0) & (before >= 0) & (now != before)
        before = torch.where(now >= 0, now, before)
    return flips


def settled_of(
    answers: Int[Tensor, "site iteration batch position"], iterations: Sequence[int]
) -> Int[Tensor, "site batch position"]:
    """The first iteration from which on every answer is the last one; -1 where there is none."""
    last, since = torch.full_like(answers[:, 0], -1), torch.full_like(answers[:, 0], -1)
    for i, k in enumerate(iterations):
        now = answers[:, i]
        since = torch.where((now >= 0) & (now != last), k, since)
        last = torch.where(now >= 0, now, last)
    return since


def rank_of(look: Look, ids: Tensor) -> Tensor:
    """The rank of each id, 1 for the likeliest; NaN where there is none (-1)."""
    ids = ids.to(look.logits.device)
    gone, ids = ids < 0, ids.clamp(min=0)
    own = look.logits.gather(-1, ids[..., None])
    lower = torch.arange(look.logits.shape[-1], device=ids.device) < ids[..., None]
    rank = 1 + (look.logits > own).sum(-1) + ((look.logits == own) & lower).sum(-1)
    return rank.double().masked_fill(gone, float("nan"))


def _stacked(values: list[list[Tensor | None]]) -> Tensor:
    like = next(value for row in values for value in row if value is not None)
    nothing = torch.full_like(like, float("nan"))
    return torch.stack([torch.stack([nothing if v is None else v for v in row]) for row in values])
