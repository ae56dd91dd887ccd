"""The search for loops in a tree of calls: fold repeated calls, then check that data flows from one
repeat to the next."""

from collections import Counter
from collections.abc import Iterable, Sequence

from torch import nn

from .call_trace import Call, storage_key
from .loop_candidate import BodyPart, LoopCandidate, body_part, distinct, merged
from .repeat_folding import CallGroup, fold_repeats
from .state_flow import Repeat, ScopeCall, calls_in_scope, dependency_depths, state_carrying, with_small_parts

MIN_BODY = 0.01
"""The smallest fraction of the parameters outside embeddings that a loop's body holds."""
MAX_UNSHARED = 1 / 3
"""The largest number of parameters that run in one iteration only, such as norms of its own, per
parameter of the body. With more, a part is shared by different layers, but nothing loops."""
MIN_PART = 0.001
"""A part with a smaller fraction of the parameters doesn't decide where an iteration begins, but
may belong to one."""

Rejection = tuple[nn.Module, str]
"""A part that ran more than once, and why it is no loop; {} stands for its name."""


class LoopSearch:
    """The search for loops in one module's calls."""

    def __init__(self, module: nn.Module, operations: list[str]) -> None:
        self.module, self.operations = module, operations
        self.embeddings = {
            storage_key(parameter)
            for part in module.modules()
            if isinstance(part, nn.Embedding | nn.EmbeddingBag)
            or ("embed" in type(part).__name__.lower() and not list(part.children()))
            for parameter in part.parameters(recurse=False)
        }

    def weight(self, modules: Iterable[nn.Module]) -> int:
        """The number of their parameters outside embeddings, each counted once."""
        result = {storage_key(p): p.numel() for module in modules for p in module.parameters()}
        return sum(count for key, count in result.items() if key not in self.embeddings)

    def parameter_count(self, modules: Iterable[nn.Module]) -> int:
        """The number of all their parameters, each counted once."""
        return sum({storage_key(p): p.numel() for module in modules for p in module.parameters()}.values())

    def sharing_parameters(self, module: nn.Module) -> list[nn.Module]:
        """Every module of this class that shares all its parameters, itself first."""
        key = [storage_key(p) for p in module.parameters()]
        others = (m for m in self.module.modules() if type(m) is type(module) and m is not module)
        return [module, *(m for m in others if [storage_key(p) for p in m.parameters()] == key)]

    def loops_in(self, scope: Call, total: int) -> tuple[list[LoopCandidate], list[Rejection]]:
        """The outermost loops in one call, and the repeated parts that are no loops.

        Arguments:
            total: the number of parameters outside embeddings that fractions refer to.
        """
        items = calls_in_scope(scope)
        by_key: dict[int, list[Call]] = {}
        for item in items:
            if item.repeated:
                by_key.setdefault(item.call.key, []).append(item.call)
        loops: list[LoopCandidate] = []
        rejected: list[Rejection] = []
        decisive: set[int] = set()
        for key, calls in by_key.items():
            share = self.weight([calls[0].module]) / total if total else 0.0
            start = f"{{}} runs {len(calls)} times, but "
            if not any(later.dependencies & call.bit for call in calls for later in calls):
                rejected.append((calls[0].module, f"{start}no call uses the result of an earlier one."))
            elif not share:
                rejected.append((calls[0].module, f"{start}embeddings are no loop's body."))
            elif share >= 0.5 or (share >= MIN_PART and _has_matrix(calls[0].module)):
                decisive.add(key)
            else:
                rejected.append(
                    (calls[0].module, f"{start}a part this small, {_percent(share)}, is no loop.")
                )
        groups = fold_repeats([item.call for item in items if item.repeated and item.call.key in decisive])
        sequences = [self._with_ends(groups, i) for i, group in enumerate(groups) if group.repeats]
        covered = {
            call for repeats in sequences for repeat in repeats for group in repeat for call in group.calls()
        }
        single: dict[int, list[Repeat]] = {}  # calls that repeat in no regular sequence
        for group in groups:
            if group.call is not None and group.call not in covered:
                single.setdefault(group.call.key, []).append((group,))
        for repeats in [*sequences, *(repeats for repeats in single.values() if len(repeats) > 1)]:
            result = self._candidate(repeats, items, total, rejected)
            if result is not None:
                loops = merged([*loops, result])
        body = {module for loop in loops for module in loop.modules}
        large = MIN_BODY * total if loops else 0.0  # with a loop, small parts are of no interest
        rejected = [each for each in rejected if each[0] not in body and self.weight([each[0]]) >= large]
        return loops, rejected

    def _with_ends(self, groups: Sequence[CallGroup], i: int) -> list[Repeat]:
        """The repeats of a sequence, also with an incomplete one after it that holds most of its
        parameters; all are then cut to what they have in common."""
        repeats = list(groups[i].repeats)
        keys = [group.key for group in repeats[0]]
        after = groups[i + 1 : i + len(keys)]
        common = 0
        while common < len(after) and after[common].key == keys[common]:
            common += 1
        if common and self._is_most(repeats[0][:common], repeats[0]):
            return [*(repeat[:common] for repeat in repeats), tuple(after[:common])]
        return repeats

    def _is_most(self, some: Repeat, whole: Repeat) -> bool:
        return MAX_UNSHARED * self.weight(_modules(some)) >= self.weight(_modules(whole)) - self.weight(
            _modules(some)
        )

    def _candidate(
        self, repeats: list[Repeat], items: list[ScopeCall], total: int, rejected: list[Rejection] | None
    ) -> LoopCandidate | None:
        """The loop that these repeats are, or None, with the reason appended to `rejected`."""
        reasons = [] if rejected is None else rejected
        first = next(repeats[0][0].calls())
        start = f"{{}} runs {len(repeats)} times, but "
        repeats = with_small_parts(repeats, items)
        depths = dependency_depths(repeats)
        sizes = set(Counter(depths).values())
        if max(depths) < 2 or len(sizes) > 1:
            reasons.append((first.module, f"{start}not every call uses the result of the one before."))
            return None
        repeats = state_carrying(repeats, depths)
        if not repeats:
            reasons.append((first.module, f"{start}no repeated part uses its own earlier result."))
            return None
        body = self.weight(_modules(group for repeat in repeats for group in repeat))
        unshared = self._unshared_count(repeats, items) / (len(repeats) - 1)
        if unshared > MAX_UNSHARED * body:
            reasons.append(
                (
                    first.module,
                    f"{start}most of the parameters between its calls run only once: layers share it, "
                    "nothing loops.",
                )
            )
            return None
        if body < MIN_BODY * total:
            reasons.append((first.module, f"{start}a part this small, {_percent(body / total)}, is no loop."))
            return None
        parts, inner = self._parts(repeats, items)
        return LoopCandidate(
            parts=parts,
            times=max(depths),
            fewest=max(depths),
            streams=sizes.pop(),
            period=self._period(repeats) if len(parts) == 1 and not inner else 1,
            inner=inner,
        )

    def _parts(
        self, repeats: list[Repeat], items: list[ScopeCall]
    ) -> tuple[list[BodyPart], list[LoopCandidate]]:
        """The parts of an iteration, and the loops in it."""
        parts: list[BodyPart] = []
        inner: list[LoopCandidate] = []
        keys = Counter(call.key for group in repeats[0] for call in group.calls() if not group.repeats)
        for position in range(len(repeats[0])):
            groups = [repeat[position] for repeat in repeats]
            longest = max(groups, key=lambda group: len(group.repeats))
            if longest.repeats:
                looped = None
                if len(longest.repeats) > 1:
                    looped = self._candidate(list(longest.repeats), items, 0, None)
                if looped is not None:
                    inner.append(
                        looped.with_times([len(group.repeats) // looped.streams for group in groups])
                    )
                every = [repeat for group in groups for repeat in group.repeats]
                for part in zip(*every, strict=True):
                    parts.append(body_part([call for group in part for call in group.calls()], True))
                continue
            calls = [call for group in groups for call in group.calls()]
            parts.append(body_part(calls, keys[calls[0].key] > 1))
            inside = [self.loops_in(call, self.weight([call.module]))[0] for call in calls]
            for loop in merged([loop for loops in inside for loop in loops]):
                last = loop.parts[-1].modules
                missing = [
                    sum(other.module in last for other in call.descendants())
                    for call, loops in zip(calls, inside, strict=True)
                    if not any(result.modules == loop.modules for result in loops)
                ]
                inner.append(loop.with_times([loop.times, loop.fewest, *missing]))
        return parts, inner

    def _unshared_count(self, repeats: list[Repeat], items: list[ScopeCall]) -> int:
        """The number of parameters between the first and the last call of a loop that run once and
        that the last call depends on."""
        body = [call for repeat in repeats for group in repeat for call in group.calls()]
        keys, every = {call.key for call in body}, sum(call.bit for call in body)
        result: list[nn.Module] = []
        direct = 0
        for item in items:
            call = item.call
            if not body[0].bit < call.bit < body[-1].bit or call.key in keys:
                continue
            if item.expanded:
                direct += sum(
                    p.numel()
                    for p in call.module.parameters(recurse=False)
                    if storage_key(p) not in self.embeddings
                )
            elif not item.repeated and call.dependencies & every and body[-1].dependencies & call.bit:
                result.append(call.module)
        return direct + self.weight(result)

    def _period(self, repeats: list[Repeat]) -> int:
        """The period of the tensor operations between calls; 1 if they are all equal or not
        periodic."""
        calls = [call for repeat in repeats for group in repeat for call in group.calls()]
        between = [
            self.operations[one.end : other.start] for one, other in zip(calls, calls[1:], strict=False)
        ]
        for period in range(1, len(between) - 1):
            if all(one == other for one, other in zip(between, between[period:], strict=False)):
                return period
        return 1


def _percent(share: float) -> str:
    return f"{share:.1%} of the parameters outside embeddings"


def _has_matrix(module: nn.Module) -> bool:
    return any(sum(size > 1 for size in p.shape) > 1 for p in module.parameters())


def _modules(groups: Iterable[CallGroup]) -> list[nn.Module]:
    return distinct(call.module for group in groups for call in group.calls())
