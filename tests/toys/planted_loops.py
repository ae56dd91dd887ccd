"""Loops with a planted fate, in eight numbers, beside a constant that may be large, in any floating
dtype: what becomes of them is known, whatever they are recorded in."""

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

import loopscope as ls
from loopscope.common.fate import Fate
from loopscope.recorder.iterate_function import Iterated

WIDTH, EXAMPLES = 8, 12
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
OFFSETS = (0.0, 1.0, 100.0, 10_000.0, "massive")
"""The constant is this number in every coordinate, or 1,000 in one of them."""


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


BASIS = torch.linalg.qr(_normal(WIDTH, WIDTH, seed=1)).Q
"""Orthonormal columns: two or four numbers are lifted into eight along them."""


def constant(offset: float | str) -> Tensor:
    """The vector that is added to every state."""
    if offset == "massive":
        return 1000.0 * torch.eye(WIDTH, dtype=torch.float64)[3]
    return torch.full((WIDTH,), float(offset), dtype=torch.float64)


def turn(angle: float, rate: float = 1.0) -> Tensor:
    c, s = rate * math.cos(angle), rate * math.sin(angle)
    return torch.tensor([[c, s], [-s, c]], dtype=torch.float64)


def _lifted(step: Callable[[Tensor], Tensor], dims: int) -> Callable[[Tensor], Tensor]:
    """A map of a few numbers as one of eight; what lies outside the plane decays."""

    def map(x: Tensor) -> Tensor:
        plane = BASIS[:, :dims].to(x)
        inside = x @ plane
        return step(inside) @ plane.T + 0.3 * (x - inside @ plane.T)

    return map


def _circles(*angles: float) -> Callable[[Tensor], Tensor]:
    """Rotations in planes of their own, each drawn to its unit circle."""

    def step(u: Tensor) -> Tensor:
        parts = []
        for i, angle in enumerate(angles):
            v = u[..., 2 * i : 2 * i + 2]
            size = v.norm(dim=-1, keepdim=True)
            parts.append(v @ turn(angle).to(v) * (0.5 + 0.5 / size.clamp(min=0.1)))
        return torch.cat(parts, -1)

    return step


def _cycle(period: int) -> Callable[[Tensor], Tensor]:
    """A circle map that is drawn to `period` points of the unit circle, visited in turn."""

    def step(u: Tensor) -> Tensor:
        angle = torch.atan2(u[..., 1:], u[..., :1])
        size = u.norm(dim=-1, keepdim=True)
        angle = angle - 0.5 / period * torch.sin(period * angle) + 2 * math.pi / period
        return torch.cat([angle.cos(), angle.sin()], -1) * (0.5 + 0.5 * size).to(u)

    return step


def _logistic(u: Tensor) -> Tensor:
    v = (u + 1) / 2
    return (3.9 * v * (1 - v)).clamp(0, 1) * 2 - 1


def _henon(u: Tensor) -> Tensor:
    x, y = u[..., :1], u[..., 1:]
    return torch.cat([1 - 1.4 * x * x + y, 0.3 * x], -1)


DIRECTION = BASIS[:, 0]

FATES: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "fixed point": (lambda x: 0.6 * x + 0.3 * DIRECTION.to(x), "converges"),
    "spiral": (_lifted(lambda u: u @ turn(0.7, 0.8).to(u), 2), "converges"),
    "slow drift": (lambda x: x + (3e-3 * DIRECTION).to(x), "moves"),
    "drift on a line": (lambda x: x + (0.2 * DIRECTION).to(x), "moves"),
    "cycle of 2": (_lifted(_cycle(2), 2), "cycles"),
    "cycle of 3": (_lifted(_cycle(3), 2), "cycles"),
    "cycle of 5": (_lifted(_cycle(5), 2), "cycles"),
    "rotation": (_lifted(_circles(1.0), 2), "cycles"),
    "torus": (_lifted(_circles(1.0, math.sqrt(3)), 4), "moves"),
    "logistic chaos": (_lifted(_logistic, 1), "moves"),
    "Hénon chaos": (_lifted(_henon, 2), "moves"),
    "divergence": (lambda x: 1.1 * x, "grows"),
}
"""By name: the map (about its constant), and what becomes of its states."""


