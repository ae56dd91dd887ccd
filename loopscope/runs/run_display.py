"""How a Run is shown: as a line, and in notebooks as a table of what was recorded."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..common.notebook import paragraph, table
from ..core.states import States
from ..core.states_display import dtype, iterations_text

if TYPE_CHECKING:
    from .run import Run

MOST_SITES = 30
"""Sites in the table; the rest is counted."""


class RunDisplay:
    """The methods of Run that show it."""

    def __repr__(self: Any) -> str:
        shape = self.states.shape[1:] if len(self.states.iterations) else ()
        sizes = [f"{size} {axis}" for size, axis in zip(shape, self.states.axes[1:], strict=False)]
        edits = f" · {len(self.origin['edits'])} edits" if self.origin.get("edits") else ""
        size = f"{self.nbytes / 1e6:.1f} MB{edits}"
        return f"Run {_name(self)} · {self.iterations} iterations · {' · '.join(sizes)} · {size}"

    def _repr_html_(self: Any) -> str:
        head = paragraph(" · ".join(_facts(self)), strong=f"Run {_name(self)}")
        sites = [(name, self[name]) for name in self.names]
        rows = [(name, *_site(value)) for name, value in sites[:MOST_SITES]]
        rest = len(sites) - MOST_SITES
        more = paragraph(f"and {rest} more sites: run.names") if rest > 0 else ""
        return head + table(("site", "axes", "shape", "type", "iterations"), rows) + more


def _name(run: "Run") -> str:
    return str(run.origin.get("entry") or run.origin.get("architecture"))


def _facts(run: "Run") -> Iterator[str]:
    """What was recorded, in a few words each."""
    task = run.origin.get("task")
    if run.origin.get("entry"):
        yield str(run.origin.get("architecture"))
    if task:
        yield f"task {task['name']}"
    yield f"{run.iterations} iterations"
    if isinstance(run.tokens, Tensor):
        yield f"tokens {' × '.join(map(str, run.tokens.shape))}"
    if not run.counted.everything:
        yield str(run.counted)
    if run.origin.get("edits"):
        yield f"edits: {'; '.join(map(str, run.origin['edits']))}"
    if run.halting is not None:
        yield "with halting"
    yield f"{run.nbytes / 1e6:.1f} MB"


def _site(value: Any) -> tuple[str, str, str, str]:
    """Axes, shape, type and iterations of a site."""
    if not isinstance(value, States):
        return (
            "",
            " × ".join(map(str, value.shape)),
            str(value.dtype).removeprefix("torch."),
            "outside the loop",
        )
    if not value.iterations:
        return " ".join(value.axes), "", "", "nothing kept"
    shape = " × ".join(map(str, value.shape))
    return " ".join(value.axes), shape, dtype(value), iterations_text(value.iterations)
