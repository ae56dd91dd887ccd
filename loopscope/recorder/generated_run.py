"""The new tokens of a generation as one run: its positions are those from which they were read."""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool
from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.text import plural
from ..core.counted import Counted
from ..core.states import States
from ..runs.run import Run
from .recorded_pass import halting_record
from .returned_rows import ReturnedRows
from .token_places import UNKNOWN

if TYPE_CHECKING:
    from .generation import Generation


def generated_run(generation: "Generation", rows: ReturnedRows) -> Run:
    """The run of the returned rows, (batch, position), whose position j is that from which new
    token j was read: the last of the prompt, then the new tokens but the last.

    A row that has met its end doesn't count and is absent, NaN. A site of which tokens have values
    of different sizes, such as an attention pattern, is left out.

    Raises:
        LoopscopeError: no token was generated, or their passes ran different numbers of iterations.
    """
    places, passes = generation.places, generation.runs
    present = (places.passes >= 0).T
    numbers = places.passes[places.passes >= 0].unique().tolist()
    if not numbers:
        raise LoopscopeError(
            "a generation must have new tokens to be a run, but has none. Generate some: max_new_tokens=8."
        )
    counts = sorted({passes[number].iterations for number in numbers})
    if len(counts) > 1:
        raise LoopscopeError(
            "the passes of all tokens must have run the same number of iterations to be one run, but ran "
            f"{counts[0]} to {counts[-1]}. Take generation.states, where those that didn't run are absent, "
            "or the pass of one token: generation.at(token=0)."
        )
    first = passes[numbers[0]]
    sites = {name: site for name in generation.names if (site := _site(generation, name, passes)) is not None}
    run = Run(
        tokens=_read_tokens(rows, len(places)),
        iterations=counts[0],
        sites=sites,
        output=_output(generation, present),
        origin={
            **first.origin,
            "pass": f"the passes of {plural(len(places), 'token')}",
            "generated": True,
            "whole": _whole(sites),
            "edits": list(dict.fromkeys(edit for n in numbers for edit in passes[n].origin["edits"])),
        },
        reader=first.reader if first.has_model else None,
        counted=Counted(present, "rows that have met their end") if not bool(present.all()) else None,
    )
    if run.has_model and run.reader.reads_states and _whole(sites):
        run.halting = halting_record(run.model, run)
    return run


def _whole(sites: Any) -> bool:
    """Whether the states are whole, so that they can be read out."""
    state = sites.get("state")
    return isinstance(state, States) and state.axes[-3:] == ("batch", "position", "width")


def _site(generation: "Generation", name: str, passes: list[Run]) -> States | Tensor | None:
    """A site's values of all tokens, position after batch; None if they are of different sizes."""
    try:
        values = generation[name]
    except LoopscopeError:  # it was kept at other positions alone
        return None
    recorded = next(run[name] for run in passes if name in run)
    by_index: dict[tuple[int, ...], dict[int, Tensor]] = {}
    for (token, *index), value in values.items():
        by_index.setdefault(tuple(index), {})[token] = value
    if len({value.shape for tokens in by_index.values() for value in tokens.values()}) > 1:
        return None
    depth = len(next(iter(by_index)))
    body = recorded.axes[depth:] if isinstance(recorded, States) else ()
    axis = body.index("position") if "position" in body else 1
    stacked = {index: _stacked(tokens, len(values), axis) for index, tokens in by_index.items()}
    if not isinstance(recorded, States):
        return stacked[(0,)]
    names = list(values.axes[1:])
    names.insert(depth + axis, "position")
    return States(name, stacked, tuple(names), recorded.iteration_range, reasons=recorded.reasons)


def _stacked(tokens: dict[int, Tensor], count: int, axis: int) -> Tensor:
    like = next(iter(tokens.values()))
    absent = torch.full_like(like, float("nan")) if like.is_floating_point() else torch.zeros_like(like)
    return torch.stack([tokens.get(token, absent) for token in range(count)], axis)


def _read_tokens(rows: ReturnedRows, count: int) -> Tensor | None:
    """The token at each position, (row, position); None if one isn't known, such as an
    embedding."""
    tokens = rows.sequences[:, rows.prompt - 1 : rows.prompt - 1 + count]
    return None if bool((tokens == UNKNOWN).any()) or tokens.shape[1] < count else tokens.clone()


def _output(generation: "Generation", present: Bool[Tensor, "batch position"]) -> Tensor | None:
    """The model's own logits from which each token was chosen, (batch, position, vocab), before any
    sampling or penalty; None if a pass gave none there."""
    places, parts = generation.places, []
    for token in range(len(places)):
        logits: Tensor | None = None
        for row in present[:, token].nonzero()[:, 0].tolist():
            number = int(places.passes[token, row])
            output, length = generation.runs[number].output, generation.readings.readings[number].length
            if not isinstance(output, Tensor) or output.ndim != 3:
                return None
            place = int(places.positions[token, row]) - (length - output.shape[1])
            if place < 0:
                return None
            value = output[int(places.rows[token, row]), place]
            if logits is None:
                logits = value.new_full((len(present), len(value)), float("nan"))
            logits[row] = value
        if logits is None:
            return None
        parts.append(logits)
    return torch.stack(parts, 1)
