"""Published loops that need no adapter: deep-thinking nets, looped GPT-2, and loops of transformers
wrapped by their bodies; and modules of the same names that are wired otherwise."""

from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch

import loopscope as ls

from ..toys.body_families import DTNet, TransformerModelLooped
from ..toys.mor_double import MoRLlamaForCausalLM
from ..toys.transformers_loops import esm_fold, protein, zamba

IMAGE = torch.rand(2, 3, 5, 6, generator=torch.Generator().manual_seed(1))
PAIRS = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))
ANSWERS = torch.randn(2, 4, generator=torch.Generator().manual_seed(2))
AXES = ("batch", "channel", "height", "width")


class Family(NamedTuple):
    build: Any
    body: str
    head: str
    axes: tuple[str, ...] | None
    tokens: torch.Tensor
    inputs: dict[str, Any]
    count: str
    """The argument that is the number of iterations."""
    answers: Any
    """The answer after each iteration, in what the forward returns."""
    read: Any = lambda logits: logits
    """What of the head's output an answer is."""

    def wrapped(self, *wiring: str, **options: Any) -> Any:
        torch.manual_seed(1)
        options = {"head": self.head, "count": self.count, "axes": self.axes} | options
        return ls.wrap(self.build(*wiring).eval(), body=self.body, **options)

    def own(self, wrapped: Any, **inputs: Any) -> Any:
        with torch.no_grad():
            return wrapped.module(self.tokens, **self.inputs | inputs)

    def record(self, wrapped: Any, *args: Any, **options: Any) -> ls.Run:
        return ls.record(wrapped, self.tokens, *args, **self.inputs, **options)


THINKING = Family(
    DTNet, "recur_block", "head", AXES, IMAGE, {"iters_to_do": 4}, "iters_to_do", lambda out: out.unbind(1)
)
REGRESSION = Family(
    *(TransformerModelLooped, "_backbone", "_read_out", None, PAIRS),
    *({"ys": ANSWERS, "n_loop_start": 0, "n_loops": 4}, "n_loops"),
    *(lambda out: out, lambda logits: logits[:, ::2, 0]),
)
FOLLOWED = {
    "DTNet": (THINKING, ()),
    "DTNet with recall": (THINKING, ("recall",)),
    "looped GPT-2": (REGRESSION, ()),
    "looped GPT-2, product": (REGRESSION, ("product",)),
}
CAUGHT = {
    "DTNet with momentum": (THINKING, "momentum", "iteration . from state . gives another state"),
    "DTNet that averages": (THINKING, "averaged", "what 'head' returns with every state replaced"),
    "looped GPT-2 whose input drifts": (REGRESSION, "drifting", "iteration . from state . gives another"),
    "looped GPT-2 that sums": (REGRESSION, "summed", "what '_read_out' returns with every state replaced"),
}


