"""Lenses on loops whose readings are known in closed form, and on every architecture: what each
lens is believed on."""

import math

import pytest
import torch
from torch import nn

import loopscope as ls
from loopscope.common.errors import LoopscopeError

from ..toys.family_doubles import OuroForCausalLM, RavenForCausalLM
from ..toys.foreign_loops import Nested, build_loop
from ..toys.foreign_loops import batch as vectors_of
from ..toys.small_models import albert, bridge, hrm_text, tiny_recursive, x_transformer
from ..toys.table_loop import Planted

V, N, C = 7, 5, 0.8


def turning(batch=2, positions=3):
    """The state is the logits: token v has -C·(v - k mod V) after k iterations, as each turns them
    by one."""
    start = (-C * torch.arange(V, dtype=torch.float64)).expand(batch, positions, V).clone()
    return ls.iterate(lambda h: h.roll(1, -1), start, N)


def planted(table, task=None, tokens=None):
    model = Planted(table, task).eval()
    tokens = torch.zeros(table.shape[1:3], dtype=torch.long) if tokens is None else tokens
    return ls.record(model, tokens)


# Closed forms


def test_ranks_probabilities_and_margins_are_those_of_logits_that_turn():
    read = ls.lens(turning(), "coda")
    norm = sum(math.exp(-C * r) for r in range(V))
    for token in range(V):
        place = torch.tensor([(token - k) % V for k in range(N + 1)], dtype=torch.float64)
        every = place[None, :, None, None].expand(1, N + 1, 2, 3)
        assert torch.equal(read.rank(token), every + 1)
        assert torch.allclose(read.probability(token), (-C * every).exp() / norm)
        assert torch.allclose(read.margin(token), torch.where(every == 0, C, -C * every))


def test_entropy_and_kl_are_those_of_logits_that_turn():
    read = ls.lens(turning(), "coda")
    p = torch.softmax(-C * torch.arange(V, dtype=torch.float64), 0)
    assert torch.allclose(read.entropy(), (-(p * p.log()).sum()).expand(1, N + 1, 2, 3))
    for k in range(N + 1):
        # token (i + N) mod V has p[i] at the end, and stands at (i + N - k) mod V after k
        far = sum(float(p[i]) * C * ((i + N - k) % V - i) for i in range(V))
        assert torch.allclose(read.kl()[0, k], torch.full((2, 3), far, dtype=torch.float64)), (
            "KL(final ‖ reading), and not the other way round"
        )


def test_answers_flip_at_every_turn_and_settle_with_the_last():
    read = ls.lens(turning(), "coda")
    assert read.answers()[0, :, 0, 0].tolist() == list(range(N + 1))
    assert read.flips()[0, :, 0, 0].tolist() == [False] + [True] * N
    assert (read.settled() == N).all()


def test_top_tokens_come_likeliest_first():
    ids, p = ls.lens(turning(), "coda").top(3)
    assert ids[0, 2, 0, 0].tolist() == [2, 3, 4]
    assert (p.diff(dim=-1) < 0).all()


def test_an_answer_settles_after_its_last_change_and_not_before():
    said = torch.tensor([[0, 1, 1, 2, 2, 2], [3, 3, 3, 3, 3, 3], [0, 1, 0, 1, 0, 1], [0, 1, 2, 0, 0, 0]])
    read = ls.lens(planted(5.0 * nn.functional.one_hot(said.T, 4)[:, :, None]), "coda")
    assert read.settled()[0, :, 0].tolist() == [3, 0, 5, 3]
    assert read.flips()[0].sum(0)[:, 0].tolist() == [2, 0, 5, 3]


def test_tokens_are_followed_for_all_for_each_example_or_at_each_position():
    read = ls.lens(turning(batch=2, positions=3), "coda")
    assert torch.equal(read.rank(torch.tensor([1, 4]))[0, 0], torch.tensor([[2.0] * 3, [5.0] * 3]).double())
    ids = torch.tensor([[0, 1, -1], [2, -1, 6]])
    result = read.rank(ids)[0, 0]
    assert torch.equal(result[ids >= 0], torch.tensor([1.0, 2, 3, 7]).double())
    assert result[ids < 0].isnan().all(), "where there is nothing to follow there is nothing"


