"""Locality: loops in which the path of every effect is fixed by hand."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import loopscope as ls
from loopscope.analyses.locality.distances import position_distances  # pyright: ignore[reportMissingImports]
from loopscope.common import discovery
from loopscope.common.errors import LoopscopeError
from loopscope.common.text import percent
from loopscope.nn import LoopedModule

P, N, CLASSES = 10, 8, 4
MODULE = discovery.module("analyses", "locality")
LocalityVerdict, Spread, verdict_of = MODULE.LocalityVerdict, MODULE.Spread, MODULE.verdict_of
NAN = float("nan")


class Wired(LoopedModule):
    """A position becomes the average of its sources: wires (position, source), rows sum to 1."""

    def __init__(self, wires: torch.Tensor, later: torch.Tensor | None = None) -> None:
        super().__init__(N, CLASSES)
        self.wires = nn.Parameter(torch.stack([wires] + [wires if later is None else later] * (N - 1)))
        self.setup()

    def encode(self, tokens):
        return nn.functional.one_hot(tokens, CLASSES).float()

    def initial(self, context):
        return context

    def step(self, state, context, t):
        return self.wires[t] @ state

    def decode(self, state, context):
        return 4 * state


def run_of(wires, later=None, tokens=None):
    if tokens is None:
        tokens = torch.randint(0, CLASSES, (12, P), generator=torch.Generator().manual_seed(0))
    return ls.record(Wired(wires, later).eval(), tokens)


def measured(run, **options):
    return ls.analyses.measure("locality", run, **{"iteration": 0, "examples": None} | options)


SELF = torch.eye(P)
ALL = torch.full((P, P), 1 / P)
SHIFT = torch.diag(torch.ones(P - 1), -1)  # position p reads p - 1
SHIFT[0, 0] = 1
NEAREST = (torch.diag(torch.ones(P - 1), 1) + torch.diag(torch.ones(P - 1), -1) + torch.eye(P)) / 3


def spread(locality, distance, others, finite=True):
    """Where an effect falls after 0, 1, ... iterations."""
    locality, distance, others = (torch.tensor(values) for values in (locality, distance, others))
    return Spread(locality, distance, distance, 1 - others, finite)


CASES = [
    (spread([NAN, 4.0, 2.0], [NAN, 1.0, 2.0], [0.0, 0.5, 0.5]), False, "relayed"),
    (spread([NAN, 4.0, 4.0], [NAN, 1.0, 1.2], [0.0, 0.5, 0.5]), False, "local"),
    (spread([1.25, 1.0], [1.0, 1.0], [0.5, 0.5]), False, "local"),  # at the threshold
    (spread([1.2, 4.0], [1.0, 2.0], [0.5, 0.5]), False, "everywhere"),
    (spread([0.79, 4.0], [3.0, 3.0], [0.5, 0.5]), False, "distant"),
    (spread([NAN, NAN], [NAN, NAN], [0.0, 0.0]), False, "contained"),
    (spread([NAN, 1.0, 1.0], [NAN, 3.0, 3.0], [0.0, 0.002, 0.04]), False, "little"),
    (spread([4.0, 4.0], [1.0, 2.0], [0.002, 0.06]), False, "relayed"),  # little at first only
    (spread([4.0, 4.0], [1.0, 1.0], [1e-4, 1e-4]), False, "contained"),  # of the whole effect
    (spread([NAN, NAN], [NAN, NAN], [NAN, NAN]), False, "contained"),  # no effect anywhere
    (spread([NAN, NAN], [NAN, NAN], [0.0, 0.0]), True, "unresolved"),
    (spread([NAN, 4.0], [3.0, 3.0], [0.5, 0.5]), False, "unclear"),  # no neighbour can be reached
    (spread([4.0], [1.0], [0.5], finite=False), False, "unclear"),
]


@pytest.mark.parametrize(("given", "hidden", "verdict"), CASES)
def test_every_verdict_has_its_effects(given, hidden, verdict):
    assert verdict_of(given, hidden=hidden).name == verdict


def test_the_effects_above_reach_every_verdict():
    assert {verdict for *_, verdict in CASES} == {one.name for one in LocalityVerdict}


def test_what_skips_its_neighbours_is_distant():
    leap = torch.zeros(P, P)
    leap[torch.arange(P), (torch.arange(P) - 5) % P] = 1
    result = measured(run_of((SELF + leap) / 2, SELF))
    assert result.verdict.name == "distant" and result.locality[1] < 0.1


@pytest.mark.parametrize(("examples", "verdict"), [(1, "unclear"), (3, "unclear"), (4, "relayed")])
def test_few_examples_are_no_verdict(examples, verdict):
    result = measured(run_of(SHIFT), examples=examples)
    assert result.verdict.name == verdict and result.evidence.examples == examples
    assert ("too few for a verdict" in result.sentence) == (examples < 4)
    assert result.low.isnan().all() == (examples == 1) and MODULE.panels(result)


def test_examples_that_differ_make_it_unclear():
    """In half of the examples neighbours are affected, in the others the far end is."""

    class Mixed(Wired):
        def step(self, state, context, t):
            far = torch.zeros(P, P)
            far[torch.arange(P), (torch.arange(P) - 5) % P] = 1
            by_first = (context[:, :1, :1] > 0).float()
            return (state + by_first * (far @ state) + (1 - by_first) * (NEAREST @ state)) / 2

    tokens = torch.randint(0, CLASSES, (12, P), generator=torch.Generator().manual_seed(1))
    tokens[:, 0] = torch.tensor([0, 1] * 6)
    result = measured(ls.record(Mixed(SELF).eval(), tokens), iterations_after=1)
    assert result.low[1] < MODULE.LOCAL < result.high[1]
    assert result.verdict.name == "unclear" and len(result.evidence.alternatives) > 1


def test_a_patch_that_breaks_the_answer_is_no_effect_of_none():
    """The answer is NaN after it: that isn't `contained`."""

    class Fragile(Wired):
        def decode(self, state, context):
            foreign = (state - context).abs().amax((1, 2), keepdim=True) > 0.5
            return torch.where(foreign, torch.nan, 4 * state)

    tokens = torch.randint(0, CLASSES, (12, P), generator=torch.Generator().manual_seed(0))
    result = measured(ls.record(Fragile(SELF).eval(), tokens))
    assert result.verdict.name == "unclear"


