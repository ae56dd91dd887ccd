"""Small modules for loop detection, made of parts and a forward function; and what tests ask of the
result."""

from torch import nn

import loopscope as ls


class Module(nn.Module):
    """A module with these parts, whose forward is a function of it and its input."""

    def __init__(self, forward, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


def only(result):
    assert len(result) == 1, str(result)
    return result.loops[0]


def iterations(model, loop, *args, **inputs):
    """How many iterations a recording has that follows the suggestion literally."""
    wrapped = eval(loop.suggestion, {"ls": ls, "model": model})
    return ls.record(wrapped, *args, **inputs).iterations


def stacked(*parts):
    return nn.ModuleList(parts)


def residual(parts, h):
    for part in parts:
        h = h + part(h)
    return h
