"""answer: a model's answers with the work that halting saves: what has finished leaves the batch.

    told = answer(model, tokens)                        # by the model's own halting
    told = answer(model, tokens, rule="kl")             # by a rule read from states and answers
    told.logits, told.used                              # the same as of the full pass; iterations, row by row

A row leaves once all positions that need an answer have stopped. Where no position reads a later
one, positions at the end leave too, once no row that is left needs them.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.looped_model import Context, Looped, checked_iterations, step_at
from ..core.state_tree import State, map_state, primary
from .exit_rules import Level, Look, Rule, leveled, look, named, own_rule

COMPACT = 1 / 16
"""A batch is made smaller when this share of its rows, or of its positions, has left: doing it
takes a part of an iteration."""


@dataclass(frozen=True)
class Answer:
    """What a model answered, and how many iterations it took."""

    logits: Float[Tensor, "batch position vocab"]
    """Each position's as it was when it stopped; that of a position that needs no answer, when its
    row left."""
    used: Int[Tensor, " batch"]
    """Iterations that were run for each row."""
    stopped: Int[Tensor, "batch position"]
    """Iterations after which each position stopped; `iterations` where it didn't."""
    halted: Bool[Tensor, "batch position"]
    """False where the loop ended before the position had stopped, or before its row left."""
    iterations: int
    """The most that were allowed."""
    worked: int
    """Positions times iterations that were computed, those included that wait for a batch to be
    made smaller."""

    @property
    def saved(self) -> float:
        """Fraction of row iterations saved, against running every row as long as the slowest,
        0..1."""
        return 1 - float(self.used.double().mean() / self.used.max().clamp(min=1))

    def __repr__(self) -> str:
        used = self.used.double()
        return (
            f"Answer {tuple(self.logits.shape)} · {used.mean():.2f} of {self.iterations} iterations used in "
            f"the mean, {int(used.max())} at most · {self.halted.float().mean():.1%} of positions halted"
        )


