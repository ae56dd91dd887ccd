"""By substitution alone, a module wrapped by its body gives what its four functions give."""

import pytest
import torch

import loopscope as ls
from loopscope.dynamics.iteration_map import IterationMap
from loopscope.maths.jacobian import jacobian
from loopscope.recorder.extend import continue_run

from ..toys.body_wraps import CYCLE, albert, hrm_text, huginn
from ..toys.foreign_loops import InPlace, Loop, Nested, build_loop
from ..toys.foreign_loops import batch as vectors
from ..toys.in_place_loops import batch as family_batch
from ..toys.in_place_loops import build, family
from ..toys.looped_gpt2 import LoopedGPT2, LoopedGPT2Functions

N = 4


def gpt2(between):
    model = LoopedGPT2(between).eval()
    wrapped = ls.wrap(model, body="block", head="head", norm="norm", count="num_steps")
    return LoopedGPT2Functions(model).eval(), wrapped, {}


KINDS = {
    "ALBERT": lambda: albert(N),
    "Huginn": lambda: huginn(N),
    "HRM-Text": lambda: hrm_text(N),
    "GPT-2": lambda: gpt2("nothing"),
    "GPT-2 with a timing signal": lambda: gpt2("timing"),
    "GPT-2 with an injection": lambda: gpt2("injection"),
}


@pytest.fixture(scope="module", params=KINDS)
def pair(request):
    """A model with four functions, the same wrapped by its body, and a run of each."""
    torch.manual_seed(0)
    model, wrapped, options = KINDS[request.param]()
    tokens = torch.randint(3, 20, (2, 5))
    return model, wrapped, ls.record(model, tokens, **options), ls.record(wrapped, tokens, **options)


def values(state):
    """The tensors of a state."""
    return [state] if isinstance(state, torch.Tensor) else state


def test_states_and_logits_are_bit_for_bit_those_of_the_adapter(pair):
    _, _, run, by_body = pair
    first = by_body.states.iterations[0]
    assert by_body.reader.refusal is None
    assert by_body.iterations == N
    for k in range(first, N + 1):
        pairs = zip(values(by_body.state(k)), values(run.state(k)), strict=True)
        assert all(torch.equal(*pair) for pair in pairs)
        assert torch.equal(by_body.logits[k], run.logits[k])
        assert torch.equal(ls.lens(by_body, "coda").logits(k), ls.lens(run, "coda").logits(k))


def test_causes_are_bit_for_bit_those_of_the_adapter(pair):
    _, _, run, by_body = pair
    ours, theirs = (ls.effects(r, "zero", iterations=range(1, N)) for r in (by_body, run))
    assert torch.equal(ours.values, theirs.values)


def test_a_resumed_run_is_bit_for_bit_that_of_the_adapter(pair):
    model, wrapped, run, by_body = pair
    ours, theirs = ls.resume(wrapped, by_body, N + 3), ls.resume(model, run, N + 3)
    for k in range(by_body.states.iterations[0], N + 4):
        assert torch.equal(ours.states[k], theirs.states[k])
    assert torch.equal(ours.output, theirs.output)
    edit = ls.ablate("state", iteration=2)
    ours, theirs = (
        ls.resume(m, r, N, start=1, edits=[edit]).output for m, r in ((wrapped, by_body), (model, run))
    )
    assert torch.equal(ours, theirs)


def test_a_state_of_parts_is_named_whole_or_refused():
    adapter, wrapped, _ = hrm_text(2)
    tokens = torch.randint(3, 20, (1, 3))
    high_alone = ls.record(ls.wrap(adapter.module, body=CYCLE), tokens)
    with pytest.raises(ls.LoopscopeError, match="reads what the one before returned besides this state"):
        _ = high_alone.logits[1]
    run = ls.record(wrapped, tokens)
    assert torch.equal(run.logits[2], run.output.logits)
    for edit in (ls.ablate("state.low", iteration=1), ls.skip(1), ls.patch(iteration=1, value=run.state(1))):
        with pytest.raises(ls.LoopscopeError, match="L_module returned is read in the same iteration, too"):
            ls.record(wrapped, tokens, edits=[edit])
    both = ls.patch(iteration=1, value=tuple(0.5 * value for value in run.state(1)))
    ours, theirs = (
        ls.resume(model, ls.record(model, tokens), 2, start=1, edits=[both]).output
        for model in (wrapped, adapter)
    )
    assert torch.equal(ours, theirs) and not torch.equal(ours, run.output.logits)
    for state in ({"low": CYCLE[0], "high": CYCLE[1]}, dict.fromkeys(("a", "b"), CYCLE[1])):
        with pytest.raises(
            ls.LoopscopeError, match="must name each part of the body once, and first the one"
        ):
            ls.wrap(adapter.module, body=CYCLE, state=state)
    with pytest.raises(ls.LoopscopeError, match="must have a name of one word, but 'high up' is none"):
        ls.wrap(adapter.module, body=CYCLE, state={"high up": CYCLE[1]})


def test_the_map_and_its_jacobian_are_those_of_the_adapter(pair):
    _, _, run, by_body = pair
    ours, theirs = IterationMap(by_body), IterationMap(run)
    x = theirs.at(2, run)
    for t in (2, N - 1, N + 2):
        assert torch.allclose(ours(x, t), theirs(x, t), rtol=0, atol=1e-6 * float(x.norm()))
    one, other = jacobian(lambda x: ours(x, 2), x), jacobian(lambda x: theirs(x, 2), x)
    assert float(other.norm()) > 1e-3
    assert torch.allclose(one, other, rtol=0, atol=1e-6)
    assert ours.is_time_invariant is theirs.is_time_invariant


