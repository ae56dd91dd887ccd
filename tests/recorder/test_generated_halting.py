"""Exits forced and biased while a model generates: by its halting unit, or its own arguments."""

from typing import Any

import pytest
import torch
from torch import Tensor

import loopscope as ls

from ..toys.family_doubles import OuroForCausalLM as WithoutExits
from ..toys.family_doubles import RavenForCausalLM
from ..toys.other_wirings import OuroForCausalLM

PROMPT, NEW = torch.tensor([[5, 6, 7, 5], [9, 3, 9, 3]]), 4


class Generating(OuroForCausalLM):
    """Ouro's exits, with a generate that passes its options on to every pass."""

    def generate(self, input_ids: Tensor, max_new_tokens: int = NEW, **options: Any) -> Tensor:
        return greedy(self, input_ids, max_new_tokens, **options)


def greedy(model: Any, tokens: Tensor, count: int = NEW, **options: Any) -> Tensor:
    with torch.no_grad():
        for _ in range(count):
            output = model(tokens, **options)
            logits = getattr(output, "logits", output)
            tokens = torch.cat([tokens, logits[:, -1:].argmax(-1)], 1)
    return tokens


@pytest.fixture(scope="module")
def ouro():
    torch.manual_seed(1)
    return ls.wrap(Generating(threshold=0.9).eval())


def exits(wrapped: Any, run: Any) -> list[int | None]:
    """By row, the iteration whose read-out the last position's answer is, bit for bit."""
    read = [wrapped.module.lm_head(run.states[k])[:, -1] for k in range(1, run.iterations + 1)]
    return [
        next((t for t, logits in enumerate(read) if torch.equal(logits[row], run.output[row, -1])), None)
        for row in range(len(run.output))
    ]


def test_a_forced_exit_gives_exactly_the_logits_of_that_iteration(ouro):
    plain = ls.generate(ouro, PROMPT)
    forced = ls.generate(ouro, PROMPT, edits=[ls.halt_at(1, token=2)])
    assert exits(ouro, forced.at(token=2)) == [1, 1]
    assert exits(ouro, plain.at(token=2)) != [1, 1]
    for token in (0, 1):
        assert torch.equal(forced.at(token=token).output, plain.at(token=token).output)
    assert torch.equal(forced.run.halting.iteration[:, 2], torch.tensor([1, 1]))
    assert torch.equal(forced.run.halting.iteration[:, :2], plain.run.halting.iteration[:, :2])


def test_every_token_exits_there_without_a_token(ouro):
    out = ls.generate(ouro, PROMPT, edits=[ls.halt_at(0)])
    assert [exits(ouro, run) for run in out] == [[0, 0]] * NEW
    assert torch.equal(out.tokens, ls.generate(ouro, PROMPT, exit_at_step=0).tokens)


def test_it_is_the_models_own_argument_at_that_token(ouro):
    """By hand: the pass of token 2 with exit_at_step, the others without."""
    out = ls.generate(ouro, PROMPT, edits=[ls.halt_at(1, token=2)])
    tokens = PROMPT
    for token in range(NEW):
        tokens = greedy(ouro.module, tokens, 1, **({"exit_at_step": 1} if token == 2 else {}))
    assert torch.equal(out.tokens, tokens)


def test_one_row_may_exit_alone(ouro):
    plain = ls.generate(ouro, PROMPT)
    out = ls.generate(ouro, PROMPT, edits=[ls.halt_at(0, token=0, batch=1)])
    assert exits(ouro, out.at(token=0)) == [exits(ouro, plain.at(token=0))[0], 0]


@pytest.mark.parametrize(("bias", "later"), [(-30.0, True), (30.0, False)])
def test_a_bias_moves_the_exit_of_its_tokens(ouro, bias, later):
    plain = ls.generate(ouro, PROMPT)
    out = ls.generate(ouro, PROMPT, edits=[ls.bias_halting(bias, token=slice(0, 1))])
    assert exits(ouro, out.at(token=0)) == ([3, 3] if later else [0, 0])
    assert exits(ouro, plain.at(token=0)) not in ([3, 3], [0, 0])


def test_its_own_arguments_are_options_of_generate(ouro):
    out = ls.generate(ouro, PROMPT, exit_at_step=2)
    assert [exits(ouro, run) for run in out] == [[2, 2]] * NEW


def test_huginn_runs_as_many_iterations_in_the_pass_of_the_token():
    torch.manual_seed(1)
    wrapped = ls.wrap(RavenForCausalLM().eval())
    with ls.recording(wrapped, edits=[ls.halt_at(1, token=2)]) as out:
        tokens = greedy(wrapped.module, PROMPT, input_states=None)
    assert [run.iterations for run in out] == [6, 6, 2, 6]
    out.tokens = tokens
    with pytest.raises(ls.LoopscopeError, match="same number of iterations"):
        _ = out.run


def test_the_halting_unit_of_a_module_wrapped_by_its_body_is_named():
    """The zoo's adaptive computation time: as its own recording of the tokens so far has it."""
    model = ls.models.load("universal-prefix-parity-act")
    tokens, site = model.task.batch(2, seed=0).tokens[:, :5], "act.gate"
    edit = ls.halt_at(2, site=site, token=1)
    with ls.recording(ls.wrap(model, body="core.0"), edits=[edit]) as out:
        out.tokens = greedy(model, tokens, 3)
    for token in range(3):
        forced = [ls.halt_at(2, position=-1)] if token == 1 else []
        own = ls.record(model, out.tokens[:, : 5 + token], edits=forced)
        assert torch.allclose(out.at(token=token).output, own.output, atol=1e-5)
    unforced = ls.record(model, out.tokens[:, :6])
    assert not torch.allclose(out.at(token=1).output[:, -1], unforced.output[:, -1], atol=1e-5)


@pytest.mark.parametrize(
    ("make", "edit", "text"),
    [
        (WithoutExits, ls.halt_at(1, token=2), "isn't: it doesn't follow its halting unit"),
        (RavenForCausalLM, ls.bias_halting(1.0, token=2), "needs a model with a unit that decides"),
        (RavenForCausalLM, ls.halt_at(1, token=2, batch=0), "one for all rows of a pass"),
        (Generating, ls.halt_at(9, token=2), "never applied: the loop ran 4 iterations"),
        (Generating, ls.halt_at(1, token=9), "never applied: 4 tokens came"),
    ],
)
def test_what_does_not_exit_there_is_refused(make, edit, text):
    wrapped = ls.wrap(make().eval())

    def generate() -> None:
        with ls.recording(wrapped, edits=[edit]):
            greedy(wrapped.module, PROMPT)

    with pytest.raises(ls.LoopscopeError, match=text):
        generate()


def test_a_body_without_such_a_site_is_refused(ouro):
    wrapped = ls.wrap(ouro.module, body=["model.layers.0", "model.layers.1", "model.norm"])
    with pytest.raises(ls.LoopscopeError, match="there is no site 'halting' in this model"):
        ls.generate(wrapped, PROMPT, edits=[ls.halt_at(1, token=2)])


def test_an_edit_after_the_loop_is_no_part_of_a_read_out(ouro):
    push = ls.patch("lm_head", value=0.0, token=2)
    out = ls.generate(ouro, PROMPT, edits=[push])
    assert torch.equal(out.at(token=2).output[:, -1], torch.zeros(2, 40))
    assert out.at(token=1).logits[1].shape == out.at(token=1).output.shape
    with pytest.raises(ls.LoopscopeError, match="'lm_head' comes after its loop and was edited"):
        out.at(token=2).logits[1]
