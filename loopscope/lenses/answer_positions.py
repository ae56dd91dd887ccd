"""The positions that a tuned lens is trained on and that the lens analysis averages over."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..recorder.labels import labels_of
from ..runs.run import Run
from ..runs.run_mask import mask_of
from .final_logits import final_shape


def lens_positions(run: Run, answers_only: bool = True) -> Bool[Tensor, "batch position"]:
    """The answer positions of the run's task among those that count; all that count where the task
    is unknown.

    Arguments:
        answers_only: False: all that count, whatever the task.
    """
    counted = mask_of(run, *final_shape(run)[:2])
    labels = labels_of(run) if answers_only else None
    return labels.mask.cpu() if labels is not None and labels.mask.shape == counted.shape else counted


def sequence_ids(runs: list[Run]) -> list[Int[Tensor, " batch"]]:
    """For each run an id for each row, equal for equal sequences of all runs. Padding is no part of
    a sequence."""
    ids: dict[bytes, int] = {}
    result = []
    for run in runs:
        size = final_shape(run)[0]
        rows = run.tokens if isinstance(run.tokens, Tensor) and len(run.tokens) == size else None
        keys = (
            [f"{len(ids) + len(result)}/{row}".encode() for row in range(size)]
            if rows is None
            else [
                row[mask].numpy().tobytes()
                for row, mask in zip(rows.detach().cpu().double(), run.mask, strict=True)
            ]
        )
        result.append(torch.tensor([ids.setdefault(key, len(ids)) for key in keys]))
    return result
