"""wrap: give a module that repeats a part of itself an iteration axis.

    model = ls.wrap(module)                 # of a supported family: the four functions
    wrapped = ls.wrap(module, body="core")  # any other: a call of module.core is an iteration
    looped = ls.wrap(module, body="layers.2:5", repeat=4)  # a loop put into a feed-forward stack
    run = ls.record(wrapped, tokens)

With a body, the iteration is inferred from its calls. Modules called inside it belong to the
running iteration. A module called between two calls of the body belongs to the previous iteration
if it is first called after the body (a final norm), and to the next one if it is first called
before the body (an injection).
"""

from collections.abc import Mapping, Sequence
from typing import Any, overload

from torch import nn

from ..adapters import FAMILIES, adapter_for
from ..adapters.base import Adapter
from ..adapters.shelf import ADAPTERS
from ..common.arguments import PositiveCount
from ..common.errors import LoopscopeError
from ..common.guard import guarded
from ..core.loop_index import Clock
from ..core.sites import modules_of
from .body_names import axis_names, body_names, check_visible, inner_names
from .body_state import BodyState
from .iterated import Iterated
from .iterated_names import ReadOutNames, read_out_names
from .part_state import part_state
from .state_names import Named, parameters_of, state_names
from .synthetic import synthetic_loop
from .synthetic_loop import SyntheticLoop
from .update_rules import UpdateRule

LOOP_SITES = ("state", "core_in")
"""Sites of the loop itself rather than of one module."""


class Wrapped:
    """A module with a named loop body. Calling it calls the module; `record` gives its runs an
    iteration axis.

    Sites: every submodule's output by its name; `core_in`, the body's input; `state`, its output;
    `state.<field>` for each further tensor of a state of several.

    `states[0]` is recorded only if it is what the loop begins with, as far as that can be seen:
    every later call of the body receives exactly what the one before returned, and what the first
    call returns depends on what it received. Otherwise it is absent, and indexing it says why.
    """

    body_receives_state = True
    alternating = False

    def __init__(
        self,
        module: nn.Module,
        body: list[str],
        inner: dict[str, str],
        *,
        state: BodyState | None = None,
        axes: tuple[str, ...] | None = None,
        names: ReadOutNames | None = None,
    ) -> None:
        self.names = names or ReadOutNames()
        self.module, self.body, self.inner = module, body, inner
        self.state, self.axes = state or BodyState(), axes
        self.clock = Clock()
        self.start_answers: dict[Any, str | None] = {}
        """By what the body received first (`StartProbe`): why it isn't states[0]."""
        self._iterated: list[Iterated] = []

    @property
    def iterated(self) -> Iterated:
        """The four functions by substitution. Whether they are what the module does shows when
        something is first computed from a run."""
        if not self._iterated:
            self._iterated.append(Iterated(self, self.names))
        return self._iterated[0]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def __repr__(self) -> str:
        body, inner = " then ".join(self.body), f", inner={self.inner}" if self.inner else ""
        return f"Wrapped {type(self.module).__name__}: one iteration is a call of {body}{inner}"


@overload
def wrap(module: nn.Module, *, adapter: Any = None, check: bool = True) -> Adapter:
    """The adapter of a module of a supported family, or one of your own."""


@overload
def wrap(
    module: nn.Module,
    *,
    body: str | Sequence[str],
    inner: Mapping[str, str] | None = None,
    state: Named | None = None,
    axes: Sequence[str] | None = None,
    head: str | None = None,
    norm: str | None = None,
    count: str | None = None,
) -> Wrapped:
    """Any other module, recorded by its loop body."""


@overload
def wrap(
    module: nn.Module, *, body: str | Sequence[str], repeat: int, update: str | UpdateRule | None = None
) -> SyntheticLoop:
    """A feed-forward module, with a window of its layers repeated."""


@overload
def wrap(module: nn.Module, *, body: str | Sequence[str], order: Sequence[int]) -> SyntheticLoop:
    """A feed-forward module, with its layers in another order."""


