"""Which state carries the answer: loops of which it is known."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import loopscope as ls
from loopscope.common import discovery
from loopscope.nn import LoopedModule

from ..toys.known_circuit import CLASSES, LAST, READ, WHERE, WRITE, written
from ..toys.planted_chain import AT_ONCE, IN_ORDER, SWAPPED, PlantedChain

N = 6
MODULE = discovery.module("analyses", "causes")
CausesVerdict, decide, verdict_of = MODULE.CausesVerdict, MODULE.decide, MODULE.verdict_of
NAN = float("nan")


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
        tokens = torch.randint(0, CLASSES, (64, 5), generator=torch.Generator().manual_seed(0))
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


@pytest.mark.parametrize(
    ("effects", "verdict"),
    [
        ((1.0, 1.0, 1.0), "gathered"),
        ((0.9, 0.7, 1.0), "gathered"),  # at the thresholds
        ((1.0, 0.69, 1.0), "spread"),
        ((0.5, 0.0, 1.0), "partly"),
        ((0.6, 0.8, 1.0), "partly"),  # a position alone may bring more than the whole state
        ((0.0, 0.05, 1.0), "partly"),
        ((0.5, 0.5, 1.0, 0.5), "continued"),
        ((0.5, 0.5, 1.0, 0.49), "partly"),
        ((0.95, 1.0, 1.0, 0.6), "gathered"),
        ((1.0, 0.5, 1.0, 0.6), "continued"),  # by one position, while the whole state brings all
        ((0.04, 0.0, 1.0), "forgotten"),
        ((-0.3, 0.0, 1.0), "forgotten"),
        ((0.0, 0.0, 0.04), "nothing"),
        ((NAN, 1.0, 1.0), "unclear"),
        ((1.0, NAN, 1.0), "unclear"),
    ],
)
def test_every_verdict_has_its_effects(effects, verdict):
    assert verdict_of(*effects).name == verdict


def test_the_effects_above_reach_every_verdict():
    (mark,) = test_every_verdict_has_its_effects.pytestmark
    assert {verdict for _, verdict in mark.args[1]} == {one.name for one in CausesVerdict}


def constant(whole, best=0.0):
    return lambda draw: (whole, best, 1.0)


@pytest.mark.parametrize(
    ("whole", "examples", "allowed"),
    [
        (0.0, 58, {"forgotten", "partly"}),
        (0.0, 59, {"forgotten"}),
        (1.0, 28, {"spread", "partly"}),
        (1.0, 29, {"spread"}),
        (1.0, 1, {"spread", "partly", "gathered"}),
    ],
)
def test_effects_that_are_all_alike_prove_little_in_few_examples(whole, examples, allowed):
    """Of n examples with no effect, 1 - 0.05^(1 / n) of all may have one."""
    verdict, evidence = decide(constant(whole), examples)
    assert evidence.examples == examples
    if len(allowed) == 1:
        assert {verdict.name} == allowed and not evidence.alternatives
    else:
        assert verdict is CausesVerdict.unclear
        assert {one.name for one in evidence.alternatives} == allowed
        assert f"1 - 0.05^(1 / {examples})" in evidence.how and "100 %" not in evidence.how


def test_where_the_input_is_in_the_state_alone_a_whole_effect_is_no_finding():
    """The loop of `Carrying` reads no input: only the spread of the answer may be unclear."""
    verdict, evidence = decide(constant(1.0, 1.0), 5, only_state=True)
    assert verdict is CausesVerdict.unclear
    assert [one.name for one in evidence.alternatives] == ["gathered", "spread"]
    result = ls.analyses.measure("causes", run_of("one position"), examples=5)
    assert result.only_state and "through the state alone" in str(result)
    assert MODULE.headline(result)[1].startswith("normalised effect of patching the best single position")
    whole = ls.analyses.measure("causes", run_of("one position"), examples=64)
    assert whole.verdict.name == "gathered" and "is so by construction" in whole.sentence
    assert [one.name for one in result.evidence.alternatives] == ["gathered", "spread"]
    assert not ls.analyses.measure("causes", run_of("forgets"), examples=5).only_state


def test_a_loop_that_reads_no_input_again_goes_on_with_what_is_in_its_other_positions():
    """relay-roots follows parents that it reads from its own first state alone."""
    model = ls.models.load("relay-roots")
    run = ls.record(model, model.task.batch(48, seed=0, exactly=4).tokens)
    result = ls.analyses.measure("causes", run)
    assert result.verdict is CausesVerdict.continued and result.only_state
    assert float(result.third_answers[result.iterations.index(result.middle)]) == 0
    assert "the input of their own example" not in result.sentence
    assert "own example's state holds at the other positions" in result.sentence
    assert "by the whole state" not in result.sentence and "by construction" in result.sentence
    read_again = replace(result, only_state=False).sentence
    assert "the input of their own example" in read_again and "0 % by the whole state" in read_again


def test_examples_without_a_donor_are_counted():
    """No other example reaches as far as the first, whose second position others don't have."""
    run = run_of("one position", torch.tensor([[0, 1], [1, 0], [2, 0]]))
    mask = torch.tensor([[True, True], [True, False], [True, False]])
    result = ls.analyses.measure("causes", run, mask=mask)
    assert result.examples == 2 and result.without_donor == 1
    assert "no donor with another answer for 1" in str(result)


