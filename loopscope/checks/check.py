"""check: everything that loopscope promises of a recording, tried on one model."""

import platform
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters.base import Adapter
from ..common.arguments import Seed
from ..common.errors import LoopscopeError, LoopscopeWarning
from ..common.guard import guarded
from ..core.copied import copied
from ..core.looped_model import Looped
from ..core.model_text import model_input
from ..core.turns import check_no_pass, parts_of, turn
from ..recorder.provenance import versions
from ..wrapping.wrap_module import Wrapped, wrap
from .edit_check import edit_inside_an_iteration, edit_of_a_state
from .finding import Finding, failed, inapplicable
from .function_check import four_functions
from .generation_check import generation
from .model_file import is_model_file, model_of_file
from .output_check import output, output_with_all_sites
from .padding_check import padding
from .precision_check import half_precision
from .result import CheckResult, Outcome, Row
from .state_check import states
from .subject import Subject, make_subject
from .trace_check import nothing_left_behind

CHECKS: dict[str, Callable[[Subject], Finding]] = {
    "output": output,
    "output, all sites": output_with_all_sites,
    "states": states,
    "four functions": four_functions,
    "edit of a state": edit_of_a_state,
    "edit in an iteration": edit_inside_an_iteration,
    "nothing left behind": nothing_left_behind,
    "padding": padding,
    "bfloat16": half_precision(torch.bfloat16),
    "float16": half_precision(torch.float16),
    "generation": generation,
}
"""By the name of its row."""
EXAMPLES, LENGTH = 2, 6
"""How many sequences of random tokens are read where none are passed, and their length."""


@guarded
def check(
    model: Any,
    tokens: Any = None,
    *,
    body: str | Sequence[str] | None = None,
    seed: Seed = 0,
    tokenizer: Any = None,
    **inputs: Any,
) -> CheckResult:
    """Check on a model whether recordings of it are what it computes. The model is not changed; its
    own passes and PyTorch's own hooks are the reference.

    >>> print(ls.check(model, tokens))
    >>> assert ls.check(module, example, body="core").passed
    >>> print(ls.check("mine.py"))

    A row for each of these, with the largest difference and the reason: the output with and without
    recording, and with all sites; the states against plain hooks; the four functions against the
    forward; edits of a state and inside an iteration; what recording leaves behind; a padded row
    against the row alone; copies in bfloat16 and float16; generation.

    Arguments:
        model: a zoo model, any model with the four functions, what `wrap` returned, a module that
            `wrap` takes, or the path of a file of your own with an architecture ("mine.py", or
            "mine.py:NAME" of several recipes), which is built untrained as its recipe says.
        tokens: as for `record`, also text with `tokenizer`. None: a batch of the model's task, or
            random tokens of its vocabulary.
        body: for a module that isn't wrapped yet, as for `wrap`.
        seed: of the random tokens, of what the model draws, and of a file's weights.
        tokenizer: as for `record`: the model's own, which reads texts.
        inputs: further arguments of the model's forward.

    Raises:
        LoopscopeError: the model can't be wrapped, needs tokens, or its own forward fails on them.
    """
    model = _looped(model_of_file(model, seed) if is_model_file(model) else model, body)
    if tokens is None and not any(inputs.get(name) is not None for name in ("inputs_embeds", "input_ids")):
        tokens = _random_tokens(model, seed)
    read = model_input(model, tokens, inputs, tokenizer)
    tokens, inputs = copied(read.tokens), copied(read.inputs)
    parts = parts_of(model)
    check_no_pass(parts, "a check")
    with turn(parts, seeded=True), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LoopscopeWarning)
        subject = make_subject(model, tokens, inputs, seed)
        try:
            rows = _rows(subject)
        finally:
            subject.before.restore()
    ours = [str(one.message) for one in caught if issubclass(one.category, LoopscopeWarning)]
    others = {(one.category, str(one.message)): one for one in caught if str(one.message) not in ours}
    for one in others.values():  # of the module itself
        warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return CheckResult(_about(subject), tuple(rows), tuple(dict.fromkeys(ours)))


def _rows(subject: Subject) -> list[Row]:
    rows: list[Row] = []
    for name, run_check in CHECKS.items():
        finding = _outcome(subject, run_check)
        rows.append(Row(name, *finding))
        if name == "output" and finding.outcome is Outcome.refused:
            nothing = inapplicable("the model can't be recorded")
            return rows + [Row(other, *nothing) for other in CHECKS if other != name]
    return rows


def _outcome(subject: Subject, run_check: Callable[[Subject], Finding]) -> Finding:
    """What a check comes to: a refusal of loopscope's is one, any other exception a failure."""
    try:
        return run_check(subject)
    except LoopscopeError as error:
        return Finding(Outcome.refused, None, str(error))
    except Exception as error:
        first = str(error).strip().splitlines() or [""]
        return failed(f"{type(error).__name__}: {first[0]}")


def _looped(model: Any, body: str | Sequence[str] | None) -> Any:
    if isinstance(model, Adapter | Wrapped) or (isinstance(model, Looped) and body is None):
        if body is not None:
            raise LoopscopeError(
                f"body is for a module that isn't wrapped yet, but got {model!r}. Leave it out."
            )
        return model
    if not isinstance(model, nn.Module):
        raise LoopscopeError(
            "check needs a looped model, what ls.wrap returned, or a torch.nn.Module with body=, but got a "
            f"{type(model).__name__}."
        )
    return wrap(model) if body is None else wrap(model, body=body)


def _random_tokens(model: Any, seed: int) -> Tensor:
    task = getattr(model, "task", None)
    if task is not None:
        return task.batch(EXAMPLES, seed=seed).tokens
    config = getattr(getattr(model, "module", model), "config", None)
    size = getattr(model, "vocabulary", None) or getattr(config, "vocab_size", None)
    if not isinstance(size, int):
        kind = type(getattr(model, "module", model)).__name__
        raise LoopscopeError(
            f"check needs what {kind} reads, as it has neither a task nor a config with vocab_size. Pass "
            "it: ls.check(model, tokens)."
        )
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, size, (EXAMPLES, LENGTH), generator=generator)


def _version_of(module: nn.Module) -> dict[str, str]:
    """The version of the package that a module's class is from; empty if it is none's."""
    package = type(module).__module__.partition(".")[0]
    number = getattr(sys.modules.get(package), "__version__", None)
    return {} if number is None or package in ("loopscope", "torch") else {package: str(number)}


def _about(subject: Subject) -> dict[str, str]:
    """What a bug report begins with."""
    model, first = subject.model, next(subject.module.parameters(), None)
    kind = f"{type(subject.module).__module__}.{type(subject.module).__qualname__}"
    tokens = subject.tokens
    shape = (
        f"{tuple(tokens.shape)} of {tokens.dtype}" if isinstance(tokens, Tensor) else type(tokens).__name__
    )
    inputs = f", {', '.join(sorted(subject.inputs))}" if subject.inputs else ""
    packages = [f"{name} {number}" for name, number in (versions() | _version_of(subject.module)).items()]
    return {
        "versions": ", ".join([*packages, f"Python {platform.python_version()}"]),
        "platform": platform.platform(),
        "class": kind,
        "loop": repr(model) if isinstance(model, Adapter | Wrapped) else "the four functions of its own",
        "device": "none" if first is None else str(first.device),
        "dtype": "none" if first is None else str(first.dtype).removeprefix("torch."),
        "mode": "training" if subject.module.training else "evaluation",
        "inputs": f"{shape}{inputs}, seed {subject.seed}",
    }
