"""Readings: the answers that a lens gives at every place and iteration of a run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from ..core.outside_modes import outside_modes
from ..maths import output_signals
from ..maths.precision import wide
from ..recorder.example_parts import example_parts
from ..runs.location import Place
from ..runs.run import Run
from ..runs.run_mask import mask_of
from .final_logits import final_logits, final_shape
from .lens_input import lens_input
from .lens_measures import (
    LogitChunk,
    Tokens,
    answer_flips,
    checked_tokens,
    settling_iteration,
    token_rank,
)
from .lens_types import Lens, logits_at

CHUNK = 1 << 22
"""Logits that are measured at once, in double precision."""


@dataclass(frozen=True)
class Readings:
    """The answers of a lens, (site, iteration, batch, position). Made by `loopscope.lens`. Logits
    are computed when they are needed, one iteration of one site at a time, so that a large
    vocabulary never fills the memory.

    Entry k of the site `state` is the state after k iterations; of a site inside the loop it is the
    value in iteration k. Absent values are NaN (answers: -1): no site inside the loop has one at
    k = n, and no position that doesn't count (`run.mask`).
    """

    run: Run = field(repr=False)
    lens: Lens
    places: tuple[Place, ...] = field(repr=False)
    iterations: tuple[int, ...]
    """The k at which a site was recorded: coordinates of the axis `iteration`."""
    checked: bool = True
    """Whether the lens gives the model's own logits at the last iteration of the state."""

    @property
    def sites(self) -> tuple[str, ...]:
        """Coordinates of the axis `site`: names; a site in an inner loop has one for each turn,
        such as "hook_low, low 1"."""
        return tuple(place.label for place in self.places)

    @property
    def caution(self) -> str:
        """A warning for a lens that doesn't give the model's own answer; empty for others."""
        return (
            ""
            if self.checked
            else f"Unchecked: the lens {self.lens.name!r} need not give the model's own answer at the last "
            "iteration."
        )

    def __getitem__(self, site: str) -> "Readings":
        """The readings of one site, all turns of its inner loops included."""
        places = tuple(place for place in self.places if site in (place.site, place.label))
        if not places:
            raise LoopscopeError(f"no lens reads {site!r} here. {nearest(site, self.sites)}")
        return replace(self, places=places)

    def logits(self, iteration: int, site: str = "state") -> Float[Tensor, "batch position vocab"]:
        """The logits of one site after `iteration` iterations (in it, for a site inside the loop);
        negative: from the end.

        Raises:
            LoopscopeError: a site with several turns, or no value at this iteration.
        """
        (place, *more) = self[site].places
        if more:
            raise LoopscopeError(f"'{site}' runs in turns: name one of them, such as {place.label!r}.")
        k = self.iterations[iteration] if iteration < 0 else iteration
        logits = self._logits(place, k)
        if logits is None:
            raise LoopscopeError(
                f"'{place.label}' has no value at iteration {k}. Present here: {list(self.iterations)}."
            )
        return logits

    # Measures

    def rank(self, tokens: Tokens) -> Float[Tensor, "site iteration batch position"]:
        """The rank of the tokens among the vocabulary, 1 for the likeliest. Of equal logits the
        lower id comes first, as in the answer."""
        return self._follow(tokens, token_rank)

    def probability(self, tokens: Tokens) -> Float[Tensor, "site iteration batch position"]:
        """The probability of the tokens, 0..1."""
        return self._follow(tokens, lambda chunk, ids: chunk.p.gather(-1, ids[..., None])[..., 0].exp())

    def margin(self, tokens: Tokens) -> Float[Tensor, "site iteration batch position"]:
        """The tokens' logit minus the largest other logit: above 0 where they are the answer."""
        return self._follow(tokens, lambda chunk, ids: output_signals.margin(chunk.logits, ids))

    def entropy(self) -> Float[Tensor, "site iteration batch position"]:
        """Of the lens's distribution in nats, 0..log vocabulary."""
        return self.measure(lambda chunk: output_signals.entropy(chunk.p))[0]

    def kl(self) -> Float[Tensor, "site iteration batch position"]:
        """KL(the model's final answer ‖ the lens's answer), in nats. 0 at the last iteration of the
        state, for a lens that was checked."""
        return self.measure(lambda chunk: output_signals.kl_divergence(chunk.final, chunk.p))[0]

    def answers(self) -> Int[Tensor, "site iteration batch position"]:
        """The likeliest token; -1 where there is no value."""
        return self.measure(lambda chunk: chunk.logits.argmax(-1))[0].nan_to_num(-1).long()

    def top(
        self, count: int = 5
    ) -> tuple[
        Int[Tensor, "site iteration batch position top"], Float[Tensor, "site iteration batch position top"]
    ]:
        """The likeliest tokens and their probabilities, the likeliest first."""
        ids, p = self.measure(
            lambda chunk: chunk.p.topk(min(count, chunk.p.shape[-1])).indices,
            lambda chunk: chunk.p.topk(min(count, chunk.p.shape[-1])).values.exp(),
        )
        return ids.nan_to_num(-1).long(), p

    def flips(self) -> Bool[Tensor, "site iteration batch position"]:
        """Where an answer differs from the site's previous one; False at the first."""
        return answer_flips(self.answers())

    def settling_iteration(self) -> Int[Tensor, "site batch position"]:
        """The iteration after which the answer at a site no longer changes: the first k from which
        on all recorded answers are the last one; -1 where there are none."""
        return settling_iteration(self.answers(), self.iterations)

    @outside_modes()
    def measure(self, *measures: Callable[[LogitChunk], Tensor]) -> list[Tensor]:
        """Each measure of the logits, (site, iteration, batch, position, ...), in one pass; NaN
        where a site has no value. One of the first examples alone gives no rows of later chunks."""
        parts = [
            (self if part is self.run else replace(self, run=part))._measured_rows(rows.start, measures)
            for rows, part in example_parts(self.run)
        ]
        return [torch.cat(values, 2) for values in zip(*parts, strict=True)]

    def _measured_rows(self, first: int, measures: Sequence[Callable[[LogitChunk], Tensor]]) -> list[Tensor]:
        """The measures of a part of the examples.

        Arguments:
            first: the number of the first of them.
        """
        result: list[list[list[Tensor | None]]] = [[] for _ in measures]
        for place in self.places:
            for by_site in result:
                by_site.append([])
            for k in self.iterations:
                logits = self._logits(place, k)
                values = [None] * len(measures) if logits is None else self._measured(logits, first, measures)
                for by_site, value in zip(result, values, strict=True):
                    by_site[-1].append(value)
        return [_stacked(by_site) for by_site in result]

    def _logits(self, place: Place, k: int) -> Tensor | None:
        inputs = lens_input(self.run, place, k)
        return None if inputs is None else logits_at(self.lens, self.run, inputs)

    def _measured(
        self, logits: Tensor, first: int, measures: Sequence[Callable[[LogitChunk], Tensor]]
    ) -> list[Tensor]:
        if logits.shape != self._final.shape:
            raise LoopscopeError(
                f"the logits of a lens must have the shape of the model's answer {tuple(self._final.shape)} "
                f"to be compared with it, but have {tuple(logits.shape)}. Look at .logits(iteration) only."
            )
        size = max(1, CHUNK // max(1, logits[0].numel()))
        parts: list[list[Tensor]] = [[] for _ in measures]
        for start in range(0, len(logits), size):
            rows = slice(start, start + size)
            here = slice(first + start, first + min(start + size, len(logits)))
            chunk = LogitChunk(wide(logits[rows].detach()), self._final[rows], here)
            absent = chunk.logits.isnan().any(-1) | ~self._mask[rows].to(chunk.logits.device)
            for values, measure in zip(parts, measures, strict=True):
                value = measure(chunk).double()
                of = absent[: len(value)]
                mask = of.reshape(of.shape + (1,) * (value.ndim - of.ndim))
                values.append(value.masked_fill(mask, float("nan")).cpu())
        return [torch.cat(values) for values in parts]

    @cached_property
    def _final(self) -> Tensor:
        return final_logits(self.run)

    @cached_property
    def _mask(self) -> Bool[Tensor, "batch position"]:
        return mask_of(self.run, *self._final.shape[:2])

    def _follow(self, tokens: Tokens, measure: Callable[[LogitChunk, Tensor], Tensor]) -> Tensor:
        ids = checked_tokens(tokens, final_shape(self.run))

        def of_tokens(chunk: LogitChunk) -> Tensor:
            rows = ids[chunk.rows].to(chunk.logits.device)
            return measure(chunk, rows.clamp(min=0)).double().masked_fill(rows < 0, float("nan"))

        return self.measure(of_tokens)[0]

    def __str__(self) -> str:
        batch, positions, vocabulary = final_shape(self.run)
        return (
            f"Readings by the lens '{self.lens.name}' at {', '.join(self.sites)} · {len(self.iterations)} "
            f"iterations × {batch} examples × {positions} positions × {vocabulary} "
            f"tokens{'. ' + self.caution if self.caution else ''}"
        )


def _stacked(values: list[list[Tensor | None]]) -> Tensor:
    like = next(value for row in values for value in row if value is not None)
    absent = torch.full_like(like, float("nan"))
    return torch.stack([torch.stack([absent if v is None else v for v in row]) for row in values])
