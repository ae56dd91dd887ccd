"""SiteHooks: the hooks that edit and record the activations of a model's sites."""

from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from ..core.hooks import After, TemporaryHooks
from ..core.looped_model import Looped
from ..core.sites import axes_of, find_tensor, get_at, is_state, put_at
from ..interventions.applied import CALL, Applied, check_schedule
from ..interventions.freeze import FrozenSite
from ..runs.collector import Collector
from .recording_plan import RecordingPlan


class SiteHooks:
    """Attaches the edits and the recording of a plan to the sites of a model."""

    def __init__(self, model: Looped, plan: RecordingPlan, iterations: int, collector: Collector) -> None:
        """`iterations`: how many will run, for edits that count from the end."""
        self.model, self.plan, self.iterations, self.collector = model, plan, iterations, collector
        self.applied = Applied()

    @contextmanager
    def attached(self, sites: Iterable[str], recorded: Container[str] = ()) -> Iterator[None]:
        """Edit these sites inside the with-block, and record those that are in `recorded`."""
        with TemporaryHooks() as hooks:
            for site in sites:
                hooks.attach(self.plan.modules[site], after=self._after(site, site in recorded))
            yield

    def check_applied(self, ran: int) -> None:
        """Raise LoopscopeError if an edit changed nothing in the pass, which ended after `ran`
        iterations."""
        self.applied.check(self.plan.edits, ran, requested=self.iterations, schedule=self.plan.schedule)
        check_schedule(self.plan.schedule_edits, ran, self.iterations)

    def _after(self, site: str, record_it: bool) -> After:
        edits = self.plan.edits.get(site, ())

        def after(args: Any, kwargs: Any, output: Any) -> Any:
            path = find_tensor(output, None if isinstance(output, Tensor) else self.collector.state)
            if path is None or self.model.clock.hidden:
                return output
            value = get_at(output, path)
            loops, index = self.model.clock.axes, self.model.clock.index
            new = self._edited(site, value, loops, index)
            if record_it:
                new = self.collector.take(site, loops, index, new)
            for edit in edits:
                if isinstance(edit, FrozenSite):
                    edit.keep(new)  # with later edits, and as the tensor that gradients are taken at
            return output if new is value else put_at(output, path, new)

        return after

    def _edited(self, site: str, value: Tensor, loops: tuple[str, ...], index: tuple[int, ...]) -> Tensor:
        count = self.iterations + 1 if is_state(site) else self.iterations
        new = value
        edits = self.plan.edits.get(site, ())
        if edits:
            loops, index = (*loops, CALL), (*index, self.applied.call(site, loops, index))
        for edit in edits:
            axes = axes_of(site, value, self.collector.state)
            if not self.applied.has_axes(edit, axes + loops):
                continue  # a module may run inside an inner loop and also outside it, as in TRM
            if edit.applies_at(loops, index, count):
                new, before = edit.apply(new, axes), new
                if new is not before:  # else a freeze that only begins
                    self.applied.apply(edit, loops, index)
        return new
