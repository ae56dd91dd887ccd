"""Patching: what is found is what was written, and a grid is what patching cell by cell gives."""

import pytest
import torch
from torch import nn

import loopscope as ls
from loopscope.common.errors import LoopscopeError
from loopscope.patching.donors import partners
from loopscope.patching.metrics import answer_mask
from loopscope.recorder.subset import select_examples

from ..adapters import test_adapters
from ..models import test_zoo
from ..toys.known_circuit import (
    CLASSES,
    CLUE,
    IDLE,
    ITERATIONS,
    LAST,
    READ,
    WHERE,
    WRITE,
    Written,
    tokens,
    written,
)
from ..toys.small_models import hrm_text

ZOO, WRAPPED = test_zoo.CASES, test_adapters.CASES


def pair():
    """A run of the written loop, and a donor whose clue is another in every example."""
    run = written(12)
    other = run.tokens.clone()
    other[:, CLUE] = (other[:, CLUE] + 1) % CLASSES
    return run, ls.record(run.model, other)


def whole(logits):
    """A metric that lets nothing escape: every logit."""
    return logits.flatten(1).float()


# What is found is what was written


@pytest.mark.parametrize("method", ["exact", "attribution"])
def test_the_iterations_and_the_positions_that_hold_the_answer_are_found(method):
    run, donor = pair()
    grid = ls.effects(run, donor, method=method)
    expected = torch.zeros(ITERATIONS + 1, run.tokens.shape[1])
    expected[WRITE + 1 : READ + 1, WHERE] = 1  # the note, until it is read
    expected[READ + 1 :, LAST] = 1  # the answer, from then on
    assert torch.allclose(grid.carried[0, :, :, 0], expected, atol=1e-5)


@pytest.mark.parametrize("method", ["exact", "attribution"])
def test_the_site_that_writes_and_the_one_that_moves_are_found(method):
    run, donor = pair()
    grid = ls.effects(run, donor, sites=["core.hook_write", "core.hook_move"], method=method)
    assert grid.sites == ("core.hook_write", "core.hook_move") and grid.iterations == tuple(range(ITERATIONS))
    expected = torch.zeros(2, ITERATIONS, run.tokens.shape[1])
    expected[0, WRITE, WHERE] = expected[1, READ, LAST] = 1
    assert torch.allclose(grid.carried[..., 0], expected, atol=1e-5)


@pytest.mark.parametrize("method", ["exact", "attribution"])
def test_a_fact_that_nothing_reads_moves_nothing(method):
    run = written(12)
    other = run.tokens.clone()
    other[:, IDLE] = (other[:, IDLE] + 1) % CLASSES
    donor = ls.record(run.model, other)
    assert not torch.equal(donor.states[-1], run.states[-1])  # it is in the state
    grid = ls.effects(run, donor, metric="margin", method=method)
    assert grid.values.abs().max() < 1e-5


def test_where_everything_is_linear_the_estimate_is_the_effect():
    run, donor = pair()
    exact, first = (ls.effects(run, donor, method=method) for method in ("exact", "attribution"))
    assert torch.allclose(exact.values, first.values, atol=1e-5)
    assert first.agreement.correlation == pytest.approx(1) and first.agreement.same_sign == 1
    assert exact.agreement is None


# A grid is what patching cell by cell gives


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
    own, donor, _ = partners(run)
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


# What is written


def test_zero_and_the_mean_are_written_as_said():
    run = written(12)
    for word, value in (
        ("zero", 0.0),
        ("mean", run.states[WRITE + 1].mean(0, keepdim=True).expand(12, -1, -1)),
    ):
        grid = ls.effects(run, word, iterations=WRITE + 1, positions=[WHERE], metric=whole)
        edit = ls.patch("state", iteration=WRITE + 1, value=value, position=WHERE) if word == "zero" else None
        edit = edit or ls.patch("state", iteration=WRITE + 1, value=value, position=WHERE)
        expected = ls.record(run.model, run.tokens, edits=[edit]).output - run.output
        assert torch.allclose(grid.values[0, 0, 0, 0], whole(expected), atol=1e-5)


