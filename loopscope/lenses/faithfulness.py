"""Faithfulness of a lens: at the last iteration of the state it must give the model's own
logits."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..adapters.base import Adapter
from ..common.errors import LoopscopeError
from ..maths.precision import wide
from ..recorder.example_parts import example_parts
from ..runs.location import Place
from ..runs.run import Run
from ..runs.run_mask import mask_of
from .final_logits import final_logits
from .lens_input import lens_input
from .lens_types import Lens, logits_at

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 4e-2}
"""The largest allowed difference, as a fraction of the largest logit's size, for lenses that need
not be exact: a few roundings of the precision."""


def require_faithful(run: Run, lens: Lens) -> None:
    """Raise unless a lens gives the model's own logits at the last iteration.

    A model of ours must be reproduced bit for bit; models of others, user functions and states that
    were kept rounded up to TOLERANCE, with the same answers wherever the model's margin is more
    than twice that.

    Raises:
        LoopscopeError: the lens gives other logits, or the last state wasn't kept.
    """
    if run.iterations not in run.states.iterations:
        raise LoopscopeError(
            f"a lens is checked at the state after the last iteration ({run.iterations}), but that was not "
            f"kept (keep={run.origin.get('keep')}). Record again with it, or pass check=False."
        )
    for _, part in example_parts(run):
        _require_faithful(part, lens, exact=lens.exact and part is run)


def _require_faithful(run: Run, lens: Lens, *, exact: bool) -> None:
    """The same for a part of a run.

    Arguments:
        exact: whether the logits of a model of ours must be those of the recording bit for bit. Of
            fewer examples than were recorded at once they are rounded in another way.
    """
    expected = final_logits(run)
    logits = _last_logits(run, lens)
    if logits.shape != expected.shape:
        raise LoopscopeError(
            f"the lens '{lens.name}' must give the model's own logits {tuple(expected.shape)} at the last "
            f"iteration, but gives {tuple(logits.shape)}. {_advice(run, lens)}"
        )
    if isinstance(_model(run), Adapter) and _state_is_answer(run, expected):
        raise LoopscopeError(
            f"a lens needs a model with a head, but {type(run.model.module).__name__} ends with its states. "
            "Wrap the model that has one."
        )
    counted = mask_of(run, *expected.shape[:2]).to(expected.device)
    if not bool(counted.all()):
        logits, expected = logits[counted], expected[counted]
    if torch.equal(logits, expected):
        return
    difference = max_difference(logits, expected)
    share = TOLERANCE.get(_precision(run, expected), 1e-4)
    computed = _model(run) is not None and "short" not in run.origin
    if exact and computed and not isinstance(_model(run), Adapter):
        share = 0.0
    size = float(expected[expected.isfinite()].abs().max())
    if difference <= share * size:
        return
    flips = float((logits.argmax(-1) != expected.argmax(-1)).float().mean())
    raise LoopscopeError(
        f"the lens '{lens.name}' must give the model's own logits at the last iteration, but differs by up "
        f"to {difference:.3g} (the largest logit is {size:.3g}, {share * size:.1g} would be allowed) and "
        f"gives another answer at {100 * flips:.3g} % of the positions. {_advice(run, lens)}"
    )


def _last_logits(run: Run, lens: Lens) -> Float[Tensor, "batch position vocab"]:
    """The lens at each row's last state: the run's last, or an earlier one for rows that left the
    batch before."""
    result, done = None, torch.zeros(0, dtype=torch.bool)
    for k in reversed(run.states.iterations):
        rows = run.states.rows.get((k,))
        if result is not None and rows is not None and not bool((rows & ~done).any()):
            continue
        inputs = lens_input(run, Place("state"), k)
        assert inputs is not None
        logits = logits_at(lens, run, inputs).detach()
        rows = torch.ones(len(logits), dtype=torch.bool) if rows is None else rows
        if result is None:
            result, done = logits, rows.clone()
        else:
            new = (rows & ~done).to(logits.device)
            result = torch.where(new.view(-1, *(1,) * (logits.ndim - 1)), logits, result)
            done |= rows
        if bool(done.all()):
            break
    assert result is not None
    return result


def max_difference(logits: Tensor, expected: Tensor) -> float:
    """The largest difference of two tensors of logits; infinity where only one of them is infinite.
    An answer whose margin is more than twice as large is the same in both."""
    logits, expected = wide(logits), wide(expected)
    finite = expected.isfinite() & logits.isfinite()
    if not torch.equal(logits[~finite], expected[~finite]):
        return float("inf")
    return float((logits - expected)[finite].abs().max()) if bool(finite.any()) else 0.0


def _advice(run: Run, lens: Lens) -> str:
    unchecked = "To use it nevertheless, with the result marked: check=False."
    if lens.name == "logit":
        coda = _coda(_model(run))
        missing = (
            f"it leaves out the coda ('{coda}'), through which this model reads its state"
            if coda
            else "this model's read-out does more than a final norm and an unembedding"
        )
        return f'That is because {missing}. Use the coda lens, ls.lens(run, "coda"). {unchecked}'
    if lens.name == "coda":
        return (
            "That is the model's own read-out of the recorded state, so the cause is dropout "
            "(model.eval()), weights or inputs that differ, or a model that answers from more than its last "
            f"state. {unchecked}"
        )
    return f'Apply the final norm and the whole read-out in it, or use ls.lens(run, "coda"). {unchecked}'


def _coda(model: object) -> str | None:
    """The name of a model's coda, if it has one."""
    module = model.module if isinstance(model, Adapter) else model
    modules = getattr(module, "named_modules", lambda: ())()
    return next(
        (
            name
            for name, part in modules
            if name.rsplit(".", 1)[-1] == "coda" and any(True for _ in part.parameters())
        ),
        None,
    )


def _state_is_answer(run: Run, logits: Tensor) -> bool:
    """Whether the model returns its last state."""
    last = run.states[run.iterations]
    return last.shape == logits.shape and torch.equal(last.to(logits), logits)


def _precision(run: Run, logits: Tensor) -> torch.dtype:
    """The coarser of the precisions of the state and of the logits."""
    kinds = (run.states[run.iterations].dtype, logits.dtype)
    return max(kinds, key=lambda kind: torch.finfo(kind).eps)


def _model(run: Run) -> object:
    return run.model if run.has_model else None
