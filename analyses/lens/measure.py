"""How the answer forms: agreement with the final answer, divergence, margin and ranks by site and
iteration, when each answer settles, and the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from loopscope import lenses
from loopscope.common.errors import LoopscopeError
from loopscope.core.looped_model import Looped
from loopscope.lenses.answer_positions import lens_positions
from loopscope.lenses.final_logits import final_answers, final_shape
from loopscope.lenses.lens_measures import checked_tokens, settling_iteration
from loopscope.lenses.token_table import TokenTable, token_table
from loopscope.recorder.labels import labels_of
from loopscope.recorder.subset import first_of_many
from loopscope.runs.run import Run

from .chain import chain_of
from .metrics import (
    FINAL,
    RIGHT,
    accuracy,
    agreement,
    banded,
    bands,
    flip_rate,
    kappas,
    largest_rise,
    rank_fields,
    read_all,
)
from .result import LensResult
from .verdict import Formation, formation_verdict, sharpness

MOST, LEAST_EXAMPLES = 2_000_000, 64
"""Answers, over all iterations, that are read of a run whose states fill the memory; and examples,
at least."""


def applies(run: Run) -> bool:
    """Whether the run's states can be decoded to tokens."""
    if run.iterations < 1 or run.iterations not in run.states.iterations:
        return False
    try:
        final_shape(run)
        return (
            isinstance(run.model, Looped)
            and run.origin.get("whole", True)
            and bool(lens_positions(run).any())
        )
    except LoopscopeError:
        return False


# It is long because it fills a line for each field of the result.
def measure(
    run: Run,
    *,
    lens: Any = "coda",
    sites: str | Sequence[str] = "state",
    facts: Mapping[str, Any] | None = None,
    positions: Literal["answers", "all"] = "answers",
    check: bool = True,
) -> LensResult:
    """What a lens reads at each iteration of a run.

    Arguments:
        lens: "coda", "logit", a TunedLens, or a function of vectors.
        sites: recorded sites; the verdict, the ranks and the table are of the first.
        facts: tokens to follow besides the final and the right answer, by name: one id, one for
            each example, or one for each position, -1 where there is none. For facts at positions
            that aren't answered, pass positions="all".
        positions: "answers": those with an answer, if the task is known; "all": all but padding.
        check: raise if the lens doesn't give the model's own logits at the last iteration; False:
            use it, and mark the result as unchecked.

    Raises:
        LoopscopeError: no position is answered, `positions` is neither of the two, or the lens
            fails the check.
    """
    whole = len(run.tokens)
    if facts is None:  # which may be of each example
        run = first_of_many(run, max(LEAST_EXAMPLES, MOST // _readings_of_one(run))) or run
    readings = lenses.lens(run, lens, sites=sites, check=check)
    shape, mask = final_shape(run), _item_mask(run, positions)
    final, target = final_answers(run), _targets(run, mask)
    tokens = {FINAL: final} | ({} if target is None else {RIGHT: target})
    tokens |= {str(name): checked_tokens(ids, shape) for name, ids in (facts or {}).items()}
    quantities = read_all(readings, tokens)
    answers = quantities["answer"][:, :, mask].nan_to_num(-1).long()
    settled, probability = (
        settling_iteration(answers, readings.iterations),
        quantities["probability"][:, :, mask],
    )
    sharp, example = sharpness(probability), mask.nonzero()[:, 0].unique(return_inverse=True)[1]
    formation = Formation(answers[0], final[mask], settled[0], sharp[0], example, readings.iterations)
    verdict, evidence = formation_verdict(formation)
    if len(run.tokens) < whole:
        few = f" The first {len(run.tokens)} of {whole} examples were read, which are enough."
        evidence = replace(evidence, how=evidence.how + few)
    return LensResult(
        verdict=verdict,
        evidence=evidence,
        lens=readings.lens.name,
        checked=readings.checked,
        caution=readings.caution,
        sites=readings.sites,
        iterations=readings.iterations,
        items=int(mask.sum()),
        examples=len(mask),
        vocabulary=shape[-1],
        agreement=agreement(answers, final[mask]),
        kappa=kappas(answers, final[mask]),
        kl=quantities["kl"][:, :, mask].nanmean(-1),
        entropy=quantities["entropy"][:, :, mask].nanmean(-1),
        margin=quantities["margin"][:, :, mask].nanmean(-1),
        flips=flip_rate(answers),
        right=None if target is None else accuracy(quantities["answer"], target, mask),
        **rank_fields(quantities, tokens, mask),
        settled=settled,
        rise=largest_rise(probability),
        sharpness=sharp,
        bands=bands(banded(quantities, answers, tokens, mask), example),
        table=_table(run, quantities, target, readings.iterations),
        chain=chain_of(readings),
    )


def _readings_of_one(run: Run) -> int:
    """How many answers are read of an example of a run."""
    sizes = dict(zip(run.states.axes, run.states.shape, strict=True))
    return max(1, sizes["iteration"] * sizes.get("position", 1))


def _item_mask(run: Run, positions: str) -> Bool[Tensor, "batch position"]:
    mask = lens_positions(run, positions == "answers")
    if not bool(mask.any()):
        raise LoopscopeError(
            "a lens needs one answered position or more, but this run's examples have none. Pass "
            'positions="all".'
        )
    return mask


def _targets(run: Run, mask: Bool[Tensor, "batch position"]) -> Int[Tensor, "batch position"] | None:
    """The right answers, -1 where there is none; None where they are unknown."""
    labels = labels_of(run)
    if labels is None or labels.mask.shape != mask.shape or labels.targets.is_floating_point():
        return None
    return torch.where(labels.mask, labels.targets, -1)


def _table(
    run: Run, quantities: Mapping[str, Tensor], target: Tensor | None, iterations: Sequence[int]
) -> TokenTable:
    """The table of the first site."""
    if target is None:
        target = torch.full(quantities["answer"].shape[2:], -1)
    top, top_p, probability = (quantities[name][0] for name in ("top", "top p", "probability"))
    return token_table(run, top, top_p, probability, target=target, iterations=iterations)
