"""What a frozen tensor of the state costs: the run is continued from one of its states without any
update of that tensor.

Frozen from k means that no iteration from k on updates it (`loopscope.freeze`), in one of two ways.
Frozen to the end, the read-out of the frozen tensor gives the answer that it had at k. With a free
last iteration, the other states can still be written into it before the read-out. The second is the
fair test of the tensor that is read out, the first of the others.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.common.errors import LoopscopeError, LoopscopeWarning
from loopscope.core.sites import is_state
from loopscope.core.state_tree import items, with_primary
from loopscope.interventions.freeze import freeze
from loopscope.recorder.resume_run import resume
from loopscope.runs.run import Run


@dataclass(frozen=True)
class FrozenState:
    """A state frozen from one iteration on, and which examples are still solved."""

    field: str
    start: int
    """The first iteration that does not update it."""
    to_end: Bool[Tensor, " example"]
    """Which examples are solved if it is frozen to the end."""
    last_free: Bool[Tensor, " example"]
    """Which examples are solved if the last iteration updates it."""
    read_out: bool
    """Whether the read-out reads this state."""

    @property
    def until(self) -> str:
        """How long it is frozen in the fair test, in words."""
        return "until the last iteration" if self.read_out else "to the end"

    @property
    def solved(self) -> Bool[Tensor, " example"]:
        """Which examples are solved in the fair test: with a free last iteration for the state that
        is read out, else frozen to the end."""
        return self.last_free if self.read_out else self.to_end


@dataclass(frozen=True)
class AnswerChanges:
    """Answers, decoded from one tensor of the state, that change from one iteration to the next.
    Sums over all examples."""

    field: str
    """The tensor that is decoded."""
    frozen: str | None
    """The tensor that is frozen from the start; None: none."""
    content: Int[Tensor, " iteration"]
    """Answers that become another one, blank before and after or neither."""
    mask: Int[Tensor, " iteration"]
    """Answers that become blank or cease to be; none if the task has no blank."""


@dataclass(frozen=True)
class AnswerKey:
    """The right answers of some examples."""

    targets: Int[Tensor, "example position"]
    answer_positions: Bool[Tensor, "example position"]
    blank: int | None
    """The token of a blank, if the task has one."""

    def solved(self, logits: Float[Tensor, "example position vocab"]) -> Bool[Tensor, " example"]:
        """Which examples have all answers right; NaN is a wrong answer."""
        logits = logits.cpu()
        right = (logits.argmax(-1) == self.targets) & ~logits.isnan().any(-1)
        return (right | ~self.answer_positions).all(1)

    def changes(self, run: Run, field: str, frozen: str | None = None) -> AnswerChanges:
        """Changes between successive read-outs of a tensor of the state. The read-out was trained
        on the first tensor only."""
        before, content, mask = None, [], []
        for k in range(run.iterations + 1):
            state = run.state(k)
            now = run.reader.logits(with_primary(state, items(state)[field])).cpu().argmax(-1)
            if before is not None:
                changed = (now != before) & self.answer_positions
                flips = torch.zeros_like(changed)
                if self.blank is not None:
                    flips = changed & ((now == self.blank) | (before == self.blank))
                content.append(int((changed & ~flips).sum()))
                mask.append(int(flips.sum()))
            before = now
        return AnswerChanges(field, frozen, torch.tensor(content), torch.tensor(mask))


def freeze_from(
    run: Run, field: str, starts: Sequence[int], key: AnswerKey
) -> tuple[tuple[FrozenState, ...], Run]:
    """A tensor of the state frozen from some iterations on, and the run in which it is frozen from
    the first of `starts`.

    Arguments:
        run: with states only, of every iteration.
        field: the tensor's name.
    """
    n, results, first = run.iterations, [], None
    site = "state" if field == run.origin["fields"][0] else f"state.{field}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LoopscopeWarning)  # an overflow is a wrong answer
        for start in starts:
            to_end = resume(run.model, run, n, start=start, edits=[freeze(site, iteration=start)])
            last_free = resume(run.model, to_end, n, start=n - 1)
            solved = key.solved(to_end.output), key.solved(last_free.output)
            results.append(FrozenState(field, start, *solved, read_out=site == "state"))
            first = to_end if first is None else first
    assert first is not None
    return tuple(results), first


def states_only(run: Run) -> Run:
    """The run with its states only, so that a continuation records nothing else."""
    return run.with_sites({name: run[name] for name in run.names if is_state(name)})


def state_fields(run: Run) -> list[str]:
    """The tensors of the state that the next iteration reads and that have the shape of the
    first."""
    names = list(run.origin.get("fields") or ())
    try:
        recurrent = tuple(getattr(run.model, "recurrent_fields", ()) or names)
    except LoopscopeError:
        return []
    if not names or names[0] not in recurrent:
        return []
    shape = run.states[run.iterations].shape
    return [
        name
        for name in names
        if name in recurrent and (name == names[0] or run[f"state.{name}"][run.iterations].shape == shape)
    ]