@pytest.mark.parametrize(
    ("effect", "size"), [(0.1, "brings little of"), (0.4, "brings part of"), (0.85, "brings most of")]
)
def test_a_part_is_said_with_its_size(effect, size):
    result = ls.analyses.measure("causes", run_of("forgets"), iterations=3)
    whole = torch.tensor([0.0, effect, 1.0])
    part = replace(
        result,
        verdict=CausesVerdict.partly,
        whole_state=whole,
        whole_interval=torch.stack([whole - 0.05, whole + 0.05], 1),
    )
    assert f"{size} the other example's answer (normalised effect {effect:.2f} (" in part.sentence
    assert "in a longer run" in str(part) and "in a longer run" not in str(result)


def test_effects_that_are_unknown_are_no_verdict():
    verdict, evidence = decide(constant(NAN), 64)
    assert verdict is CausesVerdict.unclear and "is unknown" in evidence.unclear_sentence


def test_effects_beside_a_threshold_are_unclear_and_named():
    effects = torch.tensor([1.0] * 57 + [0.0] * 7)  # 0.89, which other examples could bring to 0.9
    verdict, evidence = decide(lambda draw: (float(effects[draw].mean()), 0.0, 1.0), 64)
    assert verdict is CausesVerdict.unclear
    assert [one.name for one in evidence.alternatives] == ["partly", "spread"]


@pytest.mark.parametrize(
    ("order", "verdict"), [(IN_ORDER, "continued"), (SWAPPED, "continued"), (AT_ONCE, "gathered")]
)
def test_a_running_value_that_is_patched_in_is_gone_on_from(order, verdict):
    """Which answers are third ones follows from the rule: the donor's value and the run's own
    operations."""
    task = ls.tasks.modular_chain(modulus=7, operations=5)
    run = ls.record(PlantedChain(task, order).eval(), task.batch(64, seed=0, exactly=5).tokens)
    result = ls.analyses.measure("causes", run, examples=None, donor=other_of(run))
    assert result.verdict.name == verdict
    own, donor = (task.running(tokens) for tokens in (run.tokens, other_of(run).tokens))
    for k in range(1, 6):
        moved = donor[:, order[k - 1]]
        answer = continued(task, run.tokens, order[k - 1], moved)
        third = (answer != own[:, -1]) & (answer != donor[:, -1])
        assert result.third_answers[k] == pytest.approx(float(third.double().mean()))
    if verdict == "continued":
        share = f"{100 * result.third_answers[2]:.0f} % by the whole state"
        assert f"mostly gives an answer that neither example has ({share}" in result.sentence
        assert "undo" not in str(result)


def other_of(run):
    return ls.record(run.model, run.model.task.batch(64, seed=1, exactly=5).tokens)


def continued(task, tokens, number, value):
    """The last value, had result `number` of a modular chain been this value."""
    rest = tokens.clone()
    rest[:, 0] = value
    rest[:, 1 : 1 + number] = task.symbols.index(".")
    return task.running(rest)[:, -1]


def test_effects_that_come_and_go_are_said_of_each_iteration_by_itself():
    """What the result says of each k is the number at that k: effects need not rise with k."""

    class Fickle(Carrying):
        """Forgets its state in iterations 1 and 4."""

        def step(self, state, context, t):
            return (context if t in (1, 4) else state) @ self.turn

    tokens = torch.randint(0, CLASSES, (64, 5), generator=torch.Generator().manual_seed(0))
    result = ls.analyses.measure("causes", ls.record(Fickle("one position").eval(), tokens))
    assert result.verdict.name == "forgotten" and result.middle == 3
    assert "k = 3: 0.00 (0.00 to 0.00); k = 4: 0.00 (0.00 to 0.00); k = 5: 1.00 (1.00 to 1.00)" in str(result)
    assert "k >= " not in str(result)
    assert result.fall is None  # 0 up to k = 4


