"""Whether a recorded generation is the model's own: its tokens, and the states of its passes."""

import inspect
from typing import Any

import torch
from torch import Tensor

from ..adapters.base import Adapter
from ..common.errors import LoopscopeError
from ..core.copied import copied
from ..recorder.recorded_generation import generate
from ..wrapping.synthetic_loop import SyntheticLoop
from ..wrapping.wrap_module import Wrapped
from .finding import Finding, failed, inapplicable, largest_difference, same
from .plain_calls import PlainCalls
from .subject import Subject

TOKENS = 4
"""How many new tokens are generated."""


def generation(subject: Subject) -> Finding:
    """With its cache, where it has one, and without."""
    owner: Any = subject.model.module if isinstance(subject.model, Adapter | Wrapped) else None
    if not callable(getattr(owner, "generate", None)):
        return inapplicable("the model has no method generate")
    if not isinstance(subject.tokens, Tensor) or subject.tokens.is_floating_point():
        return inapplicable("a generation goes on from tokens, and these are none")
    if isinstance(subject.model, SyntheticLoop):
        return inapplicable("the model's own generate runs without the loop that was put into it")
    findings = []
    for cached in (True, False) if _has_switch(owner) else (None,):
        findings.append(_generated(subject, owner, cached))
        if findings[-1].difference:
            return findings[-1]
    return findings[0]._replace(reason="; ".join(finding.reason for finding in findings))


def _generated(subject: Subject, owner: Any, cached: bool | None) -> Finding:
    options: dict[str, Any] = dict(subject.inputs) | {"max_new_tokens": TOKENS}
    options |= {} if cached is None else {"use_cache": cached}
    what = {True: "with the cache", False: "without a cache", None: "as it generates"}[cached]

    def by_itself() -> Any:
        subject.before.restore()
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(subject.seed)
            return owner.generate(copied(subject.tokens), **copied(options))

    try:
        theirs = by_itself()
    except Exception as error:  # of the model's own, without any recording
        return inapplicable(f"{what}: the model's own generate raises {type(error).__name__}: {error}")
    theirs = getattr(theirs, "sequences", theirs)
    again = by_itself()
    if off := largest_difference(getattr(again, "sequences", again), theirs):
        return inapplicable(f"{what}: the model by itself generates other tokens each time", off)
    subject.before.restore()
    out = generate(subject.model, subject.tokens, seed=subject.seed, **options)
    off = largest_difference(out.tokens, theirs)
    if off:
        return failed(f"{what}: the tokens recorded and not recorded differ", off)
    try:
        ends = subject.ends
    except LoopscopeError:
        return same(0.0, f"{what}: {len(out)} passes and their tokens")
    calls = PlainCalls.of(ends.modules["state"], by_itself, None).calls
    states = [run.states.get((k,)) for run in out.runs for k in range(ends.first, run.iterations + 1)]
    if len(states) != len(calls):
        return failed(f"{what}: {len(states)} states were recorded, but plain hooks saw {len(calls)} calls")
    paths = dict.fromkeys(path for call in calls for path in call.returned)
    off = min(
        (largest_difference(states, [call.returned.get(path) for call in calls]) for path in paths),
        default=0.0,
    )
    return same(off, f"{what}: the tokens, and what plain hooks see in {len(out)} passes")


def _has_switch(owner: Any) -> bool:
    """Whether generate takes use_cache, by name or for a forward that takes a cache."""
    forward = inspect.signature(owner.forward).parameters
    by_name = "use_cache" in inspect.signature(owner.generate).parameters
    return by_name or any(name in forward for name in ("use_cache", "past_key_values"))
