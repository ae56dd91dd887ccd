"""What has to be known of a module's own forward before it is iterated by substitution: which
modules are called between two iterations, whether it decides by values, whether it ends with
logits."""

from typing import Any

from torch import Tensor, nn

from ..core.hooks import TemporaryHooks
from ..core.output_logits import find_logits, named_logits
from ..core.sites import find_tensor, get_at, modules_of
from .between_calls import modules_between_calls
from .iteration_context import Context
from .substituted_pass import SubstitutedPass
from .value_reads import ValueReads


def modules_between(iterated: Any, context: Context) -> frozenset[str]:
    """The modules that are called between two calls of the body, and not before the first.

    Arguments:
        iterated: a `loopscope.wrapping.iterated.Iterated`.
    """
    one = iterated.new_pass()

    def forward() -> Any:
        return _substituted(iterated, context, one)

    return modules_between_calls(iterated.module, iterated.wrapped.body, one, forward)


def reads_values(iterated: Any, context: Context) -> bool:
    """Whether the forward reads values of tensors from the first call of the body on."""
    one = iterated.new_pass()
    reads = ValueReads(lambda: one.begun)

    def forward() -> Any:
        with reads:
            return iterated.run_module(context)

    first = context.form.first
    one.count(forward, first, first.returned, write=iterated.writes)
    return reads.seen


def ends_with_logits(iterated: Any, context: Context, output: Any) -> bool:
    """Whether what the forward returned are logits: its output names them so; or its first tensor
    has the vocabulary of the module's configuration or of its embedding as its last axis; or a
    module with weights that is called after the loop returned a tensor of its size.

    Arguments:
        output: of the module's own pass.
    """
    if named_logits(output) is not None:
        return True
    answer = find_logits(output)
    if answer is None:
        return False
    width, size = context.form.first.returned[0].shape[-1:], answer.shape[-1]
    if (size,) != tuple(width) and size in _vocabularies(iterated.module):
        return True
    return any(_is_of(answer, returned) for returned in _after_loop(iterated, context))


def _vocabularies(module: nn.Module) -> set[int]:
    sizes = {part.num_embeddings for part in module.modules() if isinstance(part, nn.Embedding)}
    config = getattr(getattr(module, "config", None), "vocab_size", None)
    return sizes | ({config} if isinstance(config, int) else set())


def _is_of(answer: Tensor, returned: Tensor) -> bool:
    """Whether an answer can be what a head returned, or a part of its positions."""
    if sorted(answer.shape) == sorted(returned.shape):
        return True
    return answer.shape[-1] == returned.shape[-1] and answer.numel() <= returned.numel()


def _after_loop(iterated: Any, context: Context) -> list[Tensor]:
    """What modules with a matrix of weights, outside the body, return after the loop."""
    one, modules = iterated.new_pass(), modules_of(iterated.module)
    body = {part for name in iterated.wrapped.body for part in modules[name].modules()}
    values: list[Tensor] = []

    def after(args: Any, kwargs: Any, output: Any) -> Any:
        path = find_tensor(output)
        if one.live and path is not None:
            values.append(get_at(output, path))
        return output

    with TemporaryHooks() as hooks:
        for part in dict.fromkeys(modules.values()):
            weight = getattr(part, "weight", None)
            if part not in body and isinstance(weight, Tensor) and weight.ndim > 1:
                hooks.attach(part, after=after)
        _substituted(iterated, context, one, count=iterated.depth_in(context))
    return values


def _substituted(iterated: Any, context: Context, one: SubstitutedPass, count: int | None = None) -> Any:
    """The forward's output with every iteration replaced by the first one."""
    return one.output(
        lambda: iterated.run_module(context),
        context.form.first,
        context.form.first.returned,
        count=count,
        write=iterated.writes,
    )
