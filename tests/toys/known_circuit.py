"""A loop in which it is known what is written where and when, what is read, and what nobody reads.

Of the tokens (batch, position) those at CLUE and IDLE are facts, each one of CLASSES; the others
are noise that the state holds from the start. In iteration

- WRITE position WHERE notes the clue, and all positions note the idle fact;
- READ the last position copies the note at WHERE: its answer, which `decode` shows.

So the clue is in the state at WHERE from states[WRITE + 1] on, and at the last position from
states[READ + 1] on. Only there and then, between the two, does the answer depend on WHERE. The idle
fact is in the state at every position from states[WRITE + 1] on, and no logit ever depends on it.
Everything is linear in the state, so that a gradient tells the whole effect.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from transformer_lens.hook_points import HookPoint

import loopscope as ls
from loopscope.nn import LoopedModule

CLASSES, POSITIONS, ITERATIONS = 4, 6, 8
CLUE, IDLE, WHERE, LAST = 0, 1, 3, POSITIONS - 1
WRITE, READ = 2, 5
NOTE, ANSWER, UNREAD, NOISE = (slice(n * CLASSES, (n + 1) * CLASSES) for n in range(4))
WIDTH = 4 * CLASSES


class Written(LoopedModule):
    """The loop above. Its channels are turned by a fixed rotation, so that no coordinate of the
    state is a fact by itself.

    `core.hook_write` is what an iteration writes of the context, `core.hook_move` what it moves
    between positions; both are added to the state.
    """

    def __init__(self, iterations: int = ITERATIONS) -> None:
        super().__init__(iterations, CLASSES)
        turn = torch.randn((WIDTH, WIDTH), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        self.turn = nn.Parameter(torch.linalg.qr(turn)[0].float())  # a weight, so that gradients flow
        self.core = nn.Module()
        for name in ("hook_write", "hook_move", "hook_resid_post"):
            self.core.add_module(name, HookPoint())
        self.setup()

    def encode(self, tokens: Tensor) -> Tensor:
        return one_hot(tokens, CLASSES).float()

    def initial(self, context: Tensor) -> Tensor:
        noise = context.clone()
        noise[:, [CLUE, IDLE]] = 0  # no position holds the facts before they are written
        return self._turned(noise, NOISE)

    def step(self, state: Tensor, context: Tensor, t: int) -> Tensor:
        write, move = torch.zeros_like(state), torch.zeros_like(state)
        here = torch.eye(state.shape[1])[:, None]  # (position, 1, position): one position alone
        if t == WRITE:
            write = self._turned(here[WHERE].T * context[:, CLUE, None], NOTE)
            write = write + self._turned(context[:, IDLE, None].expand_as(context), UNREAD)
        if t == READ:
            move = self._turned(here[LAST].T * self.channels(state)[:, WHERE, None, NOTE], ANSWER)
        state = state + self.core.hook_write(write) + self.core.hook_move(move)
        return self.core.hook_resid_post(state)

    def decode(self, state: Tensor, context: Tensor) -> Tensor:
        return self.channels(state)[..., ANSWER]

    def channels(self, state: Tensor) -> Tensor:
        """The state turned back, (..., WIDTH)."""
        return state @ self.turn.T

    def _turned(self, value: Tensor, channels: slice) -> Tensor:
        whole = value.new_zeros(*value.shape[:-1], WIDTH)
        whole[..., channels] = value
        return whole @ self.turn


def tokens(size: int = 120, seed: int = 0) -> Tensor:
    """(batch, position), each evenly drawn from the classes."""
    return torch.randint(0, CLASSES, (size, POSITIONS), generator=torch.Generator().manual_seed(seed))


def written(size: int = 120, seed: int = 0, **options) -> "ls.Run":
    """A run of it. `run.tokens[:, CLUE]` is the fact that makes the answer, `run.tokens[:, IDLE]`
    the one that nothing reads."""
    return ls.record(Written().eval(), tokens(size, seed), **options)


def pair() -> tuple["ls.Run", "ls.Run"]:
    """A run of the written loop, and a donor run whose clue differs in every example."""
    run = written(12)
    other = run.tokens.clone()
    other[:, CLUE] = (other[:, CLUE] + 1) % CLASSES
    return run, ls.record(run.model, other)


def whole(logits: Tensor) -> Tensor:
    """A metric of every logit."""
    return logits.flatten(1).float()
