"""Lyapunov exponents: the rate at which small differences grow along a trajectory, on average over
its iterations, in nats per iteration.

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

from ..common.arguments import Count, PositiveCount, Seed
from ..common.guard import guarded
from .derivative_errors import derivative_errors
from .jacobian import Linearisation, Map, apply_map, checked_state, row_sizes
from .linear_operator import linear_operator, operator_norm

SMALL = 8
"""Numbers per row up to which the whole Jacobian is cheaper than products with it."""
GAIN_TOLERANCE = 1e-3
"""Relative, of the square of a gain: three digits, as each product is a pass through all
iterations."""


@dataclass(frozen=True)
class Exponents:
    """Lyapunov exponents of each row's trajectory."""

    values: Float[Tensor, "row count"]
    """Nats per iteration, by falling size; NaN where the trajectory overflows, -inf where
    differences vanish."""
    error: Float[Tensor, "row count"]
    """Standard error from ten consecutive blocks: what a longer trajectory could still change."""
    overflow: Int[Tensor, " row"]
    """The k of the first state that holds NaN or infinity, the start being 0; -1 where all are
    finite."""
    iterations: int
    """Iterations that were averaged over."""
    transient: int
    """Iterations before these."""


@guarded
def lyapunov(
    map: Map,
    state: Tensor,
    iterations: PositiveCount = 4000,
    count: PositiveCount = 1,
    *,
    transient: Count = 200,
    seed: Seed = 0,
) -> Float[Tensor, "..."]:
    """The `count` largest Lyapunov exponents, (batch, count), or (count,) for a state without a
    batch; nats per iteration.

    >>> lyapunov(lambda x: 4 * x * (1 - x), torch.tensor([[0.3]], dtype=torch.float64))  # log 2
    tensor([[0.6931]], dtype=torch.float64)

    NaN where the trajectory overflows. `exponents` returns where that was, and the standard errors
    of the others. Arguments as there.
    """
    result = exponents(map, state, iterations, count, transient=transient, seed=seed).values
    return result if state.ndim > 1 else result[0]


@guarded
def exponents(
    map: Map,
    state: Tensor,
    iterations: PositiveCount = 4000,
    count: PositiveCount = 1,
    *,
    transient: Count = 200,
    seed: Seed = 0,
) -> Exponents:
    """The `count` largest Lyapunov exponents of each row's trajectory, all rows at once.

    Arguments:
        state: (batch, ...), where the trajectory begins.
        iterations: N, averaged over. Each costs `count` products with the Jacobian.
        transient: iterations before these, in which the trajectory reaches its attractor and, in
            their second half, Q its directions.
        seed: of Q_0.

    Raises:
        LoopscopeError: iterations or count below 1, or a negative transient.
    """
    batch, n = row_sizes(checked_state(state))
    count = min(count, n)
    x = state.detach().clone()
    overflow = torch.full((batch,), -1, dtype=torch.int64)
    generator = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(batch, n, count, generator=generator, dtype=torch.float64).to(x.device)).Q
    warm = transient // 2  # from here on Q turns too, into the leading directions
    logs = torch.empty(iterations, batch, count, dtype=torch.float64, device=x.device)
    for t in range(transient + iterations):
        if t < warm:
            with torch.no_grad():
                new = apply_map(map, x)
        else:
            new, product = _image_and_products(map, x, q)
            q, r = _orthogonal(torch.nan_to_num(product, 0.0, 0.0, 0.0))
            if t >= transient:
                logs[t - transient] = r.log()
        x = new.detach()
        new_overflow = ~x.reshape(batch, n).isfinite().all(1).cpu() & (overflow < 0)
        overflow[new_overflow] = t + 1
        if (overflow >= 0).all():
            break
        # a row that overflowed must not spoil an operation on all rows
        x = torch.where(x.isfinite(), x, torch.zeros_like(x))
    lost, logs = overflow >= 0, logs.cpu()
    values = logs.mean(0)
    blocks = [part.mean(0) for part in logs.chunk(min(10, iterations))]
    error = torch.stack(blocks).std(0, correction=min(1, len(blocks) - 1)) / math.sqrt(len(blocks))
    nan = torch.tensor(float("nan"), dtype=torch.float64)
    values = torch.where(lost[:, None], nan, values).sort(1, descending=True).values
    return Exponents(values, torch.where(lost[:, None], nan, error), overflow, iterations, transient)


def _image_and_products(map: Map, x: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """F(x), and J q in double precision, from the same passes."""
    if q.shape[1] <= SMALL:
        return _products_by_rows(map, x, q)
    linear = Linearisation(map, x)
    products = [linear.forward(q[..., i]) for i in range(q.shape[-1])]
    return linear.value.reshape(x.shape), torch.stack(products, -1).double()


def _products_by_rows(map: Map, x: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """The same from the rows of the Jacobian, by backward passes over one graph."""
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        x = x.detach().requires_grad_()
        y = apply_map(map, x)
        if not y.requires_grad:
            return y, torch.zeros_like(q)
        columns = y.reshape(q.shape[:2]).sum(0)
        with derivative_errors():
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


@guarded
def backward_gain(
    map: Map, state: Tensor, iterations: Count, *, row_by_row: bool = False, seed: Seed = 0
) -> Float[Tensor, "..."]:
    """The norm of the product of Jacobians ‖J_(n-1) ... J_0‖ along the trajectory from `state`: the
    largest factor by which a gradient at the end of the loop grows on its way to the start.
    (batch,), or a number for a state without a batch; NaN where it overflows.

    >>> backward_gain(lambda x: 0.5 * x, torch.ones(1, 3), iterations=4)
    tensor([0.0625], dtype=torch.float64)

    From products with it and its transpose: the backward pass through all iterations.

    Arguments:
        row_by_row: pass one row at a time to the map, as in `spectrum`.
        seed: of the vector that the search starts from.

    Raises:
        LoopscopeError: a negative number of iterations.
    """
    batch, n = row_sizes(checked_state(state))
    starts = [state[b : b + 1] for b in range(batch)] if row_by_row and state.ndim > 1 else [state]
    result = []
    for start in starts:
        steps, x = [], start.detach()
        for _ in range(iterations):
            steps.append(Linearisation(map, x))
            x = steps[-1].value.reshape(x.shape)
        finite = x.isfinite().reshape(row_sizes(start)[0], -1).all(1)
        for b in range(len(finite)):
            if not finite[b]:
                result.append(float("nan"))
                continue
            product = linear_operator(
                partial(_forward_product, steps), partial(_backward_product, steps), len(finite), n, row=b
            )
            result.append(operator_norm(product, seed, GAIN_TOLERANCE))
    values = torch.tensor(result, dtype=torch.float64)
    return values if state.ndim > 1 else values[0]


def _forward_product(steps: Sequence[Linearisation], v: Tensor) -> Tensor:
    for linear in steps:
        v = linear.forward(v)
    return v


def _backward_product(steps: Sequence[Linearisation], u: Tensor) -> Tensor:
    for linear in reversed(steps):
        u = linear.backward(u)
    return u
