"""answer: a model's answers, with the work that halting saves. Rows that have halted leave the
batch.

    result = answer(model, tokens)                      # by the model's own halting
    result = answer(model, tokens, rule="kl")           # by a rule read from states and answers
    result.logits, result.iterations_used               # the same logits as of the full pass
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..common.arguments import Count, Finite, Index, Seed
from ..common.errors import LoopscopeError
from ..common.guard import guarded
from ..core.counted import counted_positions, special_tokens
from ..core.looped_model import Looped, checked_iterations
from ..core.model_text import model_input
from ..core.turns import check_no_pass, parts_of, turn
from .exit_rules import Level, get_rule
from .metrics import fraction_saved, position_iterations
from .rule import Rule
from .shrinking_batch import ShrinkingBatch


@dataclass(frozen=True)
class Answer:
    """What a model answered, and how many iterations it took."""

    logits: Float[Tensor, "batch position vocab"]
    """Each position's logits when it stopped; those of a position that needs no answer, when its
    row left."""
    iterations_used: Int[Tensor, " batch"]
    """Iterations that were run for each row."""
    exit_depth: Int[Tensor, "batch position"]
    """Iterations after which each position stopped; `iterations` where it didn't."""
    halted: Bool[Tensor, "batch position"]
    """False where the loop ended before the position had stopped, or its row left before that."""
    iterations: int
    """The largest number that was allowed."""
    work: int
    """Positions times iterations that were computed, including positions that had stopped but not
    left yet."""

    @property
    def saved(self) -> float:
        """Fraction of row iterations saved, against running every row as long as the slowest,
        0..1."""
        return fraction_saved(self.iterations_used)

    def __repr__(self) -> str:
        used = self.iterations_used
        return (
            f"Answer {tuple(self.logits.shape)} · {used.double().mean():.2f} of {self.iterations} iterations "
            f"used on average, {int(used.max())} at most · {self.halted.float().mean():.1%} of positions "
            "halted"
        )


# It is long because its docstring explains nine arguments.
@torch.no_grad()
@guarded
def answer(
    model: Any,
    tokens: Any,
    iterations: Count | None = None,
    *,
    rule: str | Rule | None = None,
    threshold: Index | Finite | None = None,
    level: Level = "position",
    answer_positions: Bool[Tensor, "batch position"] | None = None,
    seed: Seed | None = None,
    tokenizer: Any = None,
    **inputs: Any,
) -> Answer:
    """Run a model until every position that needs an answer has stopped. Rows that have halted
    leave the batch.

    >>> model = ls.models.build("ponder", vocabulary=3, seed=0).eval()
    >>> result = ls.answer(model, torch.zeros(2, 5, dtype=torch.long), rule="kl")
    >>> result.logits.shape, result.iterations_used.shape
    (torch.Size([2, 5, 3]), torch.Size([2]))

    A row leaves once all its answer positions have stopped. Where no position reads a later one,
    the positions at the end leave too, once no row in the batch needs them.

    Arguments:
        tokens: (batch, position), a tokenizer's output, or with `tokenizer` a text or a list of
            texts.
        iterations: the largest number; None means the model's own depth.
        rule: None: the model's own halting, as its forward pass has it. A name or a Rule: positions
            stop where the rule decides. "model" is the model's own halting as a rule, which lets
            its `threshold` be changed.
        threshold: of the rule, in its own unit; None: as published.
        level: whether positions stop by themselves, or whole examples.
        answer_positions: positions whose answer is needed; None means all but pad tokens at the
            beginning and end of a row, where the model or its task names one.
        seed: for a model with a random start.
        tokenizer: the model's own, of transformers, for texts. The model gets the mask of padding.
        inputs: further arguments of a wrapped model's forward, with a row for each of the tokens.

    Raises:
        LoopscopeError: a model without the four functions or in training mode, tokens of another
            shape, an input without rows, or a threshold without a rule.
    """
    _check_model(model)
    read = model_input(model, tokens, inputs, tokenizer)
    tokens, inputs = read.tokens, read.inputs
    _check(model, tokens, inputs, rule, threshold)
    n = checked_iterations(model.iterations if iterations is None else iterations)
    rule = None if rule is None else get_rule(rule, model).with_threshold(threshold)
    if answer_positions is None:
        special = special_tokens(getattr(model, "config", None), getattr(model, "task", None))
        shape = (tokens.shape[0], tokens.shape[1])
        answer_positions = counted_positions(tokens, inputs, special, shape).mask
    seeded, parts = seed is not None, parts_of(model)
    check_no_pass(parts, "an answer")
    with turn(parts, seeded=seeded), torch.random.fork_rng(enabled=seeded):
        if seed is not None:
            torch.manual_seed(seed)
        batch = ShrinkingBatch(
            model, tokens, n, rule, level=level, answer_positions=answer_positions, inputs=inputs
        )
        _run_until_stopped(batch)
    assert batch.logits is not None
    return Answer(
        logits=batch.logits,
        iterations_used=batch.iterations_used,
        exit_depth=batch.exit_depth,
        halted=batch.halted,
        iterations=n,
        work=position_iterations(batch.shapes),
    )


