"""The Jacobian of a map at a state: products with it, and the whole of it, without a formula for the map.

A map F takes a state to a state of the same shape. The first axis of a state with two axes or more is the batch, and F
treats its rows independently: row b of F(x) depends on row b of x alone. Everything else of a row is one vector of n numbers. So
there is one n x n Jacobian per row, J_b = dF(x)_b / dx_b. A state with one axis, or none, is one row.

Products J v come from forward-mode differentiation under the math attention kernel, as PyTorch's fused ones have no forward
derivative on the CPU; where an operation has none at all, from differentiating the backward pass (J^T u is linear in u,
and J v is the gradient of v . J^T u after u).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..errors import LoopscopeError

Map = Callable[[Tensor], Tensor]
_CHUNK = 256


def jvp(map: Map, state: Tensor, tangent: Tensor) -> Tensor:
    """J v, row by row: how F(state) moves when the state moves along `tangent`. All of the state's shape."""
    at = Linearised(map, state)
    return at.forward(at.flat(tangent)).reshape(state.shape)


def vjp(map: Map, state: Tensor, cotangent: Tensor) -> Tensor:
    """J^T u, row by row: the gradient of u . F(x) at `state`. All of the state's shape."""
    at = Linearised(map, state)
    return at.backward(at.flat(cotangent)).reshape(state.shape)


def jacobian(map: Map, state: Tensor) -> Tensor:
    """The whole Jacobian of each row, (batch, n, n): entry [b, i, j] is dF(x)_bi / dx_bj. n products per row."""
    return Linearised(map, state).dense()


class Linearised:
    """F near one state: F(x + v) = F(x) + J v + ... Vectors are flat rows (batch, n)."""

    def __init__(self, map: Map, state: Tensor) -> None:
        self.map, self.state = map, checked(state).detach().clone()
        self.batch, self.size = rows(state)
        self.value = self.flat(apply(map, self.state))
        """F(state), (batch, n)"""
        self._forward_mode = True
        self._graph: tuple[Tensor, Tensor] | None = None
        self._double: tuple[Tensor, Tensor] | None = None
        self._dense: Tensor | None = None

    def flat(self, x: Tensor) -> Tensor:
        """Anything of the state's shape as (batch, n)."""
        if x.shape != self.state.shape:
            raise LoopscopeError(
                f"a direction must have the state's shape {tuple(self.state.shape)}, but has {tuple(x.shape)}. Reshape it."
            )
        return x.detach().to(self.state.dtype).reshape(self.batch, self.size)

    def forward(self, v: Tensor) -> Tensor:
        """J v, (batch, n)."""
        v = v.to(self.state).reshape(self.state.shape)
        if self._forward_mode:
            try:
                return self._dual(v).detach().reshape(self.batch, self.size)
            except (
                RuntimeError
            ):  # an operation without a forward derivative; what else is wrong, the other way shows too
                self._forward_mode = False
        return self._twice(v).reshape(self.batch, self.size)

    def backward(self, u: Tensor) -> Tensor:
        """J^T u, (batch, n)."""
        if self._graph is None:
            with torch.enable_grad():
                x = self.state.clone().requires_grad_()
                self._graph = x, apply(self.map, x)
        x, y = self._graph
        if not y.requires_grad:  # a constant
            return torch.zeros_like(u)
        u = u.to(self.state).reshape(self.state.shape)
        (found,) = torch.autograd.grad(y, x, u, retain_graph=True, allow_unused=True)
        return (torch.zeros_like(x) if found is None else found).detach().reshape(self.batch, self.size)

    def dense(self) -> Tensor:
        """J, (batch, n, n): one product per column, many at once where the map allows it. Computed once."""
        if self._dense is not None:
            return self._dense
        columns = torch.eye(self.size, dtype=self.state.dtype, device=self.state.device)
        whole = columns[:, None].expand(self.size, self.batch, self.size)
        try:
            with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
                one = torch.func.vmap(self._pushed, chunk_size=max(1, _CHUNK // self.batch))
                found = one(whole).detach()
        except RuntimeError:  # a map that looks at its numbers, or has no forward derivative
            found = torch.stack([self.forward(v) for v in whole])
        self._dense = found.permute(1, 2, 0)
        return self._dense

    def _pushed(self, v: Tensor) -> Tensor:
        pushed = torch.func.jvp(self.map, (self.state,), (v.reshape(self.state.shape),))
        return pushed[1].reshape(self.batch, self.size)

    def _dual(self, v: Tensor) -> Tensor:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level():
            y = self.map(forward_ad.make_dual(self.state, v))
            tangent = forward_ad.unpack_dual(y).tangent
            return torch.zeros_like(v) if tangent is None else tangent.clone()

    def _twice(self, v: Tensor) -> Tensor:
        """The backward pass, differentiated after its cotangent."""
        if self._double is None:
            with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
                x = self.state.clone().requires_grad_()
                y = apply(self.map, x)
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
        (found,) = torch.autograd.grad(back, u, v, retain_graph=True, allow_unused=True)
        return torch.zeros_like(v) if found is None else found.detach()


def rows(state: Tensor) -> tuple[int, int]:
    """(batch, n): how many rows a state has, and how many numbers each of them."""
    batch = state.shape[0] if state.ndim > 1 else 1
    return batch, state.numel() // max(1, batch)


def checked(state: Tensor) -> Tensor:
    """`state`, if a map can be differentiated there."""
    if not isinstance(state, Tensor) or not state.is_floating_point() or state.numel() == 0:
        received = (
            f"{state.dtype} {tuple(state.shape)}" if isinstance(state, Tensor) else type(state).__name__
        )
        raise LoopscopeError(
            f"a state must be a floating-point tensor (batch, ...) with at least one number, but is {received}. "
            "Use state.double(), or torch.tensor([[0.4]]) for one number."
        )
    return state


def apply(map: Map, x: Tensor) -> Tensor:
    """F(x), which must have x's shape."""
    y = map(x)
    if not isinstance(y, Tensor) or y.shape != x.shape:
        received = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise LoopscopeError(
            f"a map must give a state of its own shape {tuple(x.shape)}, but gave {received}. Return a tensor of that shape."
        )
    return y
