"""Rounds: the search for loops in a tree of calls. A round is what comes again; it becomes an
iteration of a `Loop`."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from .call_trace import Call, Shape, store
from .repeat_folding import Node, folded
from .state_flow import Item, Turn, carrying, items_of, levels_of, with_light

SMALLEST = 0.01
"""The fraction of the parameters outside embeddings that a loop's body holds at least."""
MOST_OWN = 1 / 3
"""What runs in one round only, such as norms of its own, holds at most this many parameters for
each one of the body: else a part is shared by different layers, but nothing loops."""
PART = 0.001
"""A part that holds less than this fraction doesn't tell where a round begins, but may belong to
it."""

Refusal = tuple[nn.Module, str]
"""A part that ran more than once, and why it is no loop; {} stands for its name."""


@dataclass(frozen=True)
class Round:
    """One part of a round."""

    modules: list[nn.Module]
    """The modules that are this part in one round or another; more than one if they share their
    parameters."""
    again: bool
    """Whether it runs several times in a round."""
    takes: set[Shape]
    gives: set[Shape]


@dataclass(frozen=True)
class Rounds:
    """A loop."""

    parts: list[Round]
    times: int
    fewest: int
    streams: int
    period: int
    inner: list["Rounds"]

    @property
    def modules(self) -> list[nn.Module]:
        return [module for part in self.parts for module in part.modules]