@torch.no_grad()
def answer(
    model: Any,
    tokens: Int[Tensor, "batch position"],
    iterations: int | None = None,
    *,
    rule: str | Rule | None = None,
    threshold: float | int | None = None,
    level: Level = "position",
    answer_positions: Bool[Tensor, "batch position"] | None = None,
    seed: int | None = None,
) -> Answer:
    """Run a model until every position that needs an answer has stopped, without what has finished.

    Arguments:
        iterations: the most; None means the model's own depth.
        rule: None: the model's own halting, as its pass has it. A name or a Rule: where that would
            stop each position. "own" is the model's gate as a rule, which lets its `threshold` be
            moved.
        level: whether positions stop by themselves, or examples as wholes.
        answer_positions: positions whose answer is needed; None means all.
        seed: for a model with a random start.

    Raises:
        LoopscopeError: a model without the four functions, in training mode, or a threshold without
            a rule.
    """
    _check(model, tokens, rule, threshold)
    n = checked_iterations(model.iterations if iterations is None else iterations)
    chosen = None if rule is None else named(rule, model).at(threshold)
    with torch.random.fork_rng(enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        return _Pass(model, tokens, n, chosen, level=level, answer_positions=answer_positions).run()


class _Pass:
    """One pass with a shrinking batch. `rows`: those that are left, by number; `width`: positions
    that are left."""

    def __init__(
        self,
        model: Any,
        tokens: Tensor,
        n: int,
        rule: Rule | None,
        *,
        level: Level,
        answer_positions: Tensor | None,
    ) -> None:
        self.level: Level = level
        self.model, self.tokens, self.n, self.rule = model, tokens, n, rule
        batch, positions = tokens.shape[:2]
        self.answer_positions = torch.ones(batch, positions, dtype=torch.bool, device=tokens.device)
        self.answer_positions = (
            self.answer_positions if answer_positions is None else answer_positions.to(tokens.device)
        )
        self.stopped = torch.full((batch, positions), n, device=tokens.device)
        self.halted = torch.zeros_like(self.answer_positions)
        self.used = torch.full((batch,), n, device=tokens.device)
        self.rows, self.width, self.worked = torch.arange(batch, device=tokens.device), positions, 0
        self.done = torch.zeros_like(self.rows, dtype=torch.bool)
        """Rows still in work whose answers are told."""
        self.logits: Tensor | None = None

    def run(self) -> Answer:
        model = self.model
        self.context = self._context(self.rows)
        state, carried = model.initial(self.context), None
        if self.rule is None and self._stopped(state) is None:
            self.rule = own_rule(
                model
            )  # it is judged from outside: a Q-head, a tolerance, a gate that freezes nothing
        before = look(0, state, None)
        try:
            for k in range(self.n + 1):
                model.clock.set(("iteration", k))
                state = model.at_state(state)
                now, carried = self._looked(before, state, k, carried)
                gone = self._gone()
                if k == self.n or bool(gone.all()):
                    self._read(state, torch.ones_like(gone), k)
                    break
                if bool(gone.any()):
                    self._read(state, gone, k)
                state, now, carried = self._compacted(state, now, carried, gone)
                before = now
                state = step_at(model, state, self.context, k)
                self.worked += len(self.rows) * self.width
        finally:
            model.clock.set()
        assert self.logits is not None
        return Answer(self.logits, self.used, self.stopped, self.halted, self.n, self.worked)

    def _context(self, rows: Tensor) -> Any:
        """What iterations read, made anew for some rows: a context may hold anything, but is known
        to come from tokens."""
        self.model.clock.set()
        return self.model.encode(self.tokens[rows, : self.width])

    def _looked(
        self, before: Look, state: State, k: int, carried: Tensor | None
    ) -> tuple[Look, Tensor | None]:
        """Note which positions stop with states[k]."""
        if self.rule is None:
            stops = self._stopped(state)
            if stops is not None:
                self._note(stops, k)
            return look(k, state, None), None
        if k == 0:
            return look(0, state, None), None
        answers = self.model.decode(self._open(state), self.context) if self.rule.answers else None
        now = look(k, state, answers)
        score, carried = self.rule.score(before, now, carried)
        score = score[:, -self.width :]  # registers stand before the tokens
        answer_positions = self.answer_positions[self.rows, : self.width]
        new = self._note(self.rule.stops(leveled(score, self.level, answer_positions)), k)
        if bool(new.any()):  # its answer is the one of this iteration, though its row may go on
            answers = self.model.decode(self._open(state), self.context) if answers is None else answers
            self._put(answers, new)
        return now, carried

    def _stopped(self, state: State) -> Tensor | None:
        """Positions whose answers the model itself has frozen; None if it freezes none."""
        return self.model.halted_positions(state) if hasattr(self.model, "halted_positions") else None

    def _open(self, state: State) -> Any:
        """The state without what the model's own halting has frozen, for a rule that decides in its
        place."""
        return self.model.without_freezing(state) if hasattr(self.model, "without_freezing") else state

    def _note(self, stops: Tensor, k: int) -> Tensor:
        """Which positions stop now for the first time."""
        there = self.halted[self.rows, : self.width]
        new = stops & ~there & ~self.done[:, None]
        self.halted[self.rows, : self.width] = there | new
        self.stopped[self.rows, : self.width] = torch.where(
            new,
            torch.full_like(self.stopped[self.rows, : self.width], k),
            self.stopped[self.rows, : self.width],
        )
        return new

    def _gone(self) -> Tensor:
        """Rows in which every answer position has stopped."""
        return (self.halted | ~self.answer_positions)[self.rows].all(1)

    def _room(self, answers: Tensor) -> None:
        if self.logits is None:
            self.logits = answers.new_zeros(*self.tokens.shape[:2], answers.shape[-1])

    def _put(self, answers: Tensor, where: Tensor) -> None:
        """Take the answers of some positions of the rows in work."""
        self._room(answers)
        assert self.logits is not None
        part = self.logits[self.rows, : self.width]
        self.logits[self.rows, : self.width] = torch.where(where[..., None], answers, part)

    def _read(self, state: State, rows: Tensor, k: int) -> None:
        """Take the answers of rows that leave, but of positions that a rule has stopped before.
        Only they are read out: the others would be as often as a row leaves."""
        new = rows & ~self.done
        self.done = self.done | rows
        if not bool(new.any()):
            return
        numbers = self.rows[new]
        self.used[numbers] = k
        if self.rule is not None and bool(self.halted[numbers].all()):
            return
        few = not bool(new.all())
        context = self._context(numbers) if few else self.context
        state = self._cut(state, new, self.width) if few else state
        answers = self.model.decode(state if self.rule is None else self._open(state), context)
        self._room(answers)
        told = self.halted[numbers, : self.width, None] & (self.rule is not None)
        assert self.logits is not None
        self.logits[numbers, : self.width] = torch.where(told, self.logits[numbers, : self.width], answers)

    def _compacted(
        self, state: State, now: Look, carried: Tensor | None, gone: Tensor
    ) -> tuple[Any, Look, Tensor | None]:
        """Go on without the rows that are done and the positions at the end that none needs, once
        they are enough."""
        left = ~gone
        width = self._needed(left)
        few_rows = int(gone.sum()) >= max(1, COMPACT * len(self.rows))
        if not few_rows and self.width - width < max(1, COMPACT * self.width):
            return state, now, carried
        keep = left if few_rows else torch.ones_like(left)
        self._leave(state, keep, width)
        state = self._cut(state, keep, width)
        p, carried = (None if part is None else self._cut(part, keep, width) for part in (now.p, carried))
        self.rows, self.width, self.done = self.rows[keep], width, self.done[keep]
        self.context = self._context(self.rows)
        return state, Look(now.k, state, primary(state), p), carried

    def _cut(self, state: State, keep: Tensor, width: int) -> Any:
        """The rows and first positions of what has a row for each in the batch."""

        def cut(part: Tensor) -> Tensor:
            if not part.ndim or len(part) != len(keep):
                return part
            part = part if bool(keep.all()) else part[keep]
            return part[:, :width] if part.ndim > 1 and part.shape[1] == self.width != width else part

        return map_state(cut, state)

    def _leave(self, state: State, keep: Tensor, width: int) -> None:
        """Positions at the end that leave while their row stays are told their answers: a rule may
        not have stopped them."""
        if width == self.width:
            return
        late = torch.zeros(len(self.rows), self.width, dtype=torch.bool, device=self.tokens.device)
        late[:, width:] = True
        told = self.halted[self.rows, : self.width] if self.rule is not None else torch.zeros_like(late)
        answers = self.model.decode(state if self.rule is None else self._open(state), self.context)
        self._put(answers, late & keep[:, None] & ~self.done[:, None] & ~told)

    def _needed(self, left: Tensor) -> int:
        """How many positions are still needed: all, unless none reads a later one."""
        if not _causal(self.context):
            return self.width
        open_ = (~self.halted & self.answer_positions)[self.rows, : self.width][left].any(0)
        return int(open_.nonzero().max()) + 1 if bool(open_.any()) else self.width


def _causal(context: Context) -> bool:
    """Whether a model of the zoo lets no position read a later one, which its attention's mask
    says."""
    mask = getattr(getattr(context, "positions", None), "mask", None)
    return isinstance(mask, Tensor) and bool(torch.equal(mask, mask.tril()))


def _check(model: Any, tokens: Any, rule: Any, threshold: Any) -> None:
    if not isinstance(model, Looped):
        raise LoopscopeError(
            f"answer needs a model with encode, initial, step and decode, but got {type(model).__name__}. "
            "Wrap it by its family first: ls.wrap(model)."
        )
    if not isinstance(tokens, Tensor) or tokens.ndim < 2 or not len(tokens):
        raise LoopscopeError(
            "answer needs tokens (batch, position) with one row or more. Pass a tensor of tokens."
        )
    if model.training:
        raise LoopscopeError(
            "rows leave the batch in evaluation only, but the model is in training mode. Call model.eval() "
            "first."
        )
    if threshold is not None and rule is None:
        raise LoopscopeError(
            f'threshold={threshold!r} needs the rule that it belongs to. Pass rule= too; rule="own" is the '
            "model's."
        )