def test_a_fall_of_the_effect_is_said():
    from loopscope.analyses.causes.normalised import (  # pyright: ignore[reportMissingImports]
        NormalisedEffects,
    )

    noise = 0.1 * torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    effects = NormalisedEffects(torch.tensor([[0.2], [0.8], [0.4]]) + noise, torch.ones(40))
    fall = effects.largest_fall((0, 3, 6))
    assert fall is not None and fall.name.endswith("from 3 to 6")
    assert fall.low < 0.4 < fall.high or abs(fall.value - 0.4) < 0.05
    rising = NormalisedEffects(torch.tensor([[0.2], [0.4], [0.4]]) + noise, torch.ones(40))
    assert rising.largest_fall((0, 3, 6)) is None
    result = replace(ls.analyses.measure("causes", run_of("forgets"), examples=4), fall=fall)
    assert "from k = 3 to k = 6 it falls by 0." in str(result)


def test_the_best_position_is_chosen_with_another_donor_than_it_is_measured_with():
    """A random one of nine positions carries the answer, by the donor alone: for one donor the
    largest of its effects is 1, and the same position does nothing for the next."""

    class Chance(Carrying):
        """The answer is the first token, but each position adds a vote drawn by its own token."""

        def decode(self, state, context):
            votes = state.argmax(-1)  # (batch, position)
            place = (votes * torch.tensor([1, 5, 3, 7, 2, 6, 4, 1, 3])).sum(1) % CLASSES
            return 10 * nn.functional.one_hot(place, CLASSES).float()[:, None].expand_as(state)

    tokens = torch.randint(0, CLASSES, (64, 9), generator=torch.Generator().manual_seed(0))
    run = ls.record(Chance("one position").eval(), tokens)
    result = ls.analyses.measure("causes", run)
    upper = ls.analyses.measure("causes", run, donor=ls.record(run.model, tokens.roll(1, 0)))
    assert result.second_donors == 64 and upper.second_donors == 0
    assert float(upper.best_position[3]) > 0.8 > 0.6 > float(result.best_position[3])
    assert "an upper bound" in str(upper)


def test_a_state_of_one_position_is_that_position():
    tokens = torch.arange(64)[:, None] % CLASSES
    result = ls.analyses.measure("causes", run_of("one position", tokens))
    assert result.verdict.name == "gathered" and "and 1 position," in str(result)


def test_one_pair_is_no_verdict():
    result = ls.analyses.measure("causes", run_of("one position"), examples=1)
    assert result.verdict.name == "unclear" and result.examples == 1
    assert result.whole_interval.isnan().all() and "nan" not in str(result)
    assert MODULE.panels(result) and MODULE.headline(result)[0] == "1.00"


def test_a_patch_that_changes_nothing_takes_no_pass(monkeypatch):
    """Equal initial states: replacing one by another has exactly no effect."""
    run = written(12)
    donor = ls.record(run.model, run.tokens)
    from loopscope.patching.patched_forward import PatchedForward

    cells = []
    plain = PatchedForward.states_after
    monkeypatch.setattr(
        PatchedForward,
        "states_after",
        lambda self, some, *more, **options: cells.extend(some) or plain(self, some, *more, **options),
    )
    grid = ls.effects(run, donor, metric="margin")
    assert not cells and not grid.values.any()


@pytest.mark.parametrize("entry", ["universal-prefix-parity", "memory-sudoku"])
def test_the_verdict_on_a_trained_entry_is_that_of_other_batches(entry):
    model = ls.models.load(entry)
    verdicts = [
        ls.analyses.measure("causes", ls.record(model, model.task.batch(64, seed=seed).tokens)).verdict.name
        for seed in (1, 2)
    ]
    assert verdicts == [{"universal-prefix-parity": "partly", "memory-sudoku": "spread"}[entry]] * 2


def test_an_answer_that_every_position_has_a_share_in_is_spread():
    tokens = torch.randint(0, 2, (64, 1), generator=torch.Generator().manual_seed(0)).expand(64, 20)
    result = ls.analyses.measure("causes", run_of("everywhere", tokens.contiguous()), examples=None)
    assert result.verdict.name == "spread"
    assert torch.allclose(result.whole_state, torch.ones(7)) and torch.allclose(
        result.best_position, torch.full((7,), 1 / 20)
    )
    assert torch.allclose(result.effective_positions, torch.full((7,), 20.0))


def test_the_place_of_the_answer_is_followed_from_position_to_position():
    result = ls.analyses.measure("causes", written(64), examples=None)
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


def test_it_draws_and_speaks():
    result = ls.analyses.measure("causes", written(64))
    panels = MODULE.panels(result)
    assert [panel.figure.layout.title.text for panel in panels] == [
        "Activation patching",
        "Activation patching of single positions",
    ]
    assert panels[0].figure.layout.xaxis.title.text == panels[1].figure.layout.yaxis.title.text
    assert panels[0].figure.layout.xaxis.title.text == "iterations run (k)"
    value, caption = MODULE.headline(result)
    assert value == "1.00" and caption.endswith("whole state, k = 4 of 8 iterations") and result.to_json()
