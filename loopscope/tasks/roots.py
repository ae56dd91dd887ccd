"""Roots of trees: follow the parents of a node to the one that is its own parent."""

from dataclasses import dataclass
from math import perm
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..common.errors import LoopscopeError
from .batch import Batch
from .chain import Chain
from .fact import Fact
from .task import Task, checked_size

_ALONE = 0.3  # the chance that a node beside the path is a root


@dataclass(frozen=True)
class RootsBatch(Batch):
    """Nodes with their ancestors."""

    ancestors: Int[Tensor, "batch depth+1"]
    """The node itself, its parent, its parent's parent, ..., up to the greatest depth of the batch;
    a root is its own parent."""


@dataclass(frozen=True)
class Roots(Task):
    """The parent of every node, in a list, and a node; the answer at the last position is the root
    of its tree, the node that is its own parent.

    Pointers that are followed to their end, the textbook case of a computation whose depth is that
    of a chain. Unlike in `hops` no number says when it ends: at a root one more look changes
    nothing. Nor does the path return to a node, so that no two results of a chain are equal.

        the parents 0→0, 1→0, 2→1, 3→3; from node 2: 2→1→0

        tokens   0 0 1 3 2
        targets  . . . . 0
    """

    nodes: int = 16
    depth: int = 5
    """The greatest depth of the node, its distance from its root; each example has its own, drawn
    from 1..depth. Less than `nodes`."""
    exactly: int | None = None
    """If not None, the depth in every example, in place of `depth`."""

    name = "roots"
    difficulty_option = "depth"
    difficulty_unit = "depth of the node"
    fixed_options = ("nodes",)
    separator = " "

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_size(self.name, "nodes", self.nodes, least=3)
        for option, value in (("depth", self.depth), ("exactly", self.exactly)):
            if value is not None:
                checked_size(self.name, option, value)
                if value >= self.nodes:
                    raise LoopscopeError(
                        f"{self.name}'s {option} must be at most {self.nodes - 1}, less than its nodes, but "
                        f"is {value}."
                    )

    @property
    def symbols(self) -> tuple[str, ...]:
        """The nodes."""
        return tuple(map(str, range(self.nodes)))

    @property
    def difficulty_limit(self) -> int:
        return self.nodes - 1

    def solve(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch position"]:
        tokens = self.check_tokens(tokens)
        return torch.cat([tokens[:, :-1], self._ancestors(tokens, self.nodes)[:, -1:]], dim=1)

    def mask(self, tokens: Int[Tensor, "batch position"]) -> Bool[Tensor, "batch position"]:
        tokens = self.check_tokens(tokens)
        return (torch.arange(self.nodes + 1, device=tokens.device) == self.nodes).expand(tokens.shape)

    @staticmethod
    def _ancestors(tokens: Tensor, most: int) -> Int[Tensor, "batch most+1"]:
        nodes = [tokens[:, -1:]]
        for _ in range(most):
            nodes.append(tokens.gather(1, nodes[-1]))
        return torch.cat(nodes, dim=1)

    def check_tokens(self, tokens: Any) -> Int[Tensor, "batch position"]:
        tokens = super().check_tokens(tokens)
        fits = tokens.shape[1] == self.nodes + 1
        if fits:
            parents, ends = tokens[:, :-1], tokens[:, :-1]
            for _ in range(self.nodes.bit_length()):
                ends = ends.gather(1, ends)  # twice as far up
            query = tokens[:, -1:]
            fits = torch.equal(parents.gather(1, ends), ends) and bool(
                (parents.gather(1, query) != query).all()
            )
        if not fits:
            raise LoopscopeError(
                f"{self.name} needs the parents of its {self.nodes} nodes, of which roots are their own and "
                "which lead round no circle, then a node that is no root, such as 0 0 1 3 2 of four nodes, "
                f"but got {tokens[:1].tolist()} first. Use the tokens of this task's own batches."
            )
        return tokens

    def draw(self, size: int, generator: torch.Generator, **options: Any) -> Int[Tensor, "batch position"]:
        nodes, exactly = self.nodes, options["exactly"]
        low, high = (exactly, exactly) if exactly is not None else (1, options["depth"])
        depth = torch.randint(low, high + 1, (size, 1), generator=generator)
        order = torch.rand((size, nodes), generator=generator).argsort(dim=1, stable=True)
        alone = torch.rand((size, nodes), generator=generator) < _ALONE
        earlier = (torch.rand((size, nodes), generator=generator) * torch.arange(nodes)).long()
        place = torch.arange(nodes)  # nodes join in a random order: the path from its root on, then others
        parent = torch.where(place <= depth, (place - 1).clamp(min=0), torch.where(alone, place, earlier))
        parents = torch.empty_like(order).scatter_(1, order, order.gather(1, parent))
        return torch.cat([parents, order.gather(1, depth)], dim=1)

    def example_count(self, **options: Any) -> int:
        return perm(self.nodes, (options["exactly"] or 1) + 1)  # paths alone, a lower bound

    def make_batch(self, tokens: Int[Tensor, "batch position"]) -> RootsBatch:
        tokens = self.check_tokens(tokens)
        every = self._ancestors(tokens, self.nodes)
        depth = (every != every[:, -1:]).sum(1)
        ancestors = every[:, : int(depth.max()) + 1 if len(depth) else 1]
        return RootsBatch(tokens, self.solve(tokens), self.mask(tokens), depth.float(), ancestors)

    def task_results(self, batch: RootsBatch, /) -> Chain:
        return Chain.of(batch.ancestors[:, 1:], batch.difficulty.long(), batch.targets, batch.mask)

    def task_facts(self, batch: RootsBatch, /) -> dict[str, Fact]:
        result = {}
        for k in range(1, batch.ancestors.shape[1] - 1):
            about = f"the ancestor {k} level{'s' * (k > 1)} up, where it is no root"
            held = batch.difficulty > k
            result[f"ancestor {k}"] = Fact(batch.ancestors[:, k], held, about, is_intermediate=True)
        return result
