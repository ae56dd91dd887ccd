"""What a lens can be applied to: sites, turns of inner loops, runs that kept some states."""

import math

import pytest
import torch
from torch import nn

import loopscope as ls
from loopscope.common.errors import LoopscopeError

from ..toys.small_models import hrm_text
from ..toys.table_loop import Planted
from ..toys.turning_logits import turning


def test_turns_of_an_inner_loop_are_places_of_their_own():
    model = ls.models.build("hrm", length=6, segments=2, low_updates=3).eval()
    run = ls.record(model, torch.randint(0, 5, (2, 6)), sites=["hook_low"])
    read = ls.lens(run, "coda", sites=["state", "state.low", "hook_low"])
    assert read.sites == ("state", "state.low", "hook_low, low 0", "hook_low, low 1", "hook_low, low 2")
    own = model.unembed(run["hook_low"][1, 2])
    assert torch.equal(read.logits(1, "hook_low, low 2"), own)
    # the last update of an iteration is the low state that it leaves
    assert torch.equal(read["hook_low, low 2"].kl()[0, :-1], read["state.low"].kl()[0, 1:])
    with pytest.raises(LoopscopeError, match="runs in turns: name one of them, such as 'hook_low, low 0'"):
        read.logits(1, "hook_low")


def test_a_halted_position_keeps_its_answer_in_the_state_and_is_read_anew_inside():
    model = ls.models.build("ouro", vocabulary=5, threshold=0.5, iterations=6, layers=1).eval()
    nn.init.constant_(model.exit.gate.bias, 3.0)
    run = ls.record(model, torch.randint(0, 5, (2, 6)), 6, sites=["ln_core"])
    assert run.iterations < 6 or (run.halting.iteration == 0).all()
    read = ls.lens(run, "coda", sites=["state", "ln_core"])
    assert torch.equal(read.logits(0, "ln_core"), read.logits(1)), "the first answer is the first state's"


def test_sites_of_another_shape_get_a_sentence():
    model = ls.models.build("universal", vocabulary=5).eval()
    run = ls.record(
        model, torch.randint(0, 5, (2, 6)), 2, sites=["core.0.attn.hook_pattern", "embed.hook_embed"]
    )
    with pytest.raises(
        LoopscopeError, match=r"\(6, 64\) for each example, but 'core.0.attn.hook_pattern' holds \(4, 6, 6\)"
    ):
        ls.lens(run, "coda", sites="core.0.attn.hook_pattern").kl()
    with pytest.raises(LoopscopeError, match="'embed.hook_embed' was called once, outside the loop"):
        ls.lens(run, "coda", sites="embed.hook_embed")
    with pytest.raises(LoopscopeError, match="'core.0.hook_resid_mid' was not recorded in this run"):
        ls.lens(run, "coda", sites="core.0.hook_resid_mid")
    with pytest.raises(LoopscopeError, match=r"no recorded site is like 'core.\*.hook_resid_post'"):
        ls.lens(run, "coda", sites="core.*.hook_resid_post")
    with pytest.raises(LoopscopeError, match="needs one site or more"):
        ls.lens(run, "coda", sites=[])


def test_a_run_that_kept_some_of_its_states_is_read_where_it_has_them():
    model = ls.models.build("universal", vocabulary=5).eval()
    tokens = torch.randint(0, 5, (2, 6))
    run = ls.record(model, tokens, 8, keep=ls.keep.every(2))
    read = ls.lens(run, "coda")
    assert read.iterations == (0, 2, 4, 6, 8)
    whole = ls.lens(ls.record(model, tokens, 8), "coda")
    assert torch.equal(read.kl()[0], whole.kl()[0, ::2])
    said = torch.nn.functional.one_hot(torch.tensor([0, 1, 1, 1, 1, 2, 2]), 3)[:, None, None]
    some = ls.record(Planted(5.0 * said).eval(), torch.zeros(1, 1, dtype=torch.long), keep=ls.keep.every(2))
    assert ls.lens(some, "coda").settling_iteration().item() == 6, "an iteration, not a place in the list"
    with pytest.raises(LoopscopeError, match="no value at iteration 3"):
        read.logits(3)
    part = ls.record(model, tokens, 7, keep=ls.keep.every(2))
    if 7 not in part.states.iterations:
        with pytest.raises(LoopscopeError, match=r"after the last iteration \(7\), but that was not kept"):
            ls.lens(part, "coda")
        assert not ls.lens(part, "coda", check=False).checked


def test_a_run_read_under_edits_is_read_with_them():
    model = ls.models.build("universal", vocabulary=5).eval()
    tokens = torch.randint(0, 5, (2, 6))
    run = ls.record(model, tokens, 4, edits=[ls.ablate("state", iteration=4), ls.add("ln_final", value=1.0)])
    for kind in ("coda", "logit"):
        assert torch.equal(ls.lens(run, kind).logits(4), run.output)


def test_a_lens_that_holds_nans_says_where_they_began():
    model = ls.models.build("universal", vocabulary=5).eval()
    with pytest.warns(ls.LoopscopeWarning):
        run = ls.record(
            model, torch.randint(0, 5, (2, 6)), 4, edits=[ls.add("state", iteration=2, value=math.nan)]
        )
    with pytest.raises(LoopscopeError, match="holds NaN or infinity from iteration 2 on"):
        ls.lens(run, "coda")


def test_what_ran_in_generation_is_read_though_it_answered_at_the_last_position_alone():
    torch.manual_seed(1)
    out = ls.generate(ls.wrap(hrm_text().eval()), torch.randint(0, 38, (1, 5)), max_new_tokens=2)
    first = out.at(token=0)
    assert first.output.shape[1] == 1
    for kind in ("coda", "logit"):
        read = ls.lens(first, kind)
        assert read.checked and read.kl().shape == (1, 3, 1, 5)
        assert torch.allclose(read.logits(-1)[:, -1:], first.output, atol=1e-6)
        assert ls.lens(out.at(token=1), kind).kl().shape == (1, 3, 1, 1)


def test_what_is_asked_for_wrongly_gets_a_sentence():
    read = ls.lens(turning(), "coda")
    for wrong, says in (
        (7, "must lie in 0..6"),
        (-2, "must lie in 0..6"),
        (1.5, "must be whole numbers"),
        (torch.zeros(3, dtype=torch.long), r"for each example \(2,\) or one for each position \(2, 3\)"),
        (torch.zeros(1, 3, dtype=torch.long), "one for each position"),
        ("seven", "must be whole numbers"),
    ):
        with pytest.raises(LoopscopeError, match=says):
            read.rank(wrong)
    with pytest.raises(LoopscopeError, match=r"a lens is \"coda\".*got 'codas'"):
        ls.lens(turning(), "codas")
    with pytest.raises(LoopscopeError, match="got a int"):
        ls.lens(turning(), 3)
    with pytest.raises(LoopscopeError, match="no lens reads 'core'"):
        read["core"]


def test_a_single_example_and_a_state_without_positions_are_read():
    run = ls.iterate(lambda h: h.roll(1, -1), -torch.arange(4.0)[None], 3)
    read = ls.lens(run, "coda")
    assert read.answers()[0, :, 0, 0].tolist() == [0, 1, 2, 3]
