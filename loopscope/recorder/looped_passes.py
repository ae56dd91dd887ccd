"""LoopedPasses: records each pass that a feed-forward model with a loop put into it makes while it
generates.

The model's own generate runs the model's own forward, which has no loop. Each of its passes is run
again with the loop, recorded as `ls.record` does, and gives its logits. Without a cache this is
exact: a pass reads all tokens so far, and every iteration makes its own keys and values.
"""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch

from ..common.errors import LoopscopeError
from ..core.copied import copied
from ..core.output_logits import find_logits
from ..core.sites import Sites, float_tensors, put_at
from ..interventions.edit_checks import AnyEdit, Edits
from ..runs.collector import Collector
from ..runs.keep import Keep
from ..runs.run import Run
from ..runs.weights import buffer_marks
from ..wrapping.synthetic_loop import SyntheticLoop
from .provenance import circumstances
from .recorded_pass import recorded_pass
from .recording_plan import Span, edits_of


class LoopedPasses:
    """Appends a Run to `runs` for each pass: `begin` and `end` are called before and after it, as
    those of `PassRecorder`."""

    def __init__(
        self, model: SyntheticLoop, sites: Sites, edits: Edits, keep: Keep | None, *, runs: list[Run]
    ) -> None:
        self.model, self.sites, self.keep, self.runs = model, sites, keep or Keep(), runs
        self.use(edits_of(model, edits))
        self.tracker = SimpleNamespace(last_output=None)
        """The state that the last pass ended with."""
        self._inputs: tuple[Any, dict[str, Any]] | None = None
        """Of the pass that runs."""
        self._inside = False
        """Whether a pass is being recorded, which calls the model itself."""

    def use(self, edits: Sequence[AnyEdit]) -> None:
        """Take these edits from the next pass on."""
        self.edits = list(edits)

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Copy what a pass reads, before it.

        Raises:
            LoopscopeError: it reads a cache.
        """
        if not self._inside:
            check_cacheless(kwargs, "the pass has one")
            inputs = {name: copied(value) for name, value in kwargs.items() if name != "input_ids"}
            self._inputs = copied(kwargs.get("input_ids", args[0] if args else None)), inputs
        return args, kwargs

    def end(self, args: Any, kwargs: Any, output: Any) -> Any:
        """Record the pass with the loop, and put its logits into the output."""
        if self._inside or self._inputs is None:
            return output
        (tokens, inputs), self._inputs, self._inside = self._inputs, None, True
        try:
            run = self._recorded(tokens, inputs)
        finally:
            self._inside = False
        self.runs.append(run.with_counted(None))
        self.tracker.last_output = run.states.get((run.iterations,))
        logits = find_logits(output)
        path = next(path for path, tensor in float_tensors(output) if tensor is logits)
        return put_at(output, path, run.output)

    @torch.no_grad()
    def _recorded(self, tokens: Any, inputs: dict[str, Any]) -> Run:
        n = self.model.iterations
        origin = circumstances(self.model, self.edits, self.keep, None) | {"requested_iterations": n}
        return recorded_pass(
            self.model,
            Span(tokens, inputs, n),
            self.sites,
            self.edits,
            collector=Collector(self.keep, False, careful=True),
            origin=origin,
            before=buffer_marks(self.model),
        )

    def remove_hooks(self) -> None:
        """There are none."""


def check_cacheless(inputs: Mapping[str, Any], complaint: str | None = None) -> None:
    """Raise LoopscopeError if the inputs of a pass, or the options of a generate, have a cache or
    ask for one.

    Arguments:
        complaint: what is so then, as a clause; None: which of them was passed.
    """
    passed = "past_key_values" if inputs.get("past_key_values") is not None else "use_cache=True"
    if passed == "past_key_values" or inputs.get("use_cache"):
        raise LoopscopeError(
            "a synthetic loop generates without a cache, since a cache has one entry of keys and values for "
            f"each layer and each iteration makes its own, but {complaint or f'{passed} was passed'}. Pass "
            "use_cache=False."
        )
