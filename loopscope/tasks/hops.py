"""Hops along a permutation: start at a node, follow its arrow a number of times, name the last
node."""

from dataclasses import dataclass
from math import factorial
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..common.errors import LoopscopeError
from .batch import Batch
from .chain import Chain
from .fact import Fact
from .task import Task, checked_size

MOST = 32  # the largest number of hops that has a token


@dataclass(frozen=True)
class HopsBatch(Batch):
    """Paths with the nodes that they visit."""

    path: Int[Tensor, "batch hops+1"]
    """The node after 0, 1, 2, ... hops, up to the longest path of the batch; the answer is
    `path[i, hops_i]`."""


@dataclass(frozen=True)
class Hops(Task):
    """A random permutation of nodes, a start and a number of hops; the answer at the last position
    is the node where they end.

    The multi-hop questions of Kohli et al. 2026 (arXiv 2604.07822), whose relations are
    permutations so that the last hops alone never determine the answer. Their relations are stored
    in the weights; here one permutation is written in the context, and only the rule can be
    learned.

        the arrows 0→2, 1→0, 2→3, 3→1; from node 1, three hops: 1→0→2→3

        tokens   2 0 3 1 1 h3               tokens   2 3 0 2 3 1 1 0 1 h3     (pairs=True: from, to)
        targets  . . . . . 3                targets  . . . . . . . . . 3
    """

    nodes: int = 8
    hops: int = 4
    """The largest number of hops; each example has its own, drawn from 1..hops. At most 32."""
    exactly: int | None = None
    """If not None, the number of hops of every example, in place of `hops`."""
    pairs: bool = False
    """Whether each arrow is written as the pair (from, to), in random order. Otherwise the position
    of an arrow's end is its start."""

    name = "hops"
    difficulty_option = "hops"
    difficulty_unit = "hops"
    fixed_options = ("nodes", "pairs")
    separator = " "

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_size(self.name, "nodes", self.nodes, least=2)
        for option, value in (("hops", self.hops), ("exactly", self.exactly)):
            if value is not None:
                checked_size(self.name, option, value)
                if value > MOST:
                    raise LoopscopeError(
                        f"{self.name}'s {option} must be at most {MOST}, the last number that has a token, "
                        f"but is {value}."
                    )

    @property
    def symbols(self) -> tuple[str, ...]:
        """Nodes, then numbers of hops h1, h2, ..."""
        return (*map(str, range(self.nodes)), *(f"h{n}" for n in range(1, MOST + 1)))

    @property
    def difficulty_limit(self) -> int:
        return MOST

    def solve(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch position"]:
        arrows, start, hops = self._read(tokens)
        answer = paths(arrows, start, hops).gather(1, hops[:, None])
        return torch.cat([tokens[:, :-1].long(), answer], dim=1)

    def mask(self, tokens: Int[Tensor, "batch position"]) -> Bool[Tensor, "batch position"]:
        return self.check_tokens(tokens) >= self.nodes

    def check_tokens(self, tokens: Any) -> Int[Tensor, "batch position"]:
        tokens = super().check_tokens(tokens)
        width, every = self.nodes * (2 if self.pairs else 1), torch.arange(self.nodes, device=tokens.device)
        fits = tokens.shape[1] == width + 2
        if fits:
            lists = [tokens[:, 0:width:2], tokens[:, 1:width:2]] if self.pairs else [tokens[:, :width]]
            fits = all(bool((one.sort(1).values == every).all()) for one in lists)
            fits = fits and bool((tokens[:, -2] < self.nodes).all() and (tokens[:, -1] >= self.nodes).all())
        if not fits:
            written = "its pairs (from, to)" if self.pairs else "where the arrows of nodes 0, 1, ... lead"
            raise LoopscopeError(
                f"{self.name} needs a permutation of {self.nodes} nodes, {written}, then a start, then a "
                f"number of hops h1..h{MOST} (tokens {self.nodes}..{self.vocabulary - 1}), but got "
                f"{tokens[:1].tolist()} first. Use the tokens of this task's own batches."
            )
        return tokens

    def _read(self, tokens: Int[Tensor, "batch position"]) -> tuple[Tensor, Tensor, Tensor]:
        """Where each node's arrow leads (batch, nodes), the starts (batch), and the numbers of hops
        (batch)."""
        tokens = self.check_tokens(tokens)
        arrows = tokens[:, :-2]
        if self.pairs:
            arrows = torch.empty_like(arrows[:, 1::2]).scatter_(1, arrows[:, 0::2], arrows[:, 1::2])
        return arrows, tokens[:, -2], tokens[:, -1] - self.nodes + 1

    def draw(self, size: int, generator: torch.Generator, **options: Any) -> Int[Tensor, "batch position"]:
        nodes, exactly = self.nodes, options["exactly"]
        low, high = (exactly, exactly) if exactly is not None else (1, options["hops"])
        arrows, order = torch.rand((2, size, nodes), generator=generator).argsort(dim=2, stable=True)
        start = torch.randint(0, nodes, (size, 1), generator=generator)
        hops = torch.randint(low, high + 1, (size, 1), generator=generator)
        if self.pairs:
            arrows = torch.stack([order, arrows.gather(1, order)], dim=2).flatten(1)
        return torch.cat([arrows, start, nodes + hops - 1], dim=1)

    def example_count(self, **options: Any) -> int:
        return factorial(self.nodes) * self.nodes * (1 if options["exactly"] else options["hops"])

    def canonical_form(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch part"]:
        arrows, start, hops = self._read(tokens)  # the same for every order of the pairs
        return torch.cat([arrows, start[:, None], hops[:, None]], dim=1)

    def make_batch(self, tokens: Int[Tensor, "batch position"]) -> HopsBatch:
        arrows, start, hops = self._read(tokens)
        path = paths(arrows, start, hops)
        return HopsBatch(tokens, self.solve(tokens), self.mask(tokens), hops.float(), path)

    def task_results(self, batch: HopsBatch, /) -> Chain:
        return Chain.of(batch.path[:, 1:], batch.difficulty.long(), batch.targets, batch.mask)

    def task_facts(self, batch: HopsBatch, /) -> dict[str, Fact]:
        hops, path = batch.difficulty, batch.path
        always = torch.ones_like(hops, dtype=torch.bool)
        result = {"start": Fact(path[:, 0], always, "the node where the path starts", in_input=True)}
        for j in range(1, path.shape[1] - 1):
            about = f"the node after {j} hop{'s' * (j > 1)}, in paths that go further"
            result[f"hop {j}"] = Fact(path[:, j], hops > j, about, is_intermediate=True)
        return result


def paths(
    arrows: Int[Tensor, "batch nodes"], start: Int[Tensor, " batch"], hops: Int[Tensor, " batch"]
) -> Int[Tensor, "batch hops+1"]:
    """The node after 0, 1, ... hops from each start, up to the largest of `hops`."""
    path = [start[:, None]]
    for _ in range(int(hops.max()) if len(hops) else 0):
        path.append(arrows.gather(1, path[-1]))
    return torch.cat(path, dim=1)
