"""Find the loops of a module: parts that run repeatedly, each time on their own earlier result.

    result = ls.find_loops(module, tokens)
    print(result)                              # in sentences, with the call of `wrap` for each loop

A part loops if its calls repeat, if each depends on the result of an earlier one, and if most of
the parameters that run in an iteration are the same in every iteration. One forward pass is traced:
the calls of modules and the tensor operations. Some further passes try the arguments of `wrap`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ..adapters import has_adapter
from ..common.guard import guarded
from ..core.copied import copied
from ..core.looped_model import Looped
from ..core.model_text import model_input
from ..core.sites import modules_of
from .call_trace import trace_calls
from .loop_candidate import BodyPart, LoopCandidate
from .loops import Loop, Loops, Sharing, wrap_call
from .repetition_search import LoopSearch
from .wrap_arguments import wrap_arguments


@guarded
def find_loops(module: nn.Module, example: Any = None, *, tokenizer: Any = None, **inputs: Any) -> Loops:
    """Run a module and find the parts of it that loop, and how to `wrap` them.

    The passes run without gradients, in the module's current mode. Random generators, buffers and
    hooks are left as they were.

    A loop's body holds at least 1 % of the parameters outside embeddings, and at least three
    quarters of those that run in an iteration. Each iteration depends on the result of an earlier
    one: a part that is applied to several inputs is no loop.

    Further passes show the arguments of `wrap` for each loop, and each is tried before it stands in
    the call: the tensors that are carried (`state`), the module that returns the logits and the
    norm before it (`head`, `norm`), the axes of a convolutional net, and the argument that sets the
    number of iterations (`count`).

    >>> print(ls.find_loops(module, tokens))

    Arguments:
        module: any PyTorch module.
        example: the first argument of its forward, such as tokens of shape (batch, position), a
            tokenizer's output, or with `tokenizer` a text or a list of texts; None to pass only
            `inputs`, such as inputs_embeds=.
        tokenizer: the module's own, of transformers.
        inputs: further arguments by name.

    Raises:
        LoopscopeError: `module` is no module, or texts can't be read. Errors of the module itself
            are not caught.
    """
    if tokenizer is not None or not isinstance(example, Tensor | None):  # else also on the device meta
        read = model_input(module, example, inputs, tokenizer, strict=False)
        example, inputs = read.tokens, read.inputs
    arguments = () if example is None else (copied(example),)  # the module may write into them
    root, operations = trace_calls(module, arguments, copied(inputs))
    search = LoopSearch(module, operations)
    names = _Names(module)
    total = search.weight([module])
    candidates, rejected = search.loops_in(root, total)
    adapted = has_adapter(module)
    loops = tuple(_loop(candidate, names, search, total) for candidate in candidates)
    if not adapted and not isinstance(module, Looped):
        loops = tuple(_with_arguments(loop, module, example, inputs) for loop in loops)
    sentences = tuple(dict.fromkeys(reason.format(names.of(part)) for part, reason in rejected))
    return Loops(type(module).__name__, loops, sentences, has_adapter=adapted)


class _Names:
    """The names of a module's parts; a part can have several."""

    def __init__(self, module: nn.Module) -> None:
        self.parts = modules_of(module)
        self.all: dict[nn.Module, list[str]] = {}
        for name, part in self.parts.items():
            self.all.setdefault(part, []).append(name)

    def of(self, part: nn.Module) -> str:
        return self.all[part][0]

    def listed(self, parts: list[nn.Module]) -> list[str]:
        """Names for these modules in this order; that of a ModuleList, if they are all its
        members."""
        for name, part in self.parts.items():
            if isinstance(part, nn.ModuleList) and len(parts) > 1 and list(part) == parts:
                return [name]
        return [self.of(part) for part in parts]


def _loop(candidate: LoopCandidate, names: _Names, search: LoopSearch, total: int) -> Loop:
    parts = candidate.parts
    body = tuple(dict.fromkeys(names.of(part.modules[0]) for part in parts))
    modules = [module for part in parts for module in part.modules]
    every = [
        name
        for part in parts
        for alias in search.sharing_parameters(part.modules[0])
        for name in names.all.get(alias, [])
    ]
    if any(len(part.modules) > 1 for part in parts):
        sharing = Sharing.SHARED_STORAGE
    elif any(len(names.all[module]) > 1 for module in modules):
        sharing = Sharing.SEVERAL_NAMES
    else:
        sharing = Sharing.SAME_MODULE
    loops = tuple(_loop(inner, names, search, total) for inner in candidate.inner)
    inner = _inner(candidate, names)
    suggested = _suggested_body(parts, inner, names)
    return Loop(
        body=body,
        times=candidate.times,
        fewest=candidate.fewest,
        streams=candidate.streams,
        period=candidate.period,
        sharing=sharing,
        names=tuple(dict.fromkeys(every)),
        parameters=search.parameter_count(modules),
        share=search.weight(modules) / total if total else 0.0,
        inner=inner,
        loops=loops,
        wrapped_body=tuple(suggested),
        suggestion=wrap_call(suggested, {"inner": inner or None}) if suggested else "",
    )


def _with_arguments(loop: Loop, module: nn.Module, example: Any, inputs: Mapping[str, Any]) -> Loop:
    """The loop with all arguments in its call of `wrap`."""
    if not loop.wrapped_body:
        return loop
    body, inner = list(loop.wrapped_body), loop.inner
    further = wrap_arguments(module, body[0] if len(body) == 1 else body, inner, example, inputs)
    return replace(loop, suggestion=wrap_call(body, {"inner": inner or None} | further))


def _inner(candidate: LoopCandidate, names: _Names) -> dict[str, str]:
    """A name for each loop in an iteration. `wrap` counts the calls of one module, so loops that
    end with one of several modules are left out."""
    counted = [loop.parts[-1].modules[0] for loop in candidate.inner if len(loop.parts[-1].modules) == 1]
    if len(counted) == 1:
        return {"low": names.of(counted[0])}
    by_axis: dict[str, str] = {}
    for part in counted:
        words = [word for word in names.of(part).split(".") if not word.isdigit()]
        word = words[-1] if words else "inner"
        axis, number = word, 1
        while axis in by_axis:
            number += 1
            axis = f"{word}_{number}"
        by_axis[axis] = names.of(part)
    return by_axis


def _suggested_body(parts: list[BodyPart], inner: dict[str, str], names: _Names) -> list[str]:
    """The body that `wrap` takes, by name; nothing if none."""
    # An iteration begins with its first part and ends with its last, so each must run once in it,
    # except for an inner loop that begins it. A first part that receives the state concatenated
    # with other inputs, such as an adapter, receives no state that could be recorded.
    while parts and parts[-1].repeated:
        parts = parts[:-1]
    while len(parts) > 1 and (
        (parts[0].repeated and names.of(parts[0].modules[0]) not in inner.values())
        or (parts[-1].output_shapes and not parts[0].input_shapes & parts[-1].output_shapes)
    ):
        parts = parts[1:]
    if not parts:
        return []
    if any(len(part.modules) > 1 for part in parts):
        parts = parts[-1:]  # wrap takes modules that share their parameters for an iteration each
    return names.listed(list(dict.fromkeys(module for part in parts for module in part.modules)))