def test_equal_logits_are_ranked_as_the_answer_takes_them():
    read = ls.lens(planted(torch.zeros(2, 1, 1, 4)), "coda")
    assert [float(read.rank(t)[0, 0, 0, 0]) for t in range(4)] == [1, 2, 3, 4]
    assert read.answers()[0, 0, 0, 0] == 0


def test_what_is_never_said_adds_nothing_to_the_divergence():
    class Masked(Planted):
        def decode(self, state, context):
            return torch.cat([state, torch.full_like(state[..., :1], -math.inf)], -1)

    model = Masked(torch.tensor([[0.0, 0.0], [2.0, 0.0]])[:, None, None]).eval()
    read = ls.lens(ls.record(model, torch.zeros(1, 1, dtype=torch.long)), "coda")
    p = torch.softmax(torch.tensor([2.0, 0.0]).double(), 0)
    assert float(read.kl()[0, 0]) == pytest.approx(float((p * (p / 0.5).log()).sum()))
    assert float(read.rank(2)[0, 0]) == 3 and float(read.probability(2)[0, 1]) == 0


# Many rows at once


def test_readings_in_pieces_are_the_readings_at_once(monkeypatch):
    run = planted(torch.randn(4, 9, 5, 11, generator=torch.Generator().manual_seed(0)))
    read = ls.lens(run, "coda")
    whole = (read.kl(), read.rank(torch.arange(9)), read.top(2)[0])
    monkeypatch.setattr(ls.lenses.readings, "CHUNK", 2 * 5 * 11)
    for one, other in zip(whole, (read.kl(), read.rank(torch.arange(9)), read.top(2)[0]), strict=True):
        assert torch.equal(one, other)


# What a lens is believed on

ZOO = {
    "universal": ({}, True),
    "universal with a coda": ({"layers": (1, 1, 1)}, False),
    "universal, act": ({"halting": "interpolated", "injection": "add"}, True),
    "universal, act mean field": ({"halting": "accumulated", "halting_bias": -1.0}, True),
    "universal, act and a coda": ({"halting": "accumulated", "layers": (0, 1, 1)}, False),
    "recall": ({}, True),
    "equilibrium": ({}, True),
    "hrm": ({"length": 6, "segments": 3}, True),
    "trm": ({"length": 6}, True),
    "ouro": ({"threshold": 0.8}, True),
    "ponder": ({"threshold": 0.6}, True),
    "memory": ({"length": 6, "memory": 2}, True),
    "kohli": ({}, True),
    "nanda": ({}, True),
    "huginn": ({"vocabulary": 5}, False),
    "huginn, untied": ({"tied": False, "layers": (1, 1, 2)}, False),
    "parcae": ({}, False),
}


@pytest.fixture(params=ZOO, scope="module")
def zoo(request):
    config, plain = ZOO[request.param]
    model = ls.models.build(request.param.split()[0].rstrip(","), **config).eval()
    tokens = torch.randint(0, min(5, model.vocabulary), (3, 3 if request.param == "nanda" else 6))
    return ls.record(model, tokens, 4, seed=0, sites="all"), plain


def test_the_coda_lens_reads_what_the_model_would_answer(zoo):
    run, _ = zoo
    read = ls.lens(run, "coda")
    for k in range(run.iterations + 1):
        assert torch.equal(read.logits(k), run.logits[k])
    assert torch.equal(read.logits(-1), run.output)


def test_the_logit_lens_is_the_model_bit_for_bit_or_refused(zoo):
    run, plain = zoo
    if plain:
        assert torch.equal(ls.lens(run, "logit").logits(run.iterations), run.output)
        return
    with pytest.raises(LoopscopeError, match=r"it leaves out the coda \('coda.*'\).*lens\(run, \"coda\"\)"):
        ls.lens(run, "logit")
    read = ls.lens(run, "logit", check=False)
    assert not read.checked and "Unchecked: the lens 'logit'" in str(read)
    assert float(read.kl()[0, -1].max()) > 0


@pytest.mark.parametrize("name", ["huginn", "parcae"])
def test_the_logit_lens_is_the_final_norm_and_the_unembedding_without_the_coda(name):
    model = ls.models.build(name, vocabulary=5).eval()
    nn.init.normal_(model.ln_final.weight)
    run = ls.record(model, torch.randint(0, 5, (2, 6)), 2, seed=0)
    h = run.states[1]
    head = model.embed.table.weight if name == "huginn" else model.unembed.weight
    own = model.ln_final(h if name == "huginn" else model.c(h)) @ head.T
    assert torch.allclose(ls.lens(run, "logit", check=False).logits(1), own, atol=1e-6)


