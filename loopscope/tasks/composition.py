"""Two-hop questions about a random table of facts: memorised facts, and their composition."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from ..common.rng import mixed
from .batch import Batch
from .chain import Chain
from .fact import Fact
from .task import Split, Task, checked_size
from .train_test_split import hashed

QuestionKind = Literal["known", "new", "first", "second"]
"""Which facts a question of two hops combines. known: both are combined in training questions; new:
neither is; first, second: only the first, or only the second, is new."""

_HASH_BINS = 1000  # fractions are exact to a thousandth


@dataclass(frozen=True)
class Composition(Task):
    """The entity that a relation leads to, r(h), and that two relations lead to, r2(r1(h)).

    The two-hop questions of Wang et al. 2024 (arXiv 2405.15071) and Kohli et al. 2026 (arXiv
    2604.07822). A world is a random table (entity, relation) -> entity. A fraction `new` of its
    facts is trained on by itself, but never in a question of two hops. Training has all facts
    (hops=1) and a fraction `share` of the questions that combine two of the others (hops=2). Tests
    are the remaining questions of such facts (in distribution), and those of two new facts
    (systematic generalisation), `ask="new"`.

        tokens   e7 r3 .     answered at r3
        tokens   . e7 r3     the same fact, equally often
        tokens   e7 r3 r1    answered at r1

    A fact is asked at both places, so that recalling it doesn't depend on the position.
    """

    entities: int = 40
    relations: int = 20
    hops: int = 2
    """1: questions for single facts; 2: questions that combine two."""
    new: float = 0.1
    """Fraction of the facts that are never combined in training, 0..1."""
    share: float = 0.7
    """Fraction of the questions of two facts that aren't new that is for training, 0..1."""
    world: int = 0
    """Seed of the table."""
    ask: QuestionKind = "known"

    name = "composition"
    difficulty_option = "hops"
    difficulty_unit = "hops"
    fixed_options = ("entities", "relations", "new", "share", "world")
    separator = " "

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_size(self.name, "entities", self.entities, least=4)
        checked_size(self.name, "relations", self.relations, least=2)
        checked_size(self.name, "hops", self.hops)
        checked_size(self.name, "world", self.world, least=0)
        if self.hops > 2:
            raise LoopscopeError(
                f"{self.name}'s hops must be 1 or 2, but is {self.hops}. For longer paths there is the task "
                "hops."
            )
        for name in ("new", "share"):
            if not 0 < getattr(self, name) < 1:
                raise LoopscopeError(
                    f"{self.name}'s {name} must lie between 0 and 1, but is {getattr(self, name)!r}."
                )
        if self.ask not in get_args(QuestionKind):
            raise LoopscopeError(
                f"{self.name}'s ask must name a kind, but is {self.ask!r}. "
                f"{nearest(str(self.ask), get_args(QuestionKind))}"
            )

    @property
    def symbols(self) -> tuple[str, ...]:
        """Entities e0, e1, ..., relations r0, r1, ..., and the filler."""
        entities = (f"e{n}" for n in range(self.entities))
        return (*entities, *(f"r{n}" for n in range(self.relations)), ".")

    @property
    def difficulty_limit(self) -> int:
        return 2

    @property
    def evaluation_sets(self) -> dict[str, tuple[Split, dict[str, Any]]]:
        return {"train": ("train", {}), "test": ("test", {}), "systematic": ("test", {"ask": "new"})}

    @cached_property
    def table(self) -> Int[Tensor, "entity relation"]:
        """The entity that each relation leads to from each entity."""
        generator = torch.Generator().manual_seed(mixed(self.world, 0))
        return torch.randint(0, self.entities, (self.entities, self.relations), generator=generator)

    @cached_property
    def new_facts(self) -> Bool[Tensor, "entity relation"]:
        """The new facts, which are never combined in training."""
        generator = torch.Generator().manual_seed(mixed(self.world, 1))
        return torch.rand(self.entities, self.relations, generator=generator) < self.new

    def is_test(self, tokens: Int[Tensor, "batch position"]) -> Bool[Tensor, " batch"]:
        head, first, second, hops = self._read(tokens)
        bridge = self.table[head, first]
        new = self.new_facts[head, first] | self.new_facts[bridge, second]
        test = hashed(self.canonical_form(tokens)) % _HASH_BINS >= round(self.share * _HASH_BINS)
        return (hops == 2) & (new | test)

    def solve(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch position"]:
        head, first, second, hops = self._read(tokens)
        bridge = self.table[head, first]
        answer = torch.where(hops == 2, self.table[bridge, second], bridge)
        return torch.where(self.mask(tokens), answer[:, None], tokens.long())

    def mask(self, tokens: Int[Tensor, "batch position"]) -> Bool[Tensor, "batch position"]:
        tokens = self.check_tokens(tokens)
        last = torch.where(tokens[:, 2] == len(self.symbols) - 1, 1, 2)
        return torch.arange(3, device=tokens.device) == last[:, None]

    def _read(self, tokens: Int[Tensor, "batch position"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Entity, first relation, second relation (0 where there is none) and hops, (batch)
        each."""
        tokens, filler = self.check_tokens(tokens), len(self.symbols) - 1
        late = tokens[:, 0] == filler  # a fact at the second position
        shifted = torch.where(late[:, None], tokens.roll(-1, 1), tokens)
        head, first, second = shifted.unbind(1)
        hops = 1 + (second != filler).long()
        return head, first - self.entities, torch.where(hops == 2, second - self.entities, 0), hops

    def check_tokens(self, tokens: Any) -> Int[Tensor, "batch position"]:
        tokens = super().check_tokens(tokens)
        first, last = self.entities, self.entities + self.relations
        kind = (tokens >= first).long() + (tokens >= last).long()  # 0 an entity, 1 a relation, 2 the filler
        forms = torch.tensor([[0, 1, 1], [0, 1, 2], [2, 0, 1]], device=tokens.device)
        if tokens.shape[1] != 3 or not bool((kind[:, None] == forms).all(2).any(1).all()):
            raise LoopscopeError(
                f"{self.name} needs an entity (tokens 0..{first - 1}), a relation (tokens "
                f"{first}..{last - 1}), and another relation or the filler '.' (token {last}), which may "
                f"also stand in front of a fact, but got {tokens[:1].tolist()} first. Use the tokens of "
                "this task's own batches."
            )
        return tokens

    @cached_property
    def _questions(self) -> dict[tuple[int, str], Int[Tensor, "question position"]]:
        """All questions of both splits, by number of hops and kind."""
        entity, relation = torch.arange(self.entities), torch.arange(self.relations)
        facts = torch.cartesian_prod(entity, relation + self.entities, torch.tensor([len(self.symbols) - 1]))
        head, first, second = torch.cartesian_prod(entity, relation, relation).unbind(1)
        one, two = self.new_facts[head, first], self.new_facts[self.table[head, first], second]
        kinds = {"known": ~one & ~two, "new": one & two, "first": one & ~two, "second": ~one & two}
        rows = torch.stack([head, first + self.entities, second + self.entities], dim=1)
        facts = torch.cat([facts, facts.roll(1, 1)])
        pairs = {(2, kind): rows[mask] for kind, mask in kinds.items()}
        return pairs | {(1, kind): facts for kind in kinds}

    def draw(self, size: int, generator: torch.Generator, **options: Any) -> Int[Tensor, "batch position"]:
        questions = self._questions[options["hops"], options["ask"]]
        return questions[torch.randint(0, len(questions), (size,), generator=generator)]

    def example_count(self, **options: Any) -> int:
        return len(self._questions[options["hops"], options["ask"]])

    def make_batch(self, tokens: Int[Tensor, "batch position"]) -> Batch:
        return Batch(tokens, self.solve(tokens), self.mask(tokens), self._read(tokens)[3].float())

    def task_results(self, batch: Batch, /) -> Chain:
        head, first, second, hops = self._read(batch.tokens)
        bridge = self.table[head, first]
        results = torch.stack([bridge, self.table[bridge, second]], dim=1)
        return Chain.of(results, hops, batch.targets, batch.mask)

    def task_facts(self, batch: Batch, /) -> dict[str, Fact]:
        head, first, _, hops = self._read(batch.tokens)
        about = "the entity that the first relation leads to, in questions of two hops"
        return {"bridge": Fact(self.table[head, first], hops == 2, about, is_intermediate=True)}
