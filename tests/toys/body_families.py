"""Small modules with the names, the wiring and the call order of published loops that need no
adapter: the loop's body tells everything. Each can be wired in other ways.

Deep-thinking nets (Schwarzschild et al. 2021, Bansal et al. 2022) and looped GPT-2 for regression
(Yang et al. 2023), written from their published equations and the names of their parts.
"""

from typing import Any

import torch
from torch import Tensor, nn


class BasicBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + x)


class DTNet(nn.Module):
    """The class of deep-thinking nets. Wirings: recall; momentum, averaged."""

    def __init__(self, *wiring: str, width: int = 4) -> None:
        super().__init__()
        self.wiring, self.recall = set(wiring), "recall" in wiring
        join = [nn.Conv2d(width + 3, width, 3, padding=1, bias=False)] if self.recall else []
        self.projection = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.ReLU())
        self.recur_block = nn.Sequential(*join, nn.Sequential(BasicBlock(width)))
        self.head = nn.Sequential(nn.Conv2d(width, 2, 3, padding=1, bias=False))

    def forward(self, x: Tensor, iters_to_do: int, interim_thought: Tensor | None = None) -> Any:
        thought = self.projection(x) if interim_thought is None else interim_thought
        outputs, before, total = [], torch.zeros_like(thought), torch.zeros_like(thought)
        for i in range(iters_to_do):
            given = thought + 0.5 * before if "momentum" in self.wiring else thought
            before = thought
            thought = self.recur_block(torch.cat([given, x], 1) if self.recall else given)
            total = total + thought
            outputs.append(self.head(total / (i + 1) if "averaged" in self.wiring else thought))
        return (outputs[-1], thought) if self.training else torch.stack(outputs, 1)


class GPT2Model(nn.Module):
    def __init__(self, width: int, positions: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 2, 16, dropout=0.0, batch_first=True, norm_first=True)
        self.transformer = nn.ModuleDict({"wpe": nn.Embedding(positions, width), "ln_f": nn.LayerNorm(width)})
        self.transformer["h"] = nn.ModuleList([layer])

    def forward(self, inputs_embeds: Tensor) -> Tensor:
        length = inputs_embeds.shape[1]
        x = inputs_embeds + self.transformer["wpe"](torch.arange(length))
        hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
        for block in self.transformer["h"]:  # pyright: ignore[reportGeneralTypeIssues]
            x = block(x, src_mask=hidden)
        return self.transformer["ln_f"](x)


class TransformerModelLooped(nn.Module):
    """The class of looped GPT-2. Wirings: product; drifting, summed."""

    def __init__(self, *wiring: str, width: int = 8, positions: int = 4) -> None:
        super().__init__()
        self.wiring = set(wiring)
        self._read_in, self._read_out = nn.Linear(3, width), nn.Linear(width, 1)
        self._backbone = GPT2Model(width, 2 * positions)

    def forward(self, xs: Tensor, ys: Tensor, n_loop_start: int, n_loops: int) -> list[Tensor]:
        wide = torch.cat([ys[..., None], torch.zeros_like(xs)[..., 1:]], -1)
        embeds = self._read_in(torch.stack([xs, wide], 2).flatten(1, 2))
        product = "product" in self.wiring
        output, total = (torch.ones_like if product else torch.zeros_like)(embeds), torch.zeros_like(embeds)
        predictions = []
        for i in range(n_loops):
            with torch.set_grad_enabled(torch.is_grad_enabled() and i >= n_loop_start):
                output = self._backbone(output * embeds if product else output + embeds)
            total = total + output
            embeds = embeds + 0.1 * output if "drifting" in self.wiring else embeds
            if i >= n_loop_start:
                read = self._read_out(total if "summed" in self.wiring else output)
                predictions.append(read[:, ::2, 0])
        return predictions
