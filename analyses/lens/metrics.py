"""Metrics of what a lens reads, by site and iteration: agreement, kappa, flips, ranks, rises."""

from collections.abc import Callable, Mapping
from typing import TypedDict

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.common.bands import mean_band
from loopscope.lenses.lens_measures import LogitChunk, answer_flips, token_rank
from loopscope.lenses.readings import Readings
from loopscope.lenses.token_table import EXAMPLES
from loopscope.maths import output_signals

TOP = 5
FINAL, RIGHT = "final answer", "right answer"


class RankFields(TypedDict):
    """Fields of the result, by followed token."""

    rank: dict[str, Float[Tensor, "site iteration"]]
    first: dict[str, Float[Tensor, "site iteration"]]
    followed: dict[str, int]


def read_all(
    readings: Readings, tokens: Mapping[str, Int[Tensor, "batch position"]]
) -> dict[str, Float[Tensor, "site iteration batch position *more"]]:
    """Every quantity that is measured, in one pass over the readings; NaN where there is none. The
    likeliest tokens, "top" and "top p", are those of the first EXAMPLES alone.

    Arguments:
        tokens: ids to follow by name, among them FINAL; -1 where there is none.
    """
    final = tokens[FINAL]

    def top(chunk: LogitChunk) -> torch.return_types.topk:
        few = chunk.p[: max(0, EXAMPLES - chunk.rows.start)]  # of the examples in the table
        return few.topk(min(TOP, few.shape[-1]))

    def final_probability(chunk: LogitChunk) -> Tensor:
        ids = final[chunk.rows].to(chunk.p.device)
        return chunk.p.gather(-1, ids[..., None])[..., 0].exp()

    quantities: dict[str, Callable[[LogitChunk], Tensor]] = {
        "answer": lambda chunk: chunk.logits.argmax(-1),
        "kl": lambda chunk: output_signals.kl_divergence(chunk.final, chunk.p),
        "entropy": lambda chunk: output_signals.entropy(chunk.p),
        "margin": lambda chunk: output_signals.margin(
            chunk.logits, final[chunk.rows].to(chunk.logits.device)
        ),
        "probability": final_probability,
        "top": lambda chunk: top(chunk).indices,
        "top p": lambda chunk: top(chunk).values.exp(),
    }
    for name, ids in tokens.items():
        quantities[f"rank {name}"] = lambda chunk, ids=ids: token_rank(chunk, ids[chunk.rows])
    return dict(zip(quantities, readings.measure(*quantities.values()), strict=True))


def agreement(
    answers: Int[Tensor, "site iteration item"], final: Int[Tensor, " item"]
) -> Float[Tensor, "site iteration"]:
    """Fraction of answers that are the final one; NaN where there are no answers (-1)."""
    return (answers == final).double().where(answers >= 0, torch.nan).nanmean(-1)


def kappas(
    answers: Int[Tensor, "site iteration item"],
    final: Int[Tensor, " item"],
    weight: Float[Tensor, " item"] | None = None,
) -> Float[Tensor, "site iteration"]:
    """Cohen's kappa of the answers at each site and iteration with the final ones, as
    `loopscope.maths.kappa` has it; NaN where there are no answers (-1).

    Arguments:
        weight: how often each item counts, as in a bootstrap sample; None: once.
    """
    sites, iterations, items = answers.shape
    weight = torch.ones(items, dtype=torch.float64) if weight is None else weight
    names, last = final.unique(return_inverse=True)
    rows = answers.flatten(0, 1)
    # only categories that both raters use add to the agreement by chance
    place = torch.searchsorted(names, rows).clamp(max=len(names) - 1)
    each = torch.where(rows >= 0, weight, 0.0)  # (site · iteration, item)
    total, size = each.sum(1), (len(rows), len(names))
    first = torch.zeros(size, dtype=torch.float64).scatter_add_(1, place, each * (names[place] == rows))
    second = torch.zeros(size, dtype=torch.float64).scatter_add_(1, last.expand_as(rows), each)
    chance = (first * second).sum(1) / total**2
    agree = (each * (rows == final)).sum(1) / total
    defined = (total > 0) & (chance < 1 - 1e-12)
    result = torch.where(defined, (agree - chance) / (1 - chance).clamp(min=1e-300), torch.nan)
    return result.view(sites, iterations)


def flip_rate(answers: Int[Tensor, "site iteration item"]) -> Float[Tensor, "site iteration"]:
    """Fraction of items whose answer differs from that one iteration before."""
    present = (answers >= 0).any(-1)
    return answer_flips(answers).double().where(present[..., None], torch.nan).mean(-1)


def accuracy(
    answers: Float[Tensor, "site iteration batch position"],
    target: Int[Tensor, "batch position"],
    mask: Bool[Tensor, "batch position"],
) -> Float[Tensor, "site iteration"]:
    """Fraction of items that are right, among those with a right answer."""
    labelled = mask & (target >= 0)
    values = answers[:, :, labelled]
    return (values == target[labelled]).double().where(~values.isnan(), torch.nan).nanmean(-1)


def rank_fields(
    quantities: Mapping[str, Tensor],
    tokens: Mapping[str, Int[Tensor, "batch position"]],
    mask: Bool[Tensor, "batch position"],
) -> RankFields:
    """Mean rank, share of first ranks and number of items of each followed token."""
    counts = {name: int(((ids >= 0) & mask).sum()) for name, ids in tokens.items()}
    followed = {name: count for name, count in counts.items() if count}
    ranks = {name: quantities[f"rank {name}"][:, :, mask] for name in followed}
    return {
        "rank": {name: rank.nanmean(-1) for name, rank in ranks.items()},
        "first": {
            name: (rank == 1).double().where(~rank.isnan(), torch.nan).nanmean(-1)
            for name, rank in ranks.items()
        },
        "followed": followed,
    }


def largest_rise(probability: Float[Tensor, "site iteration item"]) -> Float[Tensor, "site item"]:
    """The largest rise of a probability in one iteration."""
    rise = (probability[:, 1:] - probability[:, :-1]).nan_to_num(-1.0)
    return rise.amax(1) if rise.shape[1] else torch.zeros_like(probability[:, 0])


def bands(
    quantities: Mapping[str, Float[Tensor, "site iteration item"]], example: Int[Tensor, " item"]
) -> dict[str, tuple[Float[Tensor, " iteration"], Float[Tensor, " iteration"]]]:
    """The 95 % interval of the mean over items at the first site, by name: lower and upper ends."""
    return {name: mean_band(values[0], example) for name, values in quantities.items()}


def ends_of(values: Float[Tensor, " iteration"]) -> tuple[int, int]:
    """Index of the first and of the last value that is not NaN."""
    present = (~values.isnan()).nonzero()[:, 0]
    return (int(present[0]), int(present[-1])) if len(present) else (0, len(values) - 1)


def banded(
    quantities: Mapping[str, Tensor], answers: Tensor, tokens: Mapping[str, Tensor], mask: Tensor
) -> dict[str, Tensor]:
    """What is drawn with a band, by name, each (site, iteration, item)."""
    final, present = tokens[FINAL][mask], answers >= 0
    result = {name: quantities[name][:, :, mask] for name in ("kl", "entropy")}
    result["agreement"] = (answers == final).double().where(present, torch.nan)
    if RIGHT in tokens:
        right = tokens[RIGHT][mask]
        result["right"] = (answers == right).double().where(present & (right >= 0), torch.nan)
    return result | {f"rank {name}": quantities[f"rank {name}"][:, :, mask] for name in tokens}
