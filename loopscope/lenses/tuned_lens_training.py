"""fit: train a tuned lens on recorded runs.

For each place, and each iteration or all of them together, h -> h + A h + b is trained so that the
model's own read-out of it foretells the model's final answer: the mean KL(final ‖ lens) over items,
plus decay · (‖A‖² + ‖b / scale‖²) / width, scale being the root mean square of h. By Adam from the
identity, a run and an iteration at a step, with a rate that falls to nothing. The model's weights
stay as they are.

Examples are divided by whole sequences: 60 % to train on, 20 % to choose the map, 20 % to report
on. Of all maps that were tried the best on the validation examples is kept, the identity included;
at an iteration where its gain on them is no larger than its standard error, nothing is translated.

What can mislead: in a causal model two sequences with the same beginning hold the same states up to
there, so examples held out of a task with few beginnings are not quite new.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..maths import output_signals
from ..runs.location import Place
from ..runs.run import Run
from .answer_positions import examples, items
from .faithfulness import require_faithful
from .lens_types import KINDS, Lens
from .places import Sight, labels, places, sight
from .readings import final_logits, logits_at
from .translator import Gain, Translator, identity, translated
from .tuned_lens import TunedLens

FEWEST, BOOTSTRAP = 10, 1000
RATE, EVERY = 0.3, 5
"""Of Adam at first, times 1 / width, so that a step changes lengths by as much at every width;
every so many steps the validation examples are looked at."""
SURE = 1.0
"""Standard errors that a map must gain on the validation examples to be used."""
EXACT = 1e-6
"""In nats: where the untuned lens is as near to the final answer as that, nothing is trained."""


def fit(
    runs: list[Run],
    sites: str | Sequence[str],
    shared: bool,
    read: Any,
    seed: int,
    decay: float,
    steps: int,
    positions: Any,
    check: bool,
) -> TunedLens:
    """A tuned lens of recorded runs of one model.

    Arguments:
        runs: recorded with `sites`; more data than one run holds are many runs.
        sites: as for `loopscope.lens`.
        shared: one map for all iterations of a site, or one for each.
        read: what reads the translated vectors: the model's whole read-out, or the final norm and
            the unembedding alone.
        seed: of the division into examples to train on, to stop by, and to report on.
        decay: towards the identity.
        steps: of the optimiser, for each map.
        positions: "answers": those that the task asks for, where it is known (else all but padding);
            "all": all but padding.
        check: raise if the read-out does not give the model's own logits at the last iteration.
    """
    if not runs:
        raise LoopscopeError("a tuned lens needs a run or more to be fitted on, but got none.")
    if read not in KINDS or positions not in ("answers", "all"):
        raise LoopscopeError(
            f'read must be "coda" or "logit" and positions "answers" or "all", but are {read!r} and '
            f"{positions!r}."
        )
    base = KINDS[read]
    for run in runs:
        run.require_finite()
        if check:
            require_faithful(run, base)
    model = identity(runs[0])
    if any(identity(run) != model for run in runs[1:]):
        raise LoopscopeError(
            "a tuned lens is fitted on runs of one model, but these are of several. Fit one for each."
        )
    data, counts = _divided(runs, positions == "answers", seed)
    translators, kl = {}, {}
    for place in places(runs[0], sites):
        translators[place.label], kl[place.label] = _place(
            data, place, base, shared, decay=decay, steps=steps, seed=seed
        )
    made = {"shared": shared, "seed": seed, "decay": decay, "steps": steps, "positions": positions} | counts
    return TunedLens(read, translators, kl, model, made)


@dataclass(frozen=True)
class _Data:
    """One run with its items."""

    run: Run
    mask: Tensor
    """(batch, position): the items."""
    example: Tensor
    """(item,): the example that each belongs to."""
    part: Tensor
    """(item,): 0 train, 1 validation, 2 held out."""
    final: Tensor
    """(item, vocab): log-probabilities of the final answer."""

    def loss(self, base: Lens, seen: Sight, a: Tensor, b: Tensor) -> Tensor:
        """The mean of KL(final ‖ lens) over the items to train on, of which there may be none; in
        the precision of `a`."""
        at = replace(seen, h=translated(seen.h, a, b), translated=True)
        read = logits_at(base, self.run, at)[self.train].to(a.dtype)
        final = self.final[self.part == 0].to(a.dtype)
        share, q = final.exp(), torch.log_softmax(read, -1).clamp(min=-1e30)
        kl = (share * (final.clamp(min=-1e30) - q)).sum(-1)
        kl = kl[~kl.isnan()]
        return kl.sum() / max(1, len(kl))

    @cached_property
    def train(self) -> Tensor:
        """(batch, position): the items to train on."""
        mask = self.mask.to(self.part.device, copy=True)
        mask[mask.clone()] = self.part == 0
        return mask

    def kl(self, base: Lens, seen: Sight) -> Tensor:
        """(item,): KL(final ‖ lens), in nats."""
        read = logits_at(base, self.run, seen)
        return output_signals.kl_divergence(
            self.final, output_signals.log_probabilities(read[self.mask.to(read.device)])
        )


def _divided(runs: list[Run], asked: bool, seed: int) -> tuple[list[_Data], dict[str, int]]:
    """The runs' items, by whole examples to train on, to stop by, and to report on."""
    numbers = examples(runs)
    count = 1 + max(int(own.max()) for own in numbers)
    if count < FEWEST:
        raise LoopscopeError(
            f"a tuned lens needs {FEWEST} different examples or more, to train on, to stop by and to report "
            f"on, but got {count}. Record more; some hundreds are better."
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    part = torch.zeros(count, dtype=torch.long)
    part[order[: count // 5]] = 2
    part[order[count // 5 : 2 * (count // 5)]] = 1
    data = []
    for run, own in zip(runs, numbers, strict=True):
        mask, final = items(run, asked), final_logits(run)
        example = own[:, None].expand_as(mask)[mask]
        told = output_signals.log_probabilities(final[mask.to(final.device)])
        data.append(_Data(run, mask, example, part[example].to(final.device), told))
    if not all(any(bool((one.part == which).any()) for one in data) for which in range(3)):
        raise LoopscopeError(
            "a tuned lens needs positions to train on, to stop by and to report on, but some of these have "
            "none. Record more "
            'examples, or pass positions="all".'
        )
    total = sum(len(one.example) for one in data)
    return data, {"examples": count, "held": int((part == 2).sum()), "items": total}


def _place(
    data: list[_Data], place: Place, base: Lens, shared: bool, *, decay: float, steps: int, seed: int
) -> tuple[Translator, Gain]:
    """The translator of one place."""
    where = tuple(sorted({k for one in data for k in labels(one.run, [place])}))
    seen: dict[int, list[tuple[_Data, Sight]]] = {k: [] for k in where}
    for one in data:
        for k in where:
            if (result := sight(one.run, place, k)) is not None:
                seen[k].append((one, result))
    # the last iteration of the state is read as it is
    free = [k for k in where if not all(s.plain and k == one.run.iterations for one, s in seen[k])]
    h = seen[where[0]][0][1].h
    width, dtype = h.shape[-1], torch.promote_types(h.dtype, torch.float32)
    a = torch.zeros(len(where), width, width, dtype=dtype)
    b, used = torch.zeros(len(where), width, dtype=dtype), torch.zeros(len(where), dtype=torch.bool)
    jobs = [free] if shared and free else [[k] for k in free]
    for job in jobs:
        result = _trained([pair for k in job for pair in seen[k]], base, decay, steps, seed=seed)
        for k in job:
            i = where.index(k)
            a[i], b[i] = result
            used[i] = _helps(seen[k], base, result)
    if shared:  # what was trained is at each of them
        first = where.index(free[0]) if free else 0
        a, b = a[first : first + 1].clone(), b[first : first + 1].clone()
    own = Translator(where, a, b, used)
    return own, _gain(own, seen, base, seed)


def _read(one: _Data, at: Sight, base: Lens, result: tuple[Tensor, Tensor] | None) -> Tensor:
    """(item,): KL of one run at one place and iteration, with a map or without."""
    last = at.plain and at.k == one.run.iterations
    if result is None or last:
        return one.kl(base, at)
    a, b = result
    return one.kl(
        base, replace(at, h=translated(at.h, a.to(at.h.device), b.to(at.h.device)), translated=True)
    )


def _helps(seen: list[tuple[_Data, Sight]], base: Lens, result: tuple[Tensor, Tensor]) -> bool:
    """Whether a map gains more on the validation examples than the standard error of that, examples
    taken as wholes."""
    with torch.no_grad():
        rows = [(one, _read(one, at, base, None) - _read(one, at, base, result)) for one, at in seen]
    gain = torch.cat([own[one.part == 1].cpu() for one, own in rows])
    group = torch.cat([one.example[(one.part == 1).cpu()] for one, _ in rows])
    gain, (_, number) = gain[~gain.isnan()], group[~gain.isnan()].unique(return_inverse=True)
    if len(gain) == 0:
        return False
    mean = gain.mean()
    off = torch.zeros(int(number.max()) + 1, dtype=gain.dtype).index_add(0, number, gain - mean)
    return float(mean) > SURE * float(off.square().sum().sqrt()) / len(gain)


def _mean(seen: list[tuple[_Data, Sight]], base: Lens, result: Any, part: int) -> float:
    with torch.no_grad():
        told = torch.cat([_read(one, at, base, result)[one.part == part].cpu() for one, at in seen])
    return float(told.nanmean())


def _trained(
    seen: list[tuple[_Data, Sight]], base: Lens, decay: float, steps: int, *, seed: int
) -> tuple[Tensor, Tensor]:
    """(A, b): the best on the validation items of all that were tried, the identity first."""
    h = seen[0][1].h
    width, dtype = h.shape[-1], torch.promote_types(h.dtype, torch.float32)
    size = torch.stack([at.h.detach().double().square().nanmean() for _, at in seen]).mean().sqrt()
    scale = float(size) or 1.0
    a = torch.zeros(width, width, dtype=dtype, device=h.device, requires_grad=True)
    b = torch.zeros(width, dtype=dtype, device=h.device, requires_grad=True)
    optimiser = torch.optim.Adam([a, b], lr=RATE / width)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    best, lowest = (a.detach().clone(), b.detach().clone()), _mean(seen, base, None, 1)
    if lowest < EXACT:
        return best
    order = np.random.default_rng(seed)
    queue: list[int] = []
    for step in range(1, steps + 1):
        queue = queue or order.permutation(len(seen)).tolist()
        one, at = seen[queue.pop()]
        with torch.enable_grad():
            loss = one.loss(base, at, a, scale * b)
            loss = loss + decay * (a.square().sum() + b.square().sum()) / width
            a.grad, b.grad = torch.autograd.grad(loss, [a, b])  # the model's own parameters get none
        optimiser.step()
        schedule.step()
        if step % EVERY == 0 or step == steps:
            result = (a.detach().clone(), scale * b.detach())
            value = _mean(seen, base, result, 1)
            if value < lowest:
                best, lowest = result, value
    return best


def _gain(own: Translator, seen: dict[int, list[tuple[_Data, Sight]]], base: Lens, seed: int) -> Gain:
    """KL before and after on the examples held out, with an interval by a bootstrap over them."""
    rows: list[tuple[float, ...]] = []
    rng = np.random.default_rng(seed)
    for i, k in enumerate(own.iterations):
        result = (own.a[0 if len(own.a) == 1 else i], own.b[0 if len(own.b) == 1 else i])
        kept = result if bool(own.used[i]) else None
        before, after, example = [], [], []
        with torch.no_grad():
            for one, at in seen[k]:
                held = one.part == 2
                before.append(_read(one, at, base, None)[held].cpu())
                after.append(_read(one, at, base, kept)[held].cpu())
                example.append(one.example[held.cpu()])
        first, second, group = torch.cat(before), torch.cat(after), torch.cat(example)
        there = ~first.isnan()
        low, high = _interval((first - second)[there].numpy(), group[there].numpy(), rng)
        first, second = float(first[there].mean()), float(second[there].mean())
        rows.append((first, second, first - second, low, high))
    columns = torch.tensor(rows, dtype=torch.float64).T
    return Gain(own.iterations, *columns)


def _interval(values: np.ndarray, group: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """95 % of the means of as many examples drawn again."""
    _, number = np.unique(group, return_inverse=True)
    sums, sizes = np.bincount(number, values), np.bincount(number)
    counts = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=BOOTSTRAP)
    means = (counts @ sums) / (counts @ sizes)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))
