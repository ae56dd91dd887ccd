"""Feed-forward models to put loops into: small ones of transformers, and stacks with odd habits."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

LAYERS = 5
VOCABULARY = 20


def gpt2(dropout: float = 0.0) -> nn.Module:
    """A small GPT-2, whose layers receive a mask."""
    from transformers import GPT2Config, GPT2LMHeadModel

    drops = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
    sizes = {"vocab_size": VOCABULARY, "n_positions": 12, "n_embd": 8, "n_layer": LAYERS, "n_head": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    return _drawn(lambda: GPT2LMHeadModel(GPT2Config(**sizes, **drops, **ends)))


def llama() -> nn.Module:
    """A small Llama, whose layers receive a mask and rotary angles."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return _drawn(lambda: LlamaForCausalLM(LlamaConfig(**_sizes())))


def qwen() -> nn.Module:
    """A small Qwen, whose later layers have a mask of their own: a sliding window."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    window = {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 3}
    return _drawn(lambda: Qwen2ForCausalLM(Qwen2Config(**_sizes(), **window)))


def with_layers(model: Any, name: str, order: list[int]) -> nn.Module:
    """A copy of the model whose list of layers has the given order: the same modules, so the same
    weights."""
    copy: Any = deepcopy(model)
    parent, _, last = name.rpartition(".")
    layers = copy.get_submodule(name)
    setattr(copy.get_submodule(parent), last, nn.ModuleList([layers[i] for i in order]))
    config = copy.config
    config.num_hidden_layers = len(order)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[i] for i in order]
    return copy


class Linear(nn.Module):
    """A chain of linear layers, each returning (state, something else), and a head."""

    def __init__(self, between: bool = False, twice: bool = False, pair: bool = False) -> None:
        """
        Arguments:
            between: whether something happens to the state between two layers.
            twice: whether the chain runs twice.
            pair: whether layers pass on a second tensor.
        """
        super().__init__()
        self.between, self.twice, self.pair = between, twice, pair
        self.layers = nn.ModuleList(_Layer() for _ in range(4))
        self.head = nn.Linear(4, 3).double()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        other = x.cos()
        for _ in range(2 if self.twice else 1):
            for layer in self.layers:
                x, new = layer(x + 1 if self.between else x, other=other)
                other = new if self.pair else other
        return {"logits": self.head(x)}


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 4, bias=False).double()

    def forward(self, x: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        return self.map(x), other + 1


class InPlace(nn.Module):
    """Layers that add to the tensor that they receive."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Adding() for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        for layer in self.layers:
            x = layer(x)
        return x


class _Adding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x.add_(self.map(x).detach().tanh())


def _sizes() -> dict[str, Any]:
    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": LAYERS}
    return sizes | {"vocab_size": VOCABULARY, "num_attention_heads": 2, "num_key_value_heads": 1}


def _drawn(build: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return build().eval()
