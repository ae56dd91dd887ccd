"""Edits change the selected values, and nothing else."""

import pytest
import torch

import loopscope as ls

from ..toys.foreign_loops import Loop, build_loop

N = 5


@pytest.fixture
def model():
    torch.manual_seed(0)
    return ls.models.build(
        "universal", vocabulary=4, width=8, heads=2, layers=(1, 1, 1), norm="stream"
    ).eval()


@pytest.fixture
def tokens():
    return torch.randint(0, 4, (3, 6), generator=torch.Generator().manual_seed(0))


def values(model, tokens, site, *edits):
    return ls.record(model, tokens, iterations=N, sites=[site], edits=edits)[site].tensor


@pytest.mark.parametrize("iteration", [0, 2, -1, [1, 3], slice(2, 4), slice(-2, None), None])
@pytest.mark.parametrize(
    ("site", "where", "index"),
    [
        ("state", {}, (...,)),
        ("state", {"position": 1}, (slice(None), 1)),
        ("state", {"position": [0, -1], "batch": 2}, (2, [0, -1])),
        ("state", {"position": [0, 2], "batch": [1, 2]}, (torch.tensor([[1], [2]]), torch.tensor([0, 2]))),
        ("core_in", {"position": slice(2, 4)}, (slice(None), slice(2, 4))),
        ("core.0.attn.hook_z", {"head": 1}, (slice(None), slice(None), 1)),
        ("core.0.attn.hook_pattern", {"head": 0, "position": -1}, (slice(None), 0, -1)),
        ("core.0.mlp", {"width": [3, 5]}, (slice(None), slice(None), [3, 5])),
    ],
)
def test_an_ablation_zeroes_its_place_and_nothing_else_at_that_iteration(
    model, tokens, site, iteration, where, index
):
    run, edited = (
        values(model, tokens, site, *edits)
        for edits in ((), (ls.ablate(site, iteration=iteration, **where),))
    )
    numbers = list(range(len(run)))
    hit = numbers if iteration is None else numbers[iteration] if isinstance(iteration, slice) else iteration
    hit = [numbers[h] for h in ([hit] if isinstance(hit, int) else hit)]
    first = min(hit)
    assert torch.equal(run[:first], edited[:first])
    assert not edited[hit][(slice(None), *index)].any() if index[0] is not ... else not edited[hit].any()
    untouched = torch.ones_like(run[first], dtype=torch.bool)
    untouched[index] = False
    assert torch.equal(run[first][untouched], edited[first][untouched])


def test_a_mean_ablation_puts_the_batch_mean(model, tokens):
    clean = values(model, tokens, "core_in")
    edited = values(model, tokens, "core_in", ls.ablate("core_in", how="mean", iteration=1, position=2))
    assert torch.allclose(edited[1][:, 2], clean[1][:, 2].mean(0).expand(3, 8), atol=1e-7)
    assert torch.equal(edited[1][:, 3], clean[1][:, 3])


def test_adding_a_vector_adds_it_scaled(model, tokens):
    vector = torch.arange(8.0)
    clean = ls.record(model, tokens, iterations=N)
    edited = ls.record(
        model, tokens, iterations=N, edits=[ls.add(value=vector, scale=0.5, iteration=2, position=0)]
    )
    assert torch.equal(edited.states[2][:, 0], clean.states[2][:, 0] + 0.5 * vector)


def test_several_edits_of_one_place_apply_in_order(model, tokens):
    one, two = ls.patch(iteration=2, value=1.0), ls.add(value=torch.tensor(2.0), iteration=2)
    assert (ls.record(model, tokens, edits=[one, two]).states[2] == 3).all()
    assert (ls.record(model, tokens, edits=[two, one]).states[2] == 1).all()


def test_a_value_may_have_the_sites_shape_the_parts_shape_or_broadcast(model, tokens):
    donor = ls.record(model, tokens.roll(1, 0), iterations=N).states[3]
    forms = [donor, donor[:, 4], donor[:, 4][:, None][:, 0]]
    runs = [
        ls.record(model, tokens, edits=[ls.patch(iteration=3, value=v, position=4)]).states[3] for v in forms
    ]
    assert all(torch.equal(run, runs[0]) for run in runs) and torch.equal(runs[0][:, 4], donor[:, 4])


def test_swapped_iterations_are_the_two_steps_in_the_other_order():
    torch.manual_seed(0)
    model = ls.models.build("universal", vocabulary=3, iterations=N, step_code="sinusoid").eval()
    given = ls.tasks.build("prefix-parity", length=6).batch(2, seed=0).tokens
    context = model.encode(given)
    with torch.no_grad():
        state = model.initial(context)
        for t in [0, 3, 2, 1, *range(4, N)]:
            state = model.step(state, context, t)
    for edit in (ls.swap(1, 3), ls.swap(3, 1 - N)):
        assert torch.equal(ls.record(model, given, N, edits=[edit]).states[N], state)
    assert not torch.equal(ls.record(model, given, N).states[N], state)
    assert str(ls.swap(1, 3)) == "swap iterations 1 and 3"


