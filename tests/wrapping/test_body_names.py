"""What `wrap` takes as a body and as inner loops, and the sentence for everything else."""

import warnings

import pytest
import torch
from torch import Tensor, nn

import loopscope as ls

X = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0))


def linear() -> nn.Linear:
    return nn.Linear(6, 6)


class Parts(nn.Module):
    """Calls a, then the two of b, three times; `alias` is a, and `unused` is never called."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.unused = linear(), nn.Sequential(linear(), nn.Tanh()), linear()
        self.alias, self.empty = self.a, nn.ModuleList()
        self.listed = nn.ModuleList([self.a, self.b])
        self.head = linear()

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.b(self.a(x))
        return self.head(x)


MISNAMED = [
    (["a", "a"], "'a' is there twice"),
    (["a", "alias"], "'alias' is the module 'a'"),
    (["b", "b.0"], "one of 'b' and 'b.0' is inside the other"),
    (["b.0", "b"], "one of 'b.0' and 'b' is inside the other"),
    (["listed", "a"], "'a' is the module 'listed.0'"),
    ("empty", "body must name at least one module, such as 'core', but 'empty' has none"),
    ([], "body must name at least one module"),
    (3, "body must be a string or a sequence of strings"),
    ({"a": 1}, "body must be a string or a sequence of strings"),
    (["a", 3], "body must be a string or a sequence of strings"),
    (linear(), "body must be a string or a sequence of strings"),
    ("", "there is no ''"),
    ("a.weight", "there is no 'a.weight'. Did you mean 'a'"),
    (["b", "a"], "but after 0 iterations 'a' was called without 'b' before it"),
    (["a", "unused", "b"], "but 'unused' was not called"),
    (["a", "unused"], "but 'unused' was not called"),
    (["unused", "b"], "'b' was called without 'unused' before it"),
    ("unused", "this forward pass called it 0 times"),
]


@pytest.mark.parametrize(("body", "text"), MISNAMED, ids=[str(body) for body, _ in MISNAMED])
def test_a_body_that_can_not_be_followed_is_said(body, text):
    with pytest.raises(ls.LoopscopeError, match=text):
        ls.record(ls.wrap(Parts(), body=body), X)


@pytest.mark.parametrize("body", [["a", "b"], ("a", "b"), ["alias", "b"], "listed", ["a", "b.0", "b.1"]])
def test_bodies_of_several_parts_are_one_loop(body):
    model = Parts()
    run = ls.record(ls.wrap(model, body=body), X)
    h = X
    for k in range(4):
        assert torch.equal(run.states[k], h)
        h = model.b(model.a(h)).detach()


RESERVED = [
    "iteration",
    "batch",
    "position",
    "width",
    "head",
    "key",
    "call",
    "between",
    "value",
    "site",
    "scale",
]


@pytest.mark.parametrize("axis", RESERVED)
def test_names_that_mean_something_else_are_no_inner_loops(axis):
    with pytest.raises(ls.LoopscopeError, match=f"names that mean nothing else, but '{axis}'"):
        ls.wrap(Parts(), body=["a", "b"], inner={axis: "b.0"})


@pytest.mark.parametrize(
    ("inner", "text"),
    [
        ({3: "b.0"}, "names that are single words"),
        ({"a b": "b.0"}, "names that are single words"),
        ({"low": "nowhere"}, "there is no 'nowhere'"),
        ({"low": 3}, "inner must name a submodule, but got 3"),
        ("b.0", "inner must be a Mapping"),
        ({"low": "b.0", "mid": "b.0"}, "each inner loop must have a module of its own"),
        ({"low": "unused"}, "but this forward pass never called it"),
    ],
)
def test_inner_loops_that_can_not_be_counted_are_said(inner, text):
    with pytest.raises(ls.LoopscopeError, match=text):
        ls.record(ls.wrap(Parts(), body=["a", "b"], inner=inner), X)
    with pytest.raises(ls.LoopscopeError, match="'b' is the body itself"):
        ls.wrap(Parts(), body="b", inner={"low": "b"})


def test_a_loop_inside_an_inner_loop_counts_anew_in_each_turn():
    class Low(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = linear()

        def forward(self, h: Tensor) -> Tensor:
            for _ in range(3):
                h = torch.tanh(self.cell(h))
            return h

    class High(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.low = Low()

        def forward(self, h: Tensor) -> Tensor:
            return self.low(self.low(h))

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.core = High()

        def forward(self, h: Tensor) -> Tensor:
            for _ in range(4):
                h = self.core(h)
            return h

    model = Loop()
    wrapped = ls.wrap(model, body="core", inner={"mid": "core.low", "low": "core.low.cell"})
    run = ls.record(wrapped, X, sites=["core.low.cell", "core.low"])
    cells = run["core.low.cell"]
    assert cells.shape[:3] == (4, 2, 3) and cells.axes[:3] == ("iteration", "mid", "low")
    assert not cells.tensor.isnan().any()
    h = X
    for t in range(4):
        for mid in range(2):
            for low in range(3):
                new = model.core.low.cell(h).detach()
                assert torch.equal(cells[t][mid, low], new)
                h = torch.tanh(new)


class Skipping(nn.Module):
    """The first iteration skips the opening part, so that the last one has no end."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.core = nn.Linear(12, 6), linear()

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for t in range(4):
            h = torch.tanh(self.core(h if t == 0 else self.mix(torch.cat([h, x], -1))))
        return h


