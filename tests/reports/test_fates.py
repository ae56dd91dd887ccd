"""Fates: what all analyses say of where states go becomes one account, in which nothing contradicts
anything else."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, permutations
from typing import get_args

import pytest
import torch
from torch import Tensor

import loopscope as ls
from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.evidence import Evidence
from loopscope.common.fate import Fate, can_both_hold, fates_of_examples
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.reports.fates import reconcile
from loopscope.reports.section import Section, Tile
from loopscope.reports.summary import MAX_TILES, summary

FATES = get_args(Fate)
TOGETHER = {
    *(frozenset(("moves", other)) for other in ("cycles", "quasiperiodic", "irregular", "drifts", "grows")),
    frozenset(("drifts", "grows")),
    frozenset(("converges", "approaches")),
    *(frozenset(("halts", other)) for other in FATES if other != "halts"),
}


class Example(Verdict):
    something = "It does something."
    contradictory = "It does and it doesn't."
    unresolved = "The precision can't tell."
    unclear = UNCLEAR


@dataclass(frozen=True)
class Result(AnalysisResult):
    verdict: Example = Example.something
    goes: dict[int, Fate] = field(default_factory=dict)
    positions: dict[int, list[Fate | None]] = field(default_factory=dict)
    evidence: Evidence = field(kw_only=True, default=Evidence(1, {}, "By hand."))

    @property
    def fates(self) -> Mapping[int, Fate]:
        return self.goes or fates_of_examples(list(self.positions.values()))

    @property
    def fates_by_position(self) -> Mapping[int, Sequence[Fate | None]]:
        return self.positions

    @property
    def fate_criterion(self) -> str:
        return "its criterion"


@pytest.mark.parametrize(("one", "other"), [*combinations(FATES, 2), *((f, f) for f in FATES)])
def test_two_fates_exclude_each_other_unless_both_can_hold(one: Fate, other: Fate):
    compatible = one == other or "unclear" in (one, other) or frozenset((one, other)) in TOGETHER
    assert can_both_hold(one, other) == can_both_hold(other, one) == compatible
    for a, b in ((one, other), (other, one)):
        fates = reconcile({"a": Result(goes={3: a}), "b": Result(goes={3: b})})
        assert len(fates.disagreements) == (not compatible)
        assert (fates.by_example[3] == "unclear") == (not compatible or one == other == "unclear")


@pytest.mark.parametrize(
    ("said", "fate"),
    [
        (("moves", "cycles"), "cycles"),
        (("moves", "quasiperiodic"), "quasiperiodic"),
        (("moves", "irregular", "unclear"), "irregular"),
        (("drifts", "grows", "moves"), "drifts"),
        (("drifts", "moves"), "drifts"),
        (("unclear", "converges"), "converges"),
        (("approaches", "converges"), "converges"),
        (("halts", "converges"), "halts"),
        (("halts", "moves"), "halts"),
    ],
)
def test_of_fates_that_can_all_hold_the_most_specific_is_taken(said: tuple[Fate, ...], fate: Fate):
    for order in permutations(said):
        results = {str(i): Result(goes={0: one}) for i, one in enumerate(order)}
        assert reconcile(results).by_example == {0: fate}


def test_shares_are_over_the_examples_of_all_analyses_with_their_intervals():
    converging: dict[int, Fate] = dict.fromkeys(range(8), "converges")
    fates = reconcile({"a": Result(goes=converging), "b": Result(goes={8: "moves"})})
    assert fates.counts == [("converges", 8), ("moves", 1)]
    assert fates.sentence == (
        "The states converge to a fixed point in 8 of 9 examples (57 to 98.0 %); they keep moving in 1 "
        "(2.0 to 43 %)."
    )


def test_positions_that_converge_in_examples_that_do_not_are_counted_first():
    rests: list[Fate | None] = ["converges"] * 9
    results = {
        "a": Result(positions={0: [*rests, "cycles"], 1: [*rests, "converges"], 2: [*rests, None]}),
        "b": Result(positions={0: [*rests, "moves"], 1: [*rests, "unclear"], 2: [*rests, None]}),
    }
    fates = reconcile(results)
    assert fates.by_position[0] == [*rests, "cycles"] and fates.position_counts == (28, 29)
    assert fates.sentence == (
        "The states converge at 28 of 29 positions (96.6 %). An example converges if all of its "
        "positions do. By example, the states converge to a fixed point in 2 of 3 examples (21 to 94 %); "
        "they go round a cycle in 1 (6 to 79 %)."
    )
    page = summary(results, [], fates)
    assert (page.tiles[0].value, page.tiles[0].caption) == (
        "96.6 %",
        "of 29 positions converge; all positions of an example do in 2 of 3",
    )


@pytest.mark.parametrize(
    "positions", [{0: ["converges"], 1: ["cycles", "cycles"]}, {0: ["unclear", None], 1: ["moves"]}]
)
def test_positions_are_not_counted_where_examples_say_as_much(positions: dict[int, list[Fate | None]]):
    fates = reconcile({"a": Result(positions=positions)})
    assert fates.position_counts is None and "position" not in fates.sentence


def test_a_position_on_which_analyses_disagree_is_not_one_that_converges():
    results = {
        "a": Result(positions={0: ["converges", "converges"]}),
        "b": Result(positions={0: ["converges", "cycles"]}),
    }
    fates = reconcile(results)
    assert fates.by_position == {0: ["converges", "unclear"]} and fates.position_counts == (1, 2)


def test_a_disagreement_names_who_says_what_of_which_examples_and_why():
    results = {
        "a": Result(goes={0: "converges", 1: "moves"}),
        "b_b": Result(goes={0: "cycles"}),
        "c": Result(goes={0: "cycles"}),
    }
    fates = reconcile(results)
    assert fates.disagreements == (
        "In 1 of 2 examples (number 0) a says that the states converge to a fixed point, but b b and c say "
        "that the states go round a cycle.",
    )
    assert fates.notes[-1] == "A, b b and c decide by its criterion."
    assert fates.by_example == {0: "unclear", 1: "moves"}


def test_what_is_denied_of_most_examples_is_undecided_of_those_that_only_one_side_examined():
    claims: dict[int, Fate] = dict.fromkeys(range(12), "converges")
    moving: dict[int, Fate] = dict.fromkeys(range(8), "moves")
    fates = reconcile({"a": Result(goes=claims), "b": Result(goes={**moving, 8: "converges"})})
    assert fates.by_example == {**dict.fromkeys(range(12), "unclear"), 8: "converges"}
    assert fates.disagreements[1] == (
        "In 3 further examples the states would converge to a fixed point. B denies that in 8 of the 9 that "
        "were examined by both sides, so these are undecided, too."
    )


@pytest.mark.parametrize("denied", [1, 2, 3])
def test_what_is_denied_of_a_few_examples_is_not_denied_of_the_others(denied: int):
    """2 of 3 leave open whether it is denied of most."""
    claims: dict[int, Fate] = dict.fromkeys(range(6), "converges")
    moving: dict[int, Fate] = dict.fromkeys(range(denied), "moves")
    fates = reconcile({"a": Result(goes=claims), "b": Result(goes={**moving, 3: "converges"})})
    assert fates.by_example == {**claims, **dict.fromkeys(range(denied), "unclear")}
    assert len(fates.disagreements) == 1


def test_counts_at_rest_that_differ_stand_together_with_their_criteria():
    rests: list[Fate | None] = ["converges"]
    two: dict[int, list[Fate | None]] = {row: [*rests, *rests] for row in range(4)}
    half: dict[int, list[Fate | None]] = {row: [*rests, "unclear"] for row in range(4)}
    fates = reconcile({"a": Result(positions=two), "b": Result(positions=half)})
    assert not fates.disagreements and fates.notes[1:] == ("A and b decide by its criterion.",)
    for words in ("a 8 of 8 positions (100 %)", "b 4 of 8 positions (50 %)"):
        assert words in fates.notes[0]
    page = summary({"a": Result()}, [], fates)
    assert page.disagreements == fates.notes and "No verdict is unclear" not in page.sentences[-1]
    assert not reconcile({"a": Result(positions=two), "c": Result(positions={0: [*rests]})}).notes


def test_where_counts_at_rest_differ_their_range_stands_for_them():
    rests: list[Fate | None] = ["converges"]
    two: dict[int, list[Fate | None]] = {row: [*rests, *rests] for row in range(4)}
    half: dict[int, list[Fate | None]] = {row: [*rests, "moves" if row else "unclear"] for row in range(4)}
    half[0] = two[0]
    fates = reconcile({"a": Result(positions=half), "b": Result(positions={**two, 1: [*rests, "moves"]})})
    assert fates.rest_range == (5, 7, 8)
    assert "converge at 5 to 7 of 8 positions, by criterion (62 to 88 %; see below)" in fates.sentence
    tile = summary({}, [], fates).tiles[0]
    assert tile.value == "62 to 88 %"
    assert tile.caption == (
        "of 8 positions converge, by criterion; all positions of an example do, undisputed, in 1 of 4"
    )
    alike = reconcile({"a": Result(positions=two), "b": Result(positions=two)})
    assert alike.rest_range is None and "criterion" not in alike.sentence


@dataclass(frozen=True)
class Kept(Result):
    number: int = 0

    @property
    def kept(self) -> int:
        return self.number


@pytest.mark.parametrize("kept", [0, 3])
def test_positions_that_are_kept_where_they_halt_are_said_beside_those_that_converge(kept: int):
    rests: list[Fate | None] = ["converges", "converges"]
    positions = {0: rests, 1: [*rests[:1], "moves"]}
    fates = reconcile({"a": Kept(positions=positions, number=kept), "b": Result(goes={1: "moves"})})
    said = "; 3 positions stop at once, as where a halted state is kept"
    for text in (fates.sentence, summary({}, [], fates).tiles[0].caption):
        assert (said in text) == bool(kept)
    halted = {0: ["halts", "halts"], 1: ["halts", "moves"]}
    page = summary({}, [], reconcile({"a": Kept(positions=halted, number=kept)}))
    assert ("; 3 positions are kept where they halted" in page.tiles[0].caption) == bool(kept)
    every = summary({}, [], reconcile({"a": Kept(positions={0: ["halts"]}, number=1)}))
    assert every.tiles[0].caption == "examples whose states are kept where they halted (21 to 100 %)"


def test_states_that_were_followed_beyond_the_model_are_said_to_be():
    results = {"a": Result(goes={0: "drifts", 1: "grows"})}
    by_itself, beyond = reconcile(results), reconcile(results, "with its one iteration applied again")
    for fates, said in ((by_itself, False), (beyond, True)):
        page = summary(results, [], fates)
        for text in (*page.sentences[1:2], page.tiles[0].caption):
            assert ("with its one iteration applied again" in text) == said
    table = summary(results, [], beyond).table
    assert table is not None and all(": " in row[0] for row in table.rows), "words of fates are explained"


def test_other_examples_are_no_other_count():
    """Half of the examples rest, but all of those that both examined."""
    everywhere: dict[int, Fate] = {row: "converges" if row < 4 else "moves" for row in range(8)}
    few: dict[int, Fate] = dict.fromkeys(range(4), "converges")
    assert not reconcile({"a": Result(goes=everywhere), "b": Result(goes=few)}).notes


def test_whole_states_that_move_beside_positions_at_rest_are_no_examples_at_rest():
    rests: list[Fate | None] = ["converges", "converges"]
    results = {"a": Result(positions={0: rests, 1: rests}), "b": Result(goes={0: "moves", 1: "moves"})}
    fates = reconcile(results)
    assert set(fates.by_example.values()) == {"unclear"} and fates.whole_at_rest == 2
    caption = summary(results, [], fates).tiles[0].caption
    assert caption.endswith("all positions of an example do in 2 of 2; of the whole state that is known in 0")


@dataclass(frozen=True)
class Stability(Result):
    dying: tuple[int, ...] = (3,)
    disputed: str = ""

    @property
    def examined(self) -> Sequence[int]:
        return (3, 5)

    @property
    def contracting(self) -> Sequence[int]:
        return self.dying

    @property
    def caveat(self) -> str:
        return self.disputed


@pytest.mark.parametrize(("fate", "words"), [("cycles", "that cycle attracts."), ("moves", "slow approach")])
def test_why_differences_die_out_where_states_come_to_no_fixed_point_is_said_once(fate: Fate, words: str):
    results = {"stability": Stability(), "fixed_points": Result(goes={3: fate, 5: "moves"})}
    fates = reconcile(results)
    page = summary(results, [], fates)
    assert not fates.disagreements and len(page.disagreements) == 1
    assert page.disagreements[0].startswith("In 1 of 2 examples small differences die out")
    assert words in page.disagreements[0]
    assert not reconcile({**results, "stability": Stability(dying=())}).reconciled


def test_states_that_converge_are_not_said_to_come_to_no_fixed_point():
    goes: dict[int, Fate] = {3: "converges", 5: "cycles"}
    fates = reconcile({"stability": Stability(dying=(3, 5)), "cycles": Result(goes=goes)})
    (sentence,) = fates.reconciled
    assert sentence.startswith("In 1 of 2 examples small") and "that cycle attracts" in sentence
    assert not reconcile({"stability": Stability(), "cycles": Result(goes=goes)}).reconciled


def test_measures_of_one_result_that_disagree_are_said_in_the_summary():
    words = "Two measures disagree by 0.3."
    fates = reconcile({"any": Stability(dying=(), disputed=words)})
    assert fates.notes == (words,) and words in summary({}, [], fates).disagreements
    assert not reconcile({"any": Stability(dying=())}).notes


def test_a_result_that_contradicts_itself_is_named():
    assert reconcile({"a": Result(Example.contradictory)}).disagreements == (
        "a contradicts itself: It does and it doesn't.",
    )


def test_nothing_is_said_where_no_analysis_speaks_of_fates():
    fates = reconcile({"a": Result()})
    assert fates.sentence == "" and not fates.disagreements
    page = summary({"a": Result()}, [], fates)
    assert page.table is None and not page.tiles
    assert page.sentences[0].startswith("Which answers are right isn't known")
    assert page.sentences[1:] == ["No verdict is unclear, of 1."]


def test_a_summary_has_a_sentence_on_each_topic_in_order_and_says_what_is_unclear():
    sections = [
        Section("gains", "Gains", 5, topic="gain", claim="More iterations buy nothing."),
        Section("b", "Bee", 1, topic="halting", claim="It never stops."),
        Section("model", "Model", 2, topic="model", claim="It adds."),
        Section("other", "Other", 3, topic="model", claim="It subtracts."),
    ]
    results = {"b": Result(Example.unclear), "c": Result(Example.unresolved, {0: "moves"})}
    page = summary(results, sections, reconcile(results))
    assert page.sentences == [
        "It adds.",
        "The states keep moving in 1 of 1 example (21 to 100 %).",
        "It never stops.",
        "More iterations buy nothing.",
        "1 of 2 verdicts is unclear (Bee); the states as they are decide nothing on c.",
    ]


def test_at_most_six_tiles_in_the_order_of_their_rank_and_only_one_on_where_the_loop_goes():
    sections = [
        Section(f"s{i}", f"S{i}", i, tiles=[Tile(str(i), "caption")], rank=10 - i) for i in range(8)
    ] + [
        Section("no-rank", "No rank", 0, tiles=[Tile("none", "caption")]),
        Section("says-fates", "Says", 0, tiles=[Tile("it converges", "caption")], rank=1),
    ]
    results = {"says_fates": Result(goes={0: "cycles"})}
    tiles = summary(results, sections, reconcile(results)).tiles
    assert len(tiles) == MAX_TILES
    assert [tile.value for tile in tiles] == ["7", "1 of 1", "6", "5", "4", "3"]


ANALYSES = ("cycles", "convergence", "stability", "fixed_points", "path_independence")
LOOPS: dict[str, tuple[Callable[[Tensor], Tensor], Fate]] = {
    "a fixed point beside 100": (lambda x: 100 + 0.5 * (x - 100), "converges"),
    "chaos beside 100": (lambda x: 100 + 4 * (x - 100) * (1 - (x - 100)), "irregular"),
    "growth beside 100": (lambda x: 100 + 1.1 * (x - 100), "grows"),
}


@pytest.mark.parametrize("name", LOOPS)
def test_the_analyses_of_a_run_agree_on_where_its_states_go(name: str):
    map, fate = LOOPS[name]
    run = ls.iterate(map, 100 + torch.tensor([[0.3], [0.6]], dtype=torch.float64), 48)
    options = {"stability": {"iterations": 200}}
    results = {a: ls.analyses.measure(a, run, **options.get(a, {})) for a in ANALYSES}
    fates = reconcile(results)
    assert not fates.disagreements
    assert fates.by_example == {0: fate, 1: fate}


@dataclass(frozen=True)
class Counting(Result):
    """Counts how often it is asked for all of its positions."""

    calls: list[int] = field(default_factory=list)

    @property
    def fates_by_position(self) -> Mapping[int, Sequence[Fate | None]]:
        self.calls.append(1)
        return self.positions


def test_more_examples_are_no_more_questions():
    """Each answer goes through all examples, so that one for each of them would grow as their
    square."""
    asked = []
    for examples in (4, 40):
        result = Counting(positions={row: ["converges", "moves"] for row in range(examples)})
        reconcile({"a": result, "b": Result(goes=dict.fromkeys(range(examples), "moves"))})
        asked.append(len(result.calls))
    assert asked[0] == asked[1]
