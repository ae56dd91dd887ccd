"""Looped modules with habits that `foreign_loops` doesn't have: convolutions, cells, roles,
segments, several carried tensors, a mask."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .foreign_loops import WIDTH, Core, Loop


class Convolutional(nn.Module):
    """A deep-thinking net: every iteration sees the image again; the state is (batch, channel,
    height, width)."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Conv2d(3, 4, 3, padding=1)
        self.recall = nn.Sequential(nn.Conv2d(7, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        thought = self.project(image)
        for _ in range(4):
            thought = self.recall(torch.cat([thought, image], 1))
        return self.head(thought)


class FirstDifferent(nn.Module):
    """The first iteration has no state yet: the body makes one."""

    class Core(Core):
        def forward(self, x: Tensor, h: Tensor | None) -> Tensor:
            return torch.tanh(self.linear(x) if h is None else self.linear(h) + x)

    def __init__(self) -> None:
        super().__init__()
        self.core, self.head = FirstDifferent.Core(), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = None
        for _ in range(4):
            h = self.core(x, h)
        assert h is not None
        return self.head(h)


class Roles(nn.Module):
    """One network in two roles: it refines a thought twice, then the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.head = Core(), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        answer, thought = torch.zeros_like(x), torch.zeros_like(x)
        for _ in range(3):
            for _ in range(2):
                thought = self.network(x + answer + thought)
            answer = self.network(answer + thought)
        return self.head(answer)


@dataclass
class Carry:
    """What goes from one segment to the next."""

    low: Tensor
    high: Tensor
    halted: Tensor


class Segments(nn.Module):
    """Segments that carry two states. The first carry is memory as it is, and what has halted
    begins anew, so that no number of it is read."""

    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.low, self.high = Core(), Core()
            self.start = nn.Parameter(torch.randn(WIDTH))

        def forward(self, carry: Carry, x: Tensor) -> Carry:
            fresh = carry.halted[:, None, None]
            low, high = torch.where(fresh, self.start, carry.low), torch.where(fresh, -self.start, carry.high)
            low = self.low(low + high + x)
            return Carry(low, self.high(high + low), torch.zeros_like(carry.halted))

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = Segments.Inner(), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        halted = torch.ones(len(x), dtype=torch.bool)
        carry = Carry(torch.empty_like(x), torch.empty_like(x), halted)
        for _ in range(4):
            carry = self.inner(carry, x)
        return self.head(carry.high)


class Pair(nn.Module):
    """The body carries a branch and a residual."""

    class Core(Core):
        def forward(self, branch: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
            return torch.tanh(self.linear(branch + residual)), branch + residual

    def __init__(self) -> None:
        super().__init__()
        self.core = Pair.Core()

    def forward(self, x: Tensor) -> Tensor:
        branch, residual = x, torch.zeros_like(x)
        for _ in range(4):
            branch, residual = self.core(branch, residual)
        return branch + residual


class Cell(nn.Module):
    """nn.LSTMCell as the body: (h, c) of the shape (batch, width)."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(WIDTH, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        pair = torch.zeros_like(x), torch.zeros_like(x)
        for _ in range(4):
            pair = self.cell(x, pair)
        return self.head(pair[0])


class DictOutput(Loop):
    """Returns its loss and logits in a dictionary; the body takes and returns one as well."""

    class Core(Core):
        def forward(self, carry: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"cost": torch.zeros(()), "h": torch.tanh(self.linear(carry["h"]))}

    def __init__(self) -> None:
        super().__init__()
        self.core = DictOutput.Core()

    def forward(self, x: Tensor) -> Any:
        carry = {"h": x}
        for _ in range(self.turns):
            carry = self.core(carry)
        logits = self.head(carry["h"])
        return {"loss": logits.mean(), "logits": logits}


class Settling(Loop):
    """Leaves the loop when its state has settled, at the latest after twenty iterations."""

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for _ in range(20):
            new = self.core(0.5 * h)
            done = bool((new - h).abs().max() < 0.3)
            h = new
            if done:
                break
        return self.head(h)


class Leaving(nn.Module):
    """Rows leave the batch, the first after one iteration, the next after two ..."""

    def __init__(self) -> None:
        super().__init__()
        self.core = Core()

    def forward(self, x: Tensor) -> Tensor:
        out, rows, h = torch.zeros_like(x), torch.arange(len(x)), x
        for t in range(len(x)):
            h = self.core(h)
            done = rows == t
            out[rows[done]] = h[done]
            h, rows = h[~done], rows[~done]
        return out


class Masked(nn.Module):
    """An encoder layer, repeated, that takes PyTorch's mask of padding."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True, dropout=0.0)

    def forward(self, x: Tensor, src_key_padding_mask: Tensor | None = None) -> Tensor:
        for _ in range(3):
            x = self.layer(x, src_key_padding_mask=src_key_padding_mask)
        return x


class Timed(Loop):
    """A module adds a signal of the time between two calls of the body; running means and dropout,
    in training."""

    def __init__(self) -> None:
        super().__init__()
        self.clock_signal, self.norm = nn.Embedding(self.turns, WIDTH), nn.BatchNorm1d(WIDTH)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for t in range(self.turns):
            h = h + self.clock_signal(torch.tensor(t))
            h = self.dropout(self.core(self.norm(h.transpose(1, 2)).transpose(1, 2)))
        return self.head(h)


class Remembering(Loop):
    """Begins where its last forward pass ended: the state is a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("memory", torch.zeros(2, 3, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        h = x + self.memory
        for _ in range(self.turns):
            h = self.core(h)
        self.memory.copy_(h)
        return self.head(h)


class Unsteady(Loop):
    """Counts its passes in an attribute, which changes what it computes."""

    passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return super().forward(x + self.passes)


class Elsewhere(Loop):
    """The body writes into its input and returns a copy that nobody reads."""

    class Core(Core):
        def forward(self, h: Tensor) -> Tensor:
            return h.copy_(torch.tanh(self.linear(h))).clone()

    def __init__(self) -> None:
        super().__init__()
        self.core = Elsewhere.Core()

    def forward(self, x: Tensor) -> Tensor:
        h = x.clone()
        for _ in range(self.turns):
            self.core(h)
        return self.head(h)


class Stateless(Loop):
    """The body receives whole numbers alone: what goes round is counted elsewhere."""

    class Core(Core):
        def forward(self, t: int) -> Tensor:
            return torch.tanh(self.linear.bias * t)

    def __init__(self) -> None:
        super().__init__()
        self.core = Stateless.Core()

    def forward(self, x: Tensor) -> Tensor:
        for t in range(self.turns):
            x = x + self.core(t)
        return self.head(x)
