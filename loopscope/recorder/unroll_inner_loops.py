"""Inner loops unrolled: each of their turns as a site of its own, for analyses that follow one
layer from iteration to iteration."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from torch import Tensor

from ..core.states import States
from ..runs.run import Run
from .extend import Continuation


def unroll_inner_loops(continuation: Continuation, names: Sequence[str]) -> tuple[Continuation, list[str]]:
    """The same run with a site for each turn of an inner loop, and `names` in the order of an
    iteration.

    A site `core.0.hook_resid_post` with an axis `low` of three turns becomes `low=0
    core.0.hook_resid_post` and two more. The order is: the turns, one after the other, then what is
    called once in an iteration. This may be other modules, or the same one outside its inner loop:
    its site `core.0.hook_resid_post@iteration` becomes `@iteration core.0.hook_resid_post`.
    """
    run = continuation.run
    nested = [name for name in names if _has_inner_loop(run, name)]
    if not nested:
        return continuation, list(names)
    sites: dict[str, States | Tensor] = {name: run[name] for name in run.names}
    turns: dict[tuple[int, ...], list[str]] = {}
    once: list[str] = []
    for name in run.names:
        site = run[name]
        if not isinstance(site, States):
            continue
        module, at, loop = name.partition("@")
        if at and not site.inner:
            sites[f"@{loop} {module}"] = site
            if module in nested:
                once.append(f"@{loop} {module}")
        if at or not site.inner:
            continue
        for turn in product(*map(range, site.inner)):
            label = " ".join(f"{axis}={number}" for axis, number in zip(site.axes[1:], turn, strict=False))
            sites[f"{label} {name}"] = _turn(site, turn)
            if name in nested:
                turns.setdefault(turn, []).append(f"{label} {name}")

    def position(site: str) -> int:
        return names.index(module_of(site))

    order = [site for turn in sorted(turns) for site in sorted(turns[turn], key=position)]
    order += sorted(once, key=position)
    order += [name for name in names if name not in nested]
    return replace(continuation, run=run.with_sites(sites)), order


def blocks_of(names: Sequence[str]) -> list[str | None]:
    """The block that each attention site belongs to; None if the name has no `.attn.`."""
    return [name.rsplit(".attn.", 1)[0] if ".attn." in name else None for name in names]


def module_of(site: str) -> str:
    """The site's name in the model, without the turn."""
    return site.split(" ")[-1]


def _has_inner_loop(run: Run, name: str) -> bool:
    return name in run and isinstance(run[name], States) and bool(run[name].inner)


def _turn(site: States, turn: tuple[int, ...]) -> States:
    """The values of one turn of the inner loops."""
    values = {index[:1]: value for index, value in site.items() if index[1:] == turn}
    axes = (site.axes[0], *site.axes[1 + len(site.inner) :])
    # the same iterations, as an index counts from the first of them, present or not
    return States(site.name, values, axes, site.iteration_range)
