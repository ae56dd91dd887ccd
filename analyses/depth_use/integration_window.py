"""The integration window of an input: the iterations through which an answer still depends on it.

A clue is a position where another token turns the answer, if it stands there from the beginning on.
After k iterations it is exchanged, and the loop goes on: in one sense with the input (from then on
the model reads the other token, and the state at its position is that of the run on it), in the
other with the state alone. The window is the k at which that still turns the answer; past its end,
what the input has to say has been taken. Counted are answers that turn, whatever they turn to. What
comes before the loop may have spread an input to other positions; it is exchanged at its own. Where
what comes after the loop looks at other positions, an exchange after the last iteration can still
turn an answer.

A loop that takes its input once has a window that ends there. A loop that goes on reading it
follows the exchange as long as enough iterations are left: then the window ends so many before the
last as the loop needs from input to answer, and states alone are repaired. After Curth, Lawrence,
Karmalkar & Prasad 2026 (arXiv 2604.12426); the definitions are ours.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.common.errors import LoopscopeWarning
from loopscope.core.looped_model import Context, unroll
from loopscope.core.state_tree import State, equal, items, primary, with_items
from loopscope.recorder.subset import select_examples
from loopscope.runs.run import Run


@dataclass(frozen=True)
class Windows:
    """Windows of some clues, each for one item: an answer, or all answers of an example."""

    item: Int[Tensor, " clue"]
    """The number of the item."""
    position: Int[Tensor, " clue"]
    """Where the clue stands."""
    token: Int[Tensor, " clue"]
    """What it is exchanged for."""
    iterations: tuple[int, ...]
    """The k after which it was exchanged."""
    flips: Bool[Tensor, "clue k"]
    """Whether that turned the answer."""
    state: Bool[Tensor, "clue k"]
    """The same with the state at its position alone exchanged."""
    tried: int
    """Positions of examples that were tried as clues."""

    @property
    def end(self) -> Float[Tensor, " clue"]:
        """The last k at which the exchange still turned the answer."""
        k = torch.tensor(self.iterations, dtype=torch.float64)
        return torch.where(self.flips, k, -1.0).amax(1) if len(self.flips) else torch.zeros(0)

    @property
    def rereads(self) -> float:
        """Share of the clues whose exchange half way still turns the answer; NaN without clues."""
        later = [i for i, k in enumerate(self.iterations) if k >= self.iterations[-1] / 2]
        return float(self.flips[:, later[0]].double().mean())


def windows(
    run: Run,
    example: Int[Tensor, " item"],
    answer_positions: Bool[Tensor, "item position"],
    *,
    before: bool,
    clues: int | None,
    points: int | None,
    seed: int,
) -> Windows:
    """The windows of clues drawn at random.

    Arguments:
        run: whole, of a model that can be iterated on, without edits.
        example: of each item.
        answer_positions: the positions of each item's answer. A clue stands at another position.
        before: whether it must stand before the first of them.
        clues: how many at most, out of twice as many positions tried. None: all, each position of
            each item tried once.
        points: the number of k after which inputs are exchanged, evenly spread; None: all.
        seed: of the draws.
    """
    rows = _candidates(
        run, example, answer_positions, before, most=None if clues is None else 2 * clues, seed=seed
    )
    n = run.iterations
    ks = sorted({round(k) for k in torch.linspace(0, n, min(n + 1, points or n + 1)).tolist()})
    if len(rows):
        turned = _Exchange(run, rows, example, answer_positions).clues()
        result = rows[turned][:clues]
        if len(result):
            exchange = _Exchange(run, result, example, answer_positions)
            flips = torch.stack([exchange.turned(k) for k in ks], 1)
            state = torch.stack([exchange.turned(k, alone=True) for k in ks], 1)
            return Windows(result[:, 0], result[:, 1], result[:, 2], tuple(ks), flips, state, len(rows))
    empty = torch.zeros(0, dtype=torch.long)
    none = torch.zeros(0, len(ks), dtype=torch.bool)
    return Windows(empty, empty, empty, tuple(ks), none, none, len(rows))


class _Exchange:
    """Runs of some rows (item, position, token), and of the same with that token there."""

    def __init__(
        self,
        run: Run,
        rows: Int[Tensor, "row 3"],
        example: Tensor,
        answer_positions: Bool[Tensor, "item position"],
    ) -> None:
        item, self.position, token = rows.T
        self.run, self.model, self.answer_positions = run, run.model, answer_positions[item]
        self.n = int(run.origin.get("requested_iterations", run.iterations))
        self.own = select_examples(run, example[item].tolist())
        self.before = self.own.logits[run.iterations].argmax(-1).cpu()
        self.every = torch.arange(len(rows))
        tokens = self.own.tokens.clone()
        tokens[self.every, self.position] = token.to(tokens)
        with torch.no_grad(), torch.random.fork_rng():
            self.context = self.model.encode(tokens, **self.own.inputs)
            first = self.model.initial(self.context)
            if not equal(first, self.model.initial(self.context)):  # it is drawn, whatever the tokens
                first = self.own.state(0)
            self.other = self._unrolled(first, self.context, 0)

    def clues(self) -> Bool[Tensor, " row"]:
        """Which rows are answered otherwise with the other token from the beginning on."""
        with torch.no_grad():
            after = self.model.decode(self.other[-1], self.context).argmax(-1).cpu()
        return ((after != self.before) & self.answer_positions).any(1)

    def turned(self, k: int, alone: bool = False) -> Bool[Tensor, " row"]:
        """Whether each row's answer turns if its input is exchanged after k iterations; `alone`:
        the state at it only."""
        context = self.own.reader.context if alone else self.context
        with torch.no_grad(), torch.random.fork_rng():
            state = self._mixed(self.own.state(k), self.other[min(k, len(self.other) - 1)])
            last = self._unrolled(state, context, k)[-1]
            after = self.model.decode(last, context).argmax(-1).cpu()
        return ((after != self.before) & self.answer_positions).any(1)

    def _unrolled(self, state: State, context: Context, start: int) -> list[Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LoopscopeWarning)
            return [one for _, one in unroll(self.model, state, context, self.n, start=start)]

    def _mixed(self, own: Any, other: Any) -> Any:
        """The own state, with the other's at each row's position, in all tensors that the next
        iteration reads."""
        mine, others = items(own), items(other)
        moving = tuple(getattr(self.model, "recurrent_fields", ()) or mine)
        written = {
            name: self._written(value, others[name])
            for name, value in mine.items()
            if name in moving and value.ndim > 1 and value.shape[:2] == primary(own).shape[:2]
        }
        return with_items(own, written)

    def _written(self, own: Tensor, other: Tensor) -> Tensor:
        new = own.clone()
        place = (
            self.position + own.shape[1] - self.answer_positions.shape[1]
        )  # positions before the sequence's own
        new[self.every, place] = other[self.every, place]
        return new


def _candidates(
    run: Run,
    example: Tensor,
    answer_positions: Bool[Tensor, "item position"],
    before: bool,
    *,
    most: int | None,
    seed: int,
) -> Int[Tensor, "row 3"]:
    """(item, position, token), in random order: a position that isn't asked, and what another
    example has there."""
    generator = torch.Generator().manual_seed(seed)
    tokens = run.tokens.cpu()
    positions = tokens.shape[1]
    first = answer_positions.int().argmax(1) if before else torch.full((len(answer_positions),), positions)
    chosen: list[tuple[int, int, int]] = []
    for number in torch.randperm(len(example) * positions, generator=generator).tolist():
        item, position = divmod(number, positions)
        if answer_positions[item, position] or position >= int(first[item]):
            continue
        others = tokens[:, position]
        others = others[others != tokens[example[item], position]]
        if len(others):
            pick = int(torch.randint(0, len(others), (1,), generator=generator))
            chosen.append((item, position, int(others[pick])))
        if most is not None and len(chosen) == most:
            break
    return torch.tensor(chosen, dtype=torch.long).reshape(-1, 3)
