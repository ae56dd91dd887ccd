"""The Jacobian of a map at a state: products with it, and the whole of it, without a formula for
the map.

A map F takes a state to a state of the same shape. The first axis of a state with two axes or more
is the batch, and F treats its rows independently: row b of F(x) depends on row b of x alone.
Everything else of a row is one vector of n numbers. So there is one n x n Jacobian per row, J_b =
dF(x)_b / dx_b. A state with one axis, or none, is one row.

J^T u is a backward pass. J v is the gradient of v . J^T u with respect to u, as J^T u is linear in
u: one more backward pass, over a graph that is built once per state. PyTorch's forward mode
replaces both where a map can't be differentiated twice; it is not the first choice, since on the
CPU it costs some eight times as much (torch 2.13, a transformer block: it computes shapes in
Python). Attention runs on the math kernel, as the fused ones have neither a second nor a forward
derivative there.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..common.errors import LoopscopeError
from ..common.guard import guarded
from .derivative_errors import derivative_errors

Map = Callable[[Tensor], Tensor]
_CHUNK = 256


@guarded
def jvp(map: Map, state: Tensor, tangent: Tensor) -> Tensor:
    """J v, row by row: how F(state) moves when the state moves along `tangent`. All of the state's
    shape.

    >>> jvp(lambda x: x**2, torch.tensor([[3.0]]), torch.tensor([[1.0]]))
    tensor([[6.]])
    """
    linear = Linearisation(map, state)
    return linear.forward(linear.flat(tangent)).reshape(state.shape)


@guarded
def vjp(map: Map, state: Tensor, cotangent: Tensor) -> Tensor:
    """J^T u, row by row: the gradient of u . F(x) at `state`. All of the state's shape.

    >>> vjp(lambda x: x**2, torch.tensor([[3.0]]), torch.tensor([[1.0]]))
    tensor([[6.]])
    """
    linear = Linearisation(map, state)
    return linear.backward(linear.flat(cotangent)).reshape(state.shape)


@guarded
def jacobian(map: Map, state: Tensor) -> Tensor:
    """The whole Jacobian of each row, (batch, n, n): entry [b, i, j] is dF(x)_bi / dx_bj. n
    products per row.

    >>> jacobian(lambda x: x @ torch.tensor([[1.0, 2.0], [3.0, 4.0]]).T, torch.zeros(1, 2))
    tensor([[[1., 2.],
             [3., 4.]]])
    """
    return Linearisation(map, state).dense()


class Linearisation:
    """F near one state: F(x + v) = F(x) + J v + ... Vectors are flat rows (batch, n)."""

    def __init__(self, map: Map, state: Tensor, whole: Tensor | None = None) -> None:
        """`whole`: J of every row, (batch, n, n), where it is known already."""
        self.map, self.state = map, checked_state(state).detach().clone()
        self.batch, self.size = row_sizes(state)
        self._forward_mode = False
        self._graph: tuple[Tensor, Tensor] | None = None
        self._double: tuple[Tensor, Tensor] | None = None
        self.whole = whole
        """J, (batch, n, n), once it was formed; None before."""

    @property
    def value(self) -> Tensor:
        """F(state), (batch, n), from the pass that products differentiate."""
        return self.flat(self._graph_of_map()[1])

    def flat(self, x: Tensor) -> Tensor:
        """Anything of the state's shape as (batch, n).

        Raises:
            LoopscopeError: another shape.
        """
        if x.shape != self.state.shape:
            raise LoopscopeError(
                f"a direction must have the state's shape {tuple(self.state.shape)}, but has "
                f"{tuple(x.shape)}. Reshape it."
            )
        return x.detach().to(self.state.dtype).reshape(self.batch, self.size)

    def forward(self, v: Tensor) -> Tensor:
        """J v, (batch, n)."""
        v = v.to(self.state).reshape(self.state.shape)
        if not self._forward_mode:
            try:
                return self._twice_backward(v).reshape(self.batch, self.size)
            except RuntimeError:  # an operation that has one derivative only
                self._forward_mode = True
        try:
            return self._forward_mode_product(v).detach().reshape(self.batch, self.size)
        except RuntimeError as error:
            raise LoopscopeError(
                "products with a Jacobian need a map that can be differentiated twice, or in forward mode, "
                f"but this one can't ({error}). Use the whole Jacobian (jacobian), or products with its "
                "transpose (vjp)."
            ) from error

    def backward(self, u: Tensor) -> Tensor:
        """J^T u, (batch, n)."""
        x, y = self._graph_of_map()
        if not y.requires_grad:  # a constant
            return torch.zeros_like(u)
        u = u.to(self.state).reshape(self.state.shape)
        with derivative_errors():
            (result,) = torch.autograd.grad(y, x, u, retain_graph=True, allow_unused=True)
        return (torch.zeros_like(x) if result is None else result).detach().reshape(self.batch, self.size)

    def dense(self) -> Tensor:
        """J, (batch, n, n): one backward pass per entry of a row, many at once where the map allows
        it. Computed once."""
        if self.whole is not None:
            return self.whole
        columns = torch.eye(self.size, dtype=self.state.dtype, device=self.state.device)
        whole = columns[:, None].expand(self.size, self.batch, self.size)
        try:
            result = torch.cat(
                [self._backward_products(part) for part in whole.split(max(1, _CHUNK // self.batch))]
            )
        except RuntimeError:  # an operation that takes one backward pass at a time
            result = torch.stack([self.backward(u) for u in whole])
        self.whole = result.permute(1, 0, 2)
        return self.whole

    def _backward_products(self, u: Tensor) -> Tensor:
        """J^T u for many u at once, (many, batch, n)."""
        x, y = self._graph_of_map()
        if not y.requires_grad:
            return torch.zeros_like(u)
        u = u.reshape(len(u), *self.state.shape)
        with warnings.catch_warnings():
            # of operations that run in a loop, which is no slower than a loop here
            warnings.simplefilter("ignore")
            (result,) = torch.autograd.grad(
                y, x, u, retain_graph=True, allow_unused=True, is_grads_batched=True
            )
        return (
            (torch.zeros_like(u) if result is None else result)
            .detach()
            .reshape(len(u), self.batch, self.size)
        )

    def _graph_of_map(self) -> tuple[Tensor, Tensor]:
        """(x, F(x)), with what their derivatives need; computed once."""
        if self._graph is None:
            with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
                x = self.state.clone().requires_grad_()
                self._graph = x, apply_map(self.map, x)
        return self._graph

    def _forward_mode_product(self, v: Tensor) -> Tensor:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level():
            y = self.map(forward_ad.make_dual(self.state, v))
            tangent = forward_ad.unpack_dual(y).tangent
            return torch.zeros_like(v) if tangent is None else tangent.clone()

    def _twice_backward(self, v: Tensor) -> Tensor:
        """J v from the backward pass, differentiated with respect to its cotangent."""
        if self._double is None:
            x, y = self._graph_of_map()
            with torch.enable_grad():
                u = torch.zeros_like(y).requires_grad_()
                back = (
                    torch.autograd.grad(y, x, u, create_graph=True, allow_unused=True)[0]
                    if y.requires_grad
                    else None
                )
            self._double = (u, torch.zeros_like(x) if back is None else back)
        u, back = self._double
        if not back.requires_grad:
            return torch.zeros_like(v)
        (result,) = torch.autograd.grad(back, u, v, retain_graph=True, allow_unused=True)
        if result is None:  # the backward pass of an operation hides what it depends on
            raise RuntimeError("a function of the map has no second derivative")
        return result.detach()


def differentiable_attention(*inputs: Tensor) -> AbstractContextManager[Any]:
    """A block in which attention has all derivatives that `Linearisation` takes, if a map is
    differentiated at one of its inputs. For maps that choose the kernels of attention
    themselves."""
    with_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    dual = any(forward_ad.unpack_dual(x).tangent is not None for x in inputs if x.is_floating_point())
    return sdpa_kernel(SDPBackend.MATH) if with_gradient or dual else nullcontext()


def linearised_rows(map: Map, state: Tensor, row_by_row: bool = False) -> Iterator[tuple[Linearisation, int]]:
    """(linearisation, row in it) of each row of a state.

    Arguments:
        row_by_row: linearise the map once for each row, (1, ...), rather than once for all rows.
    """
    if row_by_row and state.ndim > 1:
        for b in range(len(state)):
            yield Linearisation(map, state[b : b + 1]), 0
    else:
        linear = Linearisation(map, state)
        for b in range(linear.batch):
            yield linear, b


def row_sizes(state: Tensor) -> tuple[int, int]:
    """(batch, n): how many rows a state has, and how many numbers each of them."""
    batch = state.shape[0] if state.ndim > 1 else 1
    return batch, state.numel() // max(1, batch)


def checked_state(state: Tensor) -> Tensor:
    """`state`, if a map can be differentiated there.

    Raises:
        LoopscopeError: not a floating-point tensor with at least one number.
    """
    if not isinstance(state, Tensor) or not state.is_floating_point() or state.numel() == 0:
        received = (
            f"{state.dtype} {tuple(state.shape)}" if isinstance(state, Tensor) else type(state).__name__
        )
        raise LoopscopeError(
            "a state must be a floating-point tensor (batch, ...) with at least one number, but is "
            f"{received}. Use state.double(), or torch.tensor([[0.4]]) for one number."
        )
    return state


def apply_map(map: Map, x: Tensor) -> Tensor:
    """F(x).

    Raises:
        LoopscopeError: F(x) has not the shape of x.
    """
    y = map(x)
    if not isinstance(y, Tensor) or y.shape != x.shape:
        received = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise LoopscopeError(
            f"a map must give a state of its own shape {tuple(x.shape)}, but gave {received}. Return a "
            "tensor of that shape."
        )
    return y
