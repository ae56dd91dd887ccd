"""What the precision of recorded numbers can decide: which motion is rounding, and where rest can
be told from slow motion.

A state of norm s in numbers of machine epsilon e is known to about e s. So motion of a few e s may
be rounding; and where that is not small beside the range that a trajectory covers, a loop that has
come to rest can't be told from one that moves on slowly, as its steps are rounded away. Both are
judged in double precision, and against the dtype in which the numbers were *recorded*. Range and
spread are distances between states, so that a constant added to every state changes no judgement
unless it takes away the digits that the judgement needs.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

FLOOR = 4.0
"""Rounding may move a state by so many machine epsilons of its norm."""
JITTER = 100.0
"""A loop at rest may jitter by so many, if that is hardly anything of the range it has covered."""
RESOLVED = 1e-3
"""Rest is told from slow motion where the rounding is at most this part of the range."""
START = 0.1
"""Where a loop ends can be told from its first state only if the rounding of that is at most this
part of the range that it covers."""
CELLS = 2000.0
"""Motion that covers fewer machine epsilons of the norm than this is coarse: in so few numbers a
chaotic or quasi-periodic motion soon repeats itself, and looks like a cycle."""
TINY = 1e-300
ORIGIN = 0.1
"""Beside a smaller part of its range the norm of a state is no measure of its motion: near the
origin no step would be small."""


WITHOUT_64_BITS = {"mps"}
"""Types of devices that have no float64."""


def has_64_bits(device: torch.device) -> bool:
    """Whether a device has float64."""
    return device.type not in WITHOUT_64_BITS


def wide(x: Tensor) -> Tensor:
    """The numbers in double precision: on the CPU where their device has none."""
    return x.double() if has_64_bits(x.device) else x.cpu().double()


def resolution(dtype: torch.dtype) -> float:
    """The machine epsilon of a dtype; of whole numbers that of float64, in which they are judged.

    >>> resolution(torch.bfloat16)
    0.0078125
    """
    return torch.finfo(dtype if dtype.is_floating_point else torch.float64).eps


def precision(states: Any) -> float:
    """The machine epsilon of these numbers; that of float64 for integers."""
    return resolution(torch.as_tensor(states).dtype)


def rounding(norm: Tensor, eps: float) -> Tensor:
    """How far rounding may move states of these norms."""
    return FLOOR * eps * norm


def rest_level(norm: Tensor, range: Tensor, eps: float) -> Tensor:
    """The size of motion up to which a state rests: rounding, or jitter that is hardly anything of
    the range.

    Arguments:
        norm: of the states.
        range: the largest distance that they covered, of the same shape.
        eps: machine epsilon of the numbers.
    """
    return torch.maximum(rounding(norm, eps), torch.minimum(JITTER * eps * norm, RESOLVED * range))


def can_tell_rest(norm: Tensor, scale: Tensor, eps: float) -> Bool[Tensor, "..."]:
    """Whether states of these norms are precise enough to tell rest from slow motion.

    Arguments:
        scale: what motion is measured by: the range of a trajectory; see `state_scale` for one that
            never moved.
    """
    return rounding(norm, eps) <= RESOLVED * scale


def motion_scale(norm: Tensor, range: Tensor) -> Tensor:
    """What steps are measured against: the norm, but no more than the range and no less than ORIGIN
    times the range."""
    return torch.minimum(torch.maximum(norm, ORIGIN * range), range)


def state_scale(
    last: Float[Tensor, "row width"], range: Float[Tensor, " row"], eps: float, across: float | None = None
) -> Float[Tensor, " row"]:
    """The scale of each row's state: the range that it covered. Where that is no more than rounding
    it is the spread between the rows, else that between the numbers of a state, else its norm.

    >>> state_scale(torch.tensor([[3.0, 4.0]]), torch.tensor([0.0]), 1e-7)
    tensor([0.5000], dtype=torch.float64)

    Arguments:
        last: a late state of each row.
        range: the largest distance that each row covered.
        across: the spread between all rows, where these are some of them; None: these are all.
    """
    x = _zeroed(last)
    norm, range = x.norm(dim=1), range.double()
    level = rounding(norm, eps)
    between = spread_between([x]) if across is None else across
    inside = (x - x.median(1, keepdim=True).values).abs().median(1).values
    # of an even count torch takes the lower median, which of two numbers is 0
    inside = torch.where(inside > level, inside, (x - x.mean(1, keepdim=True)).abs().mean(1))
    result = norm
    for scale in (inside, torch.full_like(norm, between), range):
        result = torch.where(scale > level, scale, result)
    return result


def spread_between(parts: Iterable[Float[Tensor, "row width"]]) -> float:
    """The root mean square distance of all rows from their mean, with zeros for what isn't finite;
    NaN for none. Rows come in parts, which are gone through twice.

    >>> x = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    >>> spread_between([x[:1], x[1:]])
    2.5
    """
    parts = list(parts) if isinstance(parts, Iterator) else parts
    count, total = 0, torch.zeros(())
    for part in parts:
        count, total = count + len(part), total + _zeroed(part).sum(0)
    if not count:
        return math.nan
    mean = total / count
    return math.sqrt(sum(float((_zeroed(part) - mean).square().sum()) for part in parts) / count)


def _zeroed(x: Tensor) -> Tensor:
    return torch.nan_to_num(x.double(), 0.0, 0.0, 0.0)


def can_tell_end(
    first: Float[Tensor, "row width"],
    last: Float[Tensor, "row width"],
    span: Float[Tensor, " row"],
    *,
    recorded: float,
    computed: float,
) -> Bool[Tensor, " row"]:
    """Whether it can be told where rows end that were computed from recorded first states: whether
    rounding of those is a small part of the range, and the computation tells rest from slow motion.

    Arguments:
        span: the largest distance between the last state and another.
        recorded, computed: machine epsilon of the first states and of the computation, which may be
            in double precision.
    """
    norm, zero = last.norm(dim=1), torch.zeros_like(span)
    stands = span <= rounding(norm, computed)
    least = torch.where(stands, RESOLVED * state_scale(last, zero, recorded).to(span), START * span)
    known = rounding(first.norm(dim=1), recorded) <= least
    return known & can_tell_rest(norm, state_scale(last, span, computed).to(span), computed)


def are_alike(x: Float[Tensor, "... sample width"]) -> Bool[Tensor, "..."]:
    """Whether sets of vectors are equal, to rounding in the dtype of the vectors."""
    norm = x.double().square().sum(-1).mean(-1).sqrt()
    spread = (x.double() - x.double().mean(-2, keepdim=True)).square().sum(-1).mean(-1).sqrt()
    return spread <= rounding(norm, resolution(x.dtype))
