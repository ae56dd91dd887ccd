"""Single-layer loops: what recall and the outer norm do, exactly; and what they did to four entries
under one budget."""

import math

import pytest
import torch

import loopscope as ls
from loopscope.common.errors import LoopscopeError
from loopscope.training import recipes

from ..toys.reference_equations import attend, feed, rms, shaken

ENTRIES = ("recall-none", "recall-plain", "recall-outer", "recall-internal")


def built(**config):
    return ls.models.build("recall", **({"vocabulary": 3, "width": 8, "heads": 2, "iterations": 3} | config))


def tokens(batch=2, length=5, seed=0):
    return torch.randint(0, 3, (batch, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("outer_norm", ["none", "residual", "loop"])
@pytest.mark.parametrize("mix", ["add", "concat"])
@pytest.mark.parametrize("recall", ["none", "stream", "internal"])
def test_the_forward_pass_is_the_docstrings_equations(recall, mix, outer_norm):
    model = shaken(built(recall=recall, mix=mix, outer_norm=outer_norm))

    def mixed(h, e):
        return h + e if mix == "add" else torch.cat([h, e], -1) @ model.injection.mix.weight.T

    e = h = model.embed.table.weight[tokens()]
    for _ in range(3):
        if recall == "stream":
            h = mixed(h, e)
        read = mixed(h, e) if recall == "internal" else h
        h = h + attend(model.attn, rms(read, model.attn_in))
        h = rms(h, model.attn_out) if outer_norm == "residual" else h
        read = mixed(h, e) if recall == "internal" else h
        h = h + feed(model.mlp, rms(read, model.mlp_in))
        h = rms(h, model.mlp_out) if outer_norm == "residual" else h
        h = rms(h, model.outer_norm) if outer_norm == "loop" else h
    expected = rms(h, model.ln_final) @ model.unembed.weight.T + model.unembed.bias
    assert torch.allclose(model(tokens()), expected, atol=1e-12)


def test_one_layer_is_all_there_is_however_often_it_runs():
    d, v = 8, 3
    layer = 4 * d * d + (8 * d * d + 5 * d)  # attention without biases; MLP with
    ends = v * d + d + (d * v + v)  # embedding, last norm, read-out
    counted = {
        (recall, norm): sum(p.numel() for p in built(recall=recall, outer_norm=norm).parameters())
        for recall in ("none", "stream", "internal")
        for norm in ("none", "residual", "loop")
    }
    for (_, norm), count in counted.items():
        assert count == layer + ends + 2 * d + {"none": 0, "residual": 2 * d, "loop": d}[norm]
    deep = built(iterations=50)
    assert [p.shape for p in deep.parameters()] == [p.shape for p in built().parameters()]


@pytest.mark.parametrize("recall", ["none", "stream", "internal"])
def test_without_recall_an_iteration_reads_nothing_but_the_state(recall):
    model = shaken(built(recall=recall))
    first, second = model.encode(tokens(seed=0)), model.encode(tokens(seed=1))
    state = model.initial(first)
    same = torch.equal(model.step(state, first, 0), model.step(state, second, 0))
    assert same == (recall == "none")


def test_internal_recall_never_stands_on_the_stream():
    """With both sub-layers silenced an iteration changes nothing, whereas ordinary recall adds the
    input once."""
    for recall in ("internal", "stream"):
        model = built(recall=recall, outer_norm="none")
        torch.nn.init.zeros_(model.attn.out.weight)
        torch.nn.init.zeros_(model.mlp.down.weight)
        torch.nn.init.zeros_(model.mlp.down.bias)
        context = model.encode(tokens())
        state = torch.randn_like(context.injected)
        after = model.step(state, context, 0)
        assert torch.equal(after, state if recall == "internal" else state + context.injected)


def test_an_outer_norm_keeps_every_state_at_unit_size_and_without_it_the_state_grows():
    sizes = {}
    for norm in ("none", "residual", "loop"):
        states = ls.record(built(outer_norm=norm).eval(), tokens(), iterations=30).states.tensor
        sizes[norm] = states[1:].square().mean(-1).sqrt()
    for norm in ("residual", "loop"):
        assert torch.allclose(sizes[norm], torch.ones(()), atol=1e-4)
    assert (sizes["none"][-1] > 5 * sizes["none"][0]).all()


@pytest.mark.parametrize("scale", [0.5, 1.0, 20.0])
def test_the_penalty_is_the_squared_log_of_the_states_size_over_the_inputs(scale):
    model = built()
    context = model.encode(tokens())
    assert model.penalty(scale * context.injected, context).item() == pytest.approx(
        math.log(scale) ** 2, rel=1e-5, abs=1e-9
    )


@pytest.mark.parametrize("field", ["recall", "mix", "outer_norm"])
def test_an_unknown_kind_is_refused_with_the_nearest_known(field):
    with pytest.raises(LoopscopeError, match=field):
        built(**{field: "strem"})


def test_the_four_entries_differ_in_one_field_from_recall_outer_and_in_nothing_else():
    known = {name: recipe.to_json() for name, recipe in recipes().items() if name in ENTRIES}
    assert set(known) == set(ENTRIES)
    changed = {
        name: ls.training.differences(known["recall-outer"], recipe)
        for name, recipe in known.items()
        if name != "recall-outer"
    }
    assert all(len(fields) == 1 for fields in changed.values()), changed
    assert "recall" in changed["recall-none"][0] and "recall" in changed["recall-internal"][0]
    assert "outer_norm" in changed["recall-plain"][0]


# The trained entries
# ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result():
    """What the analysis of fixed points says of each entry, with two examples and few starts."""
    few = {"examples": 2, "perturbed": 0, "random": 1, "spectra": 0}
    runs = {}
    for entry in ENTRIES:
        model = ls.models.load(entry)
        runs[entry] = ls.record(model, model.task.batch(2, seed=0).tokens, iterations=40)
    return {entry: ls.analyses.measure("fixed_points", run, **few) for entry, run in runs.items()}


def test_with_recall_and_an_outer_norm_the_loop_comes_to_rest_at_a_point_that_depends_on_the_input(result):
    for entry in ("recall-outer", "recall-internal"):
        assert {verdict.name for verdict in result[entry].verdicts} == {"one"}
        assert result[entry].reachability > 0.7
        assert result[entry].input_dependence > 0.5


def test_without_recall_it_comes_to_rest_at_points_that_have_forgotten_the_input(result):
    assert result["recall-none"].reachability == 1
    assert result["recall-none"].input_dependence == 0 and not result["recall-none"].reads_input


def test_without_an_outer_norm_it_never_comes_to_rest(result):
    assert result["recall-plain"].reachability == 0
    assert (result["recall-plain"].reached == -1).all()


def test_the_four_cards_compare_all_four_in_one_table_with_the_headers_numbers():
    tables = {
        entry: [line for line in ls.models.card(entry).splitlines() if line.startswith("| `recall-")]
        for entry in ENTRIES
    }
    assert len({tuple(table) for table in tables.values()}) == 1
    for entry, row in zip(ENTRIES, tables["recall-outer"], strict=True):
        measured = ls.models.header(entry)["measured"]
        assert row.startswith(f"| `{entry}` |")
        assert (
            f"| {measured['accuracy']:.1%} | {measured['twice']['accuracy']:.1%} |".replace("%", " %") in row
        )