def test_a_loop_whose_iterations_are_all_the_same_map_does_not_notice_a_swap(model, tokens):
    plain = ls.record(model, tokens, iterations=N).states[-1]
    swapped = ls.record(model, tokens, iterations=N, edits=[ls.swap(0, 2)]).states[-1]
    told = getattr(model.config, "step_code", "none") != "none"
    assert torch.equal(plain, swapped) != told


def test_what_can_not_be_swapped_is_said(model, tokens):
    with pytest.raises(ls.LoopscopeError, match="must lie in 0..3 for this run"):
        ls.record(model, tokens, iterations=4, edits=[ls.swap(0, 4)])
    with pytest.raises(ls.LoopscopeError, match="swap: second must be a whole number"):
        ls.swap(0, 1.5)
    body = ls.wrap(build_loop(Loop), body="core")
    with pytest.raises(ls.LoopscopeError, match="runs its own loop"):
        ls.record(body, torch.randn(2, 3, 8), edits=[ls.swap(0, 1)])


def test_an_edit_in_an_inner_loop_leaves_alone_what_the_same_module_does_outside_it():
    """TRM has one network for both roles: low updates, and then the high one."""
    model = ls.models.build("trm", width=8, heads=2, low_updates=3, cycles=2, segments=1).eval()
    given = torch.randint(0, 5, (2, 4), generator=torch.Generator().manual_seed(0))
    site = "core.0.hook_resid_post"
    run = ls.record(model, given, sites=[site], seed=0)
    edited = ls.record(model, given, sites=[site], seed=0, edits=[ls.ablate(site, iteration=1, low=2)])
    assert torch.equal(edited[site][0], run[site][0]) and not edited[site][1][2].any()
    assert torch.equal(edited[site][1][1], run[site][1][1])
    assert not torch.equal(edited.output, run.output)
    with pytest.raises(ls.LoopscopeError, match="this site has no axis 'lower'"):
        ls.record(model, given, seed=0, edits=[ls.ablate(site, lower=2)])


def test_a_skipped_iteration_leaves_the_state_and_has_no_values_inside(model, tokens):
    run = ls.record(model, tokens, iterations=N, sites=["core_in"], edits=[ls.skip(2)])
    assert torch.equal(run.states[3], run.states[2]) and not torch.equal(run.states[4], run.states[3])
    assert run["core_in"].iterations == [0, 1, 3, 4]
    with pytest.raises(ls.LoopscopeIndexError, match="no value at iteration 2: it was skipped"):
        run["core_in"][2]


def test_a_repeated_iteration_runs_on_its_own_result_and_its_sites_have_an_axis_call(model, tokens):
    run = ls.record(model, tokens, iterations=N, sites=["core.0"], edits=[ls.repeat(1, times=3)])
    clean = ls.record(model, tokens, iterations=N)
    with torch.no_grad():
        context, state = model.encode(tokens), clean.state(1)
        for call in range(3):
            state = model.step(state, context, 1)
            assert torch.equal(run["core.0"][1, call], state)
    assert torch.equal(run.states[2], state)
    assert run["core.0"].axes[:2] == ("iteration", "call") and run["core.0"][0][1].isnan().all()


@pytest.mark.parametrize(
    "site", ["embed.hook_embed", "prelude.0", "coda.0.attn.hook_z", "ln_final", "unembed"]
)
def test_a_site_outside_the_loop_is_edited_too_and_in_every_read_out(model, tokens, site):
    clean = ls.record(model, tokens, iterations=N)
    edited = ls.record(model, tokens, iterations=N, edits=[ls.ablate(site)], sites=[site])
    assert not edited[site].any() and not torch.equal(edited.output, clean.output)
    shorter = ls.record(model, tokens, iterations=2, edits=[ls.ablate(site)])
    assert torch.equal(edited.logits[2], shorter.output)


def test_making_an_edit_changes_nothing(model, tokens):
    before = ls.record(model, tokens, iterations=N).output
    ls.ablate("state"), ls.patch(value=torch.zeros(1)), ls.skip(0)
    assert torch.equal(ls.record(model, tokens, iterations=N).output, before)


def test_an_edit_never_writes_into_the_value_it_was_given(model, tokens):
    value = torch.ones(3, 6, 8)
    ls.record(
        model, tokens, edits=[ls.patch(iteration=1, value=value), ls.add(value=torch.ones(8), iteration=1)]
    )
    assert (value == 1).all()


def test_an_edit_prints_as_what_it_does():
    edit = ls.ablate("core.0.attn.hook_z", how="mean", iteration=slice(2, 4), head=1)
    assert str(edit) == "mean of 'core.0.attn.hook_z' at iteration=2:4, head=1"
    assert str(ls.skip(3)) == "skip iteration 3" and str(ls.repeat(3, 4)) == "run iteration 3 4 times"
