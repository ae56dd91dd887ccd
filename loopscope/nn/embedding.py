"""The embedding of tokens, which are checked first."""

from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from ..core.tokens import checked_tokens


class Embedding(nn.Module):
    """One learned vector per token, drawn with unit variance. Site: `hook_embed`."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.table = nn.Embedding(vocabulary, width)
        self.hook_embed = HookPoint()

    def forward(self, tokens: Int[Tensor, "batch position"]) -> Float[Tensor, "batch position width"]:
        return self.hook_embed(self.table(checked_tokens(tokens, self.vocabulary, "this model")))
