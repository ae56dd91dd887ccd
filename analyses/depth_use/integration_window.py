"""The integration window of an input: the iterations during which the answer still depends on it.

A relevant input is a position where another token, present from the beginning, changes the answer.
After k iterations the token is replaced and the loop continues. This is done in two ways: with the
input (from then on the model reads the other token, and the state at its position is that of the
run on it), and with the state at its position alone. The window is the range of k for which that
still changes the answer; after its end, the input's information has been integrated. Any change of
the answer counts. What comes before the loop may have spread an input to other positions; it is
replaced at its own. Where what comes after the loop reads other positions, a replacement after the
last iteration can still change an answer.

A loop that reads its input once has a window that ends there. A loop that reads it in every
iteration follows the replacement as long as enough iterations are left: then the window ends as
many iterations before the last as the loop needs from input to answer, and replacing the state
alone is undone. After Curth, Lawrence, Karmalkar & Prasad 2026 (arXiv 2604.12426); the definitions
are ours.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.common.text import plural
from loopscope.runs.run import Run
from loopscope.runs.run_mask import mask_of

from .replaced_token import ReplacedToken


@dataclass(frozen=True)
class IntegrationWindows:
    """Windows of some relevant inputs, each for one item: an answer, or all answers of an
    example."""

    item: Int[Tensor, " input"]
    """The number of the item."""
    position: Int[Tensor, " input"]
    token: Int[Tensor, " input"]
    """What it is replaced with."""
    iterations: tuple[int, ...]
    """The k after which it was replaced."""
    changes: Bool[Tensor, "input k"]
    """Whether that changed the answer."""
    state_changes: Bool[Tensor, "input k"]
    """The same with only the state at its position replaced."""
    candidates: int
    """How many inputs were tested for relevance."""
    relevant: int
    """How many of them are relevant; at most `max_inputs` of these were measured."""

    @property
    def end(self) -> Float[Tensor, " input"]:
        """The last k at which the replacement still changed the answer."""
        k = torch.tensor(self.iterations, dtype=torch.float64)
        return torch.where(self.changes, k, -1.0).amax(1) if len(self.changes) else torch.zeros(0)

    @property
    def late_fraction(self) -> float:
        """Fraction of the inputs whose replacement halfway still changes the answer; NaN without
        inputs."""
        return float(self.changes[:, self._halfway].double().mean())

    @property
    def _halfway(self) -> int:
        """The index of the first k that is at least half of the last."""
        return next(i for i, k in enumerate(self.iterations) if k >= self.iterations[-1] / 2)

    @property
    def sentence(self) -> str:
        """How many inputs are relevant, and whether the loop keeps reading them."""
        if not len(self.item):
            return (
                "No relevant input was found: another token at one of "
                f"{self.candidates} positions changed no answer."
            )
        late, state = self.changes[:, self._halfway].sum(), self.state_changes.any(1).sum()
        all_read, none_read = self.late_fraction == 1, self.late_fraction == 0
        reads = (
            f"the loop keeps reading {'its inputs' if all_read else 'half of its inputs or more'}"
            if self.late_fraction >= 0.5
            else f"by then it has integrated {'its inputs' if none_read else 'most of its inputs'}"
        )
        return (
            f"{self.relevant} of {plural(self.candidates, 'tested input')} are relevant: with another "
            "example's token at that position from the beginning on, the answer changes."
            f"{self._measured} If that token is put there only after "
            f"{plural(self.iterations[self._halfway], 'iteration')}, the answer still changes for "
            f"{self._share(int(late))}: {reads}. If only the state at the input is replaced, the answer "
            f"changes for {self._share(int(state))} {'at some' if state else 'at any'} iteration."
        )

    @property
    def _measured(self) -> str:
        """How many of the relevant inputs were measured, if not all."""
        if self.relevant == len(self.item):
            return ""
        return f" Of these, {len(self.item)} drawn at random were measured."

    def _share(self, count: int) -> str:
        """Some of the relevant inputs, in words."""
        total = plural(len(self.item), "input")
        if count == len(self.item):
            return f"all {total}" if count > 1 else "it"
        return f"{count or 'none'} of the {total}"


def integration_windows(
    run: Run,
    example: Int[Tensor, " item"],
    answer_positions: Bool[Tensor, "item position"],
    *,
    causal: bool,
    max_inputs: int | None,
    points: int | None,
    seed: int,
) -> IntegrationWindows:
    """The windows of relevant inputs drawn at random.

    Arguments:
        run: whole, of a model that can be iterated, without edits.
        example: of each item.
        answer_positions: of each item. An input is at another position.
        causal: whether it must be before the first of them.
        max_inputs: how many at most, out of twice as many candidates. None: all, with each position
            of each item tested once.
        points: the number of k after which inputs are replaced, evenly spaced; None: all.
        seed: of the draws.
    """
    most = None if max_inputs is None else 2 * max_inputs
    rows = _candidates(run, example, answer_positions, causal, most=most, seed=seed)
    n = run.iterations
    ks = sorted({round(k) for k in torch.linspace(0, n, min(n + 1, points or n + 1)).tolist()})
    if len(rows):
        relevant = ReplacedToken(run, rows, example, answer_positions).relevant()
        inputs = rows[relevant][:max_inputs]
        if len(inputs):
            replaced = ReplacedToken(run, inputs, example, answer_positions)
            changes = torch.stack([replaced.changes_answer(k) for k in ks], 1)
            state_changes = torch.stack([replaced.changes_answer(k, state_only=True) for k in ks], 1)
            item, position, token = inputs.T
            return IntegrationWindows(
                item, position, token, tuple(ks), changes, state_changes, len(rows), int(relevant.sum())
            )
    empty = torch.zeros(0, dtype=torch.long)
    none = torch.zeros(0, len(ks), dtype=torch.bool)
    return IntegrationWindows(empty, empty, empty, tuple(ks), none, none, len(rows), 0)


def _candidates(
    run: Run,
    example: Int[Tensor, " item"],
    answer_positions: Bool[Tensor, "item position"],
    causal: bool,
    *,
    most: int | None,
    seed: int,
) -> Int[Tensor, "row 3"]:
    """(item, position, token), in random order: a position that counts and is no answer position,
    and the token that another example has there."""
    generator = torch.Generator().manual_seed(seed)
    tokens = run.tokens.cpu()
    positions = tokens.shape[1]
    every = torch.full((len(answer_positions),), positions)
    end = answer_positions.int().argmax(1) if causal else every
    rows: list[tuple[int, int, int]] = []
    counted = mask_of(run, len(tokens), positions)
    places = counted[example].nonzero().tolist()
    for index in torch.randperm(len(places), generator=generator).tolist():
        item, position = places[index]
        if answer_positions[item, position] or position >= int(end[item]):
            continue
        others = tokens[counted[:, position], position]
        others = others[others != tokens[example[item], position]]
        if len(others):
            drawn = int(torch.randint(0, len(others), (1,), generator=generator))
            rows.append((item, position, int(others[drawn])))
        if most is not None and len(rows) == most:
            break
    return torch.tensor(rows, dtype=torch.long).reshape(-1, 3)
