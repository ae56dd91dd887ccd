"""Which state carries the answer: loops of which it is known."""

import pytest
import torch
from torch import nn

import loopscope as ls
from loopscope.common import discovery
from loopscope.common.errors import LoopscopeError
from loopscope.nn import LoopedModule

from ..toys.known_circuit import CLASSES, LAST, READ, WHERE, WRITE, written

N = 6


class Carrying(LoopedModule):
    """The state is a one-hot token at each position, and each kind reads it, or forgets it, in its
    own way."""

    def __init__(self, kind: str) -> None:
        super().__init__(N, CLASSES)
        self.kind = kind
        self.turn = nn.Parameter(torch.eye(CLASSES))
        self.setup()

    def encode(self, tokens):
        return nn.functional.one_hot(tokens, CLASSES).float()

    def initial(self, context):
        return context

    def step(self, state, context, t):
        return (context if self.kind == "forgets" else state) @ self.turn

    def decode(self, state, context):
        read = context if self.kind == "reads no state" else state
        pooled = read.mean(1, keepdim=True).expand_as(read) if self.kind == "everywhere" else read
        return 10 * pooled


def run_of(kind, tokens=None):
    if tokens is None:
        tokens = torch.randint(0, CLASSES, (40, 5), generator=torch.Generator().manual_seed(0))
    return ls.record(Carrying(kind).eval(), tokens)


@pytest.mark.parametrize(
    ("kind", "verdict", "whole"),
    [
        ("one position", "gathered", [1] * 7),
        ("forgets", "forgotten", [0] * 6 + [1]),
        ("reads no state", "nothing", [0] * 7),
    ],
)
def test_the_verdict_is_what_the_loop_does(kind, verdict, whole):
    result = ls.analyses.measure("causes", run_of(kind), examples=None)
    assert result.verdict.name == verdict
    assert result.whole_state.tolist() == pytest.approx(whole, abs=1e-6)
    assert result.best_position.tolist() == pytest.approx(whole, abs=1e-6)


def test_an_answer_that_every_position_has_a_share_in_is_spread():
    tokens = torch.randint(0, 2, (8, 1), generator=torch.Generator().manual_seed(0)).expand(8, 20)
    result = ls.analyses.measure("causes", run_of("everywhere", tokens.contiguous()), examples=None)
    assert result.verdict.name == "spread"
    assert torch.allclose(result.whole_state, torch.ones(7)) and torch.allclose(
        result.best_position, torch.full((7,), 1 / 20)
    )
    assert torch.allclose(result.effective_positions, torch.full((7,), 20.0))


def test_the_place_of_the_answer_is_followed_from_position_to_position():
    result = ls.analyses.measure("causes", written(40), examples=None)
    assert result.verdict.name == "gathered"
    k = torch.arange(len(result.iterations))
    assert torch.equal(result.whole_state > 0.5, k > WRITE) and torch.equal(
        result.best_position > 0.5, k > WRITE
    )
    best = result.effect.argmax(1)
    assert set(best[WRITE + 1 : READ + 1].tolist()) == {WHERE} and set(best[READ + 1 :].tolist()) == {LAST}
    assert (
        torch.allclose(result.effective_positions[WRITE + 1 :], torch.ones(6), atol=1e-4)
        and result.effective_positions[: WRITE + 1].isnan().all()
    )


def test_a_first_look_says_how_far_it_agrees():
    result = ls.analyses.measure("causes", written(40), method="attribution", examples=None)
    assert result.agreement.correlation == pytest.approx(1)
    assert "whose correlation with exact patches is 1.00" in str(result)


def test_fewer_iterations_keep_the_first_and_the_last():
    result = ls.analyses.measure("causes", written(8), iterations=3)
    assert result.iterations == (0, 4, 8)


def test_a_site_inside_and_a_donor_of_ones_own():
    run = written(12)
    donor = ls.record(run.model, run.tokens.roll(1, 0))
    result = ls.analyses.measure("causes", run, donor=donor, site="core.hook_write")
    assert result.site == "core.hook_write" and result.iterations == tuple(range(8))
    assert result.effect[WRITE, WHERE] == pytest.approx(1) and result.effect.abs().sum() == pytest.approx(
        1, abs=1e-4
    )


def test_the_state_is_all_of_its_tensors_and_a_halted_answer_comes_along():
    model = ls.models.load("ponder-parity")
    run = ls.record(model, model.task.batch(32, seed=0).tokens, 5)
    result = ls.analyses.measure("causes", run)
    assert result.whole_state[-1] == pytest.approx(1) and result.site == "state"


@pytest.mark.parametrize("entry", ["trm-sudoku", "memory-sudoku", "equilibrium-prefix-parity"])
def test_on_trained_entries_the_last_state_carries_all(entry):
    model = ls.models.load(entry)
    run = ls.record(model, model.task.batch(24, seed=0).tokens)
    result = ls.analyses.measure("causes", run, examples=2, iterations=2)
    assert result.whole_state[-1] == pytest.approx(1, abs=1e-3)


def test_it_applies_where_there_is_something_to_write_and_someone_to_take_it_from():
    applies = discovery.module("analyses", "causes").applies
    assert applies(written(12))
    assert not applies(written(12, edits=[ls.skip(1)]))
    assert not applies(ls.record(written(2).model, torch.ones(5, 6, dtype=torch.long)))
    assert not applies(ls.iterate(torch.tanh, torch.randn(3, 4), 5))
    assert not applies(ls.record(ls.wrap(nn.Sequential(nn.Linear(4, 4)), body="0"), torch.randn(3, 2, 4)))
    with pytest.raises(LoopscopeError, match="all examples of this run answer alike"):
        ls.analyses.measure("causes", ls.record(written(2).model, torch.ones(5, 6, dtype=torch.long)))


def test_a_model_with_one_answer_for_a_whole_example_is_pointed_to_a_metric_of_its_own():
    from ..toys.small_models import albert

    torch.manual_seed(0)
    model = ls.wrap(albert("AlbertForSequenceClassification").eval())
    given = torch.randint(0, 40, (2, 3, 5))
    run, donor = (ls.record(model, one) for one in given)
    with pytest.raises(LoopscopeError, match=r"causes compares answers \(batch, position, vocab\)"):
        ls.analyses.measure("causes", run)
    grid = ls.effects(run, donor, metric=lambda logits: logits[:, 0])
    assert torch.allclose(
        ls.effects(run, donor, positions="all", metric=lambda logits: logits[:, 0]).carried[0, -1],
        torch.ones(1),
    )
    assert grid.values.shape == (1, 7, 5, 1, 3)


def test_a_section_that_would_take_minutes_is_left_out_unless_it_is_asked_for(monkeypatch):
    module, run = discovery.module("analyses", "causes"), written(12)
    monkeypatch.setattr("loopscope.patching.patched_forward.WORK", 1e5)
    assert not module.applies(run) and not discovery.module("analyses", "locality").applies(run)
    assert ls.analyses.measure("causes", run).verdict.name == "gathered"


def test_it_draws_and_speaks():
    result = ls.analyses.measure("causes", written(12))
    module = discovery.module("analyses", "causes")
    panels = module.panels(result)
    assert [panel.figure.layout.title.text for panel in panels] == [
        "Effect of patching in another example's state",
        "Effect of patching single positions",
    ]
    assert module.headline(result)[0] == "k = 3" and result.to_json()
