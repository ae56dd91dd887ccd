"""Inner loops unfolded: each turn as a site of its own, for analyses that follow one layer from
iteration to iteration."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product

from ..core.states import States
from ..runs.run import Run
from .extend import Continuation


def unroll_inner_loops(after: Continuation, names: Sequence[str]) -> tuple[Continuation, list[str]]:
    """The same run with a site for each turn of an inner loop, and `names` in the order of an
    iteration.

    A site `core.0.hook_resid_post` with an axis `low` of three turns becomes `low=0
    core.0.hook_resid_post` and two more. First come the turns, one after the other, then what is
    called once in an iteration: other modules, or the same one in another role, whose site
    `core.0.hook_resid_post@iteration` becomes `@iteration core.0.hook_resid_post`.
    """
    run = after.run
    nested = [name for name in names if _inner(run, name)]
    if not nested:
        return after, list(names)
    sites = {name: run[name] for name in run.names}
    turns: dict[tuple[int, ...], list[str]] = {}
    roles: list[str] = []
    for name in run.names:
        site = run[name]
        if not isinstance(site, States):
            continue
        base, at, role = name.partition("@")
        if at and not site.inner:
            sites[f"@{role} {base}"] = site
            if base in nested:
                roles.append(f"@{role} {base}")
        if at or not site.inner:
            continue
        depth = len(site.inner)
        for turn in product(*map(range, site.inner)):
            values = {index[:1]: value for index, value in site.items() if index[1:] == turn}
            label = " ".join(f"{axis}={number}" for axis, number in zip(site.axes[1:], turn, strict=False))
            axes = (site.axes[0], *site.axes[1 + depth :])
            sites[f"{label} {name}"] = States(name, values, axes, _range(index[0] for index in values))
            if name in nested:
                turns.setdefault(turn, []).append(f"{label} {name}")
    order = [
        name
        for turn in sorted(turns)
        for name in sorted(turns[turn], key=lambda n: names.index(module_of(n)))
    ]
    order += sorted(roles, key=lambda n: names.index(module_of(n)))
    order += [name for name in names if name not in nested]
    return replace(after, run=run.with_sites(sites)), order


def blocks_of(names: Sequence[str]) -> list[str | None]:
    """The block that each site of attention belongs to; None where its name doesn't tell."""
    return [name.rsplit(".attn.", 1)[0] if ".attn." in name else None for name in names]


def module_of(site: str) -> str:
    """The name that the model knows a site by, without the turn."""
    return site.split(" ")[-1]


def _inner(run: Run, name: str) -> bool:
    return name in run and isinstance(run[name], States) and bool(run[name].inner)


def _range(labels: Iterable[int]) -> range:
    known = sorted(labels)
    return range(known[0], known[-1] + 1)