def test_vectors_put_into_a_state_are_all_that_is_read_of_it(zoo):
    run, _ = zoo
    model, context = run.model, run.reader.context
    state = run.state(2)
    assert torch.equal(
        model.decode(model.with_read_vectors(state, model.read_vectors(state)), context),
        model.decode(state, context),
    )
    other = torch.randn_like(model.read_vectors(state))
    assert torch.equal(model.read_vectors(model.with_read_vectors(state, other)), other), (
        "whatever has halted or was summed"
    )


def test_sites_inside_the_body_are_read_too(zoo):
    run, _ = zoo
    width = run.model.read_vectors(run.state(0)).shape
    sites = [
        name for name in run.names
        if isinstance(run[name], ls.States) and name.endswith(("hook_resid_post", "hook_low"))
        and next(iter(run[name].items()))[1].shape == width
    ]  # fmt: skip
    if not sites:
        assert "memory" in run.names or any("core" in name for name in run.names)
        return
    read = ls.lens(run, "coda", sites=["state", *sites])
    kl = read.kl()
    assert kl.shape[:2] == (len(read.sites), run.iterations + 1)
    assert kl[1:, :-1].isfinite().all() and kl[1:, -1].isnan().all(), (
        "nothing is inside an iteration that isn't run"
    )
    last = sites[-1]
    value = dict(run[last].items())
    index = max(value)
    own = run.model.decode(
        run.model.with_read_vectors(run.state(index[0] + 1), value[index]), run.reader.context
    )
    assert torch.equal(read.logits(index[0], read[last].sites[-1]), own)


