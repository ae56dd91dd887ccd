"""Roles of two states, on loops in which each state has a role by construction."""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from transformer_lens.hook_points import HookPoint

import loopscope as ls
from loopscope.common import discovery
from loopscope.common.errors import LoopscopeError
from loopscope.common.text import percent
from loopscope.nn import LoopedModule

TASK = ls.tasks.sudoku(size=4, fewest=4)
N, BATCH = 6, 12


class Pair(NamedTuple):
    high: Tensor
    low: Tensor


class Team(LoopedModule):
    """Solves boards by knowing them. `high` is (logits, a count of iterations), `low` the
    solution's logits.

    alone   high writes the solution by itself; low is along for the ride.
    handed  low works the solution out anew, high writes what low has.
    counted the same, but high writes it only from its fourth update on.
    """

    update_sites = {"high": (), "low": ("low_level.hook_out",)}

    def __init__(self, kind: str, looks: bool = False) -> None:
        super().__init__(N, 5, Pair._fields)
        self.kind, self.looks, self.task = kind, looks, TASK
        self.low_level, self.high_level = nn.Module(), nn.Module()
        for level in (self.low_level, self.high_level):
            level.attn = nn.Module()
            level.attn.hook_pattern = HookPoint()
            level.hook_out = HookPoint()
        self.setup()

    def encode(self, tokens: Tensor) -> Tensor:
        solution = one_hot(TASK.solve(tokens), 5).float()
        return torch.cat([solution, torch.zeros_like(solution[..., :1])], -1)

    def initial(self, context: Tensor) -> Pair:
        return Pair(torch.zeros_like(context), torch.zeros_like(context))

    def step(self, state: Pair, context: Tensor, t: int) -> Pair:
        high, low = state
        count = high[..., 5:] + 1
        batch = len(context)
        for turn in self.clock.loop("low", range(2)):
            if self.looks:  # at neighbours alone, in the first turn; at itself in the second
                near = torch.eye(16) if turn else TASK.neighbours().float()
                self.low_level.attn.hook_pattern((near / near.sum(-1, keepdim=True)).expand(batch, 3, 16, 16))
            low = self.low_level.hook_out(context)
        if self.looks:  # everywhere alike
            self.high_level.attn.hook_pattern(torch.full((batch, 3, 16, 16), 1 / 16))
        given = context if self.kind == "alone" else low
        written = given[..., :5] * (self.kind != "counted" or (count >= 4))
        return Pair(self.high_level.hook_out(torch.cat([written, count], -1)), low)

    def decode(self, state: Pair, context: Tensor) -> Tensor:
        return state.high[..., :5]


def team(kind: str, **options) -> "ls.Run":
    return ls.record(Team(kind, **options).eval(), TASK.batch(BATCH, seed=0).tokens)


def solved(result, field, variant="solved", start=0):
    state = next(state for state in result.frozen if (state.field, state.start) == (field, start))
    return float(getattr(state, variant).double().mean())


@pytest.mark.parametrize(
    ("kind", "high", "low", "verdict"),
    [("alone", 1, 1, "none"), ("handed", 1, 0, "one"), ("counted", 0, 0, "both")],
)
def test_what_is_lost_without_a_state_is_what_it_does(kind, high, low, verdict):
    result = ls.analyses.measure("roles", team(kind))
    assert result.solved == 1
    assert (solved(result, "high"), solved(result, "low")) == (high, low)
    assert solved(result, "high", "to_end") == 0, "it is read out, and had nothing yet"
    assert solved(result, "low", "last_free") == 1, (
        "worked out anew in the last iteration, and written from then at once"
    )
    assert result.verdict.name == verdict


def test_what_freezing_solves_anew_is_not_held_against_a_loss():
    """Half of the examples are solved only with `low` frozen, the other half only without."""

    class Trading(Team):
        def step(self, state: Pair, context: Tensor, t: int) -> Pair:
            even = (torch.arange(len(context)) % 2 == 0)[:, None, None]
            written = torch.where(even == (state.low > 0), context, 0)
            return Pair(self.high_level.hook_out(written), self.low_level.hook_out(torch.ones_like(context)))

    run = ls.record(Trading("alone").eval(), TASK.batch(BATCH, seed=0).tokens)
    result = ls.analyses.measure("roles", run)
    assert result.solved == 0.5 and solved(result, "low") == 0.5
    assert [one.value for one in result.evidence.estimates] == [1, 0]
    assert result.verdict.name == "one"


