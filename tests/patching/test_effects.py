"""Patching: what is found is what was written, and what is judged is what it says."""

import pytest
import torch
from torch import nn

import loopscope as ls
from loopscope.common.errors import LoopscopeError
from loopscope.patching.metrics import answer_mask
from loopscope.recorder.subset import select_examples

from ..adapters import test_adapters
from ..models import test_zoo
from ..toys.foreign_loops import Nested, batch, build_loop
from ..toys.known_circuit import (
    CLASSES,
    IDLE,
    ITERATIONS,
    LAST,
    READ,
    WHERE,
    WRITE,
    pair,
    tokens,
    whole,
    written,
)
from ..toys.small_models import hrm_text

ZOO, WRAPPED = test_zoo.CASES, test_adapters.CASES


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
    assert figure.layout.yaxis.title.text == "iterations run (k)"
    assert figure.data[0].colorbar.title.text == "change of difference [logits]"


# Errors


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
        (3, "replacement must be a Run, a string, a Noise or a function, but is 3"),
    ):
        with pytest.raises(LoopscopeError) as error:
            ls.effects(run, write, metric="margin")
        assert sentence in str(error.value)
    with pytest.raises(LoopscopeError, match="norm must be a finite number above 0, but is 0"):
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


def test_a_module_wrapped_by_a_part_of_its_loop_can_not_be_gone_on_with():
    run = ls.record(ls.wrap(build_loop(Nested), body="high"), batch())
    with pytest.raises(LoopscopeError, match="wrapped by its loop body"):
        ls.effects(run, "zero")
