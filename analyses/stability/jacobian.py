"""The Jacobian of one iteration: eigenvalues, singular value, backward gain, input sensitivity."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from loopscope.dynamics.iteration_map import IterationMap
from loopscope.dynamics.limit_point import Limit
from loopscope.dynamics.point_spectrum import point_linearisation, point_spectrum, rows_at
from loopscope.maths import backward_gain
from loopscope.maths.jacobian import Linearisation
from loopscope.maths.sensitivity import row_sensitivity
from loopscope.maths.singular_values import row_singular_value


@dataclass(frozen=True)
class Jacobians:
    """What follows from the Jacobians of single examples; fields as in the result."""

    eigenvalues: Complex[Tensor, "example count"]
    radius: Float[Tensor, " example"]
    radius_error: Float[Tensor, " example"]
    singular_value: Float[Tensor, " example"]
    backward_gain: Float[Tensor, " example"]
    sensitivity: Float[Tensor, " example"]
    notes: tuple[str, ...]


def jacobians(
    loop: IterationMap,
    limit: Limit,
    at_fixed_point: Sequence[bool],
    *,
    count: int,
    gain: int,
    gains: int,
    products: int | None,
    seed: int,
) -> Jacobians:
    """The Jacobian of every example at its fixed point, or else at its last finite state.

    Arguments:
        count: eigenvalues.
        gain: iterations of the backward gain, from the run's first state.
        gains: for how many examples gain and sensitivity are computed.
        products: for the eigenvalues of one example, at most; see `point_spectrum`.
        seed: of the vectors that searches start from.
    """
    inputs = loop.inputs()
    spectra, norms, gain_values, sensitivities = [], [], [], []
    for row, fixed in enumerate(at_fixed_point):
        example = loop.select_rows([row])
        if fixed:
            spectra.append(point_spectrum(loop, limit, row, count, seed=seed, products=products))
            linear = point_linearisation(loop, limit, row)
        else:
            linear = Linearisation(example, _last_finite(limit, row)[None])
            spectra.append(rows_at([(linear, 0)], count, seed=seed, products=products))
        norms.append(row_singular_value(linear, 0, seed))
        unknown = torch.tensor(math.nan, dtype=torch.float64)
        first, within = limit.states[0, row][None], row < gains
        gain_values.append(backward_gain(example, first, gain, seed=seed)[0] if within else unknown)
        sensitivities.append(
            _sensitivity(example, linear, inputs, row, seed) if fixed and within else unknown
        )
    eigenvalues = torch.stack([result.values[0] for result in spectra])
    return Jacobians(
        eigenvalues=eigenvalues,
        radius=eigenvalues.abs()[:, 0],
        radius_error=torch.stack([result.error[0, 0] for result in spectra]),
        singular_value=torch.tensor(norms, dtype=torch.float64),
        backward_gain=torch.stack(gain_values),
        sensitivity=torch.stack(sensitivities),
        notes=tuple(result.sentences[0] for result in spectra),
    )


def _last_finite(limit: Limit, row: int) -> Tensor:
    """The last state before the one that overflows."""
    overflow = int(limit.overflow[row])
    return limit.states[(overflow - limit.first - 1) if overflow >= 0 else -1, row]


def _sensitivity(
    loop: IterationMap, linear: Linearisation, inputs: Tensor | None, row: int, seed: int
) -> Tensor:
    if inputs is None:
        return torch.tensor(0.0, dtype=torch.float64)
    own = inputs[row : row + 1]
    return row_sensitivity(linear, loop.with_inputs, linear.state, own, seed=seed)
