"""Items: the positions whose answers count."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..recorder.labels import labels_of
from ..runs.run import Run
from .readings import final_logits


def items(run: Run, asked: bool = True) -> Bool[Tensor, "batch position"]:
    """Which positions are looked at: those that the task asks for, where it is known; elsewhere all
    but padding.

    Arguments:
        asked: False: all but padding, whether the task asks for them or not.
    """
    every = torch.ones(final_logits(run).shape[:2], dtype=torch.bool)
    labels = labels_of(run) if asked else None
    if labels is not None and labels.mask.shape == every.shape:
        return labels.mask.cpu()
    padding = run.inputs.get("attention_mask")
    if isinstance(padding, Tensor) and padding.shape == every.shape:
        return padding.cpu().bool()
    return every


def examples(runs: list[Run]) -> list[Int[Tensor, " batch"]]:
    """For each run the number of the example that each row is: equal sequences have one number, in
    all runs."""
    known: dict[bytes, int] = {}
    result = []
    for run in runs:
        size = len(final_logits(run))
        rows = run.tokens if isinstance(run.tokens, Tensor) and len(run.tokens) == size else None
        keys = (
            [f"{len(known) + len(result)}/{row}".encode() for row in range(size)]
            if rows is None
            else [row.numpy().tobytes() for row in rows.detach().cpu().double()]
        )
        result.append(torch.tensor([known.setdefault(key, len(known)) for key in keys]))
    return result
