"""Recording while a model generates: every forward pass as it ran, with whatever cache it used.

    out = ls.generate(model, tokens, max_new_tokens=8)
    out.at(token=5)[3]             # pass of token 5, after 3 iterations: (batch, position, width)
    out.states[5, 3]               # the same at the last position: (batch, width)
    out.tokens                     # prompt and new tokens

Nothing is computed again. A model whose cache depends on the iteration, or that draws a new first
state for every token, would have other states then.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..adapters.base import Adapter
from ..common.errors import LoopscopeError, LoopscopeIndexError, nearest
from ..core.copied import copied
from ..core.hooks import TemporaryHooks
from ..core.sites import Sites
from ..core.states import States
from ..core.turns import check_no_pass, parts_of, running_pass, turn
from ..interventions.edit_checks import Edits
from ..runs.keep import Keep
from ..runs.run import Run
from ..wrapping.call_tracker import ITERATION
from ..wrapping.wrap_module import Wrapped
from .pass_recorder import PassRecorder


class Generation:
    """The forward passes of a model while it generated, one Run for each new token."""

    def __init__(self, runs: Sequence[Run], tokens: Any) -> None:
        self.runs = list(runs)
        """By pass. The first reads the whole prompt; later ones read all tokens so far, or with a
        cache only the newest."""
        self.tokens = tokens
        """The model's output: prompt and new tokens, (batch, position)."""

    def at(self, *, token: int) -> Run:
        """The pass that computed a new token, numbered from 0: `.at(token=5)[3]` is the state after
        3 iterations of that pass.

        Raises:
            LoopscopeIndexError: there is no such token.
        """
        try:
            return self.runs[token]
        except IndexError:
            raise LoopscopeIndexError(
                f"token must be one of the {len(self.runs)} that were generated, 0..{len(self.runs) - 1}, "
                f"but is {token}. Generate more: max_new_tokens=..."
            ) from None

    @property
    def states(self) -> States:
        """The states at the position that the new token is read from: (token, iteration, batch,
        width)."""
        return self["state"]

    def __getitem__(self, site: str) -> States:
        """A site's values with the axis `token` first, at the last position if it has positions.

        A value is absent where a pass ran fewer iterations, or didn't reach the site.

        Raises:
            LoopscopeError: no pass recorded the site.
        """
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
            states = run[site]
            if not isinstance(states, States):
                all_axes = (*ITERATION, "batch", "position", "width")
                states = States(site, {(0,): states}, all_axes[: states.ndim + 1], 1)
            last = states.at(position=-1) if "position" in states.axes else states
            axes = ("token", *last.axes)
            values |= {(token, *index): value for index, value in last.items()}
        return States(site, values, axes, len(self.runs))

    @property
    def names(self) -> list[str]:
        """The names of all recorded sites."""
        return list(dict.fromkeys(name for run in self.runs for name in run.names))

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __repr__(self) -> str:
        counts = sorted({run.iterations for run in self.runs})
        text = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}" if counts else "no"
        return f"Generation · {len(self.runs)} tokens · {text} iterations each"


def generate(
    model: Any,
    tokens: Any,
    *,
    sites: Sites = (),
    edits: Edits = (),
    keep: Keep | None = None,
    seed: int | None = None,
    **options: Any,
) -> Generation:
    """Let a wrapped model generate with its own `generate`, and record every forward pass.

    >>> model = ls.from_pretrained("ByteDance/Ouro-1.4B", trust_remote_code=True)
    >>> out = ls.generate(model, tokens, max_new_tokens=8)
    >>> out.at(token=5)[3]             # pass of token 5, after 3 iterations: (batch, position, width)
    >>> out.states[5, 3]               # the same at the last position: (batch, width)
    >>> out.tokens                     # prompt and new tokens

    Arguments:
        model: what `wrap` returned for a model that has a method `generate`.
        tokens: the prompt, (batch, position).
        sites, edits, keep, seed: as for `record`; edits apply in every pass.
        options: of the model's own `generate`, such as max_new_tokens=8, use_cache=False,
            do_sample=False.

    Raises:
        LoopscopeError: the model has no method `generate`, or an edit is of the schedule.
    """
    owner: Any = model.module if isinstance(model, Adapter | Wrapped) else model
    if not hasattr(owner, "generate"):
        raise LoopscopeError(
            "a model must have a method generate to be recorded while it generates, but "
            f"{type(owner).__name__} has none. Generate by other means within `with ls.recording(model) as "
            "run:`."
        )
    with turn(parts_of(model), seeded=seed is not None), torch.random.fork_rng(enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        with torch.no_grad(), recording(model, sites=sites, edits=edits, keep=keep) as generation:
            generation.tokens = owner.generate(copied(tokens), **options)
    for run in generation.runs:
        run.origin["seed"] = seed
    return generation


@contextmanager
def recording(
    model: Any, *, sites: Sites = (), edits: Edits = (), keep: Keep | None = None
) -> Iterator[Generation]:
    """Record every forward pass of a wrapped model inside the with-block: those of another
    package's `generate`, or of your own code.

    >>> with ls.recording(model) as out:
    ...     AutoregressiveWrapper(model.module).generate(prompt, seq_len=8)
    >>> out.at(token=0).states

    Arguments:
        model: what `wrap` returned.
        sites, edits, keep: as for `record`; edits apply in every pass.

    Raises:
        LoopscopeError: the model isn't wrapped, or an edit is of the schedule.
    """
    if not isinstance(model, Adapter | Wrapped):
        raise LoopscopeError(
            f"recording needs what ls.wrap makes of a model, but got {type(model).__name__}. For one pass "
            "of a model with the four functions there is ls.record(model, tokens)."
        )
    generation = Generation([], None)
    recorder = PassRecorder(model, sites, edits, keep, runs=generation.runs)
    parts = parts_of(model)
    check_no_pass(parts, "a recording")
    with turn(parts), running_pass(parts), TemporaryHooks() as hooks:
        hooks.attach(model.module, before=recorder.begin, after=recorder.end)
        try:
            yield generation
        finally:
            recorder.remove_hooks()