# By name of a planted loop: where each example goes, as `loopscope.common.fate` names it
FATE_OF: dict[str, Fate] = {
    "fixed point": "converges",
    "spiral": "converges",
    "slow drift": "drifts",
    "drift on a line": "drifts",
    "cycle of 2": "cycles",
    "cycle of 3": "cycles",
    "cycle of 5": "cycles",
    "rotation": "cycles",
    "torus": "quasiperiodic",
    "logistic chaos": "irregular",
    "Hénon chaos": "irregular",
    "divergence": "grows",
}


def _two_basins(x: Tensor) -> Tensor:
    """Every example converges to one of two points, by the side on which it starts."""
    direction = DIRECTION.to(x)
    along = x @ direction
    return 0.5 * (x - along[..., None] * direction) + torch.tanh(2 * along)[..., None] * direction


_MAPS = {name: map for name, (map, _) in FATES.items()} | {"two basins": _two_basins}
_NAMES = tuple(_MAPS)
_GOES: dict[str, Fate] = {**FATE_OF, "two basins": "converges"}


def mixture(*loops: tuple[str, int]) -> tuple[list[str], list[Fate]]:
    """The loop that each example of a batch follows, one loop after the other in turn so that the
    first examples are of all kinds, and where each goes.

    Arguments:
        loops: names of planted loops, and how many examples follow each.
    """
    most = max(count for _, count in loops)
    names = [name for turn in range(most) for name, count in loops if turn < count]
    return names, [_GOES[name] for name in names]


MIXTURES: dict[str, tuple[list[str], list[Fate]]] = {
    "two basins": mixture(("two basins", 24)),
    "half rest, half cycle": mixture(("fixed point", 12), ("cycle of 3", 12)),
    "half spiral, half chaos": mixture(("spiral", 12), ("logistic chaos", 12)),
    "half rest, half drift": mixture(("fixed point", 12), ("drift on a line", 12)),
    "three kinds": mixture(("fixed point", 8), ("rotation", 8), ("divergence", 8)),
    "three ways to move": mixture(("cycle of 2", 8), ("torus", 8), ("drift on a line", 8)),
    "one of 24 cycles": mixture(("fixed point", 23), ("cycle of 5", 1)),
    "one of 24 rests": mixture(("cycle of 5", 23), ("fixed point", 1)),
    "one of 24 diverges": mixture(("spiral", 23), ("divergence", 1)),
}
"""By name: the loop of each example of a batch, and where it goes."""


class Mixed(Iterated):
    """A loop in which each example follows the planted loop that its input names: the last of its
    numbers, which is no part of the state. So it does in a batch of any of the examples."""

    def __init__(self, iterations: int) -> None:
        super().__init__(nn.Identity(), iterations)

    def encode(self, tokens: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return tokens[:, :-1], tokens[:, -1].long()

    def initial(self, context: tuple[Tensor, Tensor]) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return context[0]

    def step(self, state: Tensor, context: tuple[Tensor, Tensor], t: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        which = context[1]
        order = torch.argsort(which, stable=True)
        parts = [_MAPS[_NAMES[i]](state[which == i]) for i in which.unique().tolist()]
        return torch.cat(parts)[torch.argsort(order)]


def mixture_run(name: str, dtype: torch.dtype = torch.float64, iterations: int = 48) -> ls.Run:
    """A run of a mixture: examples of one position, each with a fate of its own."""
    names, _ = MIXTURES[name]
    start = 0.3 * _normal(len(names), WIDTH, seed=3)
    which = torch.tensor([[_NAMES.index(one)] for one in names])
    return ls.record(Mixed(iterations), torch.cat([start, which], 1).to(dtype), iterations)


def planted_run(name: str, dtype: torch.dtype, offset: float | str, iterations: int = 48) -> ls.Run:
    """A run of a planted loop."""
    map, _ = FATES[name]
    c = constant(offset)
    start = _normal(EXAMPLES, WIDTH, seed=2) * 0.3
    if name == "Hénon chaos":
        start = 0.1 * start

    def step(x: Tensor) -> Tensor:
        shift = c.to(x)
        return shift + map(x - shift)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ls.LoopscopeWarning)  # of an overflow, which verdicts name
        return ls.iterate(step, (c + start).to(dtype), iterations)
