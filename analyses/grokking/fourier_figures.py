"""Figures of the Fourier components of a network that adds modulo p."""

from typing import TYPE_CHECKING

from loopscope.common.text import percent
from loopscope.plots import style
from loopscope.plots.panels import Panel
from loopscope.plots.style import COLOURS

from .measure import GrokkingResult
from .progress_measures import FourierMeasures

if TYPE_CHECKING:
    import plotly.graph_objects as go


def fourier_panels(result: GrokkingResult) -> list[Panel]:
    """The panels of a report about Fourier components; none for other tasks."""
    fourier = result.progress.fourier
    if fourier is None:
        return []
    return [
        Panel(
            "Fourier components of a + b in the state",
            _sum_figure(fourier, result.progress.steps),
            _sum_sentence(fourier, result.sum_iteration),
            "Solid: the fraction of the variance of the answer position's state in Fourier components of "
            "a + b at the key frequencies, after k iterations. Dashed: in components of a or of b alone, of "
            "which those of the sum are made.",
        ),
        Panel(
            "Concentration, effective rank and weight norm",
            _concentration_figure(result, fourier),
            "The Gini coefficient of the embedding's Fourier components goes from "
            f"{float(fourier.embedding[0]):.2f} to {float(fourier.embedding[-1]):.2f}, the weight norm from "
            f"{float(result.norm[0]):.1f} to {float(result.norm[-1]):.1f}.",
            "Gini coefficient 0: all frequencies are used equally; near 1: only a few are used. The weight "
            "norm and the effective rank of the last state are drawn as fractions of their maxima.",
        ),
    ]


def _sum_sentence(fourier: FourierMeasures, iteration: int | None) -> str:
    if iteration is None:
        final = percent(float(fourier.sum_fraction[-1, -1]))
        return f"After the last iteration {final} of the state's variance are in components of a + b."
    before, after = (percent(float(fourier.sum_fraction[-1, iteration + i])) for i in (0, 1))
    return (
        f"They enter the state in iteration {iteration}: from {before} of the variance before it to {after} "
        "after it, at the end of training."
    )


def _sum_figure(fourier: FourierMeasures, steps: list[int]) -> "go.Figure":
    figure = style.over_steps("Fourier components of the answer position's state", "fraction of variance")
    for k in range(1, fourier.sum_fraction.shape[1]):
        for values, name, dash in (
            (fourier.sum_fraction, "a + b", "solid"),
            (fourier.single_fraction, "a or b", "dash"),
        ):
            style.step_line(
                figure,
                steps,
                values[:, k],
                f"{name}, after {k}",
                colour=COLOURS[(k - 1) % len(COLOURS)],
                hover="%{y:.1%}",
                dash=dash,
            )
    return figure


def _concentration_figure(result: GrokkingResult, fourier: FourierMeasures) -> "go.Figure":
    checkpoints, rank = result.progress.steps, result.progress.effective_rank[:, -1]
    figure = style.over_steps("Concentration, rank and norm", "coefficient, or fraction of maximum")
    gini, fraction = "%{y:.2f}", "%{y:.2f} of the maximum"
    for steps, values, name, colour, hover in (
        (checkpoints, fourier.embedding, "Gini, embedding", style.BLUE, gini),
        (checkpoints, fourier.concentration[:, -1], "Gini, last state", style.GREEN, gini),
        (checkpoints, rank / rank.max(), "effective rank, last state", style.ORANGE, fraction),
        (result.steps, result.norm / result.norm.max(), "weight norm", style.PURPLE, fraction),
    ):
        style.step_line(figure, steps, values, name, colour=colour, hover=hover)
    return figure
