"""Recording while a model generates: every pass as it really ran, whatever cache it used.

    run = ls.generate(model, tokens, max_new_tokens=8)
    run.at(token=5)[3]             # the state in iteration 3 while token 5 was computed: (batch, position, width)
    run.states[5, 3]               # the same where the token is read, at the last position: (batch, width)
    run.tokens                     # what came out

Nothing is computed again: a model whose cache depends on the iteration, or that draws its first
state anew for every token, would give other states then.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters.base import Adapter
from ..common.errors import LoopscopeError, LoopscopeIndexError, nearest
from ..core.hooks import TemporaryHooks
from ..core.sites import Sites, find_tensor, get_at, is_state, modules_of, resolve
from ..core.state_tree import items
from ..core.states import States
from ..interventions.edits import Edit, expanded
from ..runs.collector import Collector
from ..runs.keep import Keep
from ..runs.reader import Reader
from ..runs.run import Run
from ..wrapping.call_tracker import ITERATION, Body
from ..wrapping.wrap_module import LOOP_SITES, Wrapped
from .provenance import circumstances


class Generation:
    """The passes of a model while it generated, one Run for each new token."""

    def __init__(self, runs: Sequence[Run], tokens: Any) -> None:
        self.runs = list(runs)
        """Pass by pass. The first reads the whole prompt; later ones all tokens so far, or with a
        cache only the newest."""
        self.tokens = tokens
        """What the model returned: prompt and new tokens, (batch, position)."""

    def at(self, *, token: int) -> Run:
        """The pass that computed new token number `token`, 0-based; `.at(token=5)[3]` is its state
        in iteration 3."""
        try:
            return self.runs[token]
        except IndexError:
            raise LoopscopeIndexError(
                f"token must be one of the {len(self.runs)} that were generated, 0..{len(self.runs) - 1}, "
                f"but is {token}. Generate more: max_new_tokens=..."
            ) from None

    @property
    def states(self) -> States:
        """The states at the position that the new token is read from: token, iteration, batch,
        width."""
        return self["state"]

    def __getitem__(self, site: str) -> States:
        """A site's values with the axis `token` first, at the last position where it has positions.
        Passes may differ in the number of their iterations, and not all need come to a site: what a
        pass didn't run is absent."""
        if all(site not in run for run in self.runs):
            raise LoopscopeError(
                f"'{site}' was not recorded in any pass. {nearest(site, self.names)} To have it: "
                f"sites=[{site!r}]."
            )
        values: dict[tuple[int, ...], Tensor] = {}
        axes: tuple[str, ...] = ()
        for token, run in enumerate(self.runs):
            if site not in run:
                continue
            result = run[site]
            if not isinstance(result, States):
                result = States(
                    site, {(0,): result}, (*ITERATION, "batch", "position", "width")[: result.ndim + 1], 1
                )
            last = result.at(position=-1) if "position" in result.axes else result
            axes = ("token", *last.axes)
            values |= {(token, *index): value for index, value in last.items()}
        return States(site, values, axes, len(self.runs))

    @property
    def names(self) -> list[str]:
        """Every site that was recorded."""
        return list(dict.fromkeys(name for run in self.runs for name in run.names))

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __repr__(self) -> str:
        many = sorted({run.iterations for run in self.runs})
        spread = f"{many[0]} to {many[-1]}" if len(many) > 1 else f"{many[0]}" if many else "no"
        return f"Generation · {len(self.runs)} tokens · {spread} iterations each"


