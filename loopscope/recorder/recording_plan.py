"""The plan of a recording: which sites are recorded, and which edits apply where."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool
from torch import Tensor, nn

from ..common.errors import LoopscopeError
from ..core.looped_model import Context, Looped
from ..core.pattern_sites import listed
from ..core.sites import Sites, is_state, resolve, site_modules
from ..core.state_tree import State
from ..interventions.counted_mean import with_mask
from ..interventions.edit_checks import AnyEdit, Edits, check_iterations, edit_list, expand_edits
from ..interventions.edits import Edit
from ..interventions.freeze import FrozenSite
from ..interventions.schedule import Schedule, ScheduleEdit, Swap, composed


@dataclass(frozen=True)
class Span:
    """The iterations start..end-1 of a forward pass, and the inputs of the pass."""

    tokens: Any
    inputs: Mapping[str, Any]
    """Further arguments of `model.encode`."""
    end: int
    start: int = 0
    begin: tuple[Context, State] | None = None
    """The context and states[start]; None: the model computes them from the inputs."""
    mask: Bool[Tensor, "batch position"] | None = None
    """Which positions count, where that is known already."""
    earlier: tuple[State, ...] = ()
    """states[:start], where the model's answer may be read from them."""


@dataclass(frozen=True)
class RecordingPlan:
    """What happens at the sites and to the schedule of a span."""

    modules: Mapping[str, nn.Module]
    """The module at each site."""
    fields: tuple[str, ...]
    """Names of the state's tensors, the primary one first; empty if it is one tensor."""
    recorded: tuple[str, ...]
    """The sites to record."""
    edits: Mapping[str, Sequence[Edit]]
    """By site, in the order in which they apply."""
    schedule: Schedule
    schedule_edits: Sequence[ScheduleEdit | Swap]
    """The edits that make the schedule."""

    @property
    def frozen_sites(self) -> list[FrozenSite]:
        """The edits that belong to a freeze."""
        return [edit for edits in self.edits.values() for edit in edits if isinstance(edit, FrozenSite)]


def edits_of(model: Looped, edits: Edits) -> list[AnyEdit]:
    """The edits of a recording as a list, with one edit for each site that a pattern matches.

    Raises:
        LoopscopeError: something is no edit, or an edit's site doesn't exist.
    """
    modules = site_modules(model)
    hooks = list(getattr(model, "hook_dict", modules))
    # a model without a unit of halting gets its own sentence, from the plan
    return edit_list(edits, modules, hooks, alias=_alias(model), others=["halting"])


def _alias(model: Looped) -> dict[str, str]:
    """The other name of `state`."""
    fields = tuple(getattr(model, "fields", ()))
    return {f"state.{fields[0]}": "state"} if fields else {}


def plan_recording(model: Looped, span: Span, sites: Sites, edits: Sequence[AnyEdit]) -> RecordingPlan:
    """Resolve the names of sites, and check the edits against the iterations that run.

    Arguments:
        edits: what `edits_of` returned.

    Raises:
        LoopscopeError: an unknown site, or an edit of an iteration that doesn't run.
    """
    modules = site_modules(model)
    fields = tuple(getattr(model, "fields", ()))
    alias = _alias(model)
    site_edits, schedule = expand_edits(edits, fields, getattr(model, "update_sites", None))
    site_edits = with_mask(site_edits, model, span.tokens, span.inputs, span.mask)
    halting_edited = any(edit.site == "halting" for edit in site_edits)
    if halting_edited or sites == "halting" or (not callable(sites) and "halting" in sites):
        check_halting(model, modules)
    requested = resolve(sites, [*modules, *alias], list(getattr(model, "hook_dict", listed(modules))))
    by_site: dict[str, list[Edit]] = {}
    start, n = span.start, span.end
    for edit in site_edits:
        site: str = alias.get(edit.site) or edit.site
        if isinstance(edit, FrozenSite):
            edit.check_start(start, n)
        else:
            check_iterations(edit, start, n if is_state(site) else n - 1)
        by_site.setdefault(site, []).append(edit)
    for edit in schedule:
        check_iterations(edit, start, n - 1)
    states = ["state", *(f"state.{name}" for name in fields[1:])]
    halting = ["halting"] if halting_edited else []
    recorded = dict.fromkeys([*states, *(alias.get(site, site) for site in requested), *halting])
    return RecordingPlan(
        modules,
        fields,
        tuple(recorded),
        by_site,
        composed(schedule, n),
        schedule,
    )


def check_halting(model: Any, modules: Mapping[str, nn.Module]) -> None:
    """Raise LoopscopeError if no unit of the model decides about halting in every iteration."""
    if "halting" in modules:
        return
    reason = (
        "whose head judges the state after the pass and changes nothing in it. Move its threshold where it "
        'decides: ls.answer(model, tokens, rule="model", threshold=...)'
        if getattr(model, "rule", None) is not None
        else "which runs a fixed number of iterations. Give it a rule: ls.answer(model, tokens, "
        'rule="kl"), or record with iterations='
    )
    raise LoopscopeError(
        f"the site 'halting' needs a model with a unit that decides about halting in every iteration, but "
        f"got {type(model).__name__}, {reason}."
    )
