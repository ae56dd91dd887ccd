"""A grid is what patching cell by cell gives, on every architecture."""

import pytest
import torch

import loopscope as ls
from loopscope.patching.donors import donor_pairs
from loopscope.recorder.subset import select_examples

from ..adapters import test_adapters
from ..models import test_zoo
from ..toys.known_circuit import (
    WHERE,
    WRITE,
    pair,
    whole,
)
from ..toys.small_models import hrm_text

ZOO, WRAPPED = test_zoo.CASES, test_adapters.CASES


def compare(model, run, donor, site, seed, **inputs):
    """A grid of a site beside a recording of its own for every cell, at three positions."""
    size = next(value for _, value in run[site].items()).shape[1]
    positions = sorted({0, size // 2, size - 1})
    grid = ls.effects(run, donor, sites=site, positions=positions, metric=whole)
    base = whole(run.output)
    places = [(turn, name) for name, turn in zip(grid.sites, turns(run[site]), strict=True)]
    for s, (inner, _) in enumerate(places):
        for i, k in enumerate(grid.iterations):
            value = donor[site].get((k, *inner.values()))
            if value is None:
                assert grid.values[s, i].isnan().all()
                continue
            for p, position in enumerate(positions):
                edit = ls.patch(site, iteration=k, value=value, position=position, **inner)
                asked = run.origin["requested_iterations"]
                patched = ls.record(model, run.tokens, asked, seed=seed, edits=[edit], **inputs).output
                assert torch.allclose(grid.values[s, i, p, 0], whole(patched) - base, atol=1e-5, rtol=1e-4), (
                    s,
                    k,
                    p,
                )


def turns(states):
    """Every turn of a site's inner loops, by name."""
    return [{}] if not states.inner else [{states.axes[1]: turn} for turn in range(states.inner[0])]


@pytest.mark.parametrize("name", ZOO)
def test_on_every_model_of_the_zoo_a_grid_is_a_loop_over_patched_recordings(name):
    architecture, config, task, options = ZOO[name]
    model = ls.models.build(architecture, seed=3, **config).eval()
    inside = next(
        site for site in model.hook_dict if site.endswith(("low_in", "core_in", "core.0.hook_resid_post"))
    )
    given = [ls.tasks.build(task, **options).batch(2, seed=seed).tokens for seed in (0, 1)]
    run, donor = (ls.record(model, one, 3, seed=3, sites=[inside]) for one in given)
    for site in ("state", inside):
        compare(model, run, donor, site, 3)


@pytest.mark.parametrize("entry", ["equilibrium-prefix-parity", "universal-prefix-parity-act"])
def test_a_patched_pass_leaves_the_loop_when_it_would_by_itself(entry):
    """A solver that has converged, and positions that have halted, end the loop: where a write
    comes then, it is read out."""
    model = ls.models.load(entry)
    both = ls.record(model, model.task.batch(4, seed=0).tokens)
    run, donor, n = select_examples(both, [0, 1]), select_examples(both, [2, 3]), both.iterations
    assert n < both.origin["requested_iterations"]
    grid = ls.effects(run, donor, positions=[9], iterations=[0, n // 2, n - 1, n], metric=whole)
    for i, k in enumerate((0, n // 2, n - 1, n)):
        edit = ls.patch("state", iteration=k, value=donor.states[k], position=9)
        expected = whole(
            ls.resume(model, run, both.origin["requested_iterations"], start=k, edits=[edit]).output
        )
        assert torch.allclose(grid.values[0, i, 0, 0], expected - whole(run.output), atol=1e-4), k


@pytest.mark.parametrize(
    "name", ["HRM-Text", "HRM-Text, masked", "ALBERT", "Ouro", "Huginn", "x-transformers, tied"]
)
def test_on_models_that_others_wrote_too(name):
    case = WRAPPED[name]
    torch.manual_seed(1)
    model = ls.wrap(case.build().eval())
    given = torch.randint(0, case.vocabulary, (2, 2, 5), generator=torch.Generator().manual_seed(5))
    run, donor = (ls.record(model, one, seed=3, **case.inputs) for one in given)
    compare(model, run, donor, "state", 3, **case.inputs)


def test_on_hrm_text_it_is_what_plain_pytorch_hooks_give():
    torch.manual_seed(1)
    model = hrm_text().eval()
    one, two = torch.randint(0, 40, (2, 2, 5), generator=torch.Generator().manual_seed(5))
    wrapped = ls.wrap(model)
    run, donor = ls.record(wrapped, one), ls.record(wrapped, two)
    grid = ls.effects(run, donor, sites=["state", "model.L_module"], metric=whole)
    low = [name for name in grid.sites if "L_module" in name]
    donor_low = ls.record(wrapped, two, sites=["model.L_module"])["model.L_module"].tensor
    assert low == [f"low={turn} model.L_module" for turn in range(3)]
    for module, count, values in (
        (model.model.H_module, 2, lambda call: (donor.states[call + 1], grid.values[0, call + 1])),
        (
            model.model.L_module,
            6,
            lambda call: (donor_low[call // 3, call % 3], grid.values[1 + call % 3, call // 3]),
        ),
    ):
        for call in range(count):
            for p in range(5):
                new, expected = values(call)
                assert torch.allclose(
                    hooked(model, module, call, p, new, one) - whole(run.output), expected[p, 0], atol=1e-5
                )


def hooked(model, module, call, position, value, given):
    """The logits with a module's call-th output patched at one position, by a forward hook of
    PyTorch."""
    calls = []

    def hook(module, args, output):
        calls.append(0)
        if len(calls) - 1 != call:
            return None
        output = output.clone()
        output[:, position] = value[:, position]
        return output

    handle = module.register_forward_hook(hook)
    with torch.no_grad():
        logits = model(given).logits
    handle.remove()
    return whole(logits)


def test_run_with_hooks_gives_the_same_on_a_trained_entry():
    model = ls.models.load("universal-prefix-parity")
    n = 6
    run, donor = (ls.record(model, model.task.batch(3, seed=seed).tokens, n) for seed in (0, 1))
    grid = ls.effects(run, donor, metric=whole, positions=[0, 4, -1])
    for k in range(n + 1):
        for i, p in enumerate((0, 4, 16)):

            def patched(value, hook, k=k, p=p):
                if model.clock.iteration == k:
                    value = value.clone()
                    value[:, p] = donor.states[k][:, p]
                return value

            with torch.no_grad():
                logits = model.run_with_hooks(run.tokens, n, fwd_hooks=[("state", patched)])
            assert torch.allclose(whole(logits) - whole(run.output), grid.values[0, k, i, 0], atol=1e-5)


def test_heads_one_by_one_are_what_patching_one_head_gives():
    model = ls.models.load("universal-prefix-parity")
    site, n = "core.0.attn.hook_pattern", 5
    run, donor = (ls.record(model, model.task.batch(3, seed=seed).tokens, n, sites=[site]) for seed in (0, 1))
    grid = ls.effects(run, donor, sites=site, heads=True, iterations=[1, -1], positions=[9], metric=whole)
    assert grid.iterations == (1, 4) and grid.heads == (0, 1, 2, 3)
    for i, t in enumerate(grid.iterations):
        for head in grid.heads:
            edit = ls.patch(site, iteration=t, value=donor[site][t], head=head, position=9)
            expected = whole(ls.record(model, run.tokens, n, edits=[edit]).output) - whole(run.output)
            assert torch.allclose(grid.values[0, i, 0, head], expected, atol=1e-5)


def test_how_many_cells_share_a_batch_changes_nothing():
    run, donor = pair()
    model = ls.models.load("universal-prefix-parity-act")
    run, donor = (ls.record(model, model.task.batch(3, seed=seed).tokens) for seed in (0, 1))
    many, few = (ls.effects(run, donor, metric=whole, positions=[3, 9], tokens=size) for size in (10**9, 1))
    assert torch.allclose(many.values, few.values, atol=1e-5)


def test_several_positions_written_together_are_one_cell():
    run, donor = pair()
    grid = ls.effects(run, donor, positions=[[0, WHERE], [1, 2]], iterations=WRITE + 1)
    assert grid.positions == ((0, WHERE), (1, 2))
    assert grid.carried.flatten().tolist() == pytest.approx([1, 0])


def test_the_whole_state_of_a_donor_is_the_donor_from_there_on():
    """Of models whose answer hangs on the state alone: what they were given is in it."""
    model = ls.models.load("trm-sudoku")
    batch = model.task.batch(4, seed=0)
    run = ls.record(model, batch.tokens, 4)
    own, donor, _ = donor_pairs(run)
    grid = ls.effects(
        own, donor, sites="state*", jointly=True, positions="all", iterations=[-1], metric=whole
    )
    assert grid.sites == ("state + state.low",)
    assert torch.allclose(grid.values.flatten(0, 3)[0], whole(donor.output) - whole(own.output), atol=1e-5)


def test_passes_begin_at_the_runs_own_states_also_where_a_loop_draws():
    """Cells that begin later must not go through earlier iterations again: they would draw other
    numbers there."""
    torch.manual_seed(0)
    run = ls.iterate(lambda x: x / 2 + torch.randn_like(x), torch.randn(2, 3, 4), 5)
    grid = ls.effects(
        run, lambda place, k, value: value, positions=[0], metric=lambda state: state.flatten(1)
    )
    assert torch.equal(grid.values[0, -1], torch.zeros_like(grid.values[0, -1]))
    assert grid.values[0, :-1].abs().max() > 0
