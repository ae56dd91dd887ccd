"""Reader: the model that made a run, with what is needed to read out any of the run's states."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.rng import Generators, generator_state, restore_generator
from ..core.copied import copied
from ..core.looped_model import Context
from ..core.state_tree import State
from ..core.turns import check_no_pass, parts_of, turn
from .conditions import Conditions
from .kept_form import Form
from .weights import Marks, Weights


class Reader:
    """Reads out the states of a run, as long as the model's weights are those of the recording,
    and under the recording's conditions: modes, autocast, settings, buffers."""

    def __init__(
        self,
        model: Any,
        context: Context,
        decode: Callable[[State], Tensor] | None,
        state_type: type | None,
        *,
        grad: bool,
        forms: Mapping[str, Form] | None = None,
        edited: Callable[[], AbstractContextManager[None]] = nullcontext,
        before: Marks | None = None,
        conditions: Conditions | None = None,
        refusal: str | None = None,
    ) -> None:
        """
        Arguments:
            context: what the model's `encode` gave for the run's tokens; None without one.
            decode: state to logits, with the run's own edits; None if a state can't be read out.
            state_type: the class of the model's named-tuple state; None for a single tensor.
            grad: whether the run was recorded with gradients.
            forms: how the model computed the tensors of its state, by site; None: not known.
            edited: makes a with-block in which the run's own edits of the read-out apply.
            before: the model's buffers before the pass (`loopscope.runs.weights.buffer_marks`).
            conditions: of the recording; None: those of this moment.
            refusal: why nothing is computed with the model; None: its loop body is all that is
                known.
        """
        self._model, self._decode, self._refusal = model, decode, refusal
        self._context, self._state_type, self.grad, self.edited = context, state_type, grad, edited
        self.forms = dict(forms or {})
        """How the model computed the tensors of its state, by site."""
        self.later: Callable[[], None] | None = None
        """Finds out whether the model can be iterated on, when that is first needed: it calls
        `offer` or `refuse`."""
        self.conditions = Conditions.now(model) if conditions is None else conditions
        """The modes and settings of the recording."""
        self._parts, self._weights = parts_of(model), Weights(model, before)

    def offer(
        self, model: Any, context: Context, decode: Callable[[State], Tensor], state_type: type | None
    ) -> None:
        """Take these for what the reader was made without."""
        self._model, self._context, self._decode, self._state_type = model, context, decode, state_type

    def refuse(self, reason: str) -> None:
        """Say why nothing is computed with the model."""
        self._refusal = reason

    def _find_out(self) -> None:
        if self.later is not None:
            later, self.later = self.later, None
            try:
                later()
            except BaseException:
                self.later = later
                raise

    @property
    def context(self) -> Context:
        """What the model's `encode` gave for the run's tokens; None without one."""
        self._find_out()
        return self._context

    @property
    def state_type(self) -> type | None:
        """The class of the model's named-tuple state; None for a single tensor."""
        self._find_out()
        return self._state_type

    @property
    def refusal(self) -> str | None:
        """Why nothing is computed with the model; None: it is, or its loop body is all that is
        known."""
        self._find_out()
        return self._refusal

    @property
    def model(self) -> Any:
        """The model.

        Raises:
            LoopscopeError: its weights were changed since the run was recorded.
        """
        self.require_unchanged()
        self._find_out()
        return self._model

    def made_by(self, model: Any) -> bool:
        """Whether this is the model of the recording, with whatever weights it has now."""
        if model is self._model:
            return True
        self._find_out()
        return model is self._model

    def require_unchanged(self) -> None:
        """Raise LoopscopeError if the model's weights were changed since the run was recorded."""
        change = self._weights.change()
        if change is not None:
            raise LoopscopeError(
                f"the model's weights were changed after this run was recorded ({change}), so what is "
                "computed now would not be this run's. Record again, or load the weights it had."
            )

    @property
    def reload(self) -> Callable[[], Any] | None:
        """What gives the model again in another process, if it can be loaded by a name: its own
        attribute `reload`, a function that can be pickled."""
        return getattr(self._model, "reload", None)

    @contextmanager
    def as_recorded(self, *, draws: bool = False, seeded: bool = False) -> Iterator[Any]:
        """A block in which the model computes under the conditions of the recording, and no other
        thread computes with it; yields the model. Everything that is computed from a run's states
        by its model is computed in such a block.

        Arguments:
            draws: whether the block may draw random numbers, though the model was in training mode.
            seeded: whether the block seeds torch's global generator.

        Raises:
            LoopscopeError: inside a recording of the same model, or if the model was in training
                mode and draws random numbers.
        """
        check_no_pass(self._parts, "what is computed from a run")
        with (
            turn(self._parts, seeded=seeded),
            self.conditions.restored(),
            self._weights.restored(),
            raise_if_drawn(self.conditions.trains and not draws),
        ):
            yield self._model

    @property
    def reads_states(self) -> bool:
        """Whether `logits` reads out a state."""
        self._find_out()
        return self._decode is not None

    @property
    def output_is_logits(self) -> bool:
        """Whether a tensor that the model returned is its logits, as far as that is known."""
        if self.later is not None:
            try:
                self._find_out()
            except LoopscopeError:  # nothing can be computed, so nothing is known
                return True
        return getattr(self._model, "ends_with_logits", True)

    def logits(self, state: State, *, grad: bool = False) -> Tensor:
        """The logits (batch, position, vocab) of a state, with the run's own edits of the read-out.

        Arguments:
            grad: compute gradients, also if the run was recorded without.

        Raises:
            LoopscopeError: the run is of a module that was wrapped by its loop body, the weights
                have changed, or the read-out depends on random numbers.
        """
        self.require_unchanged()
        self._find_out()
        decode = self._decode
        if decode is None and self.refusal is not None:
            raise LoopscopeError(self.refusal)
        if decode is None or self._model is None:
            raise LoopscopeError(
                "only the four functions can read out a state, and this module was wrapped by its loop body "
                "alone. run.output is what it returned after its last iteration."
            )
        grad = self.grad or grad
        normal = torch.inference_mode(False) if grad and torch.is_inference_mode_enabled() else nullcontext()
        with normal, self.as_recorded(draws=True), torch.set_grad_enabled(grad):
            before = generator_state()
            logits = decode(copied(state))  # the model may write into it
            if has_moved(before):
                self._require_repeatable(logits, before, lambda: decode(copied(state)))
            return logits

    def _require_repeatable(self, value: Tensor, before: Generators, again: Callable[[], Tensor]) -> None:
        """Raise LoopscopeError if a value depends on the random numbers that were drawn for it.

        Arguments:
            before: the generators before the first draw.
            again: computes the value once more.
        """
        between = generator_state()
        equal = torch.equal(again().nan_to_num(), value.nan_to_num())
        if has_moved(between):  # else it was another thread that drew
            restore_generator(before)
        if not equal:
            raise _drawn()


@contextmanager
def raise_if_drawn(watch: bool = True) -> Iterator[None]:
    """Raise LoopscopeError at the end of a block in which random numbers were drawn, and put the
    generators back."""
    before = generator_state() if watch else None
    yield
    if before is not None and has_moved(before):
        restore_generator(before)
        raise _drawn()


def has_moved(before: Generators) -> bool:
    """Whether random numbers were drawn from torch's global generators."""
    cpu, cuda = generator_state()
    return not torch.equal(cpu, before[0]) or any(
        not torch.equal(a, b) for a, b in zip(cuda, before[1], strict=False)
    )


def _drawn() -> LoopscopeError:
    return LoopscopeError(
        "what is computed from a run must be the same each time, but this model draws random numbers in it "
        "(dropout in training mode), and the recording's draw can't be repeated. Record in evaluation mode "
        "(model.eval()); run.output is what the model itself answered."
    )
