"""A looped GPT-2 of transformers' own blocks, with a timing signal or an injection between two
calls of the blocks."""

from typing import Any

import torch
from torch import Tensor, nn


class LoopedGPT2(nn.Module):
    """`blocks` again and again. `between`: "nothing", "timing" or "injection"."""

    def __init__(self, between: str = "nothing", turns: int = 4) -> None:
        from transformers import GPT2Config
        from transformers.models.gpt2.modeling_gpt2 import GPT2Block

        super().__init__()
        self.config = config = GPT2Config(
            vocab_size=20, n_embd=8, n_head=2, n_positions=16, n_layer=1, attn_implementation="sdpa"
        )
        self.between, self.turns = between, turns
        self.embed, self.place = nn.Embedding(20, 8), nn.Embedding(16, 8)
        self.block = GPT2Block(config, layer_idx=0)
        self.timing = nn.Parameter(0.3 * torch.randn(64, 8))
        self.inject = nn.Linear(16, 8)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 20, bias=False)

    def forward(self, tokens: Tensor, num_steps: int | None = None) -> Any:
        e = self.embed(tokens) + self.place(torch.arange(tokens.shape[1], device=tokens.device))
        x = e
        for t in range(self.turns if num_steps is None else num_steps):
            x = self.before(x, e, t)
            output = self.block(x)
            x = output[0] if isinstance(output, tuple) else output
        return {"logits": self.head(self.norm(x))}

    def before(self, x: Tensor, e: Tensor, t: int) -> Tensor:
        """What comes between two calls."""
        if self.between == "timing":
            return x + self.timing[t]
        return self.inject(torch.cat([x, e], -1)) if self.between == "injection" else x


class LoopedGPT2Functions(nn.Module):
    """The four functions of a LoopedGPT2, written out."""

    def __init__(self, model: LoopedGPT2) -> None:
        from loopscope.core.loop_index import Clock

        super().__init__()
        self.model, self.clock, self.iterations = model, Clock(), model.turns
        self.state = nn.Identity()

    def encode(self, tokens: Tensor) -> Tensor:
        return self.model.embed(tokens) + self.model.place(
            torch.arange(tokens.shape[1], device=tokens.device)
        )

    def initial(self, context: Tensor) -> Tensor:
        return context

    def step(self, state: Tensor, context: Tensor, t: int) -> Tensor:
        output = self.model.block(self.model.before(state, context, t))
        return output[0] if isinstance(output, tuple) else output

    def decode(self, state: Tensor, context: Tensor) -> Tensor:
        return self.model.head(self.model.norm(state))

    def at_state(self, state: Tensor) -> Tensor:
        return self.state(state)

    def finished(self, state: Tensor) -> bool:
        return False

    def site_modules(self) -> dict[str, nn.Module]:
        return {"state": self.state}