FAMILIES = {
    "HRM-Text": (hrm_text, True),
    "ALBERT": (albert, True),
    "Ouro": (OuroForCausalLM, True),
    "Huginn": (RavenForCausalLM, False),
    "x-transformers, looped": (lambda: x_transformer(looped=True), True),
    "x-transformers, tied": (lambda: x_transformer(looped=False), True),
    "tiny recursive": (tiny_recursive, True),
    "bridge": (bridge, True),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_wrapped_models_are_read_within_the_roundings_of_their_precision(family, dtype):
    torch.manual_seed(1)
    build, plain = FAMILIES[family]
    if family == "bridge" and dtype == torch.bfloat16:
        pytest.skip("a bridge is of the precision that it was made in")
    model = ls.wrap(build().eval().to(dtype))
    tokens = torch.randint(0, 40, (1, 8), generator=torch.Generator().manual_seed(5))
    run = ls.record(model, tokens, seed=3)
    assert ls.lens(run, "coda").checked
    if plain:
        assert torch.allclose(ls.lens(run, "logit").logits(-1).float(), run.output.float(), atol=1e-2)
        return
    with pytest.raises(LoopscopeError, match=r"leaves out the coda \('transformer.coda'\)"):
        ls.lens(run, "logit")


def test_models_without_a_head_for_every_position_get_a_sentence():
    tokens = torch.randint(0, 40, (2, 5))
    for model in (hrm_text().model, albert("AlbertModel")):
        with pytest.raises(LoopscopeError, match="needs a model with a head, but .* ends with its states"):
            ls.lens(ls.record(ls.wrap(model.eval()), tokens), "coda")
    with pytest.raises(
        LoopscopeError, match=r"logits \(batch, position, vocab\), but this run's output is \(2, 2\)"
    ):
        ls.lens(ls.record(ls.wrap(albert("AlbertForSequenceClassification").eval()), tokens), "coda")


def test_a_model_that_answers_with_a_number_gets_a_sentence():
    model = ls.models.load("regression-linear")
    with pytest.raises(
        LoopscopeError, match="answers that are tokens, but this model answers with one number"
    ):
        ls.lens(ls.record(model, model.task.batch(4, seed=0).tokens), "coda")


def test_a_model_of_ours_must_be_given_back_to_the_last_bit_and_one_of_others_to_a_rounding():
    class Rounding(Planted):
        def logits_of(self, h, context):
            return h * (1 + 1e-6)

    table = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    run = ls.record(Rounding(table).eval(), torch.zeros(2, 4, dtype=torch.long))
    with pytest.raises(
        LoopscopeError, match=r"is off by up to .* \(the largest logit is .*, 0 would be allowed\)"
    ):
        ls.lens(run, "logit")
    assert ls.lens(run, lambda h: h * (1 + 1e-6)).checked
    with pytest.raises(LoopscopeError, match="is off by up to"):
        ls.lens(run, lambda h: h * (1 + 1e-3))
    with pytest.raises(LoopscopeError, match="is off by up to inf"):
        ls.lens(run, lambda h: h.masked_fill(h == h.min(), -math.inf))


def test_a_lens_of_the_users_own_is_believed_if_it_is_right_and_refused_if_it_is_off_by_a_scale():
    model = ls.models.load("universal-prefix-parity")
    run = ls.record(model, model.task.batch(4, seed=0).tokens)
    read = ls.lens(run, lambda h: model.unembed(model.ln_final(h)))
    assert float(read.kl()[0, -1].max()) < 1e-6
    with pytest.raises(
        LoopscopeError, match=r"own logits at the last iteration, but is off by up to .* % of the positions"
    ):
        ls.lens(run, lambda h: 1.01 * model.unembed(model.ln_final(h)))
    with pytest.raises(
        LoopscopeError,
        match=r"must give the model's own logits \(4, 17, 3\).*but gives \(4, 17, 48|but gives",
    ):
        ls.lens(run, lambda h: h)
    with pytest.raises(LoopscopeError, match=r"into logits \(batch, position, vocab\), but .* gave str"):
        ls.lens(run, lambda h: "nothing")


def test_a_module_wrapped_by_its_body_is_read_by_a_function():
    module = build_loop(Nested)
    run = ls.record(ls.wrap(module, body="high"), vectors_of())
    assert torch.allclose(ls.lens(run, module.head).logits(-1), run.output, atol=1e-6)
    with pytest.raises(LoopscopeError, match="wrapped by its loop body alone"):
        ls.lens(run, "coda")


def test_rows_that_have_left_are_read_as_long_as_they_were_there():
    class Leaving(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
            self.head = nn.Linear(3, 4)

        def forward(self, x, last):
            out, who = torch.zeros(len(x), 4), torch.arange(len(x))
            for t in range(int(last.max())):
                x = self.body(x)
                done = last[who] == t + 1
                out[who[done]] = self.head(x[done])
                x, who = x[~done], who[~done]
            return out

    torch.manual_seed(0)
    module, last = Leaving().eval(), torch.tensor([2, 4, 1, 3])
    run = ls.record(ls.wrap(module, body="body"), torch.randn(4, 3), last=last)
    read = ls.lens(run, module.head)
    kl, answers = read.kl()[0, :, :, 0], read.answers()[0, :, :, 0]
    there = torch.tensor(read.iterations)[:, None] <= last
    assert torch.equal(~kl.isnan(), there) and torch.equal(answers >= 0, there)
    assert kl[last - read.iterations[0], torch.arange(4)].abs().max() < 1e-6, (
        "each row ends with its own answer"
    )
    assert (read.settled()[0, :, 0] <= last).all()
    with pytest.raises(LoopscopeError, match="is off by up to"):
        # right for the row that stays longest alone
        ls.lens(run, lambda h: torch.where(h.isnan().any(), module.head(h), 0 * module.head(h)))


def test_a_map_without_a_head_of_its_own_has_no_logit_lens():
    with pytest.raises(LoopscopeError, match=r"final norm and an unembedding, but Iterated doesn't say"):
        ls.lens(turning(), "logit")


# Where a lens looks


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
    assert ls.lens(some, "coda").settled().item() == 6, "an iteration, not a place in the list"
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
    with pytest.raises(LoopscopeError, match="holds NaN or infinity from at iteration 2 on"):
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
    with pytest.raises(LoopscopeError, match="no lens looks at 'core'"):
        read["core"]


def test_a_single_example_and_a_state_without_positions_are_read():
    run = ls.iterate(lambda h: h.roll(1, -1), -torch.arange(4.0)[None], 3)
    read = ls.lens(run, "coda")
    assert read.answers()[0, :, 0, 0].tolist() == [0, 1, 2, 3]
