"""The results of the task's chain as a lens reads them: when each is shown, in words and as a
figure."""

from typing import TYPE_CHECKING

import torch

from loopscope.common.text import percent, plural
from loopscope.lenses.chain_matrix import ChainMatrix, matrix_of, run_chain
from loopscope.lenses.readings import Readings
from loopscope.plots.heatmaps import position_heatmap
from loopscope.plots.panels import Panel

if TYPE_CHECKING:
    import plotly.graph_objects as go

SHOWN = 0.95
"""A result is shown after k iterations if it is read there in this fraction of the items."""
_LEAST = 5  # items with every result


def chain_of(readings: Readings) -> ChainMatrix | None:
    """The matrix of results by iterations; None where the task has no chain of two results or more,
    too few examples have all of them, or the state isn't read."""
    chain = run_chain(readings.run) if "state" in readings.sites else None
    if chain is None or len(chain) < 2 or int(chain.mask.all(0).sum()) < _LEAST:
        return None
    matrix = matrix_of(chain, readings)
    return matrix if matrix.items >= _LEAST else None


def chain_sentence(matrix: ChainMatrix) -> str:
    """Whether the results are shown one after another, and when each is read most often."""
    columns = [i for i, k in enumerate(matrix.iterations) if k > 0]
    if not columns:
        return "The results of the task's chain weren't read after any iteration."
    best = matrix.share[:, columns].max(1)
    when = [matrix.iterations[columns[i]] for i in best.indices.tolist()]
    last = len(when)
    if bool((best.values >= SHOWN).all()):
        in_order = bool((matrix.diagonal >= SHOWN).all())  # an answer that is kept may be read later, too
        when = list(range(1, last + 1)) if in_order else when
        best_values = matrix.diagonal if in_order else best.values
        lead = (
            "The read-out shows the results of the task's chain in their order, one after each iteration"
            if in_order
            else "The read-out shows every result of the task's chain, but not result k after k iterations"
        )
    else:
        missing, best_values = int((best.values[:-1] < SHOWN).sum()), best.values
        lead = (
            f"Of the {plural(last - 1, 'result')} before the answer the read-out doesn't show {missing}"
            if missing
            else "The read-out shows every result before the answer, but not the answer"
        )
    numbers = ", ".join(
        f"result {j} in {percent(float(value))} after {k}"
        for j, (value, k) in enumerate(zip(best_values, when, strict=True), start=1)
    )
    others = matrix.equal[~torch.eye(last, dtype=torch.bool)].max()
    return (
        f"{lead}: {numbers} (of the {plural(matrix.items, 'item')} that have all {last}; two results are "
        f"equal in {percent(float(others))} at most)."
    )


def draw_chain(matrix: ChainMatrix) -> "go.Figure":
    """How often each result is read, by iteration."""
    names = [f"result {j}" for j in range(1, len(matrix.share) + 1)]
    figure = position_heatmap(
        [[round(value, 4) for value in column] for column in matrix.share.T.tolist()],
        "Results of the task's chain, as they are read",
        "iterations run (k)",
        "fraction of items",
        hover="%{x} after %{y} iterations: %{z:.1%}",
        height=340,
        iterations=matrix.iterations,
        x=names,
        zmin=0,
        zmax=1,
    )
    figure.update_xaxes(title_text="result of the chain")
    return figure


def chain_panel(matrix: ChainMatrix) -> Panel:
    """The panel of a report."""
    return Panel(
        "Results on the way to the answer",
        draw_chain(matrix),
        chain_sentence(matrix),
        "The task says which results lead to its answer, each from the one before; the last is the answer. "
        "Each cell is the fraction of items in which that result is read after k iterations. A loop that "
        "computes one result in each iteration has its bright cells on the diagonal; one that has its answer "
        "at once in the last column.",
    )