def test_a_state_held_later_has_done_its_work():
    result = ls.analyses.measure("roles", team("counted"), starts=[0, 3, 4, 5])
    assert [solved(result, "high", "to_end", k) for k in (0, 3, 4, 5)] == [0, 0, 1, 1], (
        "written in its fourth update"
    )
    assert [solved(result, "high", "last_free", k) for k in (0, 3, 4, 5)] == [0, 1, 1, 1], (
        "the last update is its fourth"
    )
    assert [solved(result, "low", "to_end", k) for k in (0, 3)] == [0, 1]


def changes(result, field, frozen=None):
    return next(c for c in result.changes if (c.field, c.frozen) == (field, frozen))


def test_answers_that_change_are_told_apart_from_blanks_that_are_filled():
    result = ls.analyses.measure("roles", team("counted"))
    answered = int(TASK.batch(BATCH, seed=0).mask.sum())
    # all logits 0 until the fourth update: the read-out says 0, which is blank
    assert changes(result, "high").mask.tolist() == [0, 0, 0, answered, 0, 0]
    assert changes(result, "low").mask.tolist() == [answered, 0, 0, 0, 0, 0], (
        "low has the solution from the first update on"
    )
    assert not changes(result, "high", frozen="low").mask.any()
    assert changes(result, "low", frozen="high").mask.tolist() == [answered, 0, 0, 0, 0, 0]
    assert not changes(result, "high").content.any()


def test_an_answer_that_becomes_another_is_a_change_of_content():
    class Wavering(Team):
        def step(self, state: Pair, context: Tensor, t: int) -> Pair:
            high, low = super().step(state, context, t)
            turned = torch.cat([high[..., :1], high[..., 1:5].roll(t % 2, -1), high[..., 5:]], -1)
            return Pair(turned, low)

    run = ls.record(Wavering("handed").eval(), TASK.batch(BATCH, seed=0).tokens)
    result = ls.analyses.measure("roles", run)
    answered = int(TASK.batch(BATCH, seed=0).mask.sum())
    assert changes(result, "high").content.tolist() == [0] + [answered] * (N - 1)
    assert changes(result, "high").mask.tolist() == [answered] + [0] * (N - 1)


def test_the_participation_ratio_is_that_of_each_state():
    class Spread(Team):
        def step(self, state: Pair, context: Tensor, t: int) -> Pair:
            place = torch.arange(16) % 4
            low = torch.cat([one_hot(place, 4), torch.zeros(16, 2)], -1).expand(len(context), 16, 6)
            line = place[None, :, None].expand(len(context), 16, 6).float()
            return Pair(line, self.low_level.hook_out(low))

    run = ls.record(Spread("alone").eval(), TASK.batch(BATCH, seed=0).tokens)
    high, low = ls.analyses.measure("roles", run).dimensions
    assert torch.allclose(high.ratio[1:], torch.ones(N, dtype=torch.float64)), "a line"
    assert torch.allclose(low.ratio[1:], torch.full((N,), 3.0, dtype=torch.float64)), (
        "the corners of a tetrahedron"
    )
    assert high.ratio[0].isnan() and math.isnan(low.whole), "a point; all boards alike"
    assert high.untrained is None, "this class can't be built from a config"


def test_each_role_looks_where_it_was_made_to_look():
    result = ls.analyses.measure("roles", team("counted", looks=True)).attention
    assert result.inner_axis == "low" and result.chance == pytest.approx(7 / 16)
    assert result.layers == (("low_level.attn.hook_pattern", "high_level.attn.hook_pattern"),)
    assert torch.allclose(result.inner["neighbours"], torch.ones(N, 1, dtype=torch.float64))
    assert torch.allclose(result.outer["neighbours"], torch.full((N, 1), 7 / 16, dtype=torch.float64))
    assert torch.allclose(
        result.inner["entropy"], torch.full((N, 1), math.log(7) / math.log(16), dtype=torch.float64)
    )
    assert not result.inner["self"].any() and torch.allclose(
        result.outer["self"], torch.tensor(1 / 16, dtype=torch.float64)
    )
    by = {name: values[0] for name, values in result.differences.items()}
    assert by["neighbours"].mean == pytest.approx(9 / 16) and by["neighbours"].half_width == pytest.approx(
        0, abs=1e-9
    )
    assert by["entropy"].mean == pytest.approx(1 - math.log(7) / math.log(16))
    assert by["neighbours"].boards == BATCH
    assert by["conflicts"].boards == 0, "it says nothing or the truth: no cell is ever in conflict"
    assert result.inner["conflicts"].isnan().all()