class Search:
    """The search for loops in one module's calls."""

    def __init__(self, module: nn.Module, operations: list[str]) -> None:
        self.module, self.operations = module, operations
        self.embeddings = {
            store(parameter)
            for part in module.modules()
            if isinstance(part, nn.Embedding | nn.EmbeddingBag)
            or ("embed" in type(part).__name__.lower() and not list(part.children()))
            for parameter in part.parameters(recurse=False)
        }

    def weight(self, modules: Iterable[nn.Module]) -> int:
        """How many parameters they have outside embeddings, each counted once."""
        result = {store(p): p.numel() for module in modules for p in module.parameters()}
        return sum(count for key, count in result.items() if key not in self.embeddings)

    def count(self, modules: Iterable[nn.Module]) -> int:
        return sum({store(p): p.numel() for module in modules for p in module.parameters()}.values())

    def alike(self, module: nn.Module) -> list[nn.Module]:
        """Every module of this class that shares all its parameters, itself first."""
        key = [store(p) for p in module.parameters()]
        others = (m for m in self.module.modules() if type(m) is type(module) and m is not module)
        return [module, *(m for m in others if [store(p) for p in m.parameters()] == key)]

    def rounds(self, scope: Call, total: int) -> tuple[list[Rounds], list[Refusal]]:
        """The outermost loops in one call, and what was refused.

        Arguments:
            total: how many parameters outside embeddings the loops are a part of.
        """
        items = items_of(scope)
        by_key: dict[int, list[Call]] = {}
        for item in items:
            if item.repeated:
                by_key.setdefault(item.call.key, []).append(item.call)
        loops: list[Rounds] = []
        refused: list[Refusal] = []
        telling: set[int] = set()
        for key, calls in by_key.items():
            share = self.weight([calls[0].module]) / total if total else 0.0
            said = f"{{}} runs {len(calls)} times, but "
            if not any(later.reads & call.bit for call in calls for later in calls):
                refused.append((calls[0].module, f"{said}no call works on what an earlier one gave."))
            elif not share:
                refused.append((calls[0].module, f"{said}embeddings are no loop's body."))
            elif share >= 0.5 or (share >= PART and _has_matrix(calls[0].module)):
                telling.add(key)
            else:
                refused.append(
                    (calls[0].module, f"{said}a part this small, {_percent(share)}, makes no loop.")
                )
        nodes = folded([item.call for item in items if item.repeated and item.call.key in telling])
        stretches = [self._with_ends(nodes, i) for i, node in enumerate(nodes) if node.turns]
        covered = {call for turns in stretches for turn in turns for node in turn for call in node.calls()}
        left: dict[int, list[Turn]] = {}  # what comes again without an order
        for node in nodes:
            if node.call is not None and node.call not in covered:
                left.setdefault(node.call.key, []).append((node,))
        for turns in [*stretches, *(turns for turns in left.values() if len(turns) > 1)]:
            result = self._checked(turns, items, total, refused)
            if result is not None:
                loops = _merged([*loops, result])
        body = {module for loop in loops for module in loop.modules}
        large = SMALLEST * total if loops else 0.0  # beside a loop, nobody asks about its norms
        kept = [(part, why) for part, why in refused if part not in body and self.weight([part]) >= large]
        return loops, kept

    def _with_ends(self, nodes: Sequence[Node], i: int) -> list[Turn]:
        """The turns of a stretch, with a turn before or after it that is not whole, if it holds
        most of a turn."""
        turns = list(nodes[i].turns)
        keys = [node.key for node in turns[0]]
        after = nodes[i + 1 : i + len(keys)]
        whole = 0
        while whole < len(after) and after[whole].key == keys[whole]:
            whole += 1
        if whole and self._most(turns[0][:whole], turns[0]):
            return [*(turn[:whole] for turn in turns), tuple(after[:whole])]
        return turns

    def _most(self, some: Turn, every: Turn) -> bool:
        return MOST_OWN * self.weight(_modules(some)) >= self.weight(_modules(every)) - self.weight(
            _modules(some)
        )

    def _checked(
        self, turns: list[Turn], items: list[Item], total: int, refused: list[Refusal] | None
    ) -> Rounds | None:
        """The loop that these turns are, or None and the reason why they are none."""
        reasons = [] if refused is None else refused
        first = next(turns[0][0].calls())
        said = f"{{}} runs {len(turns)} times, but "
        turns = with_light(turns, items)
        levels = levels_of(turns)
        sizes = set(Counter(levels).values())
        if max(levels) < 2 or len(sizes) > 1:
            reasons.append((first.module, f"{said}its calls don't each work on what the one before gave."))
            return None
        turns = carrying(turns, levels)
        if not turns:
            reasons.append(
                (first.module, f"{said}no part of what comes round works on its own earlier result.")
            )
            return None
        body = self.weight(_modules(node for turn in turns for node in turn))
        own = self._own(turns, items) / (len(turns) - 1)
        if own > MOST_OWN * body:
            reasons.append(
                (
                    first.module,
                    f"{said}most of what runs from one call to the next does not run again: it is shared, "
                    "nothing loops.",
                )
            )
            return None
        if body < SMALLEST * total:
            reasons.append(
                (first.module, f"{said}a part this small, {_percent(body / total)}, makes no loop.")
            )
            return None
        parts, inner = self._parts(turns, items)
        return Rounds(
            parts=parts,
            times=max(levels),
            fewest=max(levels),
            streams=sizes.pop(),
            period=self._period(turns) if len(parts) == 1 and not inner else 1,
            inner=inner,
        )

    def _parts(self, turns: list[Turn], items: list[Item]) -> tuple[list[Round], list[Rounds]]:
        """What a round consists of, and the loops in it."""
        parts: list[Round] = []
        inner: list[Rounds] = []
        keys = Counter(call.key for node in turns[0] for call in node.calls() if not node.turns)
        for place in range(len(turns[0])):
            nodes = [turn[place] for turn in turns]
            longest = max(nodes, key=lambda node: len(node.turns))
            if longest.turns:
                looped = None
                if len(longest.turns) > 1:
                    looped = self._checked(list(longest.turns), items, 0, None)
                if looped is not None:
                    inner.append(_counted(looped, [len(node.turns) // looped.streams for node in nodes]))
                every = [turn for node in nodes for turn in node.turns]
                for part in zip(*every, strict=True):
                    parts.append(_part([call for node in part for call in node.calls()], True))
                continue
            calls = [call for node in nodes for call in node.calls()]
            parts.append(_part(calls, keys[calls[0].key] > 1))
            inside = [self.rounds(call, self.weight([call.module]))[0] for call in calls]
            for loop in _merged([loop for loops in inside for loop in loops]):
                last = loop.parts[-1].modules
                missing = [
                    sum(other.module in last for other in call.tree())
                    for call, loops in zip(calls, inside, strict=True)
                    if not any(result.modules == loop.modules for result in loops)
                ]
                inner.append(_counted(loop, [loop.times, loop.fewest, *missing]))
        return parts, inner

    def _own(self, turns: list[Turn], items: list[Item]) -> int:
        """How many parameters run between the first and the last call of a loop on its way, and
        only once."""
        body = [call for turn in turns for node in turn for call in node.calls()]
        keys, every = {call.key for call in body}, sum(call.bit for call in body)
        result: list[nn.Module] = []
        direct = 0
        for item in items:
            call = item.call
            if not body[0].bit < call.bit < body[-1].bit or call.key in keys:
                continue
            if item.opened:
                direct += sum(
                    p.numel()
                    for p in call.module.parameters(recurse=False)
                    if store(p) not in self.embeddings
                )
            elif not item.repeated and call.reads & every and body[-1].reads & call.bit:
                result.append(call.module)
        return direct + self.weight(result)

    def _period(self, turns: list[Turn]) -> int:
        """After how many calls the operations between them come again; 1 if they are all alike or
        never come again."""
        calls = [call for turn in turns for node in turn for call in node.calls()]
        between = [
            self.operations[one.end : other.start] for one, other in zip(calls, calls[1:], strict=False)
        ]
        for period in range(1, len(between) - 1):
            if all(one == other for one, other in zip(between, between[period:], strict=False)):
                return period
        return 1


def _merged(loops: list[Rounds]) -> list[Rounds]:
    """Loops over the same modules as one, with its fewest and most iterations."""
    merged: list[Rounds] = []
    for loop in loops:
        same = next((i for i, other in enumerate(merged) if other.modules == loop.modules), None)
        if same is None:
            merged.append(loop)
        else:
            longest = max(merged[same], loop, key=lambda each: each.times)
            merged[same] = _counted(
                longest, [merged[same].times, merged[same].fewest, loop.times, loop.fewest]
            )
    return merged


def _counted(loop: Rounds, times: list[int]) -> Rounds:
    return Rounds(loop.parts, max(times), min(times), loop.streams, loop.period, loop.inner)


def _percent(share: float) -> str:
    return f"{share:.1%} of the parameters outside embeddings"


def _part(calls: list[Call], again: bool) -> Round:
    takes = {shape for call in calls for shape in call.takes}
    gives = {shape for call in calls for shape in call.gives}
    return Round(_distinct(call.module for call in calls), again, takes, gives)


def _has_matrix(module: nn.Module) -> bool:
    return any(sum(size > 1 for size in p.shape) > 1 for p in module.parameters())


def _modules(nodes: Iterable[Node]) -> list[nn.Module]:
    return _distinct(call.module for node in nodes for call in node.calls())


def _distinct(modules: Iterable[nn.Module]) -> list[nn.Module]:
    return list(dict.fromkeys(modules))