def generate(
    model: Any,
    tokens: Any,
    *,
    sites: Sites = (),
    edits: Sequence[Edit] = (),
    keep: Keep | None = None,
    seed: int | None = None,
    **options: Any,
) -> Generation:
    """Let a wrapped model generate, by its own `generate`, and record every pass.

    Arguments:
        model: what `wrap` made of a model that has a method `generate`.
        tokens: the prompt, (batch, position).
        sites, edits, keep, seed: as in `record`; edits apply in every pass.
        options: of the model's own `generate`, such as max_new_tokens=8, use_cache=False,
            do_sample=False.
    """
    owner: Any = model.module if isinstance(model, Adapter | Wrapped) else model
    if not hasattr(owner, "generate"):
        raise LoopscopeError(
            "a model must have a method generate to be recorded while it generates, but "
            f"{type(owner).__name__} has none. Generate by other means within `with ls.recording(model) as "
            "run:`."
        )
    with torch.random.fork_rng(enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        with torch.no_grad(), recording(model, sites=sites, edits=edits, keep=keep) as run:
            run.tokens = owner.generate(tokens, **options)
    for own in run.runs:
        own.origin["seed"] = seed
    return run


@contextmanager
def recording(
    model: Any, *, sites: Sites = (), edits: Sequence[Edit] = (), keep: Keep | None = None
) -> Iterator[Generation]:
    """Record every pass that is made within the block, whoever makes it: a generate of another
    package, a loop of your own.

    >>> with ls.recording(model) as run:
    ...     AutoregressiveWrapper(model.module).generate(prompt, seq_len=8)
    >>> run.at(token=0).states
    """
    if not isinstance(model, Adapter | Wrapped):
        raise LoopscopeError(
            f"recording needs what ls.wrap makes of a model, but got {type(model).__name__}. For one pass "
            "of a model with the four functions there is ls.record(model, tokens)."
        )
    made = Generation([], None)
    watch = _Watch(model, sites, edits, keep, made=made)
    with TemporaryHooks() as taps:
        taps.attach(model.module, before=watch.begin, after=watch.end)
        try:
            yield made
        finally:
            watch.drop()


class _Watch:
    """Puts a Body on each pass of a module."""

    def __init__(
        self,
        model: Adapter | Wrapped,
        sites: Sites,
        edits: Sequence[Edit],
        keep: Keep | None,
        *,
        made: Generation,
    ) -> None:
        self.model, self.keep, self.made, self.edits = model, keep or Keep(), made, edits
        self.adapter = model if isinstance(model, Adapter) else None
        self.modules = modules_of(model.module)
        self.named: Any = model
        if isinstance(model, Adapter):
            self.named = _Named(model)
            self.modules = self.modules | model.site_modules() | self.named.parts
        known = [*self.modules, *LOOP_SITES]
        hooks = [name for name in self.modules if name[0] != "("]
        asked = resolve(sites, known, hooks)
        self.wanted = [site for site in asked if site not in LOOP_SITES and not is_state(site)]
        values, schedule = expanded(edits, ())
        self.by_site: dict[str, list[Edit]] = {}
        for edit in values:
            self.by_site.setdefault(resolve(edit.site, known, [])[0], []).append(edit)
        if schedule or any(is_state(site) and site != "state" for site in self.by_site):
            raise LoopscopeError(
                "edits of a pass that the model makes by itself must be of a module's output or of 'state', "
                "but "
                f"{[str(edit) for edit in edits]} has others. Use ls.record for skip, repeat and further "
                "fields of the state."
            )
        self.taps: TemporaryHooks | None = None

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Before a pass."""
        self.tokens = kwargs.get("input_ids", args[0] if args else None)
        # An edit that counts from the end needs the number of iterations; a family knows its own.
        count = None if self.adapter is None else self.adapter.iterations
        self.body = Body(
            self.named,
            self.modules,
            Collector(self.keep, False, careful=True),
            self.by_site,
            schedule=(),
            count=count,
        )
        self.embedded, self.last = None, {}
        self.taps = TemporaryHooks()
        for site in dict.fromkeys([*self.wanted, *(site for site in self.by_site if site not in LOOP_SITES)]):
            self.taps.attach(self.modules[site], after=self.body.site(site, site in self.wanted))
        if self.adapter is not None:
            self._notes(self.adapter)
        self.body.attach(self.taps)
        if self.adapter is not None and self.adapter.extra_state_modules():
            self.taps.attach(self.adapter.loop_ends()[1], after=self._fields)
        self.named.clock.set()
        return args, kwargs

    def end(self, args: Any, kwargs: Any, output: Any) -> Any:
        """After it."""
        self.drop()
        if not self.body.done:
            return output  # a pass that had nothing to do
        logits = output if isinstance(output, Tensor) else _logits(output)
        run = self.body.run(self.tokens, logits)
        if self.adapter is not None:
            run = self._completed(self.adapter, run)
        run.origin |= circumstances(self.model, self.edits, self.keep, None)
        self.made.runs.append(run)
        return output

    def drop(self) -> None:
        """Take the taps of a pass off."""
        if self.taps is not None:
            self.taps.__exit__()
            self.taps = None
            self.named.clock.set()

    def _notes(self, adapter: Adapter) -> None:
        assert self.taps is not None
        embedding = adapter.embedding()

        def embedded(args: Any, kwargs: Any, output: Any) -> Any:
            self.embedded = output
            return output

        if embedding is not None:
            self.taps.attach(embedding, after=embedded)
        for field, maker in adapter.extra_state_modules().items():

            def made(args: Any, kwargs: Any, output: Any, field: str = field) -> Any:
                path = find_tensor(output)
                self.last[field] = None if path is None else get_at(output, path)
                return output

            self.taps.attach(maker, after=made)

    def _fields(self, args: Any, kwargs: Any, output: Any) -> Any:
        for field, value in self.last.items():
            self.body.collector.take(f"state.{field}", ITERATION, (self.body.done,), value)
        return output

    def _completed(self, adapter: Adapter, run: Run) -> Run:
        """The same with states[0], which came before the first call of a part, and with a
        read-out."""
        assert self.body.first is not None
        first = adapter.initial_from_call(self.body.first.detach(), self.embedded)
        begun = {
            "state" if i == 0 else f"state.{name}": part
            for i, (name, part) in enumerate(items(first).items())
        }
        sites: dict[str, Any] = {name: run[name] for name in run.names}
        for name, value in begun.items():
            if name in sites and not self.keep.last:
                kept, _ = self.keep.value(value.detach(), sites[name].axes[1:], name)
                later = {index: one for index, one in sites[name].items() if index[0] > 0}
                new = next((one.shape for one in later.values()), kept.shape)
                if kept.shape != new and kept.ndim == 3:
                    kept = kept[:, -new[1] :]  # a cache holds the rest: only the newest positions go on
                sites[name] = States(name, {(0,): kept} | later, sites[name].axes, run.iterations + 1)
        kind = None if isinstance(first, Tensor) else type(first)
        read: Any = adapter.logits_from_state if adapter.logits_from_state(first) is not None else None
        reader = Reader(adapter, None, read, kind, grad=False)
        return Run(
            tokens=run.tokens,
            iterations=run.iterations,
            sites=sites,
            output=run.output,
            origin=run.origin | {"fields": list(adapter.fields)},
            reader=reader,
        )


class _Named:
    """An adapter's loop as the names that a Body goes by."""

    def __init__(self, adapter: Adapter) -> None:
        first, last = adapter.loop_ends()
        self.module, self.clock = adapter.module, adapter.clock
        self.body_receives_state = adapter.body_receives_state
        self.parts: dict[str, nn.Module] = {"(first)": first, "(last)": last}
        self.body = ["(first)"] if first is last else ["(first)", "(last)"]
        self.inner = {}
        for axis, module in adapter.inner_loop_modules().items():
            self.parts[f"({axis})"] = module
            self.inner[axis] = f"({axis})"


def _logits(output: Any) -> Any:
    if hasattr(output, "logits"):
        return output.logits
    path = find_tensor(output)
    return output if path is None else get_at(output, path)
