"""The verdict on R² by predictor: how early the halting iteration can be predicted."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.common.verdict import UNCLEAR, Verdict

R2, LEAD, EARLY, SPREAD = 0.5, 0.1, 2, 0.2
PREDICTORS = ("state", "signals", "position", "shuffled")


class HaltingPredictionVerdict(Verdict):
    """How early the halting iteration can be predicted."""

    early_more = (
        "The state predicts the halting iteration early, and better than the exit rules' signals and the "
        "position do."
    )
    early = (
        "The halting iteration can be predicted early, but the state does not predict it clearly better "
        "than both the exit rules' signals and the position do."
    )
    late = "The halting iteration can be predicted only late in the loop."
    unknown = (
        "Linear probes of the state do not predict the halting iteration well, after any number of "
        "iterations; another read-out might."
    )
    constant = (
        "There is nothing to predict: the answers that still run halt after the same number of iterations."
    )
    never = "There is nothing to predict: no answer halts within the run's iterations."
    unclear = UNCLEAR


def verdict_on(
    k: Int[Tensor, " point"],
    r2: Mapping[str, Float[Tensor, " point"]],
    spread: Float[Tensor, " point"],
    fitted: Bool[Tensor, " point"] | bool = True,
) -> HaltingPredictionVerdict:
    """The verdict after k iterations.

    Arguments:
        r2: by predictor; a NaN predicts nothing.
        spread: of the halting iterations still to come, their standard deviation; up to SPREAD
            there is nothing to predict.
        fitted: where there are examples enough to say that a state does not predict. Without them
            it may yet, so `late` and `unknown` are said of these k only.
    """
    verdict = HaltingPredictionVerdict
    counts = spread > SPREAD
    if not bool(counts.any()):
        return verdict.constant
    state, control = r2["state"], r2["shuffled"].nan_to_num(0.0).clamp(min=0)
    if bool(state[counts].isnan().all()):
        return verdict.unclear
    predicted, early = (state - control >= R2) & counts, k <= EARLY
    if not bool(predicted[early].any()):
        absent = verdict.late if bool(predicted.any()) else verdict.unknown
        claimed = counts & fitted & (early if absent is verdict.late else True)
        return absent if bool(claimed.any()) else verdict.unclear
    others = torch.maximum(r2["signals"].nan_to_num(0.0), r2["position"].nan_to_num(0.0))
    lead = torch.where(counts, state - others, torch.nan)[: max(1, len(k) // 2)].nanmean()
    return verdict.early_more if float(lead) >= LEAD else verdict.early
