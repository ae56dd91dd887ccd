"""The header of a run's file, and what must hold of it."""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Le

from ..common.checked_fields import Count, Whole, checked_fields
from ..common.errors import LoopscopeError

REMEDY = "Take another copy, or record it again."
MOST_ITERATIONS = 2**24
"""Iterations, and turns of inner loops, that a file may speak of."""


@dataclass(frozen=True)
class StoredTask:
    """A task, by its name and options."""

    name: str
    options: dict[str, Any]


@dataclass(frozen=True)
class StoredOrigin:
    """What is read of a run's provenance; the rest may be anything."""

    entry: str | None = None
    architecture: str | None = None
    edits: list[Any] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    keep: str = ""
    whole: bool = True
    task: StoredTask | None = None
    versions: dict[str, Any] = field(default_factory=dict)
    token_strings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredSite:
    """A site: where its values are in the file."""

    values: dict[str, str]
    """The names of its tensors, by loop index, such as "3" or "3,0"; "" for a value outside the
    loop."""
    axes: list[str] | None = None
    """None for a value outside the loop."""
    labels: list[Whole] = field(default_factory=lambda: [0, 0])
    """Begin and end, and step, of the iterations that can be addressed."""
    rows: dict[str, list[bool]] = field(default_factory=dict)
    """Masks of the values from which rows have left, by loop index."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Why values are absent, by iteration."""

    @property
    def iteration_range(self) -> range:
        """The iterations that can be addressed."""
        return range(*self.labels)

    @property
    def indices(self) -> dict[tuple[int, ...], str]:
        """The names of its tensors by loop index, in order."""
        return {key: self.values[text] for key, text in sorted((parse_index(t), t) for t in self.values)}

    @property
    def masks(self) -> dict[tuple[int, ...], list[bool]]:
        """Masks of the values from which rows have left, by loop index."""
        return {parse_index(text): mask for text, mask in self.rows.items()}


@dataclass(frozen=True)
class RunHeader:
    """The header."""

    iterations: Annotated[Count, Le(MOST_ITERATIONS)]
    origin: dict[str, Any]
    sites: dict[str, StoredSite]
    tokens: Any = None
    """As `stored_values` has it; so are output and inputs."""
    output: Any = None
    inputs: dict[str, Any] = field(default_factory=dict)
    halting: dict[str, str] | None = None
    """Its kind, which older files lack, and where its tensors are."""
    counted: dict[str, str] | None = None
    """Where the mask of the positions that count is, and what decided; None: all count."""


def checked_header(what: str, header: Mapping[str, Any], names: Collection[str]) -> RunHeader:
    """A run's header.

    Arguments:
        what: the file.
        names: of the tensors in the file.

    Raises:
        LoopscopeError: something is missing, of a wrong type, or out of range.
    """
    if "aliases" in header:  # written before sites said where their values are
        header = _upgraded(what, header, names)
    result = checked_fields(RunHeader, dict(header), what, REMEDY)
    checked_fields(StoredOrigin, result.origin, f"{what}, origin,", REMEDY)
    for name, site in result.sites.items():
        if why := _misfit(site, names):
            raise LoopscopeError(
                f"{what} must hold what loopscope wrote, but its site {name[:80]!r} {why}. {REMEDY}"
            )
    return result


def format_index(index: tuple[int, ...]) -> str:
    """A loop index as text, such as "3,0"."""
    return ",".join(map(str, index))


def parse_index(text: str) -> tuple[int, ...]:
    """The loop index of a text that `format_index` made."""
    return tuple(map(int, text.split(",")))


def _misfit(site: StoredSite, names: Collection[str]) -> str:
    """What is wrong with a site; empty if nothing is."""
    if missing := [name for name in site.values.values() if name not in names]:
        return f"has no tensor {missing[0][:80]!r}"
    if site.axes is None:
        return "" if list(site.values) == [""] else "must have one value"
    if any(not re.fullmatch(r"\d{1,8}(,\d{1,8})*", key) for key in [*site.values, *site.rows]):
        return "has a value at an iteration that is none"
    if any(not re.fullmatch(r"\d{1,8}", key) for key in site.reasons):
        return "has a reason for an iteration that is none"
    if len(site.labels) not in (2, 3) or max(map(abs, site.labels)) > MOST_ITERATIONS or 0 in site.labels[2:]:
        return f"must have iterations within {MOST_ITERATIONS}, but has {str(site.labels)[:80]}"
    indices = list(site.indices)
    depths = {len(index) for index in indices}
    if len(depths) > 1 or not site.rows.keys() <= site.values.keys():
        return "has values at indices that don't belong together"
    if any(index[0] not in site.iteration_range for index in indices):
        return "has a value at an iteration outside its range"
    turns = math.prod(1 + max(index[d] for index in indices) for d in range(1, max(depths, default=1)))
    if turns * len(indices) > MOST_ITERATIONS:
        return f"must have at most {MOST_ITERATIONS} turns of inner loops, but has {turns}"
    return ""


def _upgraded(what: str, header: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The header of an older file, in which a tensor's name was made of its site's, in today's
    form."""
    old = checked_fields(_OldHeader, dict(header), what, REMEDY)
    places = {name: name for name in names} | old.aliases
    sites: dict[str, Any] = {}
    for name, about in old.sites.items():
        prefix = f"site/{name}/"
        keys = [key.removeprefix(prefix) for key in places if key.startswith(prefix)]
        values = {key: places[prefix + key] for key in keys if re.fullmatch(r"[\d,]*", key)}
        sites[name] = {"values": values, **(about or {})}
    inputs: dict[str, Any] = {name: _old_value(value) for name, value in old.inputs.items()}
    inputs |= {
        key.removeprefix("input/"): {"tensor": place}
        for key, place in places.items()
        if key.startswith("input/")
    }
    halting = {k.removeprefix("halting/"): place for k, place in places.items() if k.startswith("halting/")}
    return {
        **{key: value for key, value in header.items() if key in ("iterations", "origin")},
        "sites": sites,
        "inputs": inputs,
        "halting": (halting | (old.halting or {})) if halting else None,
        "counted": {"mask": places.get("counted", ""), "source": old.counted} if old.counted else None,
        **{key: {"tensor": places[key]} for key in ("tokens", "output") if key in places},
    }


@dataclass(frozen=True)
class _OldHeader:
    sites: dict[str, dict[str, Any] | None]
    aliases: dict[str, str]
    inputs: dict[str, Any] = field(default_factory=dict)
    halting: dict[str, str] | None = None
    counted: str | None = None
    """What decided which positions count; the tensor `counted` is their mask."""


def _old_value(value: Any) -> dict[str, Any]:
    return {"list": [_old_value(one) for one in value]} if isinstance(value, list) else {"plain": value}