def test_cells_in_conflict_are_those_whose_digit_stands_again_in_a_unit():
    board = torch.tensor([1, 2, 3, 4, 3, 4, 1, 2, 2, 1, 4, 3, 4, 3, 2, 1])
    assert not TASK.violations(board).any()
    wrong = board.clone()
    wrong[0] = 2  # beside the 2, above the 2 in the third row
    assert TASK.violations(wrong).nonzero()[:, 0].tolist() == [0, 1, 8]
    wrong[0] = 0
    assert not TASK.violations(wrong).any(), "a blank breaks no rule"
    near = TASK.neighbours()
    assert (near.sum(1) == 7).all() and torch.equal(near, near.T) and not near.diagonal().any()
    assert near[0].nonzero()[:, 0].tolist() == [1, 2, 3, 4, 5, 8, 12]
    assert ls.tasks.sudoku(size=6).neighbours()[0].nonzero()[:, 0].tolist() == [
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        12,
        18,
        24,
        30,
    ]
    assert ls.tasks.prefix_parity(length=8).neighbours() is None


def test_attention_to_conflicts_counts_boards_that_have_some():
    from loopscope.analyses.roles.attention_by_role import attention_contrast  # pyright: ignore[reportMissingImports]

    run = team("counted", looks=True)
    patterns = ls.record(
        run.model, run.tokens, sites=["low_level.attn.hook_pattern", "high_level.attn.hook_pattern"]
    )
    answered = torch.zeros(BATCH, 16, dtype=torch.bool)
    answered[:, 0] = True
    conflicts = torch.zeros(N, BATCH, 16, dtype=torch.bool)
    conflicts[0, :5, 1], conflicts[0, :5, 15] = (
        True,
        True,
    )  # a neighbour of the first cell, and a cell that is none
    result = attention_contrast(
        patterns, list(patterns.names)[2:], answered, TASK.neighbours(), conflicts=conflicts
    )
    difference = result.differences["conflicts"][0]
    assert difference.boards == 5 and difference.mean == pytest.approx(1 / 7 - 2 / 16)
    assert (
        result.inner["conflicts"][0, 0] == pytest.approx(1 / 7)
        and result.inner["conflicts"][1:].isnan().all()
    )


def test_a_model_without_attention_says_so():
    class Blind(Team):
        def setup(self) -> None:
            del self.low_level.attn, self.high_level.attn
            super().setup()

    result = ls.analyses.measure("roles", ls.record(Blind("alone").eval(), TASK.batch(BATCH, seed=0).tokens))
    assert result.attention is None and "no attention patterns" in str(result)


def test_without_a_task_the_run_itself_is_what_answers_are_held_against():
    model = ls.models.build(
        "trm",
        seed=0,
        vocabulary=5,
        width=16,
        heads=2,
        layers=1,
        low_updates=2,
        cycles=2,
        segments=2,
        length=6,
    )
    run = ls.record(model.eval(), torch.randint(0, 5, (5, 6), generator=torch.Generator().manual_seed(0)))
    result = ls.analyses.measure("roles", run)
    assert (
        result.solved == 1 and "the answers with nothing frozen" in str(result) and result.difficulty is None
    )
    assert "no rules of neighbouring positions" in result.attention_note
    again = ls.analyses.measure("roles", ls.record(model.bfloat16(), run.tokens[:1]))
    assert again.examples == 1, "one example, in half precision"


def test_models_of_others_have_roles_too():
    from ..toys.small_models import hrm_text, tiny_recursive

    for module, size, rebuilt in ((hrm_text(), 7, True), (tiny_recursive(), 8, False)):
        model = ls.wrap(module.eval())
        run = ls.record(model, torch.randint(0, 40, (3, size), generator=torch.Generator().manual_seed(0)), 3)
        result = ls.analyses.measure("roles", run)
        assert result.fields == model.fields and len(result.frozen) == 2 * len(
            {state.start for state in result.frozen}
        )
        assert (result.dimensions[0].untrained is not None) == rebuilt, (
            "transformers' models say how they are built"
        )
        first = solved(result, result.fields[0], "to_end")
        answers = run.logits[0].argmax(-1) == run.output.argmax(-1)
        assert first == pytest.approx(float(answers.all(1).double().mean())), (
            "held to the end it answers what it did"
        )


