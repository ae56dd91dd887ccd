"""Looped modules unlike those of `foreign_loops` and `strange_loops`: other forms of state and
call, other solvers, noise, two loops."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .foreign_loops import WIDTH, Core, Loop


class Answer(NamedTuple):
    """What a body and a module return."""

    logits: Tensor
    hidden: Tensor


class NamedOutput(Loop):
    """Named tuples: the body's first tensor isn't its state."""

    class Core(Core):
        def forward(self, h: Tensor) -> Answer:
            new = super().forward(h)
            return Answer(new.sum(-1), new)

    def __init__(self) -> None:
        super().__init__()
        self.core = NamedOutput.Core()

    def forward(self, x: Tensor) -> Answer:
        h = x
        for _ in range(4):
            h = self.core(h).hidden
        return Answer(self.head(h), h)


class DictState(nn.Module):
    """A slow and a fast tensor and a count in a dictionary, returned in another order."""

    class Body(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fast, self.slow = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

        def forward(self, state: dict[str, Any], x: Tensor) -> dict[str, Any]:
            fast = torch.tanh(self.fast(state["fast"] + state["slow"] + x))
            slow = 0.9 * state["slow"] + 0.1 * torch.tanh(self.slow(fast))
            return {"slow": slow, "fast": fast, "step": state["step"] + 1}

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = DictState.Body(), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = {"fast": torch.zeros_like(x), "slow": x, "step": 0}
        for _ in range(4):
            state = self.body(state, x)
        return self.head(state["slow"])


class Keywords(Loop):
    """The body takes keywords alone, and its state isn't the first of them."""

    class Core(Core):
        def forward(self, *, context: Tensor, hidden: Tensor) -> Tensor:
            return torch.tanh(self.linear(hidden) + context)

    def __init__(self) -> None:
        super().__init__()
        self.core = Keywords.Core()

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros_like(x)
        for _ in range(4):
            h = self.core(context=x, hidden=h)
        return self.head(h)


class OneInAList(nn.Module):
    """One block, four times in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.head = nn.ModuleList([Core()] * 4), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class ChannelsLast(nn.Module):
    """A convolutional net in the memory format channels_last."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1)
        self.core = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Tanh())
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, image: Tensor) -> Tensor:
        h = self.stem(image.contiguous(memory_format=torch.channels_last))
        for _ in range(4):
            h = self.core(h)
        return self.head(h)


class Scales(nn.Module):
    """A list of states of different sizes; the first of the second one is a view."""

    class Body(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fine, self.coarse = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

        def forward(self, scales: list[Tensor]) -> list[Tensor]:
            fine, coarse = scales
            above = coarse.mean(1, keepdim=True)
            return [torch.tanh(self.fine(fine) + above), torch.tanh(self.coarse(coarse) + fine[:, :1])]

    def __init__(self) -> None:
        super().__init__()
        self.core, self.head = Scales.Body(), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        scales = [x, x[:, :1]]
        for _ in range(4):
            scales = self.core(scales)
        return self.head(scales[0])


class Deep(nn.Module):
    """The loop is in a submodule of a submodule."""

    def __init__(self) -> None:
        super().__init__()
        self.outer, self.head = nn.Sequential(nn.Linear(WIDTH, WIDTH), Loop()), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.outer(x))


class EncoderDecoder(nn.Module):
    """The encoder loops; a decoder reads its last state."""

    def __init__(self) -> None:
        super().__init__()
        size: Any = {"dim_feedforward": 16, "batch_first": True, "dropout": 0.0}
        self.encoder = nn.TransformerEncoderLayer(WIDTH, 2, **size)
        self.decoder, self.head = nn.TransformerDecoderLayer(WIDTH, 2, **size), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        memory = x
        for _ in range(4):
            memory = self.encoder(memory)
        return self.head(self.decoder(x[:, :2], memory))


class LastWithGradient(nn.Module):
    """Two levels; all cycles but the last run without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high, self.head = Core(), Core(), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        high, low = x, torch.zeros_like(x)
        with torch.no_grad():
            for _ in range(3):
                low = self.low(low + high + x)
                high = self.high(high + low)
        low = self.low(low.detach() + high.detach() + x)
        return self.head(self.high(high.detach() + low))


class InferenceInside(Loop):
    """Its loop runs in inference mode."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            h = x
            for _ in range(4):
                h = self.core(h)
        return self.head(h.clone())


class Normalised(Loop):
    """The body's weight is computed anew in each call, by a parametrization."""

    def __init__(self) -> None:
        super().__init__()
        nn.utils.parametrizations.spectral_norm(self.core.linear)


class Energy(Loop):
    """An iteration goes down the gradient of an energy."""

    class Core(Core):
        def forward(self, h: Tensor) -> Tensor:
            with torch.enable_grad():
                start = h.detach().requires_grad_()
                energy = torch.logsumexp(self.linear(start), -1).sum()
                (slope,) = torch.autograd.grad(energy, start)
            return h.detach() - 0.3 * slope

    def __init__(self) -> None:
        super().__init__()
        self.core = Energy.Core()


class Autocast(Loop):
    """Its loop runs in bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x)


class CountByInput(Loop):
    """The input decides how many iterations run."""

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for _ in range(3 + int((10 * x.abs().sum()).long()) % 3):
            h = self.core(h)
        return self.head(h)


class TwoLoops(nn.Module):
    """The same body in two loops, with a layer between them."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.middle, self.head = Core(), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.core(x)
        x = self.middle(x)
        for _ in range(3):
            x = self.core(x)
        return self.head(x)


class EndsInALoop(nn.Module):
    """In each cycle one part runs twice, then another three times."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = Core(), Core(), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            for _ in range(2):
                x = self.first(x)
            for _ in range(3):
                x = self.second(x)
        return self.head(x)