def same(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture(params=FOLLOWED, scope="module")
def case(request):
    family, wiring = FOLLOWED[request.param]
    wrapped = family.wrapped(*wiring)
    return SimpleNamespace(family=family, wrapped=wrapped, own=family.own(wrapped))


def test_a_pass_is_the_modules_own_bit_for_bit(case):
    seen: list[torch.Tensor] = []
    body = case.wrapped.module.get_submodule(case.family.body)
    handle = body.register_forward_hook(lambda _, given, output: seen.append(output))
    case.family.own(case.wrapped)
    handle.remove()
    run = case.family.record(case.wrapped)
    assert same(run.output, case.own)
    assert same(case.family.record(case.wrapped, sites="all").output, case.own)
    assert run.iterations == len(seen) == 4
    assert all(torch.equal(run.states[k + 1], state) for k, state in enumerate(seen))


def test_its_read_out_after_each_iteration_is_the_modules_own_answer(case):
    run = case.family.record(case.wrapped)
    for k, answer in enumerate(case.family.answers(case.own), 1):
        assert torch.equal(case.family.read(run.logits[k]), answer)
    longer = case.family.record(case.wrapped, 7)
    assert longer.iterations == 7
    assert same(longer.output, case.family.own(case.wrapped, **{case.family.count: 7}))


def test_it_passes_the_self_check(case):
    result = ls.check(case.wrapped, case.family.tokens, **case.family.inputs)
    assert result.passed and not result.warnings, str(result)
    assert result.row("four functions").difference == 0


def test_without_its_head_it_says_to_name_it(case):
    run = ls.record(
        ls.wrap(case.wrapped.module, body=case.family.body, axes=case.family.axes),
        case.family.tokens,
        **case.family.inputs,
    )
    with pytest.raises(
        ls.LoopscopeError, match=r"returns the logits of a single state, name it.*head=\.\.\."
    ):
        run.logits[1]
    assert str(ls.analyses.measure("convergence", run))


@pytest.mark.parametrize("name", CAUGHT)
def test_another_wiring_is_caught(name):
    family, wiring, reason = CAUGHT[name]
    wrapped = family.wrapped(wiring, count=None)
    run = family.record(wrapped)
    assert same(run.output, family.own(wrapped))
    for refused in (
        lambda: run.logits[1],
        lambda: family.record(wrapped, 7),
        lambda: ls.analyses.measure("fixed_points", run),
    ):
        with pytest.raises(ls.LoopscopeError, match=f"can't be iterated on by substitution: {reason}"):
            refused()


# Mixture-of-Recursions
# ------------------------------------------------------------------------------------------

RECURSIONS = [f"model.layers.{i}.block.0" for i in (1, 2, 3)]
TOKENS = torch.randint(0, 40, (2, 8), generator=torch.Generator().manual_seed(3))


def test_recursions_are_recorded_with_the_tokens_that_are_left_and_their_routing():
    torch.manual_seed(1)
    model = MoRLlamaForCausalLM().eval()
    assert f'body=["{RECURSIONS[0]}", "{RECURSIONS[1]}"' in str(ls.find_loops(model, TOKENS))
    wrapped = ls.wrap(model, body=RECURSIONS)
    routers = [f"model.layers.{i}.mor_router" for i in (1, 2, 3)]
    run = ls.record(wrapped, TOKENS, sites=routers)
    with torch.no_grad():
        assert torch.equal(run.output.logits, model(TOKENS).logits)
    assert torch.equal(ls.record(wrapped, TOKENS, sites="all").output.logits, run.output.logits)
    assert [tuple(run.states[k].shape) for k in (1, 2, 3)] == [(2, 8, 8), (2, 4, 8), (2, 3, 8)]
    assert [tuple(run[router].shape) for router in routers] == [(2, 8, 1), (2, 8, 1), (2, 4, 1)]
    for row in ls.check(wrapped, TOKENS).rows:
        assert row.outcome.value in ("pass", "not applicable"), row
    with pytest.raises(ls.LoopscopeError, match="can't be iterated on by substitution"):
        run.logits[1]


def test_a_routing_that_is_edited_decides_which_tokens_go_on():
    torch.manual_seed(1)
    model = MoRLlamaForCausalLM().eval()
    falling = torch.linspace(4, -4, 8)[None, :, None].expand(2, 8, 1)
    edit = ls.patch("model.layers.2.mor_router", value=falling)
    run = ls.record(ls.wrap(model, body=RECURSIONS), TOKENS, edits=[edit])
    layers: Any = model.model.layers
    first, one, two, *_ = layers
    with torch.no_grad():
        h = one(first(model.model.embed_tokens(TOKENS))[0]).hidden_state
        assert torch.equal(run.states[2], two.block[0](h[:, :4])[0])


def test_recursions_of_blocks_of_their_own_are_no_loop():
    torch.manual_seed(1)
    model = MoRLlamaForCausalLM("untied").eval()
    assert not ls.find_loops(model, TOKENS).loops
    assert ls.record(ls.wrap(model, body=RECURSIONS), TOKENS).iterations == 1


# Of transformers
# ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fold():
    torch.manual_seed(1)
    model, inputs = esm_fold().eval(), protein()
    return SimpleNamespace(model=model, tokens=inputs.pop("token_index"), inputs=inputs)


def folded(fold, *args, **options):
    wrapped = ls.wrap(fold.model, body=["parcae", "folding_trunk"], axes=("batch", "row", "column", "width"))
    return ls.record(wrapped, fold.tokens, *args, seed=3, **fold.inputs, **options)


def test_esm_folds_trunk_is_recorded_and_iterated(fold):
    assert 'body=["parcae", "folding_trunk"]' in str(ls.find_loops(fold.model, fold.tokens, **fold.inputs))
    run = folded(fold)
    torch.manual_seed(3)
    with torch.no_grad():
        own = fold.model(fold.tokens, **fold.inputs).distogram_logits
    assert torch.equal(run.output.distogram_logits, own)
    assert torch.equal(folded(fold, sites="all").output.distogram_logits, own)
    assert run.states.iterations == [0, 1, 2, 3, 4]
    assert torch.equal(run.logits[4], own)
    assert torch.equal(ls.resume(run.model, run, 4, start=1).states[-1], run.states[-1])


def test_esm_folds_loop_is_measured_by_example(fold):
    """Its atoms come in a dataclass, of which an example alone has its own rows."""
    run = folded(fold)
    one = ls.analyses.measure("fixed_points", run, extra=4, perturbed=0, random=1)
    assert "4 iterations beyond the run" in one.continuation
    assert torch.equal(
        run.select_inputs([1])[1]["atom_inputs"].ref_pos, fold.inputs["atom_inputs"].ref_pos[1:]
    )


def test_a_count_that_is_one_less_than_the_iterations_is_refused(fold):
    wrapped = ls.wrap(fold.model, body=["parcae", "folding_trunk"], count="num_loops")
    with pytest.raises(ls.LoopscopeError, match=r"num_loops=6 ran 7 of them.*num_loops=5\)"):
        ls.record(wrapped, fold.tokens, 6, **fold.inputs)


@pytest.mark.slow
def test_esm_fold_passes_the_self_check(fold):
    wrapped = ls.wrap(fold.model, body=["parcae", "folding_trunk"], axes=("batch", "row", "column", "width"))
    result = ls.check(wrapped, fold.tokens, seed=3, **fold.inputs)
    assert result.passed and not result.warnings, str(result)
    assert result.row("four functions").difference == 0


def shared_blocks(model):
    """The names of the block in Zamba2: up to transformers 4 one module, later one for each
    layer."""
    names = [f"model.layers.{i}.shared_transformer" for i in (1, 3, 5)]
    return list({model.get_submodule(name): name for name in names}.values())


def test_zambas_layers_share_a_block_and_do_not_loop():
    torch.manual_seed(1)
    model, tokens = zamba().eval(), torch.randint(3, 40, (2, 5))
    found = ls.find_loops(model, tokens)
    assert len(found.loops) == 0
    assert "shared_transformer runs 3 times" in str(found) and "layers share it, nothing loops" in str(found)
    body = shared_blocks(model)
    run = ls.record(ls.wrap(model, body=body), tokens)
    with torch.no_grad():
        assert torch.equal(run.output.logits, model(tokens).logits)
    assert run.states.iterations == [1, 2, 3]
    with pytest.raises(ls.LoopscopeError, match="an iteration reads more than this state"):
        run.logits[1]


@pytest.mark.slow
def test_zambas_shared_block_passes_the_self_check():
    torch.manual_seed(1)
    model = zamba().eval()
    result = ls.check(ls.wrap(model, body=shared_blocks(model)), torch.randint(3, 40, (2, 5)))
    assert result.passed and not result.warnings, str(result)
    assert {row.outcome.value for row in result.rows} == {"pass", "not applicable"}
