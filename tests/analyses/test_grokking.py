"""Grokking: verdicts and milestones of planted trainings, and of a network built to add."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import loopscope as ls
from loopscope.nn import LoopedModule
from loopscope.training import Fixed, Recipe
from loopscope.training.history import History

P = 11
STEPS = [0, *sorted(set(np.round(np.geomspace(5, 20_000, 90)).astype(int).tolist()))]


class Adder(LoopedModule):
    """Adds modulo P in its second iteration: the first leaves the waves of a and of b as they are,
    the second makes those of a + b. What it remembers of the pairs is a table of random answers, by
    any weight."""

    def __init__(self, frequencies: dict[int, float], memory: float) -> None:
        super().__init__(2, P + 1)
        self.sizes, self.memory = frequencies, memory
        self.embed = nn.Embedding(P + 1, 2 * len(frequencies))
        angles = torch.arange(P + 1)[:, None] * torch.tensor(list(frequencies)) * 2 * math.pi / P
        self.embed.weight.data = torch.cat([angles.cos(), angles.sin()], 1)
        self.table = torch.randint(0, P, (P, P), generator=torch.Generator().manual_seed(0))
        self.setup()

    def encode(self, tokens):
        return tokens

    def initial(self, tokens):
        fourier = self.embed(tokens[:, :2]).flatten(1)  # of a, then of b
        state = torch.cat([fourier, torch.zeros(len(tokens), fourier.shape[1] // 2)], 1)
        return state[:, None].expand(-1, 3, -1)

    def step(self, state, tokens, t):
        if t == 0:
            return state
        n = len(self.sizes)
        ca, sa, cb, sb = (state[..., i * n : (i + 1) * n] for i in range(4))
        return torch.cat([state[..., : 4 * n], ca * cb - sa * sb, sa * cb + ca * sb], -1)

    def decode(self, state, tokens):
        n = len(self.sizes)
        angles = torch.arange(P + 1) * torch.tensor(list(self.sizes))[:, None] * 2 * math.pi / P
        size = torch.tensor(list(self.sizes.values()))[:, None]
        logits = state[..., 4 * n : 5 * n] @ (size * angles.cos()) + state[..., 5 * n :] @ (
            size * angles.sin()
        )
        memorised = nn.functional.one_hot(self.table[tokens[:, 0] % P, tokens[:, 1] % P], P + 1)
        return logits + self.memory * memorised[:, None]


class Planted(History):
    """A history whose curves and models are given."""

    def __init__(self, curves, models=None, task="modular-addition"):
        options = {"modulus": P} if task == "modular-addition" else {}
        recipe = Recipe(
            architecture="nanda", task=task, options=options, steps=STEPS[-1], depth=Fixed(2)
        ).to_json()
        lines = [
            {
                "step": step,
                "sets": {
                    name: {"accuracy": [0.1, float(curve[i])], "loss": [2.0, 2.0 * (1 - float(curve[i]))]}
                    for name, curve in curves.items()
                },
                "norm": 1.0,
            }
            for i, step in enumerate(STEPS)
        ]
        super().__init__({"entry": "planted", "recipe": recipe, "config": {}, "lines": lines}, {})
        self.models = models or {step: Adder({2: 1.0}, 0.0) for step in STEPS[:2]}
        self.checkpoints = list(self.models)

    def model(self, step):
        return self.models[step]


def rise(when, height=1.0, power=5.0):
    return height / (1 + (when / np.maximum(STEPS, 0.1)) ** power)


def noisy(curve):
    return np.clip(curve + 0.01 * np.random.default_rng(0).standard_normal(len(curve)), 0, 1)


@pytest.mark.parametrize(
    ("curves", "verdict"),
    [
        ({"train": rise(100, 0.3), "test": rise(100, 0.02)}, "nothing"),
        ({"train": rise(100), "test": rise(100, 0.03)}, "memorised"),
        ({"train": rise(100), "test": rise(2000, 0.5)}, "partly"),
        ({"train": rise(100), "test": rise(105)}, "together"),
        ({"train": rise(100, power=20), "test": rise(130, power=20)}, "together"),  # clearly later, by little
        ({"train": rise(100), "test": rise(3000)}, "grokked"),
        ({"train": rise(100), "test": rise(1000), "systematic": rise(6000)}, "systematic"),
        ({"train": rise(100), "test": rise(1000), "systematic": rise(6000, 0.4)}, "grokked"),
    ],
)
def test_each_kind_of_training_has_its_verdict(curves, verdict):
    result = ls.analyses.measure("grokking", Planted({name: noisy(curve) for name, curve in curves.items()}))
    assert result.verdict.name == verdict, str(result)
    assert result.verdict.sentence in str(result) and result.to_json()


def test_the_delay_is_that_of_the_planted_curves():
    result = ls.analyses.measure(
        "grokking", Planted({"train": rise(100, power=20), "test": rise(3000, power=20)})
    )
    assert result.delay == pytest.approx(2900 * 19 ** (1 / 20), rel=0.1)  # where 19 / 20 are reached
    assert result.delay_low <= result.delay <= result.delay_high
    half = ls.analyses.measure("grokking", Planted({"train": rise(100), "test": rise(3000, 0.7)}), level=0.6)
    assert half.verdict.name == "grokked" and half.level == 0.6


def test_a_training_that_never_generalised_has_no_delay_and_no_later_event():
    result = ls.analyses.measure("grokking", Planted({"train": rise(100), "test": 0 * rise(100)}))
    assert result.delay is None and result.transitions["test"] is None
    assert all("test" not in milestone.event for milestone in result.milestones)


def test_a_network_built_to_add_shows_its_frequencies_and_the_iteration_in_which_it_adds():
    result = ls.analyses.measure(
        "grokking", Planted({"train": rise(9), "test": rise(9)}, {STEPS[0]: Adder({2: 5.0, 3: 7.0}, 0.0)})
    )
    fourier = result.progress.fourier
    assert fourier.frequencies == [2, 3] and result.sum_iteration == 1
    assert fourier.sum_fraction[0, :2].tolist() == pytest.approx([0, 0], abs=1e-10)
    # The state is made of waves of size one: two of a and two of b for each frequency, and two of a
    # + b, all of variance 1/2.
    assert fourier.sum_fraction[0, 2].item() == pytest.approx(1 / 3) and fourier.single_fraction[
        0, 2
    ].item() == pytest.approx(2 / 3)
    assert fourier.restricted[0, 1].item() == pytest.approx(math.log(P))
    assert fourier.restricted[0, 2].item() < 0.1 and fourier.excluded[0, 2].item() == pytest.approx(
        math.log(P)
    )


def test_restricted_loss_falls_before_the_answers_show_it_where_memory_drowns_the_circuit():
    """The circuit grows from step to step under a loud table of other answers, which goes only at
    the end."""
    steps = STEPS[::4]
    models = {s: Adder({2: 8.0 * i / len(steps)}, 40.0 * (i < len(steps) - 2)) for i, s in enumerate(steps)}
    late = rise(STEPS[-8], power=30)
    result = ls.analyses.measure("grokking", Planted({"train": rise(20), "test": late}, models))
    when = {milestone.event: milestone.date.step for milestone in result.milestones}
    assert when["restricted loss below half of guessing"] < when["test loss below half of guessing"]
    assert [milestone.date.step for milestone in result.milestones] == sorted(
        milestone.date.step for milestone in result.milestones
    )


def test_a_history_of_another_task_has_ranks_and_no_waves():
    model = ls.models.build("nanda", vocabulary=61, iterations=2)
    result = ls.analyses.measure(
        "grokking", Planted({"train": rise(50), "test": rise(60)}, {0: model}, task="composition")
    )
    assert result.progress.fourier is None and result.sum_iteration is None
    assert result.progress.effective_rank.shape == (1, 3) and bool(
        (result.progress.effective_rank[0, 1:] > 1).all()
    )


def test_a_run_without_a_history_says_so():
    run = ls.record(ls.models.build("nanda"), torch.tensor([[1, 2, 59]]))
    with pytest.raises(ls.LoopscopeError, match="no folder or file of a training"):
        ls.analyses.measure("grokking", run)


# The entries that ship their history


def test_in_grokking_modular_the_circuit_forms_before_the_test_loss_drops_and_in_the_second_iteration():
    result = ls.analyses.measure("grokking", ls.load_history("grokking-modular"))
    when = {milestone.event: milestone.date for milestone in result.milestones}
    restricted, excluded, drop = (
        when[f"{what} of guessing" if "half" in what else what]
        for what in ("restricted loss below half", "excluded loss above guessing", "test loss below half")
    )
    assert result.verdict.name == "grokked"
    assert restricted.high < drop.low and excluded.high < drop.low
    fourier = result.progress.fourier
    assert result.sum_iteration == 1 and len(fourier.frequencies) <= 6
    assert (
        float(fourier.excluded[:, 2].min()) < fourier.chance / 2
    )  # memory alone once answered what it had been shown
    assert (
        float(fourier.restricted[-1, 1]) > 0.9 * fourier.chance
    )  # after one iteration there is no sum to read
    assert float(fourier.restricted[-1, 2]) < 0.01


def test_in_grokking_hops_what_was_never_combined_is_combined_last():
    result = ls.analyses.measure("grokking", ls.load_history("grokking-hops"))
    assert result.verdict.name == "systematic"
    train, test, beyond = (result.transitions[name] for name in ("train", "test", "systematic"))
    assert train.step < test.step and test.high < beyond.low


def test_every_milestone_lies_between_its_two_looks():
    history = ls.load_history("grokking-modular")
    result = ls.analyses.measure("grokking", history)
    assert len(result.milestones) >= 8
    for milestone in result.milestones:
        before, after = milestone.looks
        assert before < milestone.date.step <= after
        measured = (
            history.steps
            if {before, after} <= set(history.steps) and "correct" in milestone.event
            else [*history.checkpoints, *history.steps]
        )
        assert before in measured and after in measured
        assert f"looks at {before:,} and {after:,}" in milestone.text


def test_looks_that_are_not_finite_leave_the_rest_of_a_training():
    test = noisy(rise(3000))
    test[10::9] = np.nan
    result = ls.analyses.measure("grokking", Planted({"train": noisy(rise(100)), "test": test}))
    assert result.verdict.name == "grokked" and result.to_json()
    assert result.transitions["test"].step == pytest.approx(3000 * 19 ** (1 / 5), rel=0.2)
