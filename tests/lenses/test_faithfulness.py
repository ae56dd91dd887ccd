"""Which lenses are believed, on every architecture: those that give the model's own logits."""

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
from ..toys.turning_logits import turning

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
        LoopscopeError, match=r"differs by up to .* \(the largest logit is .*, 0 would be allowed\)"
    ):
        ls.lens(run, "logit")
    assert ls.lens(run, lambda h: h * (1 + 1e-6)).checked
    with pytest.raises(LoopscopeError, match="differs by up to"):
        ls.lens(run, lambda h: h * (1 + 1e-3))
    with pytest.raises(LoopscopeError, match="differs by up to inf"):
        ls.lens(run, lambda h: h.masked_fill(h == h.min(), -math.inf))


def test_a_lens_of_the_users_own_is_believed_if_it_is_right_and_refused_if_it_is_off_by_a_scale():
    model = ls.models.load("universal-prefix-parity")
    run = ls.record(model, model.task.batch(4, seed=0).tokens)
    read = ls.lens(run, lambda h: model.unembed(model.ln_final(h)))
    assert float(read.kl()[0, -1].max()) < 1e-6
    with pytest.raises(
        LoopscopeError, match=r"own logits at the last iteration, but differs by up to .* % of the positions"
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
    assert (read.settling_iteration()[0, :, 0] <= last).all()
    with pytest.raises(LoopscopeError, match="differs by up to"):
        # right for the row that stays longest alone
        ls.lens(run, lambda h: torch.where(h.isnan().any(), module.head(h), 0 * module.head(h)))


def test_a_map_without_a_head_of_its_own_has_no_logit_lens():
    with pytest.raises(LoopscopeError, match=r"final norm and an unembedding, but Iterated doesn't say"):
        ls.lens(turning(), "logit")
