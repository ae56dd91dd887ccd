"""Inner loops, several loops in one module, and loops over several inputs."""

import pytest
import torch
from torch import nn

import loopscope as ls
from loopscope.loop_detection.loop_finder import find_loops

from ..toys import foreign_loops
from ..toys.foreign_loops import WIDTH, Core, batch, build_loop
from ..toys.loop_modules import Module, iterations, only, stacked


def test_two_networks_in_turn_are_one_loop_with_a_loop_in_it():
    result = find_loops(build_loop(foreign_loops.Nested), batch())
    loop = only(result)
    assert (loop.body, loop.times, loop.inner) == (("low", "high"), 4, {"low": "low"})
    assert [(inner.body, inner.times) for inner in loop.loops] == [(("low",), 3)]
    assert loop.suggestion.startswith(
        'ls.wrap(model, body=["low", "high"], inner={"low": "low"}, state={"high"'
    )
    assert "low, high run one after another, 4 times." in str(
        result
    ) and "In each iteration low runs 3 times." in str(result)


def test_a_loop_inside_a_module_that_loops_is_its_inner_loop():
    def inside(self, h):
        for _ in range(3):
            h = self.low(h)
        return self.out(h)

    def outside(self, h):
        for _ in range(4):
            h = self.core(h)
        return h

    model = Module(outside, core=Module(inside, low=Core(), out=nn.Linear(WIDTH, WIDTH)))
    loop = only(find_loops(model, batch()))
    assert loop.suggestion == 'ls.wrap(model, body="core", inner={"low": "core.low"})'
    assert (loop.times, loop.loops[0].times) == (4, 3)
    wrapped = eval(loop.suggestion, {"ls": ls, "model": model})
    run = ls.record(wrapped, batch(), sites=["core.low"])
    assert run["core.low"].shape[:2] == (4, 3)


def test_three_levels_are_told_apart():
    def repeat(times):
        def forward(self, h):
            for _ in range(times):
                h = self.part(h)
            return self.out(h)

        return forward

    part = Core()
    for times in (2, 3, 4):
        part = Module(repeat(times), part=part, out=nn.Linear(WIDTH, WIDTH))
    loop = only(find_loops(part, batch()))
    assert [loop.body, loop.loops[0].body, loop.loops[0].loops[0].body] == [
        ("part",),
        ("part.part",),
        ("part.part.part",),
    ]
    assert [loop.times, loop.loops[0].times, loop.loops[0].loops[0].times] == [4, 3, 2]


@pytest.mark.parametrize("through", ["function", "module"])
def test_a_loop_that_is_not_always_as_long_tells_its_fewest_and_most(through):
    def inside(self, h):
        for _ in range(next(self.turns)):
            h = self.low(h)
        return h

    def outside(self, h):
        self.turns = iter((3, 1, 2))
        for _ in range(3):
            h = self.high(inside(self, h))
        return h

    def calling(self, h):
        self.core.turns = iter((3, 1, 2))
        for _ in range(3):
            h = self.core(h)
        return h

    model = Module(outside, low=Core(), high=Core())
    if through == "module":
        model = Module(calling, core=Module(inside, low=Core()))
        # A module that holds one part alone is that part, as far as parameters tell.
        model.core.out = nn.Linear(WIDTH, WIDTH)
    loop = only(find_loops(model, batch()))
    assert loop.times == loop.fewest == 3
    assert (loop.loops[0].times, loop.loops[0].fewest) == (3, 1)
    assert "In each iteration" in str(loop) and "runs 1 to 3 times" in str(loop)


def test_several_modules_in_an_iteration_are_named_in_their_order_and_a_list_by_its_name():
    def forward(self, x):
        e, h = self.embed(x), torch.zeros_like(x)
        for _ in range(4):
            h = self.adapter(torch.cat([h, e], -1))
            for layer in self.layers:
                h = h + layer(h)
        return self.head(h)

    model = Module(
        forward,
        embed=nn.Linear(WIDTH, WIDTH),
        adapter=nn.Linear(2 * WIDTH, WIDTH),
        layers=stacked(Core(), Core()),
        head=nn.Linear(WIDTH, 3),
    )
    loop = only(find_loops(model, batch()))
    assert loop.body == ("adapter", "layers.0", "layers.1") and loop.times == 4
    # the adapter takes state and input side by side
    assert loop.suggestion == 'ls.wrap(model, body="layers", head="head")'
    assert iterations(model, loop, batch()) == 4


def test_several_loops_after_one_another_are_several():
    def forward(self, h):
        for part, times in ((self.first, 2), (self.second, 3)):
            for _ in range(times):
                h = part(h)
        return h

    result = find_loops(Module(forward, first=Core(), second=Core()), batch())
    assert [(loop.body, loop.times) for loop in result.loops] == [(("first",), 2), (("second",), 3)]


def test_the_roles_of_one_module_are_not_told_and_the_text_says_so():
    def forward(self, x):
        low, high = torch.zeros_like(x), torch.zeros_like(x)
        for _ in range(3):
            for _ in range(4):
                low = self.network(low + high + x)
            high = self.network(low + high)
        return high

    result = find_loops(Module(forward, network=Core()), batch())
    loop = only(result)
    assert (loop.times, loop.period, loop.inner) == (15, 5, {})
    assert "may serve several roles in turn" in str(result) and "only an adapter" in str(result)


def test_a_loop_over_several_inputs_is_a_loop_in_several_streams():
    def forward(self, x):
        one, other = x, x + 1
        for _ in range(3):
            one, other = self.core(one), self.core(other)
        return one - other

    loop = only(find_loops(Module(forward, core=Core()), batch()))
    assert (loop.times, loop.streams) == (3, 2)
