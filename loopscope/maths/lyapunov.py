"""Lyapunov exponents: the mean rate at which small differences grow along a trajectory, in nats per
iteration.

    Q_(t+1) R_(t+1) = J_t Q_t,   lambda_i = 1/N sum_t log |R_t[i, i]|

with J_t the Jacobian at x_t and QR the orthogonal-triangular factors (Benettin, Galgani, Giorgilli
& Strelcyn 1980; Eckmann & Ruelle 1985). The largest is below 0 where the loop contracts, 0 on a
cycle that is neither attracting nor repelling or on a quasi-periodic orbit, above 0 in chaos. At a
fixed point it is the log of the Jacobian's spectral radius; a superstable loop, whose J_t lose
rank, has -inf.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..common.errors import LoopscopeError
from .jacobian import Linearised, Map, checked, rows
from .spectrum import norm, operator

SMALL = 8
"""Numbers per row up to which the whole Jacobian is quicker to have than products with it."""


@dataclass(frozen=True)
class Exponents:
    """Lyapunov exponents of each row's trajectory."""

    values: Float[Tensor, "row count"]
    """Nats per iteration, by falling size; NaN where the trajectory leaves the numbers, -inf where
    differences vanish."""
    error: Float[Tensor, "row count"]
    """Standard error from ten consecutive blocks: what a longer trajectory could still change."""
    ended: Int[Tensor, " row"]
    """The number of the first state that holds NaN or infinity, the start being 0; -1 where all are
    finite."""
    iterations: int
    """How many were averaged over."""
    transient: int
    """How many were run before."""


def lyapunov(
    map: Map, state: Tensor, iterations: int = 4000, count: int = 1, *, transient: int = 200, seed: int = 0
) -> Float[Tensor, "..."]:
    """The `count` largest Lyapunov exponents, (batch, count), or (count,) for a state without a
    batch; nats per iteration.

    >>> float(lyapunov(lambda x: 4 * x * (1 - x), torch.tensor([[0.3]], dtype=torch.float64)))  # log 2
    0.6931

    NaN where the trajectory overflows. `exponents` tells where, and how sure the others are.
    """
    result = exponents(map, state, iterations, count, transient=transient, seed=seed).values
    return result if state.ndim > 1 else result[0]


def exponents(
    map: Map, state: Tensor, iterations: int = 4000, count: int = 1, *, transient: int = 200, seed: int = 0
) -> Exponents:
    """The `count` largest Lyapunov exponents of each row's trajectory, all rows at once.

    Arguments:
        state: (batch, ...), where the trajectory begins.
        iterations: N, averaged over. Each costs `count` products with the Jacobian.
        transient: iterations before, in which the trajectory reaches its attractor and Q its
            directions. Q's first tenth is not averaged over either.
        seed: of Q_0.
    """
    if iterations < 1 or transient < 0 or count < 1:
        raise LoopscopeError(
            "lyapunov needs 1 iteration or more to average over, a transient of 0 or more and 1 exponent or "
            "more, but has "
            f"{iterations}, {transient} and {count}."
        )
    batch, n = rows(checked(state))
    count = min(count, n)
    x = state.detach().clone()
    ended = torch.full((batch,), -1, dtype=torch.int64)
    generator = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(batch, n, count, generator=generator, dtype=torch.float64).to(x.device)).Q
    warm = transient // 2  # from here on Q turns too, into the directions that it would keep for ever
    logs = torch.empty(iterations, batch, count, dtype=torch.float64, device=x.device)
    for t in range(transient + iterations):
        if t < warm:
            with torch.no_grad():
                new = map(x)
        else:
            new, pushed = _pushed(map, x, q)
            q, r = _orthogonal(torch.nan_to_num(pushed, 0.0, 0.0, 0.0))
            if t >= transient:
                logs[t - transient] = r.log()
        x = new.detach()
        gone = ~x.reshape(batch, n).isfinite().all(1).cpu() & (ended < 0)
        ended[gone] = t + 1
        if (ended >= 0).all():
            break
        x = torch.where(
            x.isfinite(), x, torch.zeros_like(x)
        )  # a row that is gone must not spoil a shared operation
    lost, logs = ended >= 0, logs.cpu()
    values = logs.mean(0)
    blocks = [part.mean(0) for part in logs.chunk(min(10, iterations))]
    error = torch.stack(blocks).std(0, correction=min(1, len(blocks) - 1)) / math.sqrt(len(blocks))
    nan = torch.tensor(float("nan"), dtype=torch.float64)
    values = torch.where(lost[:, None], nan, values).sort(1, descending=True).values
    return Exponents(values, torch.where(lost[:, None], nan, error), ended, iterations, transient)


def _pushed(map: Map, x: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """F(x), and J q in double precision, from the same passes."""
    if q.shape[1] <= SMALL:
        return _pulled(map, x, q)
    at = Linearised(map, x)
    pushed = [at.forward(q[..., i]) for i in range(q.shape[-1])]
    return at.value.reshape(x.shape), torch.stack(pushed, -1).double()


def _pulled(map: Map, x: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """The same from the Jacobian's rows, from one graph."""
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        x = x.detach().requires_grad_()
        y = map(x)
        if not y.requires_grad:
            return y, torch.zeros_like(q)
        columns = y.reshape(q.shape[:2]).sum(0)
        result = [torch.autograd.grad(c, x, retain_graph=True, allow_unused=True)[0] for c in columns]
    J = torch.stack([torch.zeros_like(x) if row is None else row for row in result]).reshape(-1, *q.shape[:2])
    return y.detach(), J.permute(1, 0, 2).double() @ q


def _orthogonal(a: Tensor) -> tuple[Tensor, Tensor]:
    """Q, and the moduli of R's diagonal. A single column needs no QR."""
    if a.shape[-1] > 1:
        q, r = torch.linalg.qr(a)
        return q, r.diagonal(dim1=-2, dim2=-1).abs()
    size = a.norm(dim=1, keepdim=True)
    return torch.where(size > 0, a / size, a.shape[1] ** -0.5), size[:, 0]


def backward_gain(
    map: Map, state: Tensor, iterations: int, *, alone: bool = False, seed: int = 0
) -> Float[Tensor, "..."]:
    """The norm of the product of Jacobians ‖J_(n-1) ... J_0‖ along the trajectory from `state`: the
    most that a gradient at the end of the loop grows on its way to the start. (batch,), or a number
    for a state without a batch; NaN where it overflows.

    From products with it and its transpose: the backward pass through all iterations. Options as
    for `spectrum`.
    """
    if iterations < 0:
        raise LoopscopeError(f"iterations must be 0 or more, but is {iterations}.")
    batch, n = rows(checked(state))
    starts = [state[b : b + 1] for b in range(batch)] if alone and state.ndim > 1 else [state]
    result = []
    for start in starts:
        steps, x = [], start.detach()
        for _ in range(iterations):
            steps.append(Linearised(map, x))
            x = steps[-1].value.reshape(x.shape)
        finite = x.isfinite().reshape(rows(start)[0], -1).all(1)
        for b in range(len(finite)):
            if not finite[b]:
                result.append(float("nan"))
                continue

            result.append(
                norm(operator(partial(_along, steps), partial(_back, steps), len(finite), n, b), seed)
            )
    values = torch.tensor(result, dtype=torch.float64)
    return values if state.ndim > 1 else values[0]


def _along(steps: Sequence[Linearised], v: Tensor) -> Tensor:
    for at in steps:
        v = at.forward(v)
    return v


def _back(steps: Sequence[Linearised], u: Tensor) -> Tensor:
    for at in reversed(steps):
        u = at.backward(u)
    return u