# It is long because its docstring lists all that a user can choose.
@guarded
def wrap(
    module: nn.Module,
    *,
    body: str | Sequence[str] | None = None,
    inner: Mapping[str, str] | None = None,
    state: Named | None = None,
    axes: Sequence[str] | None = None,
    head: str | None = None,
    norm: str | None = None,
    count: str | None = None,
    adapter: Any = None,
    repeat: PositiveCount | None = None,
    update: str | UpdateRule | None = None,
    order: Sequence[int] | None = None,
    check: bool = True,
) -> Adapter | Wrapped:
    """Give a module that repeats a part of itself an iteration axis. The module is not changed.

    >>> run = ls.record(ls.wrap(module, body="core"), tokens)

    Arguments:
        module: any PyTorch module. For a supported family (`loopscope.adapters.FAMILIES`, by name
            of the class) nothing else is needed, and every analysis, lens and edit works on it.
        body: for any other, the name of the submodule that is called once per iteration, or of
            several that are called one after another; `loopscope.find_loops` suggests it. A
            ModuleList stands for its members. Members that share their parameters are an iteration
            each.
        inner: names for loops inside an iteration: {"low": "L_module"} counts the calls of
            `L_module` in each iteration.
        state: which argument of the body is its state, by name or number: `state="h"`, `state=1`,
            or a part of one, `state="carry.h"`. Several are a state of several tensors:
            `state=("branch", "residual")` has the sites `state` (the first) and `state.residual`,
            and `run.state(k)` is a tuple that `patch` takes. None: the tensor that goes from one
            call to the next; if there are several, a recording says so. Which output becomes which
            argument is seen from the calls; where it isn't, a dictionary says it by the number or
            name of the output: `state={"branch": 0, "residual": 1}`. Of a body of several parts
            whose next iteration reads what each of them returned, it names the parts, the last one
            first: `state={"high": "H_module", "low": "L_module"}`.
        axes: the names of the state's axes, such as ("batch", "channel", "position"). None:
            (batch, position, width) if nothing in the body speaks against it, else `axis_1`,
            `axis_2` ..., over which nothing is pooled as over positions.
        head: the submodule that returns the logits, where the module's output is something else.
        norm: the submodule that the head's input passes, for the logit lens.
        count: the argument of the module's forward that sets the number of iterations, such as
            "num_steps". None: iterations beyond the module's own are its last one again.
        adapter: your own adapter for this module: its class, or the path of its file. What
            `loopscope.use` or an installed package put on the shelf is used without it.
        repeat: of a feed-forward module, put a loop into it: the layers of `body` run so often, and
            one pass through all of them is an iteration. `body` is then the list of layers, as
            names or as a range: "transformer.h.2:5". The model's own call of these layers gives
            what they receive besides the state. The result has all that an adapter has.
        update: how a repeated window goes on from x and its image F(x): "plain" (F(x), the
            default), "damped" (x + (F(x) - x) / repeat), "anchored" (as damped, and the rest reads
            half of F(x_0)), or an `UpdateRule` (`loopscope.wrapping.update_rules`).
        order: of a feed-forward module: the order in which the layers of `body` run, as indices
            into it; one left out is skipped, one named twice is repeated. Here one layer is an
            iteration.
        check: for a supported family: whether the first recording is compared with the model's own
            forward. If they differ, a LoopscopeWarning says how, and runs are recorded from the
            model's own forward. False trusts the family's four functions.

    Raises:
        LoopscopeError: no supported family and no body; a name that is no submodule, with the
            nearest ones; modules of a body that are the same or inside each other; names of inner
            loops or axes that mean something else; a module that was compiled or scripted.
    """
    if isinstance(module, Adapter | Wrapped):
        raise LoopscopeError(
            f"wrap needs a module that isn't wrapped yet, but got {module!r}. Use it as it is."
        )
    check_visible(module, [""])
    options = {"inner": inner, "state": state, "axes": axes, "head": head, "norm": norm, "count": count}
    if repeat is not None or update is not None or order is not None:
        return synthetic_loop(module, body, repeat, update, order, {**options, "adapter": adapter})
    if adapter is not None:
        return _user_adapter(module, adapter, {"body": body, **options}, check)
    if body is None:
        return _family_adapter(module, options, check)
    modules = modules_of(module)
    names = body_names(body, modules)
    loops = inner_names(inner, modules, names)
    check_visible(module, [*names, *loops.values()])
    first = modules[names[0]]
    found = part_state(state, names) or BodyState(state_names(state, first), parameters_of(first))
    read_out = read_out_names(module, modules, head, norm, count)
    return Wrapped(module, names, loops, state=found, axes=axis_names(axes, loops), names=read_out)


def _user_adapter(module: nn.Module, adapter: Any, options: Mapping[str, Any], check: bool) -> Adapter:
    """The user's own adapter around a module."""
    if extra := [name for name, value in options.items() if value is not None]:
        raise LoopscopeError(f"wrap needs an adapter or {extra[0]}=, but got both. Leave one of them out.")
    result = ADAPTERS.get(ADAPTERS.place(adapter))(module)
    result.check = check
    return result


def _family_adapter(module: nn.Module, options: Mapping[str, Any], check: bool) -> Adapter:
    """The adapter of a module that is wrapped without a body, and so without these options."""
    adapter = adapter_for(module)
    extra = [name for name, value in options.items() if value is not None]
    if adapter is not None and not extra:
        adapter.check = check
        return adapter
    families = ", ".join(sorted(FAMILIES))
    reason = f"{extra[0]} needs a body" if extra else f"its class is none of {families}"
    raise LoopscopeError(
        f"wrap needs the name of the part of {type(module).__name__} that repeats, as {reason}, but "
        "body is None. See what repeats: print(ls.find_loops(model, tokens))."
    )
