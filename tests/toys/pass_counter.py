"""What a call costs in forward passes: the operations of its matrix products, forward, backward and
twice backward, over those of one bare forward of the recorded batch."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from loopscope.runs.run import Run


def operations(call: Callable[[], Any]) -> int:
    """Multiplications and additions of a call's matrix products, however they are batched."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def passes(run: Run, call: Callable[[], Any]) -> float:
    """Operations of a call, over those of one forward of the run's batch through its iterations."""

    def forward() -> None:
        with torch.no_grad():
            run.model(run.tokens, iterations=run.iterations)

    return operations(call) / operations(forward)


def step_passes(run: Run, module: torch.nn.Module, call: Callable[[], Any]) -> float:
    """Rows for which a call runs a module of the model that runs once per iteration, over those of
    one forward of the run's batch through its iterations. Copies of the model count too."""
    rows: list[int] = []
    handle = module.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    try:
        call()
    finally:
        handle.remove()
    return sum(rows) / (len(run.states[0]) * run.iterations)