def test_without_a_count_further_iterations_are_the_last_one_again_and_the_result_says_so():
    model = LoopedGPT2("timing").eval()
    wrapped = ls.wrap(model, body="block")
    tokens = torch.randint(3, 20, (2, 5))
    run = ls.record(wrapped, tokens)
    functions = LoopedGPT2Functions(model)
    with torch.no_grad():
        context = functions.encode(tokens)
        expected = functions.step(run.states[N], context, N - 1)
    assert torch.equal(ls.resume(wrapped, run, N + 1).states[N + 1], expected)
    text = continue_run(run, 3).description
    assert "Beyond the 4 that the module runs by itself, each is its last one again" in text


def test_fewer_and_more_iterations_can_be_recorded():
    model = LoopedGPT2("injection").eval()
    tokens = torch.randint(3, 20, (2, 5))
    plain, counted = ls.wrap(model, body="block"), ls.wrap(model, body="block", count="num_steps")
    for n in (2, N, 7):
        one, other = ls.record(plain, tokens, n), ls.record(counted, tokens, n)
        assert one.iterations == other.iterations == n
        for k in range(1, n + 1):
            assert torch.equal(one.states[k], other.states[k])
        assert torch.equal(one.logits[n], other.output["logits"])


def test_what_comes_before_the_loop_is_computed_once_and_a_pass_is_left_early():
    model = LoopedGPT2().eval()
    calls = {"embed": 0, "block": 0, "head": 0}

    def counter(name):
        original = getattr(model, name).forward

        def forward(*args, **kwargs):
            calls[name] += 1
            return original(*args, **kwargs)

        getattr(model, name).forward = forward

    for name in calls:
        counter(name)
    run = ls.record(ls.wrap(model, body="block"), torch.randint(3, 20, (2, 5)))
    context, four = run.reader.context, run.reader.model
    calls.update(embed=0, block=0, head=0)
    with torch.no_grad():
        four.step(run.states[2], context, 2)
    assert calls == {"embed": 0, "block": 1, "head": 0}
    with torch.no_grad():
        four.decode(run.states[2], context)
    assert calls == {"embed": 0, "block": 1, "head": 1}


def test_a_state_that_is_not_all_that_an_iteration_reads_is_refused():
    run = ls.record(ls.wrap(build_loop(Nested), body="high"), vectors())
    with pytest.raises(ls.LoopscopeError, match="another state .* so an iteration reads more than this"):
        _ = run.logits[1]
    with pytest.raises(ls.LoopscopeError, match="can't be iterated on by substitution"):
        ls.resume(ls.wrap(build_loop(Nested), body="high"), run, 9)


def test_bodies_that_write_into_their_input_are_iterated():
    model, x = build_loop(InPlace), vectors()
    run = ls.record(ls.wrap(model, body="core"), x)
    assert torch.equal(run.logits[run.iterations], run.output)
    for kind in family():
        kind = getattr(kind, "values", kind)
        run = ls.record(ls.wrap(build(*kind), body="core"), family_batch())
        four, context = run.reader.model, run.reader.context
        assert torch.equal(four.answer_after(run.state(run.iterations), context), run.output)


def test_the_derivative_of_a_body_that_overwrites_its_input_is_refused_in_a_sentence():
    run = ls.record(ls.wrap(build_loop(InPlace), body="core"), vectors())
    loop = IterationMap(run)
    with pytest.raises(ls.LoopscopeError, match="but the map overwrites it in place"):
        jacobian(loop, loop.starts)
    with pytest.raises(ls.LoopscopeError, match="but the map overwrites it in place"):
        ls.analyses.measure("stability", run)
    assert ls.analyses.measure("convergence", run).summary()


class WithoutLogits(Loop):
    def forward(self, x):
        super().forward(x)
        return {"steps": self.turns}


def test_a_module_without_logits_is_iterated_and_what_needs_logits_says_so():
    model, plain, x = build_loop(WithoutLogits), build_loop(Loop), vectors()
    run, other = (ls.record(ls.wrap(one, body="core"), x) for one in (model, plain))
    longer = ls.resume(ls.wrap(model, body="core"), run, 9)
    assert longer.output == run.output == {"steps": 5}
    assert torch.equal(longer.states[9], ls.resume(ls.wrap(plain, body="core"), other, 9).states[9])
    for name in ("convergence", "stability"):
        ours, theirs = (ls.analyses.measure(name, one) for one in (run, other))
        assert ours.summary() == theirs.summary()
    with pytest.raises(ls.LoopscopeError, match="must hold logits, but is a dict without any. Name the mod"):
        _ = run.logits[1]
    with pytest.raises(ls.LoopscopeError, match="must hold logits"):
        ls.effects(run, "zero")
    named = ls.record(ls.wrap(model, body="core", head="head"), x)
    assert torch.equal(named.logits[2], other.logits[2])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"head": "haed"}, "head must name a submodule, but there is no 'haed'"),
        ({"head": "head", "norm": "x"}, "norm must name a submodule"),
        ({"norm": "norm"}, "comes before a head, but head is None"),
        ({"count": "steps"}, "count must name an argument of the forward of LoopedGPT2"),
    ],
)
def test_names_that_are_none_are_refused(options, text):
    with pytest.raises(ls.LoopscopeError, match=text):
        ls.wrap(LoopedGPT2(), body="block", **options)