def test_answers_that_are_never_given_take_no_effect_away():
    """A masked token, logit -inf, in both passes."""
    from loopscope.analyses.locality.change_of_answers import (  # pyright: ignore[reportMissingImports]
        change_of_answers,
    )

    base, patched = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    never = torch.full((3, 4, 1), -torch.inf)
    wanted, _ = change_of_answers(base, patched)
    masked, _ = change_of_answers(torch.cat([base, never], -1), torch.cat([patched, never], -1))
    assert torch.allclose(masked, wanted) and bool((wanted > 0).all())


@pytest.mark.parametrize("replacement", ["donor", "noise"])
def test_what_moves_one_place_each_iteration_is_as_many_steps_away(replacement):
    result = measured(run_of(SHIFT), replacement=replacement)
    assert result.verdict.name == "relayed" and result.causal
    assert result.self_share[0] == 1 and result.distance[0].isnan()
    # the first position keeps its value and passes it on to all; from the others one pulse moves on
    wanted = torch.arange(N + 1)
    farthest = result.by_distance.argmax(1)
    assert torch.equal(farthest[1:5], wanted[1:5])
    assert torch.all(result.distance[1:].diff() > 0)


def test_an_even_effect_is_chance():
    result = measured(run_of(ALL))
    assert result.verdict.name == "everywhere" and not result.causal
    assert torch.allclose(result.locality[1:], torch.ones(N), atol=0.1)
    assert torch.allclose(result.distance[1:], result.chance[1:], atol=0.1)


def test_what_stays_where_it_is_reaches_nobody():
    result = measured(run_of(SELF))
    assert result.verdict.name == "contained" and result.locality.isnan().all()
    assert torch.equal(result.self_share, torch.ones(N + 1))
    assert "No other position was affected" in str(result)


def test_an_effect_on_neighbours_alone_is_as_many_times_chance_as_there_are_others_per_neighbour():
    result = measured(run_of(NEAREST, SELF), replacement="noise")
    assert result.verdict.name == "local" and not result.causal
    # two neighbours (one at the ends) of nine others
    assert torch.allclose(result.distance[1:], torch.ones(N))
    assert ((result.locality[1:] > 4.5 - 1e-4) & (result.locality[1:] < 9)).all()
    inner = torch.zeros(P, P)
    inner[4, 3] = inner[4, 5] = inner[4, 4] = 1 / 3  # only position 4 reads others
    result = measured(run_of(inner + SELF * (torch.arange(P) != 4), SELF), replacement="noise")
    # of writes at 3 and 5, each with two neighbours of nine
    assert torch.allclose(result.locality[1:], torch.full((N,), 4.5), atol=1e-4)


def test_chance_of_a_causal_loop_counts_later_positions_alone():
    wires = SELF.clone()
    wires[6, 6] = wires[6, 4] = 0.5  # only a write at 4 reaches anybody
    result = measured(run_of(wires, SELF), replacement="noise")
    assert result.causal and torch.allclose(result.distance[1:], torch.full((N,), 2.0))
    assert torch.allclose(result.chance[1:], torch.full((N,), 3.0))  # of 5 .. 9, not of all others


