"""StartProbe: whether the first output of a loop's body depends on the state that it receives.

Where it doesn't, the state is reset inside the body, or is memory that nobody wrote, as in the
outer loops of HRM and TRM, whose carry begins as `torch.empty`. The module's forward runs again up
to the end of the body's first call, with other numbers in place of its first state, and leaves no
trace.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..core.copied import copied
from ..core.hooks import TemporaryHooks
from ..core.preserved_state import ModuleState
from ..core.sites import float_tensors, get_at, put_at
from ..core.turns import modules_within, parts_of, running_pass
from .body_calls import BodyCalls
from .body_state import BodyState
from .tensor_match import fresh_copy, same_values, version

_MOST = 64
"""How many answers are remembered."""

IGNORED = (
    "the body's first call returns the same whatever it receives for it, so it has no part in the loop: it "
    "is reset inside the body, or is memory that was never written"
)
CHANGING = (
    "the body's first call received other numbers when the same pass was run again, so they are memory that "
    "was never written, or random numbers that no seed repeats"
)


class StartProbe:
    """The inputs of a pass and what it may change, taken before it, to run its beginning again."""

    def __init__(self, module: nn.Module, body: list[str], args: Any, kwargs: Any) -> None:
        self.module, self.body = module, body
        self.before = ModuleState(module)
        self._inputs = copied((args, kwargs))

    def inputs(self) -> Any:
        """The (args, kwargs) of the pass, for one more."""
        return copied(self._inputs)

    def unknown_start(self, tracker: Any, answers: dict[Any, str | None]) -> str | None:
        """Why the first input of the body isn't states[0], as a clause; None if the body's output
        depends on it in every row.

        Arguments:
            tracker: the `CallTracker` of the pass.
            answers: those of earlier passes; the new one is added.
        """
        key = self._key(tracker)
        if key is None or key not in answers:
            if len(answers) >= _MOST:
                answers.clear()
            answers[key] = self._answer(tracker)
        return answers[key]

    def _key(self, tracker: Any) -> Any:
        """What the answer depends on: weights, buffers, modes, and what the body receives. Of its
        large floating-point tensors only the form counts, as whether a state is used is a matter of
        the code, and of flags and numbers for whole rows. None: not known."""
        if tracker.first.form is None:
            return None
        parts = modules_within(self.module)
        found = (weight for part in parts for weight in part._parameters.values() if weight is not None)
        weights = tuple((weight.data_ptr(), version(weight)) for weight in found)
        buffers = tuple(mark.sample for mark in tracker.before.values())
        modes = tuple(part.training for part in parts)
        state = tuple(tracker.state.known or ())
        return tracker.first.form, weights, buffers, modes, state

    def _answer(self, tracker: Any) -> str | None:
        inputs, outputs = tracker.first.inputs, tracker.first.outputs
        state, after = tracker.state, ModuleState(self.module)
        try:
            if tracker.first.edits:
                inputs, outputs = self._first_call(tracker, state, None)
            influences: Tensor | bool = False
            for seed in (0, 1):
                received, other = self._first_call(tracker, state, seed)
                if not all(same_values(a, b) for a, b in zip(inputs, received, strict=True)):
                    return CHANGING
                influences = influences | _rows_that_differ(outputs, other, len(inputs[0]))
                if bool(influences.all()):
                    return None
            return IGNORED
        finally:
            after.restore()

    def _first_call(self, tracker: Any, state: BodyState, seed: int | None) -> Any:
        """What the body's first call receives, and returns if that is replaced by random numbers.

        Arguments:
            seed: of the random numbers; None: nothing is replaced.
        """
        self.before.restore()
        calls = BodyCalls(self.body, [tracker.modules[name] for name in self.body])
        received: list[Tensor] = []

        def begin(args: Any, kwargs: Any) -> Any:
            call = (args, kwargs)
            for path in state.sources(call, None):
                value = get_at(call, path)
                received.append(value.detach().clone())
                if seed is not None:
                    call = put_at(call, path, _other_numbers(value, seed))
            return call

        def end(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
            raise _FirstCallEnded([(path, tensor.detach().clone()) for path, tensor in float_tensors(output)])

        args, kwargs = self.inputs()
        with running_pass(parts_of(self.module)), TemporaryHooks() as hooks:
            calls.attach(hooks, begin, end)
            try:
                self.module(*args, **kwargs)
            except _FirstCallEnded as ended:
                return received, ended.outputs
        return received, []


class _FirstCallEnded(BaseException):
    """Ends a pass after the body's first call; no `except Exception` in the model catches it."""

    def __init__(self, outputs: list[tuple[Any, Tensor]]) -> None:
        super().__init__()
        self.outputs = outputs


def _other_numbers(value: Tensor, seed: int) -> Tensor:
    """Numbers that differ from a tensor's in every place, in its own range for seed 0."""
    noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(seed))
    noise = noise.to(device=value.device, dtype=value.dtype)
    value = value.detach()
    if seed == 0 and value.numel() > 1 and bool(value.isfinite().all()):
        scale = float(value.double().std())
        noise = (scale if scale > 0 else 1.0) * noise - value
    return fresh_copy(noise, value)


def _rows_that_differ(one: list[tuple[Any, Tensor]], other: list[tuple[Any, Tensor]], batch: int) -> Tensor:
    """By row, whether any of the tensors differs in it; a tensor without rows counts for all."""
    result = torch.zeros(batch, dtype=torch.bool)
    for (_, a), (_, b) in zip(one, other, strict=False):
        if a.shape != b.shape:
            return ~torch.zeros(batch, dtype=torch.bool)
        differs = (a != b) & ~(a.isnan() & b.isnan())
        rows = differs.reshape(batch, -1).any(1) if a.shape[:1] == (batch,) else differs.any().expand(batch)
        result |= rows.cpu()
    return result
