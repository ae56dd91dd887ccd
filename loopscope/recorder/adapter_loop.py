"""The loop of an adapter as the calls of its modules show it, for passes that the model makes by
itself."""

from torch import nn

from ..adapters.base import Adapter


class AdapterLoop:
    """The loop of an adapter, with the names that `CallTracker` needs."""

    def __init__(self, adapter: Adapter) -> None:
        bodies = list(adapter.loop_bodies())
        first, last = (bodies[0], bodies[-1]) if bodies else adapter.loop_ends()
        self.alternating = bool(bodies)
        """Whether each call of a part is an iteration."""
        self.module, self.clock = adapter.module, adapter.clock
        self.body_receives_state = adapter.body_receives_state
        self.state, self.axes = None, None
        self.parts: dict[str, nn.Module] = {"(first)": first, "(last)": last}
        self.parts |= {f"(body {number})": body for number, body in enumerate(bodies)}
        self.body = ["(first)"] if first is last else ["(first)", "(last)"]
        if len(bodies) > 1:
            self.body = [name for name in self.parts if name.startswith("(body")]
        self.inner = {}
        for axis, module in adapter.inner_loop_modules().items():
            self.parts[f"({axis})"] = module
            self.inner[axis] = f"({axis})"
