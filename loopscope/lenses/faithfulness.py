"""Whether a lens may be believed: at the last iteration of the state it must give the model's own
logits."""

import torch
from torch import Tensor

from ..adapters.base import Adapter
from ..common.errors import LoopscopeError
from ..runs.location import Place
from ..runs.run import Run
from .lens_types import Lens
from .places import sight
from .readings import final_logits, logits_at

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 4e-2}
"""What a lens may be off, as a share of the largest logit's size, where it needn't be exact: a few
roundings of the precision."""


def require_faithful(run: Run, lens: Lens) -> None:
    """Raise the sentence that says why a lens must not be believed.

    Our own models must be given back bit for bit; models of others, and lenses of the user's, up to
    TOLERANCE: with the same answers wherever the model's own lead is larger than twice that.
    """
    own, n = final_logits(run), run.iterations
    if n not in run.states.iterations:
        raise LoopscopeError(
            f"a lens is checked at the state after the last iteration ({n}), but that was not kept "
            f"(keep={run.origin.get('keep')}). Record again with it, or pass check=False."
        )
    told = _last(run, lens)
    if told.shape != own.shape:
        raise LoopscopeError(
            f"the lens '{lens.name}' must give the model's own logits {tuple(own.shape)} at the last "
            f"iteration, but gives {tuple(told.shape)}. {_advice(run, lens)}"
        )
    if isinstance(_model(run), Adapter) and _unread(run, own):
        raise LoopscopeError(
            f"a lens needs a model with a head, but {type(run.model.module).__name__} ends with its states. "
            "Wrap the model that has one."
        )
    if torch.equal(told, own):
        return
    off = disagreement(told, own)
    share = TOLERANCE.get(_precision(run, own), 1e-4)
    if lens.exact and _model(run) is not None and not isinstance(_model(run), Adapter):
        share = 0.0
    size = float(own.double()[own.isfinite()].abs().max())
    if off <= share * size:
        return
    other = float((told.argmax(-1) != own.argmax(-1)).double().mean())
    raise LoopscopeError(
        f"the lens '{lens.name}' must give the model's own logits at the last iteration, but is off by up "
        f"to {off:.3g} (the largest logit is {size:.3g}, {share * size:.1g} would be allowed) and answers "
        f"otherwise at {100 * other:.3g} % of the positions. {_advice(run, lens)}"
    )


def _last(run: Run, lens: Lens) -> Tensor:
    """What the lens reads of each row's last state: of the run's last, but for rows that have left
    the batch before."""
    told, left = None, torch.zeros(0, dtype=torch.bool)
    for k in reversed(run.states.iterations):
        rows = run.states.rows.get((k,))
        if told is not None and rows is not None and not bool((rows & ~left).any()):
            continue
        seen = sight(run, Place("state"), k)
        assert seen is not None
        read = logits_at(lens, run, seen).detach()
        rows = torch.ones(len(read), dtype=torch.bool) if rows is None else rows
        if told is None:
            told, left = read, rows.clone()
        else:
            new = (rows & ~left).to(read.device)
            told = torch.where(new.view(-1, *(1,) * (read.ndim - 1)), read, told)
            left |= rows
        if bool(left.all()):
            break
    assert told is not None
    return told


def disagreement(told: Tensor, own: Tensor) -> float:
    """The largest difference of two logits; infinity where one of them is infinite and the other
    isn't, or is otherwise. Whatever leads by more than twice as much is the answer of both."""
    told, own = told.double(), own.double()
    finite = own.isfinite() & told.isfinite()
    if not torch.equal(told[~finite], own[~finite]):
        return float("inf")
    return float((told - own)[finite].abs().max()) if bool(finite.any()) else 0.0


def _advice(run: Run, lens: Lens) -> str:
    nevertheless = "To look nevertheless, with the result marked: check=False."
    if lens.name == "logit":
        coda = _coda(_model(run))
        missing = (
            f"it leaves out the coda ('{coda}'), through which this model reads its state"
            if coda
            else "this model's read-out does more than a final norm and an unembedding"
        )
        return f'That is because {missing}. Use the coda lens, ls.lens(run, "coda"). {nevertheless}'
    if lens.name == "coda":
        return (
            "That is the model's own read-out of the recorded state: dropout (model.eval()), weights or "
            "inputs that differ, or "
            f"a model that answers from more than its last state. {nevertheless}"
        )
    return f'Apply the final norm and the whole read-out in it, or use ls.lens(run, "coda"). {nevertheless}'


def _coda(model: object) -> str | None:
    """The name of a model's coda, if it has one."""
    module = model.module if isinstance(model, Adapter) else model
    named = getattr(module, "named_modules", lambda: ())()
    return next(
        (
            name
            for name, part in named
            if name.rsplit(".", 1)[-1] == "coda" and any(True for _ in part.parameters())
        ),
        None,
    )


def _unread(run: Run, own: Tensor) -> bool:
    """Whether the answer is the state itself."""
    last = run.states[run.iterations]
    return last.shape == own.shape and torch.equal(last.to(own), own)


def _precision(run: Run, own: Tensor) -> torch.dtype:
    """The coarser of the precisions of the state and of the answer."""
    kinds = (run.states[run.iterations].dtype, own.dtype)
    return max(kinds, key=lambda kind: torch.finfo(kind).eps)


def _model(run: Run) -> object:
    return run.model if run.has_model else None