def test_only_the_cells_that_bear_on_each_other_are_neighbours_of_a_board():
    model = ls.models.load("trm-sudoku")
    run = ls.record(model, model.task.batch(3, seed=0).tokens, 4)
    geometry = position_distances(run, 16)
    assert geometry.neighbours == "cells that constrain each other by the task's rules"
    # row, column and box of a 4 x 4 board: 3 + 3 + 1; all others are two steps away
    assert torch.equal((geometry.distance == 1).sum(1), torch.full((16,), 7))
    assert geometry.distance.max() == 2 and torch.equal(geometry.distance, geometry.distance.T)
    assert position_distances(run_of(SELF), P).distance[2, 6] == 4


def test_on_a_board_without_such_rules_neighbours_stand_beside_each_other():
    run = run_of(SELF)
    run.model.task = SimpleNamespace(neighbours=lambda: None, shape=(2, 5))
    geometry = position_distances(run, P)
    assert geometry.distance[0, 9] == 1 + 4 and geometry.distance[1, 6] == 1 and geometry.distance[4, 5] == 5
    assert geometry.neighbours == "cells above, below, left and right"


def test_a_position_that_no_way_leads_to_is_infinitely_far():
    from loopscope.analyses.locality.distances import shortest_paths  # pyright: ignore[reportMissingImports]

    islands = torch.zeros(4, 4, dtype=torch.bool)
    islands[0, 1] = islands[1, 0] = islands[1, 2] = islands[2, 1] = True
    distance = shortest_paths(islands)
    assert distance[0, 2] == 2 and distance[0, 3] == float("inf") and distance[3, 3] == 0


def test_where_all_answer_alike_noise_is_written():
    result = measured(run_of(SHIFT, tokens=torch.ones(5, P, dtype=torch.long)))
    assert result.replacement.startswith("itself plus noise of norm 1 (100 % of the state's norm)")


def test_what_hardly_leaves_its_position_has_no_distance_as_its_headline():
    """The tile and the panel give the largest share of the effect on others."""
    plain = measured(run_of(NEAREST), iterations_after=2)
    result = replace(plain, verdict=LocalityVerdict.little)
    share = percent(1 - float(result.self_share.min()))
    value, caption = MODULE.headline(result)
    assert value == share and "on the answers at others" in caption
    assert MODULE.headline(plain)[0] != share
    assert f"Up to {share} of the effect is on other positions" in MODULE.panels(result)[0].observation


def test_the_headline_is_of_the_first_iteration_that_counts():
    late = torch.eye(P)
    late[1:] += 0.01 * torch.eye(P)[:-1]
    result = measured(run_of(late, (SELF + SHIFT) / 2), replacement="noise", iterations_after=3)
    assert not result.locality[1].isnan() and result.affected == [2, 3]  # at m = 1 less than 1e-3
    assert "2 iterations after" in MODULE.headline(result)[1]
    assert "m = 2" in result.evidence.estimates[1].name


def test_the_end_of_the_run_ends_it():
    assert measured(run_of(SHIFT), iteration=6).after == (0, 1, 2)
    assert measured(run_of(SHIFT), iterations_after=3).after == (0, 1, 2, 3)


def test_intervals_hold_what_is_measured():
    result = measured(run_of(NEAREST))
    assert (
        (result.low[1:] <= result.locality[1:] + 1e-5) & (result.locality[1:] <= result.high[1:] + 1e-5)
    ).all()


def test_a_run_without_positions_is_refused():
    run = ls.iterate(torch.tanh, torch.randn(3, 4), 5)
    assert not discovery.module("analyses", "locality").applies(run)
    with pytest.raises(LoopscopeError, match="locality needs a run without edits"):
        ls.analyses.measure("locality", run)


def test_it_draws_and_speaks():
    result = measured(run_of(SHIFT))
    module = discovery.module("analyses", "locality")
    titles = [panel.figure.layout.title.text for panel in module.panels(result)]
    assert titles == ["Effect by distance", "Effect on neighbours"]
    assert module.headline(result)[0].endswith("×") and result.to_json()
    assert module.headline(result)[1].endswith("1 iteration after the patch")
    assert module.headline(measured(run_of(SELF)))[0] == "none"


def test_in_a_trained_entry_another_parity_is_relayed_from_place_to_place():
    """A finding: universal-prefix-parity corrects the position written at once, and hands the wrong
    parity on."""
    model = ls.models.load("universal-prefix-parity")
    result = ls.analyses.measure("locality", ls.record(model, model.task.batch(64, seed=1).tokens))
    assert result.verdict.name == "relayed" and result.causal
    assert result.self_share[1] < 0.25 and result.self_share[2] < 0.05
    steps = result.distance[1:6].diff()
    assert (steps > 0.5).all() and (steps < 2.5).all()
