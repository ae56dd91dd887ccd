"""Facts of a small world, and questions that combine two of them: what a model must know, and what
it can put together."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from ..common.rng import mixed
from .fact import Fact
from .task import Batch, Split, Task, checked_size
from .train_test_split import hashed

Asked = Literal["known", "new", "first", "second"]
"""Which facts a question of two hops combines: two that others combine too; two that never were
combined; or only its first, or only its second, of that kind."""

_GRAIN = 1000  # shares are kept to a thousandth


@dataclass(frozen=True)
class Composition(Task):
    """Where does relation r lead from entity h, and where two relations one after the other: h, r1,
    r2 -> r2(r1(h)).

    The two-hop questions of Wang et al. 2024 (arXiv 2405.15071) and Kohli et al. 2026 (arXiv
    2604.07822). A world is a random table (entity, relation) -> entity. A part of its facts is
    `new`: these are trained by themselves, and never as a part of a question of two hops. Training
    has all facts (hops=1) and a share of the questions that combine two known ones (hops=2). Tests
    are the other questions of known facts (in distribution), and those of two new ones (systematic
    generalisation), `ask="new"`.

        tokens   e7 r3 .     answered at r3
        tokens   . e7 r3     the same fact, as often
        tokens   e7 r3 r1    answered at r1

    A fact is asked at either place, so that what is known doesn't depend on where it is asked.
    """

    entities: int = 40
    relations: int = 20
    hops: int = 2
    """1 asks for facts, 2 for two of them one after the other."""
    new: float = 0.1
    """Fraction of the facts that are never combined in training, 0..1."""
    share: float = 0.7
    """Fraction of the questions of two known facts that are for training, 0..1."""
    world: int = 0
    """Seed of the table."""
    ask: Asked = "known"

    name = "composition"
    dial = "hops"
    difficulty = "hops"
    fixed = ("entities", "relations", "new", "share", "world")
    between = " "

    def __post_init__(self) -> None:
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
        if self.ask not in get_args(Asked):
            raise LoopscopeError(
                f"{self.name}'s ask must name a kind, but is {self.ask!r}. "
                f"{nearest(str(self.ask), get_args(Asked))}"
            )

    @property
    def symbols(self) -> tuple[str, ...]:
        entities = (f"e{n}" for n in range(self.entities))
        return (*entities, *(f"r{n}" for n in range(self.relations)), ".")

    @property
    def limit(self) -> int:
        return 2

    @property
    def sets(self) -> dict[str, tuple[Split, dict[str, Any]]]:
        return {"train": ("train", {}), "test": ("test", {}), "systematic": ("test", {"ask": "new"})}

    @cached_property
    def table(self) -> Int[Tensor, "entity relation"]:
        """Where each relation leads from each entity."""
        generator = torch.Generator().manual_seed(mixed(self.world, 0))
        return torch.randint(0, self.entities, (self.entities, self.relations), generator=generator)

    @cached_property
    def unseen(self) -> Bool[Tensor, "entity relation"]:
        """The facts that are never combined in training."""
        generator = torch.Generator().manual_seed(mixed(self.world, 1))
        return torch.rand(self.entities, self.relations, generator=generator) < self.new

    def is_test(self, tokens: Int[Tensor, "batch position"]) -> Bool[Tensor, " batch"]:
        head, first, second, hops = self._read(tokens)
        bridge = self.table[head, first]
        new = self.unseen[head, first] | self.unseen[bridge, second]
        kept = hashed(self._identity(tokens)) % _GRAIN >= round(self.share * _GRAIN)
        return (hops == 2) & (new | kept)

    def solve(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch position"]:
        head, first, second, hops = self._read(tokens)
        bridge = self.table[head, first]
        answer = torch.where(hops == 2, self.table[bridge, second], bridge)
        return torch.where(self.mask(tokens), answer[:, None], tokens.long())

    def mask(self, tokens: Int[Tensor, "batch position"]) -> Bool[Tensor, "batch position"]:
        tokens = self._checked(tokens)
        last = torch.where(tokens[:, 2] == len(self.symbols) - 1, 1, 2)
        return torch.arange(3, device=tokens.device) == last[:, None]

    def _read(self, tokens: Int[Tensor, "batch position"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Entity, first relation, second relation (0 where there is none) and hops, (batch)
        each."""
        tokens, filler = self._checked(tokens), len(self.symbols) - 1
        late = tokens[:, 0] == filler  # a fact at the second place
        shifted = torch.where(late[:, None], tokens.roll(-1, 1), tokens)
        head, first, second = shifted.unbind(1)
        hops = 1 + (second != filler).long()
        return head, first - self.entities, torch.where(hops == 2, second - self.entities, 0), hops

    def _checked(self, tokens: Any) -> Int[Tensor, "batch position"]:
        tokens = super()._checked(tokens)
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
        """All questions of each kind, of both splits, by hops and what they ask."""
        entity, relation = torch.arange(self.entities), torch.arange(self.relations)
        facts = torch.cartesian_prod(entity, relation + self.entities, torch.tensor([len(self.symbols) - 1]))
        head, first, second = torch.cartesian_prod(entity, relation, relation).unbind(1)
        one, two = self.unseen[head, first], self.unseen[self.table[head, first], second]
        kinds = {"known": ~one & ~two, "new": one & two, "first": one & ~two, "second": ~one & two}
        rows = torch.stack([head, first + self.entities, second + self.entities], dim=1)
        facts = torch.cat([facts, facts.roll(1, 1)])
        pairs = {(2, kind): rows[chosen] for kind, chosen in kinds.items()}
        return pairs | {(1, kind): facts for kind in kinds}

    def _draw(self, size: int, generator: torch.Generator, **chosen: Any) -> Int[Tensor, "batch position"]:
        questions = self._questions[chosen["hops"], chosen["ask"]]
        return questions[torch.randint(0, len(questions), (size,), generator=generator)]

    def _space(self, **chosen: Any) -> int:
        return len(self._questions[chosen["hops"], chosen["ask"]])

    def _labelled(self, tokens: Int[Tensor, "batch position"]) -> Batch:
        return Batch(tokens, self.solve(tokens), self.mask(tokens), self._read(tokens)[3].float())

    def _facts(self, batch: Batch, /) -> dict[str, Fact]:
        head, first, _, hops = self._read(batch.tokens)
        about = "where the first relation leads, in questions of two"
        return {"bridge": Fact(self.table[head, first], hops == 2, about, on_the_way=True)}
