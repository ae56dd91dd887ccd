"""Runs whose token at one position is replaced after k iterations."""

import warnings

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from loopscope.common.errors import LoopscopeWarning
from loopscope.core.looped_model import Context, unroll
from loopscope.core.state_tree import State, equal, items, primary, with_items
from loopscope.recorder.subset import select_examples
from loopscope.runs.run import Run


class ReplacedToken:
    """The run of some rows (item, position, token), and the same run with that token there."""

    def __init__(
        self,
        run: Run,
        rows: Int[Tensor, "row 3"],
        example: Int[Tensor, " item"],
        answer_positions: Bool[Tensor, "item position"],
    ) -> None:
        """
        Arguments:
            run: of all examples.
            example: of each item.
            answer_positions: of each item.
        """
        item, self.position, token = rows.T
        self.model, self.answer_positions = run.model, answer_positions[item]
        self.iterations = int(run.origin.get("requested_iterations", run.iterations))
        self.run = select_examples(run, example[item].tolist())
        self.answer = self.run.logits[run.iterations].argmax(-1).cpu()
        self.rows = torch.arange(len(rows))
        tokens = self.run.tokens.clone()
        tokens[self.rows, self.position] = token.to(tokens)
        with torch.no_grad(), torch.random.fork_rng(), self.run.reader.as_recorded():
            self.context = self.model.encode(tokens, **self.run.inputs)
            initial = self.model.initial(self.context)
            if not equal(initial, self.model.initial(self.context)):  # a random start, whatever the tokens
                initial = self.run.state(0)
            self.replaced_states = self._unrolled(initial, self.context, 0)

    def relevant(self) -> Bool[Tensor, " row"]:
        """Which rows have another answer with the other token from the beginning on."""
        with self.run.reader.as_recorded(), torch.no_grad():
            return self._changed(self.replaced_states[-1], self.context)

    def changes_answer(self, k: int, state_only: bool = False) -> Bool[Tensor, " row"]:
        """Whether each row's answer changes if its token is replaced after k iterations.

        Arguments:
            state_only: replace only the state at its position; the model still reads the token of
                the run.
        """
        context = self.run.reader.context if state_only else self.context
        with torch.no_grad(), torch.random.fork_rng(), self.run.reader.as_recorded():
            replaced = self.replaced_states[min(k, len(self.replaced_states) - 1)]
            state = self._with_replaced_position(self.run.state(k), replaced)
            return self._changed(self._unrolled(state, context, k)[-1], context)

    def _changed(self, state: State, context: Context) -> Bool[Tensor, " row"]:
        answer = self.model.decode(state, context).argmax(-1).cpu()
        return ((answer != self.answer) & self.answer_positions).any(1)

    def _unrolled(self, state: State, context: Context, start: int) -> list[State]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LoopscopeWarning)
            steps = unroll(self.model, state, context, self.iterations, start=start)
            return [state for _, state in steps]

    def _with_replaced_position(self, state: State, replaced: State) -> State:
        """The state, with the replaced one at each row's position, in all tensors that the next
        iteration reads."""
        fields, replaced_fields = items(state), items(replaced)
        recurrent = tuple(getattr(self.model, "recurrent_fields", ()) or fields)
        written = {
            name: self._written(value, replaced_fields[name])
            for name, value in fields.items()
            if name in recurrent and value.ndim > 1 and value.shape[:2] == primary(state).shape[:2]
        }
        return with_items(state, written)

    def _written(self, value: Tensor, replaced: Tensor) -> Tensor:
        # the state may have positions before those of the sequence
        position = self.position + value.shape[1] - self.answer_positions.shape[1]
        new = value.clone()
        new[self.rows, position] = replaced[self.rows, position]
        return new
