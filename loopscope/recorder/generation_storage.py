"""A generation as a file: its passes as runs, and what tells which of them computed which token."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..common.checked_fields import Count, Whole, checked_fields
from ..common.errors import LoopscopeError
from ..common.files import StoredTensors, save_file
from ..runs.distinct_tensors import DistinctTensors, packed
from ..runs.keep import Keep
from ..runs.run import Run
from ..runs.run_header import REMEDY
from ..runs.storage import run_content, stored_run, whole
from ..runs.stored_values import unpack
from .pass_readings import PassReadings
from .token_places import Reading

if TYPE_CHECKING:
    from .generation import Generation

KIND = "generation"


@dataclass(frozen=True)
class StoredReading:
    """What one pass read."""

    length: Count
    prepared: bool
    inner: bool
    history: str | None = None
    """The name of its tensor; None if it isn't known."""


@dataclass(frozen=True)
class GenerationHeader:
    """The header."""

    passes: list[dict[str, Any]]
    """Each pass, as the header of a run."""
    readings: list[StoredReading]
    """By pass."""
    ended: list[str] = field(default_factory=list)
    """The sequences that stopping criteria ended, as hexadecimal digits."""
    watched: bool = False
    beams: bool = False
    ends: list[Whole] = field(default_factory=list)
    tokens: Any = None
    """As `stored_values` has it; so are output, prompt and keep."""
    output: Any = None
    prompt: Any = None
    keep: Any = None
    """Stride, last and positions."""


def save_generation(generation: "Generation", path: str | os.PathLike[str]) -> Path:
    """Write a generation to one file. A tensor that several passes share is written once; an output
    that isn't made of tensors, numbers, words and containers of them is left out.

    Raises:
        LoopscopeError: its tokens, or a further input of the model, can't be written, or the file
            can't be.
    """
    tensors, read, keep = DistinctTensors(), generation.readings, generation.keep
    header: dict[str, Any] = {
        "kind": KIND,
        "ended": sorted(sequence.hex() for sequence in read.hits),
        "watched": read.watched,
        "beams": generation.beams,
        "ends": list(generation.ends),
        "tokens": packed(tensors, "tokens", generation.tokens),
        "output": packed(tensors, "output", generation.output, optional=True),
        "prompt": packed(tensors, "prompt", generation.prompt),
        "keep": packed(tensors, "keep", (keep.stride, keep.last, keep.positions)),
        "passes": [],
        "readings": [],
    }
    for number, (run, reading) in enumerate(zip(generation.runs, read.readings, strict=True)):
        tensors.prefix = f"pass/{number}/"
        history = None if reading.history is None else tensors.keep("history", reading.history)
        header["readings"].append(vars(reading) | {"history": history})
        header["passes"].append(stored_run(run, tensors))
    return save_file(path, tensors.by_name, header)


def generation_content(
    what: str,
    header: Mapping[str, Any],
    tensors: StoredTensors,
    runs_of: Callable[[list[dict[str, Any]]], list[Run]],
) -> tuple[dict[str, Any], Any]:
    """What `save_generation` wrote, as arguments of `Generation`, and its output.

    Arguments:
        what: the file.
        runs_of: makes the runs of the passes, from their arguments.

    Raises:
        LoopscopeError: the file is no generation, or is damaged.
    """
    about = checked_fields(GenerationHeader, dict(header), what, REMEDY)
    contents = [run_content(what, one, tensors) for one in about.passes]
    with whole(what, KIND):
        tokens, output, prompt, keep = (
            None if one is None else unpack(one, tensors)
            for one in (about.tokens, about.output, about.prompt, about.keep)
        )
        arguments = {
            "tokens": tokens,
            "readings": _readings(about, tensors),
            "prompt": prompt,
            "keep": _keep(keep),
            "beams": about.beams,
            "ends": about.ends,
        }
    return {"runs": runs_of(contents), **arguments}, output


def _readings(about: GenerationHeader, tensors: StoredTensors) -> PassReadings:
    if len(about.readings) != len(about.passes):
        raise LoopscopeError(f"it has {len(about.passes)} passes and {len(about.readings)} readings")
    result = PassReadings()
    result.watched = about.watched
    try:
        result.hits = {bytes.fromhex(sequence) for sequence in about.ended}
    except ValueError as error:
        raise LoopscopeError("a sequence that ended isn't one of hexadecimal digits") from error
    for number, one in enumerate(about.readings):
        history = None
        if one.history is not None:
            if one.history not in tensors:
                raise LoopscopeError(f"pass {number} has no tensor {one.history[:80]!r}")
            history = tensors[one.history]
            if history.ndim != 2 or history.dtype != torch.long or one.length > history.shape[1]:
                raise LoopscopeError(f"pass {number} lacks the {one.length} tokens that it read")
        result.readings.append(Reading(history, one.length, prepared=one.prepared, inner=one.inner))
    return result


def _keep(stored: Any) -> Keep:
    """What of each pass was kept; how values were reduced is a function, which no file has."""
    if stored is None:
        return Keep()
    if not isinstance(stored, tuple) or len(stored) != 3:
        raise LoopscopeError("what was kept isn't a stride, a count and positions")
    stride, last, positions = stored
    several = isinstance(positions, tuple) and all(isinstance(one, int) for one in positions)
    if positions is not None and not several and not isinstance(positions, slice):
        raise LoopscopeError("the positions that were kept are no numbers")
    return Keep(stride=stride, last=last, positions=positions)
