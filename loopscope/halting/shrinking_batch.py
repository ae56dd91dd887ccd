"""ShrinkingBatch: one pass through the loop. Rows that have halted leave the batch, and so do the
positions at the end of a causal model that no row needs any more."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..core.looped_model import Context, step_at
from ..core.state_tree import State, map_state, primary
from .exit_rules import Level, model_rule, scores_at_level
from .observation import Observation, observe
from .rule import Rule

COMPACT = 1 / 16
"""A batch is made smaller when this fraction of its rows, or of its positions, has left: making it
smaller costs part of an iteration."""


class ShrinkingBatch:
    """The rows and positions of a pass that still need work, and the answers of those that have
    left."""

    def __init__(
        self,
        model: Any,
        tokens: Tensor,
        iterations: int,
        rule: Rule | None,
        *,
        level: Level,
        answer_positions: Tensor | None,
        inputs: Mapping[str, Tensor] | None = None,
    ) -> None:
        """`inputs`: further ones of the model's forward, with a row for each of the tokens."""
        self.inputs = dict(inputs or {})
        self.model, self.tokens, self.iterations, self.rule = model, tokens, iterations, rule
        self.level: Level = level
        (batch, positions), device = tokens.shape[:2], tokens.device
        every = torch.ones(batch, positions, dtype=torch.bool, device=device)
        self.answer_positions = every if answer_positions is None else answer_positions.to(device)
        self.exit_depth = torch.full((batch, positions), iterations, device=device)
        """Iterations after which each position stopped."""
        self.halted = torch.zeros_like(every)
        self.iterations_used = torch.full((batch,), iterations, device=device)
        self.rows = torch.arange(batch, device=device)
        """Rows in the batch, by number."""
        self.width = positions
        """Positions in the batch, counted from the first."""
        self.complete = torch.zeros_like(self.rows, dtype=torch.bool)
        """Rows in the batch whose answers are final."""
        self.logits: Tensor | None = None
        """The answers so far, of every row and position."""
        self.shapes: list[tuple[int, int]] = []
        """(rows, positions) of the batch in each iteration that was computed."""

    def start(self) -> tuple[State, Observation]:
        """states[0] of all rows, and what the rule observes of it."""
        self.context = self._encode(self.rows)
        state = self.model.initial(self.context)
        if self.rule is None and self._frozen(state) is None:
            # halting that freezes nothing is read from outside: a Q-head, a tolerance, some gates
            self.rule = model_rule(self.model)
        return state, observe(0, state, None)

    def run_iteration(self, state: State, k: int) -> State:
        """Run iteration k on the rows and positions in the batch."""
        state = step_at(self.model, state, self.context, k)
        self.shapes.append((len(self.rows), self.width))
        return state

    def _encode(self, rows: Tensor) -> Context:
        """The context of some rows, computed again from their tokens, since a context may hold
        anything."""
        self.model.clock.set()
        positions = self.tokens.shape[1]
        inputs = {name: value[rows.to(value.device)] for name, value in self.inputs.items()}
        inputs = {
            name: value[:, : self.width] if value.shape[1:2] == (positions,) else value
            for name, value in inputs.items()
        }
        return self.model.encode(self.tokens[rows, : self.width], **inputs)

    # Which positions stop

    def stop_positions(
        self, previous: Observation, state: State, k: int, memory: Tensor | None
    ) -> tuple[Observation, Tensor | None]:
        """Mark the positions that stop at states[k], and take their answers."""
        if self.rule is None:
            frozen = self._frozen(state)
            if frozen is not None:
                self._mark_halted(frozen, k)
            return observe(k, state, None), None
        if k == 0:
            return observe(0, state, None), None
        answers = self._decode(state, self.context) if self.rule.reads_answers else None
        current = observe(k, state, answers)
        score, memory = self.rule.score(previous, current, memory)
        score = score[:, -self.width :]  # registers stand before the tokens
        needed = self.answer_positions[self.rows, : self.width]
        new = self._mark_halted(self.rule.stops(scores_at_level(score, self.level, needed)), k)
        if bool(new.any()):  # its answer is that of this iteration, though its row may go on
            self._put_answers(self._decode(state, self.context) if answers is None else answers, new)
        return current, memory

    def _frozen(self, state: State) -> Tensor | None:
        """Positions whose answers the model itself has frozen; None if it freezes none."""
        return self.model.halted_positions(state) if hasattr(self.model, "halted_positions") else None

    def _decode(self, state: State, context: Context) -> Tensor:
        """The logits. A rule decides in the place of the model's own halting, which then freezes
        nothing."""
        if self.rule is not None and hasattr(self.model, "without_freezing"):
            state = self.model.without_freezing(state)
        return self.model.decode(state, context)

    def _mark_halted(self, stops: Tensor, k: int) -> Tensor:
        """Which positions stop now for the first time."""
        halted = self.halted[self.rows, : self.width]
        new = stops & ~halted & ~self.complete[:, None]
        self.halted[self.rows, : self.width] = halted | new
        depth = self.exit_depth[self.rows, : self.width]
        self.exit_depth[self.rows, : self.width] = torch.where(new, torch.full_like(depth, k), depth)
        return new

    def rows_that_halted(self) -> Tensor:
        """Rows in which every answer position has stopped."""
        return (self.halted | ~self.answer_positions)[self.rows].all(1)

    # Answers

    def _allocate(self, answers: Tensor) -> Tensor:
        if self.logits is None:
            self.logits = answers.new_zeros(*self.tokens.shape[:2], answers.shape[-1])
        return self.logits

    def _put_answers(self, answers: Tensor, mask: Tensor) -> None:
        """Take the answers of some positions of the rows in the batch."""
        logits = self._allocate(answers)
        logits[self.rows, : self.width] = torch.where(
            mask[..., None], answers, logits[self.rows, : self.width]
        )

    def take_row_answers(self, state: State, rows: Tensor, k: int) -> None:
        """Take the answers of rows that leave, except at positions that a rule has stopped before.
        Only these rows are decoded."""
        new = rows & ~self.complete
        self.complete = self.complete | rows
        if not bool(new.any()):
            return
        numbers = self.rows[new]
        self.iterations_used[numbers] = k
        if self.rule is not None and bool(self.halted[numbers].all()):
            return
        if not bool(new.all()):
            answers = self._decode(self._select(state, new, self.width), self._encode(numbers))
        else:
            answers = self._decode(state, self.context)
        logits = self._allocate(answers)
        final = self.halted[numbers, : self.width, None] & (self.rule is not None)
        logits[numbers, : self.width] = torch.where(final, logits[numbers, : self.width], answers)

    def _take_end_answers(self, state: State, rows: Tensor, width: int) -> None:
        """Take the answers of positions at the end that leave while their row stays, where no rule
        has stopped them before."""
        if width == self.width:
            return
        end = torch.zeros(len(self.rows), self.width, dtype=torch.bool, device=self.tokens.device)
        end[:, width:] = True
        final = self.halted[self.rows, : self.width] & (self.rule is not None)
        answers = self._decode(state, self.context)
        self._put_answers(answers, end & rows[:, None] & ~self.complete[:, None] & ~final)

    # Making the batch smaller

    def compact(
        self, state: State, observation: Observation, memory: Tensor | None, leaving: Tensor
    ) -> tuple[State, Observation, Tensor | None]:
        """Drop the rows that leave and the positions at the end that no row needs, once they are
        enough."""
        staying = ~leaving
        width = self._positions_needed(staying)
        drop_rows = int(leaving.sum()) >= max(1, COMPACT * len(self.rows))
        if not drop_rows and self.width - width < max(1, COMPACT * self.width):
            return state, observation, memory
        rows = staying if drop_rows else torch.ones_like(staying)
        self._take_end_answers(state, rows, width)
        state = self._select(state, rows, width)
        answers, memory = (
            None if part is None else self._select(part, rows, width)
            for part in (observation.log_probabilities, memory)
        )
        self.rows, self.width, self.complete = self.rows[rows], width, self.complete[rows]
        self.context = self._encode(self.rows)
        return state, Observation(observation.k, state, primary(state), answers), memory

    def _select(self, state: State, rows: Tensor, width: int) -> Any:
        """Some rows and the first positions of everything in a state that has a row for each in the
        batch."""

        def select(part: Tensor) -> Tensor:
            if not part.ndim or len(part) != len(rows):
                return part
            part = part if bool(rows.all()) else part[rows]
            return part[:, :width] if part.ndim > 1 and part.shape[1] == self.width != width else part

        return map_state(select, state)

    def _positions_needed(self, rows: Tensor) -> int:
        """How many positions some rows still need: all, unless no position reads a later one."""
        if not _causal(self.context):
            return self.width
        open_ = (~self.halted & self.answer_positions)[self.rows, : self.width][rows].any(0)
        return int(open_.nonzero().max()) + 1 if bool(open_.any()) else self.width


def _causal(context: Context) -> bool:
    """Whether no position of a model reads a later one, according to its attention mask."""
    mask = getattr(getattr(context, "positions", None), "mask", None)
    return isinstance(mask, Tensor) and bool(torch.equal(mask, mask.tril()))