def _run_until_stopped(batch: ShrinkingBatch) -> None:
    """Iterate until every answer position has stopped, or the iterations are used up."""
    model, memory = batch.model, None
    state, previous = batch.start()
    try:
        for k in range(batch.iterations + 1):
            model.clock.set(("iteration", k))
            state = model.at_state(state)
            previous, memory = batch.stop_positions(previous, state, k, memory)
            leaving = batch.rows_that_halted()
            if k == batch.iterations or bool(leaving.all()):
                batch.take_row_answers(state, torch.ones_like(leaving), k)
                return
            if bool(leaving.any()):
                batch.take_row_answers(state, leaving, k)
            state, previous, memory = batch.compact(state, previous, memory, leaving)
            state = batch.run_iteration(state, k)
    finally:
        model.clock.set()


def _check_model(model: Any) -> None:
    if not isinstance(model, Looped):
        raise LoopscopeError(
            f"answer needs a model with encode, initial, step and decode, but got {type(model).__name__}. "
            "Wrap it by its family first: ls.wrap(model)."
        )
    if model.training:
        raise LoopscopeError(
            "rows leave the batch in evaluation only, but the model is in training mode. Call model.eval() "
            "first."
        )


def _check(
    model: Any, tokens: Any, inputs: Mapping[str, Any], rule: str | Rule | None, threshold: float | None
) -> None:
    if not isinstance(tokens, Tensor) or tokens.ndim < 2 or not len(tokens):
        received = tuple(tokens.shape) if isinstance(tokens, Tensor) else type(tokens).__name__
        raise LoopscopeError(
            f"answer needs tokens (batch, position) with one row or more, but got {received}. Pass a tensor "
            "of tokens."
        )
    if tokens.layout != torch.strided:
        raise LoopscopeError(
            f"answer needs dense tokens, of which rows can be taken, but got {tokens.layout}. Pass "
            "tokens.to_dense()."
        )
    verify = getattr(model, "verify", None)  # of an adapter, whose functions may differ from its model
    if verify is not None:
        verify(tokens, inputs)
    elif inputs:
        raise LoopscopeError(
            f"a looped model takes tokens alone, but {sorted(inputs)} were passed too. Leave them out."
        )
    for name, value in inputs.items():
        if not isinstance(value, Tensor) or value.shape[:1] != tokens.shape[:1]:
            shape = tuple(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise LoopscopeError(
                f"an input must have a row for each of the {len(tokens)} rows, which leave the batch one by "
                f"one, but {name} is {shape}. Pass a tensor (batch, ...), or leave it out."
            )
    if threshold is not None and rule is None:
        raise LoopscopeError(
            f'threshold={threshold!r} needs the rule that it belongs to. Pass rule= too; rule="model" is the '
            "model's."
        )
