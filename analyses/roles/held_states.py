"""What becomes of the answers when one tensor of the state is held still: a run gone on with again
from some of its states.

Held from k on means that no iteration from k updates it (`loopscope.freeze`). In one sense it is
held to the end; then a read-out of the held tensor gives the answer that it had, whatever the rest
does. In the other the last iteration is free, so that what the other states have come to can still
be written into it. The second is the fair one for the state that is read out, the first for the
others.
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
class Held:
    """A state held from one iteration on, and the answers at the end."""

    field: str
    start: int
    """The first iteration that leaves it unchanged."""
    to_end: Bool[Tensor, " example"]
    """Which examples are wholly right if it is held to the end."""
    free: Bool[Tensor, " example"]
    """The same if the last iteration is free of it."""
    read: bool
    """Whether the read-out reads this state."""

    @property
    def spared(self) -> Bool[Tensor, " example"]:
        """Which examples are right without what the state would have become: with the last
        iteration free where it is read out, as it must be written to answer at all; else held to
        the end."""
        return self.free if self.read else self.to_end


@dataclass(frozen=True)
class Turns:
    """Answers, read from one tensor of the state, that change from one iteration to the next. Sums
    over all examples."""

    field: str
    """What is read."""
    held: str | None
    """What is held from the start on; None: nothing."""
    content: Int[Tensor, " iteration"]
    """Answers that become another one, blank before and after or neither."""
    mask: Int[Tensor, " iteration"]
    """Answers that become blank or cease to be; none where the task knows no blank."""


def freezes(run: Run, field: str, starts: Sequence[int], said: "Said") -> tuple[tuple[Held, ...], Run]:
    """A field held from some iterations on, and the whole run in which it is held from the first of
    `starts`.

    Arguments:
        field: its name; the run has states only, of every iteration.
    """
    n, result, first = run.iterations, [], None
    site = "state" if field == run.origin["fields"][0] else f"state.{field}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LoopscopeWarning)  # what overflows is wrong, and counts as that
        for start in starts:
            held = resume(run.model, run, n, start=start, edits=[freeze(site, iteration=start)])
            last = resume(run.model, held, n, start=n - 1)
            result.append(
                Held(field, start, said.right(held.output), said.right(last.output), site == "state")
            )
            first = held if first is None else first
    assert first is not None
    return tuple(result), first


@dataclass(frozen=True)
class Said:
    """How answers are read and judged."""

    targets: Int[Tensor, "example position"]
    answer_positions: Bool[Tensor, "example position"]
    blank: int | None

    def right(self, logits: Float[Tensor, "example position vocab"]) -> Bool[Tensor, " example"]:
        """Which examples are wholly right."""
        return ((logits.cpu().argmax(-1) == self.targets) | ~self.answer_positions).all(1)

    def turns(self, run: Run, field: str, held: str | None = None) -> Turns:
        """What changes between successive read-outs of a field. The read-out was trained on the
        state's first field alone."""
        before, content, mask = None, [], []
        for k in range(run.iterations + 1):
            state = run.state(k)
            shown = with_primary(state, items(state)[field])
            now = run.reader.logits(shown).cpu().argmax(-1)
            if before is not None:
                changed = (now != before) & self.answer_positions
                flips = (
                    changed & ((now == self.blank) | (before == self.blank))
                    if self.blank is not None
                    else torch.zeros_like(changed)
                )
                content.append(int((changed & ~flips).sum()))
                mask.append(int(flips.sum()))
            before = now
        return Turns(field, held, torch.tensor(content), torch.tensor(mask))


def bare(run: Run) -> Run:
    """The run with its states alone, so that nothing else is recorded when it is gone on with."""
    return run.with_sites({name: run[name] for name in run.names if is_state(name)})


def fields_of(run: Run) -> list[str]:
    """The tensors of the state that the next iteration reads and that have the shape of the
    first."""
    names = list(run.origin.get("fields") or ())
    try:
        moving = tuple(getattr(run.model, "recurrent_fields", ()) or names)
    except LoopscopeError:
        return []
    if not names or names[0] not in moving:
        return []
    like = run.states[run.iterations].shape
    return [
        name
        for name in names
        if name in moving and (name == names[0] or run[f"state.{name}"][run.iterations].shape == like)
    ]
