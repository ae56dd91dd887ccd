"""What every task offers: batches by seed, exact labels, and a fixed line between training and test
examples."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from ..common.rng import mixed
from ..core.tokens import checked_tokens
from .fact import Fact
from .train_test_split import is_test

Split = Literal["train", "test"]

_PATIENCE = 100  # draws without one example, before giving up
_SMALLEST_SPACE = 32  # fewer different examples can't be told apart into train and test


@dataclass(frozen=True)
class Batch:
    """Examples of a task with their labels."""

    tokens: Int[Tensor, "batch position"]
    targets: Int[Tensor, "batch position"]
    """The right token at every answered position; elsewhere the token that stands there."""
    mask: Bool[Tensor, "batch position"]
    """True where an answer is asked for."""
    difficulty: Float[Tensor, " batch"]
    """How hard each example is, in the task's own unit (`task.difficulty`)."""

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device | str) -> Self:
        """The same batch with its tensors on `device`."""
        moved = {field.name: getattr(self, field.name) for field in fields(self)}
        return type(self)(**{k: v.to(device) if isinstance(v, Tensor) else v for k, v in moved.items()})


@dataclass(frozen=True)
class Task(ABC):
    """A rule that tokens follow. Its fields are its options; two tasks with equal options give
    equal batches.

    Whether an example is for training or for testing is decided by a hash of the example itself, so
    the two never overlap, whatever the seeds, and need no list to tell them apart: about one
    example in eight is for testing.
    """

    name: ClassVar[str]
    symbols: ClassVar[tuple[str, ...]]
    """What each token id stands for; a property where options decide it, and empty if
    `continuous`."""
    dial: ClassVar[str]
    """The option that makes examples longer or harder; `batch` takes it too, and a curriculum turns
    it."""
    difficulty: ClassVar[str]
    """What `Batch.difficulty` counts."""
    fixed: ClassVar[tuple[str, ...]] = ()
    """Options that say how tokens are read, which a batch can't choose anew."""
    causal: ClassVar[bool] = True
    """Whether no answer needs a later token, so that a causal model can give them all."""
    continuous: ClassVar[bool] = False
    """Whether tokens and answers are real numbers: tokens (batch, position, feature), targets
    (batch, position)."""
    score: ClassVar[str] = "accuracy"
    """What the mean of `right` over the mask is."""
    between: ClassVar[str] = ""
    """What `render` puts between two symbols."""
    blank: ClassVar[int | None] = None
    """The token of an empty place, where answering means to fill it in."""

    @property
    def vocabulary(self) -> int:
        """The width of the logits."""
        return len(self.symbols)

    @property
    def features(self) -> int | None:
        """The numbers that stand at each position if `continuous`; None for tokens."""
        return None

    @property
    def limit(self) -> int | None:
        """The largest value that the dial takes; None if it takes any."""
        return None

    @property
    def shape(self) -> tuple[int, ...] | None:
        """(rows, columns) of a board, whose cells are the positions in reading order; None for a
        sequence."""
        return None

    @property
    def options(self) -> dict[str, Any]:
        return asdict(self)

    def neighbours(self) -> Bool[Tensor, "position position"] | None:
        """Of a board: which other cells bear on a cell, by its rules; no cell bears on itself. None
        without such rules."""
        return None

    def violations(self, answers: Int[Tensor, "*axes position"]) -> Bool[Tensor, "*axes position"] | None:
        """Of filled boards: the cells that break a rule. None for a task without such rules."""
        return None

    def batch(self, size: int, seed: int, split: Split = "test", **difficulty: Any) -> Batch:
        """`size` examples of one split. The same arguments give the same batch on every machine.

        >>> ls.tasks.prefix_parity(length=16).batch(64, seed=0, length=32).tokens.shape
        torch.Size([64, 33])

        Arguments:
            seed: any whole number.
            split: "test" unless asked for "train".
            difficulty: what the task lets one choose, such as length=32; the options otherwise.
        """
        _checked_count("size", size, least=1)
        if split not in ("train", "test"):
            raise LoopscopeError(f'split must be "train" or "test", but is {split!r}.')
        chosen = self._chosen(difficulty)
        if (space := self._space(**chosen)) < _SMALLEST_SPACE:
            raise LoopscopeError(
                f"{self.name} must have at least {_SMALLEST_SPACE} different examples to keep training and "
                f"test apart, but has {space} with {_spelled(chosen)}. Choose a larger {self.dial}."
            )
        generator = torch.Generator().manual_seed(mixed(seed, 0 if split == "train" else 1))
        kept: list[Tensor] = []
        while sum(map(len, kept)) < size:  # a draw is refused if it belongs to the other split
            if len(kept) >= _PATIENCE and not any(map(len, kept)):
                raise LoopscopeError(
                    f"{self.name} found no example for {split} among {_PATIENCE} draws with "
                    f"{_spelled(chosen)}. Ask for less."
                )
            drawn = self._draw(max(64, 2 * size), generator, **chosen)
            kept.append(drawn[self.is_test(drawn) == (split == "test")])
        return self._labelled(torch.cat(kept)[:size])

    def is_test(self, tokens: Int[Tensor, "batch position"]) -> Bool[Tensor, " batch"]:
        """Which examples are kept for testing: a hash of what the example asks, and of nothing
        else."""
        return is_test(self._identity(tokens))

    def identity(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch part"]:
        """What makes two examples the same: equal rows are the same example, perhaps in another
        form."""
        return self._identity(self._checked(tokens))

    def every(self, split: Split) -> Batch:
        """All examples of one split, each once, for a task that has few enough to list.

        Raises:
            LoopscopeError: it hasn't.
        """
        tokens = self._all()
        if tokens is None:
            raise LoopscopeError(
                f"a task must list its examples to give every one of them, but {self.name} draws from "
                f"{self._space(**self.options):,}. Ask for a number of them: task.batch(1000, seed=0)."
            )
        return self._labelled(tokens[self.is_test(tokens) == (split == "test")])

    @property
    def sets(self) -> dict[str, tuple[Split, dict[str, Any]]]:
        """The sets on which a training's history is written: a name, the split, and what `batch` is
        asked for besides."""
        return {"train": ("train", {}), "test": ("test", {})}

    @abstractmethod
    def solve(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch position"]:
        """The exact answer at every answered position, from the tokens alone; elsewhere the token
        that stands there."""

    @abstractmethod
    def mask(self, tokens: Int[Tensor, "batch position"]) -> Bool[Tensor, "batch position"]:
        """True where an answer is asked for."""

    def losses(
        self, logits: Float[Tensor, "batch position vocab"], targets: Tensor
    ) -> Float[Tensor, "batch position"]:
        """What each position adds to the loss, asked or not: cross-entropy in nats."""
        flat = F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), reduction="none")
        return flat.view(targets.shape)

    def answer(self, logits: Float[Tensor, "*axes vocab"]) -> Shaped[Tensor, "*axes"]:
        """What the logits say: the likeliest token."""
        return logits.argmax(-1)

    def differ(
        self, first: Shaped[Tensor, "*axes"], second: Shaped[Tensor, "*axes"]
    ) -> Float[Tensor, "*axes"]:
        """How far two answers lie apart: 1.0 for different tokens, 0.0 for equal ones."""
        return (first != second).float()

    def right(
        self, logits: Float[Tensor, "*axes vocab"], targets: Shaped[Tensor, "*axes"]
    ) -> Float[Tensor, "*axes"]:
        """The merit of each position, whose mean over the mask is the `score`: 1.0 for the right
        answer, less for others."""
        return 1 - self.differ(self.answer(logits), targets)

    def label(self, tokens: Int[Tensor, "batch position"]) -> Batch:
        """Tokens from anywhere, such as a run's, as a batch with their exact labels."""
        return self._labelled(self._checked(tokens))

    def render(self, tokens: Int[Tensor, "batch position"]) -> list[str]:
        """One string per example, a symbol per token, in the order in which the model reads
        them."""
        tokens = checked_tokens(tokens, self.vocabulary, self.name)  # targets too, whatever their form
        return [self.between.join(self.symbols[token] for token in row) for row in tokens.tolist()]

    def facts(self, tokens: Int[Tensor, "batch position"]) -> dict[str, Fact]:
        """What is true of these examples and may be looked for in states: the answer, the input,
        how hard they are, and what a task has besides, such as steps on the way."""
        batch = self.label(tokens)
        result = {"answer": Fact(batch.targets, batch.mask, "the right answer")}
        if not self.continuous:
            everywhere = torch.ones_like(batch.mask)
            result["input"] = Fact(batch.tokens, everywhere, "the token that stands there", given=True)
        if len(batch.difficulty.unique()) > 1:
            always = torch.ones_like(batch.difficulty, dtype=torch.bool)
            result["difficulty"] = Fact(batch.difficulty, always, self.difficulty, given=True)
        return result | self._facts(batch)

    @abstractmethod
    def _draw(self, size: int, generator: torch.Generator, /, **chosen: Any) -> Int[Tensor, "batch position"]:
        """`size` random examples, of both splits."""

    @abstractmethod
    def _space(self, **chosen: Any) -> int:
        """How many different examples there are."""

    @abstractmethod
    def _labelled(self, tokens: Int[Tensor, "batch position"]) -> Batch:
        """The batch that these tokens make."""

    def _facts(self, batch: Any, /) -> dict[str, Fact]:
        """What a task has besides; `batch` is of its own kind."""
        return {}

    def _all(self) -> Int[Tensor, "example position"] | None:
        """Every example of both splits, if they are few enough to list."""
        return None

    def _identity(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch part"]:
        """What makes two examples the same; tasks whose examples come in equivalent forms say so
        here."""
        return tokens

    def _chosen(self, difficulty: dict[str, Any]) -> dict[str, Any]:
        for name in difficulty:
            if name not in self.options:
                raise LoopscopeError(
                    f"{self.name} has no difficulty called {name!r}. {nearest(name, list(self.options))}"
                )
            if name in self.fixed and difficulty[name] != self.options[name]:
                raise LoopscopeError(
                    f"{self.name}'s {name} says how its tokens are read, so a batch can't choose another. "
                    "Build a task "
                    f'of its own: ls.tasks.build("{self.name}", {name}={difficulty[name]!r}).'
                )
        chosen = self.options | difficulty
        type(self)(**chosen)  # the constructor says what is wrong with a value
        return chosen

    def _checked(self, tokens: Any) -> Int[Tensor, "batch position"]:
        return checked_tokens(tokens, self.vocabulary, self.name)


def checked_size(task: str, name: str, value: Any, least: int = 1) -> None:
    """Raise unless an option that counts something is a whole number, `least` or more."""
    _checked_count(f"{task}'s {name}", value, least)


def _checked_count(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < least:
        raise LoopscopeError(f"{name} must be a whole number, {least} or more, but is {value!r}.")


def _spelled(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
