"""Training of a tuned lens on recorded runs.

For each place, and for each iteration or all of them jointly, h -> h + A h + b is trained so that
the model's own read-out of it predicts the model's final answer. The loss is the mean
KL(final ‖ lens) over positions, plus decay · (‖A‖² + ‖b / scale‖²) / width, where scale is the root
mean square of h. Adam starts from the identity, takes one run and one iteration in each step, and
its learning rate falls to 0 by a cosine schedule. The model's weights stay as they are.

Examples are divided by whole sequences: 60 % for training, 20 % for validation, 20 % for testing.
The map with the lowest validation loss is kept, the identity included. At an iteration where its
gain on the validation examples is not larger than its standard error, nothing is translated.

What can mislead: in a causal model two sequences with the same beginning have the same states up to
there, so held-out examples of a task with few beginnings are not quite new.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.progress import tracked
from ..runs.location import Place
from ..runs.run import Run
from ..runs.run_mask import mask_of
from .faithfulness import require_faithful
from .lens_input import LensInput, lens_input, lens_iterations, lens_places
from .lens_types import UNTRAINED, Lens
from .translator import KLGain, Translator, model_identity
from .tuned_lens_data import VALIDATION, AffineMap, LensData, divide
from .tuned_lens_evaluation import Inputs, improves, kl_gain, mean_kl

RATE, EVERY = 0.3, 5
"""Adam's initial learning rate, times 1 / width, so that a step changes lengths by as much at every
width; and the number of steps between two looks at the validation loss."""
EXACT = 1e-6
"""In nats: where the untuned lens is this near to the final answer, nothing is trained."""

ReadOutName = Literal["coda", "logit"]
Positions = Literal["answers", "all"]


def train_tuned_lens(
    runs: list[Run],
    sites: str | Sequence[str],
    *,
    shared: bool,
    read: ReadOutName,
    seed: int,
    decay: float,
    steps: int,
    positions: Positions,
    check: bool,
) -> tuple[dict[str, Translator], dict[str, KLGain], dict[str, int]]:
    """Train a translator for each place; the arguments are those of `TunedLens.fit`.

    Returns:
        translators and gains by place, and the numbers of examples, test examples and positions.

    Raises:
        LoopscopeError: no runs, runs of several models, a read-out that isn't faithful, or too few
            examples.
    """
    if not runs:
        raise LoopscopeError("a tuned lens needs a run or more to be fitted on, but got none.")
    base = UNTRAINED[read]
    for run in runs:
        run.require_finite()
        if check:
            require_faithful(run, base)
    model = model_identity(runs[0])
    if any(model_identity(run) != model for run in runs[1:]):
        raise LoopscopeError(
            "a tuned lens is fitted on runs of one model, but these are of several. Fit one for each."
        )
    data, counts = divide(runs, positions == "answers", seed)
    translators, gains = {}, {}
    places = lens_places(runs[0], sites)
    for place in tracked(places, "tuning lenses", len(places)):
        translators[place.label], gains[place.label] = _train_place(
            data, place, base, shared=shared, decay=decay, steps=steps, seed=seed
        )
    return translators, gains, counts


def _train_place(
    data: list[LensData], place: Place, base: Lens, *, shared: bool, decay: float, steps: int, seed: int
) -> tuple[Translator, KLGain]:
    """The translator of one place, and its gain."""
    iterations = tuple(sorted({k for one in data for k in lens_iterations(one.run, [place])}))
    inputs: dict[int, list[tuple[LensData, LensInput]]] = {k: [] for k in iterations}
    for one in data:
        for k in iterations:
            if (vectors := lens_input(one.run, place, k)) is not None:
                # NaN where nothing counts must be in no gradient; elsewhere the run has none
                h = vectors.h.nan_to_num(0.0, 0.0, 0.0) if one.has_padding else vectors.h
                inputs[k].append((one, replace(vectors, h=h)))
    # the last iteration of the state is read out as it is
    trainable = [
        k for k in iterations if not all(v.is_state and k == one.run.iterations for one, v in inputs[k])
    ]
    h = inputs[iterations[0]][0][1].h
    width, dtype = h.shape[-1], torch.promote_types(h.dtype, torch.float32)
    a = torch.zeros(len(iterations), width, width, dtype=dtype)
    b = torch.zeros(len(iterations), width, dtype=dtype)
    active = torch.zeros(len(iterations), dtype=torch.bool)
    groups = [trainable] if shared and trainable else [[k] for k in trainable]
    for group in tracked(groups, place.label, len(groups)):
        affine = train_map([pair for k in group for pair in inputs[k]], base, decay, steps, seed=seed)
        for k in group:
            i = iterations.index(k)
            a[i], b[i] = affine
            active[i] = improves(inputs[k], base, affine)
    if shared:  # the map is the same at each of them
        first = iterations.index(trainable[0]) if trainable else 0
        a, b = a[first : first + 1].clone(), b[first : first + 1].clone()
    translator = Translator(iterations, a, b, active)
    return translator, kl_gain(translator, inputs, base, seed)


def train_map(inputs: Inputs, base: Lens, decay: float, steps: int, *, seed: int) -> AffineMap:
    """(A, b) with the lowest validation loss, the identity included."""
    h = inputs[0][1].h
    width, dtype = h.shape[-1], torch.promote_types(h.dtype, torch.float32)
    scale = _scale([v.h[mask_of(one.run, *v.h.shape[:2]).to(v.h.device)] for one, v in inputs])
    a = torch.zeros(width, width, dtype=dtype, device=h.device, requires_grad=True)
    b = torch.zeros(width, dtype=dtype, device=h.device, requires_grad=True)
    optimiser = torch.optim.Adam([a, b], lr=RATE / width)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    best, lowest = (a.detach().clone(), b.detach().clone()), mean_kl(inputs, base, None, VALIDATION)
    if lowest < EXACT:
        return best
    rng = np.random.default_rng(seed)
    queue: list[int] = []
    for step in range(1, steps + 1):
        queue = queue or rng.permutation(len(inputs)).tolist()
        data, vectors = inputs[queue.pop()]
        with torch.enable_grad():
            loss = data.loss(base, vectors, a, scale * b)
            loss = loss + decay * (a.square().sum() + b.square().sum()) / width
            a.grad, b.grad = torch.autograd.grad(loss, [a, b])  # none for the model's parameters
        optimiser.step()
        schedule.step()
        if step % EVERY == 0 or step == steps:
            affine = (a.detach().clone(), scale * b.detach())
            kl = mean_kl(inputs, base, affine, VALIDATION)
            if kl < lowest:
                best, lowest = affine, kl
    return best


def _scale(vectors: Sequence[Tensor]) -> float:
    """The root mean square; 1 where that is 0."""
    size = torch.stack([h.detach().double().square().nanmean() for h in vectors]).mean().sqrt()
    return float(size) or 1.0
