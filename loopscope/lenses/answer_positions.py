"""The positions that a tuned lens is trained on and that the lens analysis averages over."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..recorder.labels import labels_of
from ..runs.run import Run
from .final_logits import final_logits


def lens_positions(run: Run, answers_only: bool = True) -> Bool[Tensor, "batch position"]:
    """The answer positions of the run's task; all positions but padding where the task is unknown.

    Arguments:
        answers_only: False: all positions but padding, whatever the task.
    """
    every = torch.ones(final_logits(run).shape[:2], dtype=torch.bool)
    labels = labels_of(run) if answers_only else None
    if labels is not None and labels.mask.shape == every.shape:
        return labels.mask.cpu()
    padding = run.inputs.get("attention_mask")
    if isinstance(padding, Tensor) and padding.shape == every.shape:
        return padding.cpu().bool()
    return every


def sequence_ids(runs: list[Run]) -> list[Int[Tensor, " batch"]]:
    """For each run an id for each row, equal for equal sequences of all runs."""
    ids: dict[bytes, int] = {}
    result = []
    for run in runs:
        size = len(final_logits(run))
        rows = run.tokens if isinstance(run.tokens, Tensor) and len(run.tokens) == size else None
        keys = (
            [f"{len(ids) + len(result)}/{row}".encode() for row in range(size)]
            if rows is None
            else [row.numpy().tobytes() for row in rows.detach().cpu().double()]
        )
        result.append(torch.tensor([ids.setdefault(key, len(ids)) for key in keys]))
    return result
