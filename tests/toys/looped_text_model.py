"""A looped causal language model with transformers' generate, whose first state is drawn at random
for every row, as Huginn's."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


class Core(nn.Module):
    """Mixes each position with the mean of those before it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Linear(2 * width, width)

    def forward(self, h: Tensor) -> Tensor:
        mean = h.cumsum(1) / torch.arange(1, h.shape[1] + 1)[:, None]
        return torch.tanh(self.mix(torch.cat([h, mean], -1)))


class RandomStart(PreTrainedModel, GenerationMixin):
    """Without a cache: every pass reads all tokens so far."""

    config_class = PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.core = Core(config.hidden_size)
        self.head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    @classmethod
    def small(cls) -> "RandomStart":
        return cls(PretrainedConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, pad_token_id=0))

    def _init_weights(self, module: nn.Module) -> None:
        pass

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def prepare_inputs_for_generation(self, input_ids: Tensor, **_: Any) -> dict[str, Any]:
        return {"input_ids": input_ids}

    def forward(self, input_ids: Tensor, attention_mask: Any = None, **_: Any) -> CausalLMOutput:
        h = self.embed(input_ids) + torch.randn(*input_ids.shape, self.embed.embedding_dim)
        for _i in range(3):
            h = self.core(h)
        return CausalLMOutput(logits=self.head(h))