def test_noise_has_its_norm_at_every_position_and_is_the_same_whatever_else_is_asked():
    run = written(12)
    seen = {}

    def noted(place, iteration, value):
        new = ls.noise(0.5, seed=1)(place, iteration, value)
        seen[iteration] = new
        return new

    ls.effects(run, noted, metric="kl")
    for k, new in seen.items():
        assert torch.allclose((new - run.states[k]).norm(dim=-1), torch.tensor(0.5))
    assert not torch.equal(seen[1] - run.states[1], seen[2] - run.states[2])
    alone = ls.effects(run, ls.noise(0.5, seed=1), metric="kl", iterations=4, positions=[WHERE])
    every = ls.effects(run, ls.noise(0.5, seed=1), metric="kl")
    assert torch.equal(alone.values[0, 0, 0], every.values[0, 4, WHERE])
    other = ls.effects(run, ls.noise(0.5, seed=2), metric="kl")
    assert not torch.equal(every.values, other.values)


# What it is judged by


def test_the_metrics_are_what_they_say():
    run, donor = pair()
    cell = {"iterations": READ, "positions": [WHERE]}
    logits = donor.output[:, LAST]  # the patch brings the donor's whole answer
    own = run.output[:, LAST].argmax(-1, keepdim=True)
    p, q = run.output[:, LAST].softmax(-1), logits.softmax(-1)
    expected = {
        "difference": torch.full((12,), 2.0),  # from -1 to 1
        "margin": torch.full((12,), -2.0),
        "probability": (q - p).gather(1, own)[:, 0],
        "kl": (p * (p / q).log()).sum(1),
        "flips": torch.ones(12),
    }
    for metric, value in expected.items():
        result = ls.effects(run, donor, metric=metric, **cell)
        assert torch.allclose(result.values.flatten(), value, atol=1e-5), metric
        assert result.metric == metric
    # one direction of the divergence, where the other would differ: the answer gone, all tokens are
    # alike
    gone = ls.effects(run, "zero", metric="kl", **cell).values.flatten()
    assert torch.allclose(gone, (p * (p * CLASSES).log()).sum(1), atol=1e-5)


def test_where_no_task_is_known_the_last_token_that_is_no_padding_is_asked():
    torch.manual_seed(1)
    model = ls.wrap(hrm_text().eval())
    given = torch.randint(0, 39, (2, 5), generator=torch.Generator().manual_seed(5))
    assert answer_mask(ls.record(model, given), None).tolist() == [[False] * 4 + [True]] * 2
    mask = torch.tensor([[1, 1, 1, 0, 0], [1] * 5])
    asked = answer_mask(ls.record(model, given, attention_mask=mask), None)
    assert asked.nonzero().tolist() == [[0, 2], [1, 4]]


def test_an_example_that_answers_like_its_donor_has_no_difference():
    run, donor = pair()
    tokens = donor.tokens.clone()
    tokens[0] = run.tokens[0]
    grid = ls.effects(run, ls.record(run.model, tokens), iterations=READ, positions=[WHERE])
    assert grid.values[0, 0, 0, 0].isnan().tolist() == [True] + [False] * 11
    assert grid.carried.flatten().tolist() == pytest.approx([1])


def test_numbers_are_judged_by_their_value():
    model = ls.models.load("regression-linear")
    run = ls.record(model, model.task.batch(3, seed=0).tokens, 3)
    grid = ls.effects(run, "zero", iterations=[3])
    assert grid.metric == "value" and grid.values.abs().max() > 0


def test_a_grid_says_what_it_is():
    run, donor = pair()
    grid = ls.effects(run, donor)
    assert repr(grid) == (
        "Effects of the donor run on difference · exact · 1 sites × 9 iterations × 6 positions × 1 heads × "
        "12 examples"
    )
    figure = grid.figure()
    assert figure.layout.yaxis.title.text == "iterations run before the write"
    assert figure.data[0].colorbar.title.text == "change of difference [logits]"


