"""Task: batches by seed, exact labels, and a fixed split into training and test examples."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any, ClassVar, Literal, get_type_hints

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from ..common.arguments import PositiveCount
from ..common.errors import LoopscopeError, nearest
from ..common.guard import guarded, validated
from ..common.rng import mixed
from ..core.tokens import checked_tokens
from .batch import Batch
from .chain import Chain
from .fact import Fact
from .train_test_split import is_test

Split = Literal["train", "test"]

_MOST_EMPTY_DRAWS = 100  # draws without an example of the split before an error
_FEWEST_EXAMPLES = 32  # fewer different examples can't be split into training and test


@dataclass(frozen=True)
class Task(ABC):
    """A rule that tokens follow. The fields of the dataclass are its options; two tasks with equal
    options give equal batches.

    A subclass sets `name`, `symbols`, `difficulty_option` and `difficulty_unit`, and gives five
    methods: `solve`, `mask`, `draw`, `example_count` and `make_batch`. It may extend `check_tokens`
    and override `canonical_form`, `task_facts`, `task_results` and `every_example`.
    docs/architecture.md has a complete example.

    A hash of the example itself decides whether it is for training or for testing, so the two never
    overlap, whatever the seeds. About one example in eight is for testing.
    """

    name: ClassVar[str]
    symbols: ClassVar[tuple[str, ...]]
    """What each token id stands for; a property where options decide it, and empty if
    `continuous`."""
    difficulty_option: ClassVar[str]
    """The option that makes examples longer or harder. `batch` takes it too, and a curriculum
    raises it."""
    difficulty_unit: ClassVar[str]
    """What `Batch.difficulty` counts."""
    fixed_options: ClassVar[tuple[str, ...]] = ()
    """Options that decide how tokens are read, so that a batch can't change them."""
    causal: ClassVar[bool] = True
    """Whether no answer depends on a later token, so that a causal model can give them all."""
    continuous: ClassVar[bool] = False
    """Whether tokens and answers are real numbers: tokens (batch, position, feature), targets
    (batch, position)."""
    score: ClassVar[str] = "accuracy"
    """What the mean of `correctness` over the mask is called."""
    separator: ClassVar[str] = ""
    """What `render` puts between two symbols."""
    blank_token: ClassVar[int | None] = None
    """The token of an empty cell, where the model has to fill in cells; None for other tasks."""

    def __post_init__(self) -> None:
        """Options as the types that their fields declare. A subclass that checks more than types
        calls this first.

        Raises:
            LoopscopeError: an option of another type.
        """
        for name, hint in _option_types(type(self)).items():
            about = f'Its options: ls.tasks.build("{self.name}").options.'
            value = validated(getattr(self, name), hint, f"{self.name}'s {name}", about)
            object.__setattr__(self, name, value)

    @property
    def vocabulary(self) -> int:
        """The width of the logits."""
        return len(self.symbols)

    @property
    def features(self) -> int | None:
        """Numbers at each position if `continuous`; None for tokens."""
        return None

    @property
    def difficulty_limit(self) -> int | None:
        """The largest value of `difficulty_option`; None if there is no limit."""
        return None

    @property
    def shape(self) -> tuple[int, ...] | None:
        """(rows, columns) of a board, whose cells are the positions in reading order; None for a
        sequence."""
        return None

    @property
    def options(self) -> dict[str, Any]:
        """The value of each option by name."""
        return asdict(self)

    @property
    def pad_token(self) -> int | None:
        """The token that fills up shorter examples at their beginning or end, whose positions don't
        count in what is measured; None for a task without."""
        return None

    @property
    def box_shape(self) -> tuple[int, int] | None:
        """(rows, columns) of the boxes that a board is divided into; None for a board without."""
        return None

    def position_names(self, positions: int) -> list[str] | None:
        """What each position holds in every example, such as "r1c2" for a cell or "x3"; None where
        the tokens themselves say it."""
        if self.shape is None:
            return None
        rows, columns = self.shape
        return [f"r{i + 1}c{j + 1}" for i in range(rows) for j in range(columns)]

    def neighbours(self) -> Bool[Tensor, "position position"] | None:
        """For a board with rules: which cells constrain each other; no cell constrains itself. None
        for other tasks."""
        return None

    def violations(self, answers: Int[Tensor, "*axes position"]) -> Bool[Tensor, "*axes position"] | None:
        """For filled boards: the cells that break a rule. None for a task without such rules."""
        return None

    @guarded
    def batch(self, size: PositiveCount, seed: int, split: Split = "test", **options: Any) -> Batch:
        """`size` examples of one split. The same arguments give the same batch on every machine.

        >>> ls.tasks.prefix_parity(length=16).batch(64, seed=0, length=32).tokens.shape
        torch.Size([64, 33])

        Arguments:
            seed: any integer.
            split: "test" or "train".
            options: values for this batch, such as length=32, in place of the task's own.

        Raises:
            LoopscopeError: no such option or split; too few different examples.
        """
        values = self._batch_options(options)
        if (count := self.example_count(**values)) < _FEWEST_EXAMPLES:
            raise LoopscopeError(
                f"{self.name} must have at least {_FEWEST_EXAMPLES} different examples to keep training and "
                f"test apart, but has {count} with {_listed(values)}. Choose a larger "
                f"{self.difficulty_option}."
            )
        generator = torch.Generator().manual_seed(mixed(seed, 0 if split == "train" else 1))
        parts: list[Tensor] = []
        while sum(map(len, parts)) < size:  # examples of the other split are rejected
            if len(parts) >= _MOST_EMPTY_DRAWS and not any(map(len, parts)):
                raise LoopscopeError(
                    f"{self.name} must have examples for {split} with {_listed(values)}, but none came in "
                    f"{_MOST_EMPTY_DRAWS} draws. Choose options that leave more examples."
                )
            tokens = self.draw(max(64, 2 * size), generator, **values)
            parts.append(tokens[self.is_test(tokens) == (split == "test")])
        return self.make_batch(torch.cat(parts)[:size])

    def is_test(self, tokens: Int[Tensor, "batch position"]) -> Bool[Tensor, " batch"]:
        """Which examples are for testing: decided by a hash of the canonical form alone."""
        return is_test(self.canonical_form(tokens))

    @guarded
    def full_batch(self, split: Split) -> Batch:
        """All examples of one split, each once, for a task that can list them.

        Raises:
            LoopscopeError: the task has too many examples to list.
        """
        tokens = self.every_example()
        if tokens is None:
            raise LoopscopeError(
                f"a task must list its examples to give every one of them, but {self.name} draws from "
                f"{self.example_count(**self.options):,}. Ask for a number of them: "
                "task.batch(1000, seed=0)."
            )
        return self.make_batch(tokens[self.is_test(tokens) == (split == "test")])

    @property
    def evaluation_sets(self) -> dict[str, tuple[Split, dict[str, Any]]]:
        """The sets that a training's history is measured on: by name, the split and the options of
        `batch`."""
        return {"train": ("train", {}), "test": ("test", {})}

    def losses(
        self, logits: Float[Tensor, "batch position vocab"], targets: Tensor
    ) -> Float[Tensor, "batch position"]:
        """The loss of every position, in the mask or not: cross-entropy in nats."""
        flat = F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), reduction="none")
        return flat.view(targets.shape)

    def answer(self, logits: Float[Tensor, "*axes vocab"]) -> Shaped[Tensor, "*axes"]:
        """The answer that the logits give: the most likely token."""
        return logits.argmax(-1)

    def answer_distance(
        self, first: Shaped[Tensor, "*axes"], second: Shaped[Tensor, "*axes"]
    ) -> Float[Tensor, "*axes"]:
        """The distance between two answers: 1.0 for different tokens, 0.0 for equal ones."""
        return (first != second).float()

    def correctness(
        self, logits: Float[Tensor, "*axes vocab"], targets: Shaped[Tensor, "*axes"]
    ) -> Float[Tensor, "*axes"]:
        """How correct each position is; the mean over the mask is the `score`. 1.0 for the correct
        answer, less for others."""
        return 1 - self.answer_distance(self.answer(logits), targets)

    @guarded
    def label(self, tokens: Tensor) -> Batch:
        """The batch of tokens from any source, such as those of a run, with their exact labels.

        Raises:
            LoopscopeError: these are no examples of the task.
        """
        return self.make_batch(self.check_tokens(tokens))

    @guarded
    def render(self, tokens: Tensor) -> list[str]:
        """One string per example, a symbol per token, in the order in which the model reads
        them."""
        tokens = checked_tokens(tokens, self.vocabulary, self.name)  # targets too, whatever their form
        return [self.separator.join(self.symbols[token] for token in row) for row in tokens.tolist()]

    @guarded
    def facts(self, tokens: Tensor) -> dict[str, Fact]:
        """What may be decoded from the states of these examples: the answer, the input, the
        difficulty, and the task's own facts, such as intermediate results."""
        batch = self.label(tokens)
        result = {"answer": Fact(batch.targets, batch.mask, "the right answer")}
        if not self.continuous:
            everywhere = torch.ones_like(batch.mask)
            result["input"] = Fact(batch.tokens, everywhere, "the token that stands there", in_input=True)
        if len(batch.difficulty.unique()) > 1:
            always = torch.ones_like(batch.difficulty, dtype=torch.bool)
            result["difficulty"] = Fact(batch.difficulty, always, self.difficulty_unit, in_input=True)
        return result | self.task_facts(batch)

    @guarded
    def results(self, tokens: Tensor) -> Chain | None:
        """The results on the way to the answers of these examples, in order; None for a task whose
        answers have no such order."""
        return self.task_results(self.label(tokens))

    # What a task gives

    @abstractmethod
    def solve(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch position"]:
        """The exact answer at every position of the mask, from the tokens alone; elsewhere the
        input token."""

    @abstractmethod
    def mask(self, tokens: Int[Tensor, "batch position"]) -> Bool[Tensor, "batch position"]:
        """True at the positions that the model has to answer."""

    @abstractmethod
    def draw(self, size: int, generator: torch.Generator, /, **options: Any) -> Int[Tensor, "batch position"]:
        """`size` random examples, or somewhat fewer, of both splits. `options` has a value for
        every option of the task, and takes precedence over its fields."""

    @abstractmethod
    def example_count(self, **options: Any) -> int:
        """How many different examples there are with these options, or a lower bound."""

    @abstractmethod
    def make_batch(self, tokens: Int[Tensor, "batch position"]) -> Batch:
        """The batch with the labels of checked tokens. A task may return a subclass of `Batch` with
        further labels."""

    # What a task may give

    def check_tokens(self, tokens: Any) -> Int[Tensor, "batch position"]:
        """The tokens as int64. A task with a format extends this by its own check.

        Raises:
            LoopscopeError: no integers (batch, position) in the vocabulary, or not in the format.
        """
        return checked_tokens(tokens, self.vocabulary, self.name)

    def canonical_form(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch part"]:
        """Integers in 0..2^32 - 1 that are equal for two rows exactly if they are the same example.
        For a task whose examples can be written in several equivalent forms."""
        return tokens

    def task_facts(self, batch: Any, /) -> dict[str, Fact]:
        """The task's own facts, such as intermediate results. `batch` comes from `make_batch`."""
        return {}

    def task_results(self, batch: Any, /) -> Chain | None:
        """The results that lead to each answer, in order. `batch` comes from `make_batch`."""
        return None

    def every_example(self) -> Int[Tensor, "example position"] | None:
        """All examples of both splits, or None if there are too many to list."""
        return None

    def _batch_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """The task's options with those of a batch in place of its own."""
        for name in options:
            if name not in self.options:
                raise LoopscopeError(
                    f"{self.name} has no difficulty called {name!r}. {nearest(name, list(self.options))}"
                )
        values = type(self)(**self.options | options).options  # the constructor raises for a wrong value
        for name in options:
            if name in self.fixed_options and values[name] != self.options[name]:
                raise LoopscopeError(
                    f"{self.name}'s {name} decides how its tokens are read, so a batch can't choose another. "
                    f'Build a task of its own: ls.tasks.build("{self.name}", {name}={options[name]!r}).'
                )
        return values


def checked_size(task: str, name: str, value: Any, least: int = 1) -> None:
    """Check an option that counts something.

    Raises:
        LoopscopeError: it is no integer, or less than `least`.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < least:
        raise LoopscopeError(f"{task}'s {name} must be a whole number, {least} or more, but is {value!r}.")


@cache
def _option_types(task: type) -> dict[str, Any]:
    hints = get_type_hints(task, include_extras=True)
    return {option.name: hints[option.name] for option in fields(task)}


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
