"""A loop of one block. Say here: what loops, what is injected, how it halts, and the paper.

loopscope train my_model.py
"""

from dataclasses import dataclass

from torch import Tensor, nn

from loopscope.nn import Embedding, LoopedModule, Positions, Stack
from loopscope.training import AdamW, Fixed, Recipe, Schedule


@dataclass(frozen=True)
class Config:
    """The size of the model."""

    vocabulary: int = 12
    """Number of tokens."""
    width: int = 32
    """Width of the state at each position."""
    iterations: int = 8


class Model(LoopedModule):
    """The loop, as four functions."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.iterations, config.vocabulary)
        self.config = config
        self.embed = Embedding(config.vocabulary, config.width)
        self.core = Stack(1, config.width, heads=4)
        self.unembed = nn.Linear(config.width, config.vocabulary)
        self.setup()

    def encode(self, tokens: Tensor) -> Tensor:
        """(batch, position, width): the embedded tokens, which every iteration reads."""
        return self.embed(tokens)

    def initial(self, context: Tensor) -> Tensor:
        """states[0]: zero."""
        return context.new_zeros(context.shape)

    def step(self, state: Tensor, context: Tensor, t: int) -> Tensor:
        """states[t + 1]: the block, with the tokens added to what it reads."""
        return self.core(state + context, Positions.of(context))

    def decode(self, state: Tensor, context: Tensor) -> Tensor:
        """(batch, position, vocab): the logits."""
        return self.unembed(state)


# By name of the entry that it trains. For a task of your own: task=MyTask(length=8), imported from
# its file.
RECIPES = {
    "my-model-parity": Recipe(
        architecture="my_model",
        config={"vocabulary": 3},
        task="prefix-parity",
        options={"length": 8},
        steps=500,
        depth=Fixed(8),
        history=Schedule(examples=64),
        optimiser=AdamW(lr=2e-3, warmup=50),
    ),
}