# What can't be done is said


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.core = nn.Linear(4, 4)

    def forward(self, x):
        for _ in range(3):
            x = torch.tanh(self.core(x))
        return x


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"metric": "kl", "method": "attribution"}, "has no slope where nothing is patched"),
        ({"metric": "margn"}, "there is no metric 'margn'. Did you mean 'margin'?"),
        ({"method": "fast"}, "method must be 'exact' or 'attribution', but is 'fast'"),
        ({"sites": "stat"}, "there is no site 'stat'"),
        ({"sites": "unused"}, "there is no site 'unused'"),
        ({"iterations": [9]}, "must be among 0..8 of this run, but [9] are not"),
        ({"positions": [6]}, "there is no position 6: there are 6, 0..5"),
        ({"heads": True}, "heads can be patched one by one where every site has them"),
        ({"answer_positions": [7]}, "answer_positions names a position that isn't there"),
        ({"metric": lambda logits: logits.sum()}, "a metric must give a number for each of the 12 examples"),
        (
            {"metric": lambda logits: logits.detach().flatten(1).sum(1), "method": "attribution"},
            "attribution needs a metric with a slope",
        ),
        ({"metric": whole, "method": "attribution"}, "attribution needs a metric that gives one number"),
    ],
)
def test_what_does_not_fit_is_said(options, sentence):
    run, donor = pair()
    with pytest.raises(LoopscopeError) as error:
        ls.effects(run, donor, **options)
    assert sentence in str(error.value)


def test_what_is_written_must_fit_the_run():
    run, _ = pair()
    fewer = ls.record(run.model, tokens(5))
    for write, sentence in (
        (fewer, "or a batch of one, but has"),
        (ls.record(run.model, run.tokens, 4), "the donor must have 'state' at iteration 5"),
        ("means", "Did you mean 'mean'?"),
        (3, "Pass a run, 'mean', 'zero', ls.noise(...) or a function"),
    ):
        with pytest.raises(LoopscopeError) as error:
            ls.effects(run, write, metric="margin")
        assert sentence in str(error.value)
    with pytest.raises(LoopscopeError, match="needs a norm above 0"):
        ls.noise(0)
    with pytest.raises(LoopscopeError, match="there is no donor"):
        ls.effects(run, "zero", metric="difference")
    with pytest.raises(LoopscopeError, match="needs two examples"):
        ls.effects(select_examples(run, [0]), "mean")


def test_a_site_outside_the_loop_has_no_iterations():
    model = ls.models.load("universal-prefix-parity")
    tokens = model.task.batch(2, seed=0).tokens
    for sites in ([], ["embed"]):  # recorded or not
        with pytest.raises(LoopscopeError, match="'embed' is not called inside the loop"):
            ls.effects(ls.record(model, tokens, 2, sites=sites), "zero", sites="embed")


def test_a_run_with_edits_is_not_patched_again():
    run = written(4, edits=[ls.skip(1)])
    with pytest.raises(LoopscopeError, match="this run has edits itself"):
        ls.effects(run, "zero")


def test_a_module_wrapped_by_its_body_can_not_be_gone_on_with():
    run = ls.record(ls.wrap(Plain(), body="core"), torch.randn(2, 4))
    with pytest.raises(LoopscopeError, match="wrapped by its loop body"):
        ls.effects(run, "zero")


# Donors from the run itself


def test_every_example_gets_the_next_that_answers_otherwise():
    run = written(30)
    own, donor, rows = partners(run)
    answers = run.output[:, LAST].argmax(-1)
    assert rows == list(range(30)) and torch.equal(own.output, run.output)
    for row in rows:
        steps = [s for s in range(1, 30) if answers[(row + s) % 30] != answers[row]]
        assert torch.equal(donor.tokens[row], run.tokens[(row + steps[0]) % 30])


def test_examples_that_all_answer_alike_have_no_donors():
    given = tokens(5)
    given[:, CLUE] = 2
    with pytest.raises(LoopscopeError, match="all examples of this run answer alike"):
        partners(ls.record(Written().eval(), given))


def test_a_part_of_a_run_is_the_run_of_that_part():
    model = ls.models.load("universal-prefix-parity-act")
    tokens = model.task.batch(6, seed=0).tokens
    run = select_examples(ls.record(model, tokens, 8, sites=["core.0.attn.hook_z"]), [4, 1, 4])
    again = ls.record(model, tokens[[4, 1, 4]], 8, sites=["core.0.attn.hook_z"])
    for name in again.names:  # alone they may leave the loop earlier
        for k in again[name].iterations:
            assert torch.allclose(run[name][k], again[name][k], atol=1e-5)
    assert torch.allclose(run.logits[3], again.logits[3], atol=1e-5)
    assert torch.equal(run.halting.iteration, again.halting.iteration)
    with pytest.raises(LoopscopeError, match="which may be of other"):
        select_examples(ls.record(model, tokens, edits=[ls.skip(1)]), [0])