def test_a_pass_that_ends_within_an_iteration_says_what_does_not_count():
    model = Skipping()
    wrapped = ls.wrap(model, body=["core", "mix"])
    with pytest.warns(ls.LoopscopeWarning, match="'core' was called once more, and 'mix' not after it"):
        run = ls.record(wrapped, X, sites=["core"])
    assert run.iterations == 3 and run.states.iterations[-1] == 3
    assert run["core"].iterations == [0, 1, 2] == run["core_in"].iterations
    assert torch.equal(torch.tanh(run["core@outside"]), run.output)
    with pytest.raises(ls.LoopscopeError, match=r"at iteration=3 never applied: the loop ran 3 iterations"):
        ls.record(wrapped, X, edits=[ls.ablate("core", iteration=3)])
    with pytest.raises(ls.LoopscopeError, match="'core' was called without 'mix' before it"):
        ls.record(ls.wrap(model, body=["mix", "core"]), X)


def test_a_site_between_two_calls_is_edited_in_the_iteration_that_it_is_recorded_in():
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.inject, self.core, self.norm = (linear() for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            e = self.embed(x)
            h = e
            for _ in range(4):
                h = self.norm(self.core(self.inject(e) + h))
            return h

    wrapped = ls.wrap(Around(), body="core")
    plain = ls.record(wrapped, X, sites=["inject", "norm", "core"])
    for site in ("inject", "norm"):
        for t in (0, 2, 3):
            run = ls.record(
                wrapped, X, sites=["inject", "norm", "core"], edits=[ls.ablate(site, iteration=t)]
            )
            changed = [(run[site][s] != plain[site][s]).any() for s in range(4)]
            assert not run[site][t].any() and not any(changed[:t])
            before = t + (site == "norm")  # the body's calls that come before it
            assert all(torch.equal(run["core"][s], plain["core"][s]) for s in range(before))
    with pytest.raises(
        ls.LoopscopeError, match="'embed' is called outside the loop, where there is no iteration"
    ):
        ls.record(wrapped, X, edits=[ls.ablate("embed", iteration=0)])
    assert not torch.equal(ls.record(wrapped, X, edits=[ls.ablate("embed")]).output, plain.output)


class Twice(nn.Module):
    """Calls one part twice in an iteration."""

    def __init__(self) -> None:
        super().__init__()
        self.block = self.Block()

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = linear()

        def forward(self, x: Tensor) -> Tensor:
            return x + self.part(torch.tanh(self.part(x)))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.block(x)
        return x


def test_one_of_several_calls_of_a_part_is_edited():
    model = Twice()
    wrapped = ls.wrap(model, body="block")
    for call in (0, 1):
        run = ls.record(
            wrapped, X, sites=["block.part"], edits=[ls.ablate("block.part", iteration=1, call=call)]
        )
        zero = [[not run["block.part"][t][c].any() for c in (0, 1)] for t in range(3)]
        assert [(t, c) for t in range(3) for c in (0, 1) if zero[t][c]] == [(1, call)]
    with pytest.raises(ls.LoopscopeError, match="zero of 'block.part' at iteration=1, call=2 never applied"):
        ls.record(wrapped, X, edits=[ls.ablate("block.part", iteration=1, call=2)])


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.core = linear()

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(4):
            x = self.core(x)
        return x


@pytest.mark.slow
def test_modules_whose_calls_are_not_seen_are_refused():
    compiled, inplace = torch.compile(Plain(), backend="eager"), Plain()
    inplace.compile(backend="eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted, part = torch.jit.script(Plain()), Plain()
        part.core = torch.jit.script(part.core)
    for module, body in (
        (compiled, "core"),
        (compiled, "_orig_mod.core"),
        (compiled, None),
        (inplace, "core"),
    ):
        with pytest.raises(
            ls.LoopscopeError, match=r"was compiled \(torch.compile\), which runs as one graph"
        ):
            ls.wrap(module, body=body)
    for module in (scripted, part):
        with pytest.raises(ls.LoopscopeError, match="is a ScriptModule. Wrap the module that was scripted"):
            ls.wrap(module, body="core")


def test_wrappers_of_other_packages_and_shared_weights_are_followed():
    several, tied = nn.DataParallel(Plain()), Plain()
    tied.core = nn.Sequential(tied.core)
    tied.same = tied.core[0]
    for module, body in ((several, "module.core"), (tied, "same"), (tied, "core")):
        run = ls.record(ls.wrap(module, body=body), X)
        assert run.states.iterations == [0, 1, 2, 3, 4] and torch.equal(run.output, module(X))


@pytest.mark.slow
def test_a_body_that_is_compiled_itself_is_followed():
    module = Plain()
    module.core = torch.compile(module.core, backend="eager")
    run = ls.record(ls.wrap(module, body="core"), X)
    assert run.states.iterations == [0, 1, 2, 3, 4] and torch.equal(run.output, module(X))


class Odd(nn.Module):
    """A body that receives or returns this."""

    def __init__(self, receives, returns) -> None:
        super().__init__()
        self.core, self.receives = self.Core(returns), receives

    class Core(nn.Module):
        def __init__(self, returns) -> None:
            super().__init__()
            self.returns = returns

        def forward(self, *given):
            return self.returns

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            self.core(*self.receives)
        return x


@pytest.mark.parametrize(
    ("receives", "returns", "text"),
    [
        ((), X, "must receive a floating-point tensor to have a state, but its call 0 received none"),
        ((3,), X, "must receive a floating-point tensor"),
        ((X.long(),), X, "must receive a floating-point tensor"),
        (
            (X,),
            None,
            "must return a floating-point tensor, but returned a NoneType with no floating-point tensor",
        ),
        ((X,), X.long(), "must return a floating-point tensor, but returned a tensor of int64"),
        ((X,), {"h": 3}, "must return a floating-point tensor, but returned a dict with no floating-point"),
    ],
)
def test_a_body_without_a_state_is_said(receives, returns, text):
    with pytest.raises(ls.LoopscopeError, match=text):
        ls.record(ls.wrap(Odd(receives, returns), body="core"), X)


def test_a_body_that_fails_where_its_caller_goes_on_is_said():
    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.core = self.Core()

        class Core(nn.Module):
            def forward(self, h: Tensor) -> Tensor:
                raise ValueError("on purpose")

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.core(x)
            except ValueError:
                return x

    with pytest.raises(ls.LoopscopeError, match="every call of the body must come to its end"):
        ls.record(ls.wrap(Failing(), body="core"), X)
