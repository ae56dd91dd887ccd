"""PassRecorder: records each forward pass that a wrapped model makes by itself, as in
generation."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..adapters.base import Adapter
from ..common.errors import LoopscopeError
from ..core.copied import copied
from ..core.counted import PADDING_INPUTS, SpecialTokens, counted_positions
from ..core.hooks import TemporaryHooks
from ..core.lazy_values import chosen, form_at, joined
from ..core.output_logits import find_logits
from ..core.pattern_sites import listed, with_patterns
from ..core.sites import Sites, find_tensor, get_at, is_state, modules_of, resolve, site_modules
from ..core.state_tree import tensors
from ..core.states import States
from ..interventions.counted_mean import with_mask
from ..interventions.edit_checks import AnyEdit, Edits, edit_list, expand_edits
from ..interventions.edits import Edit
from ..interventions.schedule import ScheduleEdit, composed
from ..runs.collector import Collector
from ..runs.keep import Keep
from ..runs.run import Run
from ..runs.run_mask import sequence_shape
from ..wrapping.call_tracker import ITERATION, CallTracker
from ..wrapping.start_probe import StartProbe
from ..wrapping.wrap_module import LOOP_SITES, Wrapped
from .adapter_loop import AdapterLoop
from .forced_exits import check_forced, exits_by_input
from .pass_reader import pass_reader
from .provenance import circumstances
from .read_out_check import reads_out, without_read_out


class PassRecorder:
    """Appends a Run to `runs` for each forward pass of a module: `begin` and `end` are called
    before and after it."""

    def __init__(
        self,
        model: Adapter | Wrapped,
        sites: Sites,
        edits: Edits,
        keep: Keep | None,
        *,
        runs: list[Run],
        collector: Collector | None = None,
    ) -> None:
        """`collector`: takes the values of each pass; None: one without gradients."""
        self.empty_collector = collector or Collector(keep or Keep(), False, careful=True)
        self.model, self.keep, self.runs = model, keep or Keep(), runs
        self.adapter = model if isinstance(model, Adapter) else None
        self.modules = with_patterns(modules_of(model.module))
        self.loop: Any = model
        if isinstance(model, Adapter):
            self.loop = AdapterLoop(model)
            self.modules = self.modules | site_modules(model) | self.loop.parts
        names = [*self.modules, *LOOP_SITES]
        requested = resolve(sites, names, [name for name in listed(self.modules) if name[0] != "("])
        self.recorded = [site for site in requested if site not in LOOP_SITES and not is_state(site)]
        hooks = [name for name in self.modules if name[0] != "("]
        others = LOOP_SITES if self.adapter is None else [*LOOP_SITES, "halting"]
        self.use(edit_list(edits, self.modules, hooks, others=others))
        if "halting" in self.by_site and "halting" not in self.recorded:
            self.recorded.append("halting")  # what halts is then what was edited
        self.hooks: TemporaryHooks | None = None
        self.probe: StartProbe | None = None
        """Of the first pass of a module wrapped by its body: whether states[0] is what it begins
        with. Later passes begin alike."""
        self.start: str | None = None
        self.probing = False
        self.read_out_holds: bool | None = None
        """Whether the first pass's answers are the adapter's read-outs of its states."""

    def use(self, edits: Sequence[AnyEdit]) -> None:
        """Take these edits from the next pass on, one for each site.

        Raises:
            LoopscopeError: an edit of another site than a module's output or 'state', or one of the
                schedule that passes which the model makes by itself can't follow.
        """
        self.edits = list(edits)
        self.exits = exits_by_input(self.adapter, self.modules, self.edits)
        fields = self.model.state.fields if isinstance(self.model, Wrapped) else self.model.fields
        others = [edit for edit in self.edits if edit not in self.exits]
        site_edits, schedule = expand_edits(others, fields)
        self.by_site: dict[str, list[Edit]] = {}
        for edit in site_edits:
            self.by_site.setdefault(str(edit.site), []).append(edit)
        self.schedule = [edit for edit in schedule if isinstance(edit, ScheduleEdit)]
        if len(self.schedule) < len(schedule) or (self.schedule and len(fields) > 1):
            raise LoopscopeError(
                "of the schedule, a model that makes its passes by itself follows skip and repeat, for a "
                f"state of one tensor, but got {[str(edit) for edit in schedule]} for a state of "
                f"{max(1, len(fields))}. Use ls.record."
            )
        if any(is_state(site) and site != "state" for site in self.by_site):
            raise LoopscopeError(
                "edits of a pass that the model makes by itself must be of a module's output or of 'state', "
                f"but {[str(edit) for edit in self.edits]} has others. Use ls.record for further fields of "
                "the state."
            )
        composed(schedule, 0 if self.adapter is None else self.adapter.iterations)

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Attach the hooks of a pass, before it."""
        if self.probing:
            return args, kwargs
        for edit in self.exits:
            assert self.adapter is not None
            kwargs = kwargs | dict(self.adapter.exit_inputs(edit.iteration) or {})
        if isinstance(self.model, Wrapped) and not self.runs:
            self.probe = StartProbe(self.model.module, self.model.body, args, kwargs)
        self.tokens = copied(kwargs.get("input_ids", args[0] if args else None))
        collector = self.empty_collector.fresh()
        # An edit that counts from the end needs the number of iterations, which an adapter knows.
        count = None if self.adapter is None else self.adapter.iterations
        by_site = {
            site: with_mask(edits, self.model.module, self.tokens, kwargs)
            for site, edits in self.by_site.items()
        }
        self.tracker = CallTracker(
            self.loop, self.modules, collector, by_site, schedule=self.schedule, count=count
        )
        self.embedded: Any = None
        self.extra_fields: dict[str, Any] = {}
        self.carried_unchanged = True
        self.hooks = TemporaryHooks()
        edited = (site for site in self.by_site if site not in LOOP_SITES)
        for site in dict.fromkeys([*self.recorded, *edited]):
            self.hooks.attach(self.modules[site], after=self.tracker.site(site, site in self.recorded))
        if self.adapter is not None:
            self._attach_to(self.adapter, self.hooks)
        self.tracker.attach(self.hooks)
        if self.adapter is not None and not self.adapter.loop_bodies():
            self.hooks.attach(self.adapter.loop_ends()[0], before=self._compare_carried)
        if self.adapter is not None and self.adapter.extra_state_modules():
            self.hooks.attach(self.adapter.loop_ends()[1], after=self._record_extra_fields)
        self.loop.clock.set()
        return args, kwargs

    def end(self, args: Any, kwargs: Any, output: Any) -> Any:
        """Remove the hooks of a pass after it, and append its run."""
        if self.probing:
            return output
        self.remove_hooks()
        if not self.tracker.done:
            return output  # the pass ran no iteration
        run = self.tracker.run(self.tokens, find_logits(output), self._unknown_start())
        if self.adapter is not None:
            run = self._with_first_state(self.adapter, run)
            if self.read_out_holds is None and self.adapter.check:
                self.read_out_holds = reads_out(self.adapter, run)
            if self.read_out_holds is False and self.adapter.mismatch is None:
                run = without_read_out(self.adapter, run)
            check_forced(self.adapter, self.edits, run)
        module = self.model.module if isinstance(self.model, Wrapped) else self.model
        run.origin |= circumstances(module, self.edits, self.keep, None)
        self.runs.append(_with_padding(run, kwargs))
        return output

    def _unknown_start(self) -> str | None:
        """Why the first input of the body isn't states[0]; None if nothing speaks against it."""
        if self.probe is not None and isinstance(self.model, Wrapped):
            self.probing = True
            try:
                self.start = self.probe.unknown_start(self.tracker, self.model.start_answers)
            finally:
                self.probing, self.probe = False, None
        return self.start

    def remove_hooks(self) -> None:
        """Remove the hooks of a pass, if there are any."""
        if self.hooks is not None:
            self.hooks.__exit__()
            self.hooks = None
            self.loop.clock.set()

    def _attach_to(self, adapter: Adapter, hooks: TemporaryHooks) -> None:
        """Hooks that store what the embedding and the modules of further fields give."""
        embedding = adapter.embedding()

        def store_embedded(args: Any, kwargs: Any, output: Any) -> Any:
            self.embedded = output
            return output

        if embedding is not None:
            hooks.attach(embedding, after=store_embedded)
        for field, module in adapter.extra_state_modules().items():

            def store_field(args: Any, kwargs: Any, output: Any, field: str = field) -> Any:
                path = find_tensor(output)
                self.extra_fields[field] = None if path is None else get_at(output, path)
                return output

            hooks.attach(module, after=store_field)

    def _compare_carried(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Before an iteration: whether it reads the state that the last one returned."""
        path, last = find_tensor((args, kwargs)), self.tracker.last_output
        if (
            path is not None
            and last is not None
            and not self.tracker.calls.inside
            and self.adapter is not None
        ):
            carried = self.adapter.carried(get_at((args, kwargs), path))
            same = carried is None or (carried.shape == last.shape and torch.equal(carried, last))
            self.carried_unchanged = self.carried_unchanged and same
        return args, kwargs

    def _record_extra_fields(self, args: Any, kwargs: Any, output: Any) -> Any:
        for field, value in self.extra_fields.items():
            self.tracker.collector.take(f"state.{field}", ITERATION, (self.tracker.done,), value)
        return output

    def _with_first_state(self, adapter: Adapter, run: Run) -> Run:
        """The run with states[0], which is computed before the loop's first call, and a
        read-out."""
        first_input, detach = self.tracker.first.inputs[0], not self.tracker.collector.grad
        first_input = first_input.detach() if detach else first_input
        first = adapter.initial_from_call(first_input, self.embedded)
        direct = all(self.tracker.first.direct) or not adapter.body_receives_state
        known = first is not None and direct and self.carried_unchanged
        sites: dict[str, Any] = {name: run[name] for name in run.names}
        for number, field in enumerate(adapter.fields or ("state",)):
            name = f"state.{field}" if number else "state"
            if name in sites and not self.keep.last:
                value = tensors(first)[number] if known else None
                value = value if value is None or not detach else value.detach()
                sites[name] = self._with_first_value(sites[name], value, run.iterations)
        return Run(
            tokens=run.tokens,
            iterations=run.iterations,
            sites=sites,
            output=run.output,
            origin=run.origin | {"fields": list(adapter.fields)},
            reader=pass_reader(
                adapter,
                first,
                grad=not detach,
                forms=self.tracker.collector.forms,
                before=self.tracker.before,
                edited=self._edited_after(),
            ),
        )

    def _edited_after(self) -> list[str]:
        """The edited sites that were called after the loop."""
        calls = self.tracker.sites
        return [
            site
            for site in self.by_site
            if site in calls.gaps and 0 not in calls.gaps[site] and calls.outside(site, self.tracker.done)
        ]

    def _with_first_value(self, states: States, value: Tensor | None, iterations: int) -> States:
        """The site's values with `value` before the loop; None: it isn't known."""
        later = chosen(states.by_index, lambda index: index[0] > 0)
        if value is None:
            return states.with_values(later, iteration_range=range(iterations + 1))
        kept, _ = self.keep.value(value, states.axes[1:], states.name)
        shape = next((form_at(later, index).shape for index in later), kept.shape)
        if kept.shape != shape and kept.ndim == 3:
            kept = kept[:, -shape[1] :]  # a cache holds the other positions: only the newest go on
        return States(states.name, joined([{(0,): kept}, later]), states.axes, iterations + 1)


def _with_padding(run: Run, inputs: Mapping[str, Any]) -> Run:
    """The run with the positions that a padding mask among the inputs of its pass leaves."""
    shape = sequence_shape(run)
    masks = {name: value for name, value in inputs.items() if name in PADDING_INPUTS}
    counted = counted_positions(None, masks, SpecialTokens(), shape)
    return run if counted.everything else run.with_counted(counted)