def test_untrained_weights_are_others_of_the_same_shape():
    result = ls.analyses.measure("roles", entry("hrm-sudoku", 8))
    assert result.dimensions[0].untrained is not None and not torch.equal(
        result.dimensions[0].untrained, result.dimensions[0].ratio
    )
    assert ls.analyses.measure("roles", entry("hrm-sudoku", 8), compare=False).dimensions[0].untrained is None


def test_it_draws_itself_and_says_its_threshold():
    result = ls.analyses.measure("roles", team("counted", looks=True))
    assert len(discovery.module("analyses", "roles").panels(result)) == 4
    assert "at most 0.5 of the solved examples" in str(result) and '"verdict"' in result.to_json()
    assert (
        len(discovery.module("analyses", "roles").panels(ls.analyses.measure("roles", team("alone"))))
        == 4 - 1
    )


def test_a_dash_means_one_condition_and_the_losses_are_of_the_solved_examples():
    module, result = discovery.module("analyses", "roles"), ls.analyses.measure("roles", team("counted"))
    dashes = {trace.name.split(", ")[1]: set() for trace in module.draw(result).data}
    for trace in module.draw(result).data:
        dashes[trace.name.split(", ")[1]].add(trace.line.dash)
    assert dashes == {"last iteration free": {"solid"}, "to the end": {"dot"}}
    high, low = result.evidence.estimates
    assert f"high until the last iteration loses {percent(1 - high.value)}" in result.sentence
    assert f"low to the end loses {percent(1 - low.value)}" in result.sentence
    assert f"of the {result.evidence.examples} solved examples." in result.sentence
    assert module.headline(result)[0] == f"{percent(high.value)} · {percent(low.value)}"


def test_what_has_no_two_states_gets_a_sentence():
    for name in ("universal", "memory"):
        model = ls.models.build(name, vocabulary=5, width=16).eval()
        run = ls.record(model, torch.zeros(2, 6, dtype=torch.long), 3)
        assert not discovery.module("analyses", "roles").applies(run)
    with pytest.raises(LoopscopeError, match="whose state has two tensors of one shape that it iterates on"):
        ls.analyses.measure("roles", run)
    act = ls.models.build("universal", vocabulary=5, width=16, halting="interpolated").eval()
    run = ls.record(act, torch.zeros(2, 6, dtype=torch.long), 3)
    assert not discovery.module("analyses", "roles").applies(run), (
        "what halting accounts for is no second state"
    )
    held = ls.record(Team("alone").eval(), TASK.batch(3, seed=0).tokens, edits=[ls.freeze("state.low")])
    assert not discovery.module("analyses", "roles").applies(held)


# Trained entries


def entry(name: str, size: int) -> "ls.Run":
    model = ls.models.load(name)
    return ls.record(model, model.task.batch(size, seed=2024).tokens)


@pytest.mark.parametrize(("name", "high"), [("trm-sudoku", 0.80), ("hrm-sudoku", 0.75)])
def test_freezing_either_state_breaks_solving_and_the_low_one_in_every_sense(name, high):
    """Held to the end, either state leaves nothing solved (Shen et al. 2026 report the same). With
    the last update free, nothing is without the low state, which alone is told the board; without
    the high one a fifth or a quarter of the boards is lost, half or more of the hardest."""
    result = ls.analyses.measure("roles", entry(name, 200), starts=[0], examples=None, compare=False)
    assert result.solved > 0.96
    assert solved(result, "low", "to_end") == solved(result, "high", "to_end") == 0
    assert solved(result, "low", "last_free") < 0.15
    assert abs(solved(result, "high", "last_free") - high) < 0.07
    hardest = result.difficulty >= 3
    free = next(state.last_free for state in result.frozen if state.field == "high")
    assert float(free[hardest].double().mean()) < 0.65 < 0.7 < float(free[~hardest].double().mean())
    assert result.verdict.name == "one"
    for difference in result.attention.differences["neighbours"]:
        assert difference.mean - difference.half_width > 0, (
            "low updates look more at neighbours, in every layer"
        )
