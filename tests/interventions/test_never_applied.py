"""An edit that would change nothing is refused, whatever the reason: a run never looks edited
without being so."""

import pytest
import torch

import loopscope as ls

from ..toys.edited_loop import TOKENS, EditedLoop, N
from ..toys.foreign_loops import Around, Loop, batch, build_loop

INSIDE = {
    "patch": lambda site, **where: ls.patch(site, value=0.5, **where),
    "zero": ls.ablate,
    "mean": lambda site, **where: ls.ablate(site, how="mean", **where),
    "add": lambda site, **where: ls.add(site, value=1.0, **where),
    "freeze": lambda site, iteration=0, **where: ls.freeze(site, iteration=iteration, **where),
}
HALTING = {"halt_at": lambda t: ls.halt_at(t), "bias": lambda t: ls.bias_halting(1.0, iteration=t)}
SCHEDULE = {"skip": ls.skip, "repeat": ls.repeat, "swap": lambda t: ls.swap(0, t)}

WAYS = {
    "an iteration beyond": {"iteration": 17},
    "a slice beyond": {"iteration": slice(17, 20)},
    "before the first": {"iteration": -17},
    "an empty slice": {"iteration": slice(4, 2)},
    "a position beyond": {"position": 17},
    "positions beyond": {"position": slice(17, None)},
    "a row beyond": {"batch": -17},
    "a turn beyond": {"low": 17},
    "turns beyond": {"low": slice(17, None)},
    "a turn from the end": {"low": -1},
    "a call beyond": {"call": 1},
    "an axis of no site": {"head": 1},
}
PARTLY = {"iteration": [1, 17], "position": [1, 17], "low": [1, 17], "call": [0, 1]}
"""Lists of which only a part exists."""


def refused(edits, match, model=None, **options):
    with pytest.raises(ls.LoopscopeError, match=match) as caught:
        ls.record(model or EditedLoop().eval(), TOKENS, edits=edits, **options)
    return str(caught.value)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", INSIDE)
def test_an_edit_of_what_isnt_there_names_itself_and_the_reason(kind, way):
    edit = INSIDE[kind]("hook_low", **WAYS[way])
    assert str(edit) in refused([edit], "never applied|must lie|must begin|select|no axis")


@pytest.mark.parametrize("axis", PARTLY)
@pytest.mark.parametrize("kind", ["patch", "zero", "mean", "add"])
def test_a_list_must_apply_at_each_of_its_numbers(kind, axis):
    refused([INSIDE[kind]("hook_low", **{axis: PARTLY[axis]})], "17|did not apply at call 1")
    whole = [number for number in PARTLY[axis] if number not in (17, 1 if axis == "call" else None)]
    ls.record(EditedLoop().eval(), TOKENS, edits=[INSIDE[kind]("hook_low", **{axis: whole})])


@pytest.mark.parametrize("kind", INSIDE)
def test_what_a_skipped_iteration_would_compute_cant_be_edited(kind):
    edit = INSIDE[kind]("hook_low", iteration=slice(2, 3))
    assert "Skipped: [2]" in refused([ls.skip(2), edit], "never applied")
    if kind != "freeze":
        both = INSIDE[kind]("hook_low", iteration=[1, 2])
        assert "did not apply at iteration 2" in refused([ls.skip(2), both], "Skipped")
        ls.record(EditedLoop().eval(), TOKENS, edits=[ls.skip(2), INSIDE[kind]("state", iteration=3)])


@pytest.mark.parametrize("kind", [*INSIDE, *HALTING, *SCHEDULE])
def test_a_loop_that_ended_before_the_iteration_says_so(kind):
    model = EditedLoop(limit=3).eval()
    make = (INSIDE | HALTING | SCHEDULE)[kind]
    edit = make("hook_low", iteration=4) if kind in INSIDE else make(4)
    text = refused([edit], "never applied|did not apply", model)
    assert "the loop ran 3 iterations of 6, and ended since every position had halted" in text
    model.train()  # the loop doesn't end early
    if kind != "freeze":
        ls.record(model, TOKENS, edits=[edit])


@pytest.mark.parametrize("kind", ["patch", "zero", "mean", "add"])
def test_a_site_outside_the_loop_has_no_iterations(kind):
    refused([INSIDE[kind]("before", iteration=0)], "'before' is called outside the loop")
    ls.record(EditedLoop().eval(), TOKENS, edits=[INSIDE[kind]("before")])


class Sometimes(EditedLoop):
    """The gate is passed in even iterations only."""

    def step(self, state, context, t):
        return self.attn.hook_q(super().step(state, context, t)) if t % 2 else state + 1


@pytest.mark.parametrize("kind", INSIDE)
def test_a_site_that_isnt_called_in_the_iteration_is_said(kind):
    edit = INSIDE[kind]("hook_low", iteration=slice(2, 3))
    refused([edit], r"'hook_low' was called in \[1, 3, 5\]", Sometimes().eval())


def test_a_resumed_run_is_edited_where_it_runs():
    model = EditedLoop().eval()
    run = ls.record(model, TOKENS)
    for edit in (ls.ablate("before"), ls.ablate("hook_low", iteration=1), ls.skip(1), ls.swap(1, 4)):
        with pytest.raises(ls.LoopscopeError, match="was not called in this pass|must lie in 2..5"):
            ls.resume(model, run, N, start=2, edits=[edit])
    once = ls.resume(model, run, N, start=2, edits=ls.ablate("hook_low", iteration=slice(1, 3)))
    assert torch.equal(once.output, ls.record(model, TOKENS, edits=ls.ablate("hook_low", iteration=2)).output)


@pytest.mark.parametrize(
    "way", ["an iteration beyond", "a slice beyond", "before the first", "a position beyond"]
)
@pytest.mark.parametrize("kind", INSIDE)
@pytest.mark.parametrize("site", ["state", "core_in", "core", "core.linear"])
def test_so_it_is_in_a_module_wrapped_by_its_body(site, kind, way):
    with pytest.raises(ls.LoopscopeError, match="never applied|must lie|must begin|can't be selected"):
        ls.record(ls.wrap(build_loop(Loop), body="core"), batch(), edits=[INSIDE[kind](site, **WAYS[way])])


def test_in_a_wrapped_module_a_skipped_iteration_isnt_edited_inside():
    wrapped = ls.wrap(build_loop(Around), body="core")
    for site in ("core", "core.linear", "core_in"):
        with pytest.raises(ls.LoopscopeError, match="never applied"):
            ls.record(wrapped, batch(), edits=[ls.skip(1), ls.ablate(site, iteration=1)])
        ls.record(wrapped, batch(), edits=[ls.skip(1), ls.ablate(site)])


@pytest.mark.parametrize("kind", SCHEDULE)
def test_a_schedule_names_iterations_that_run(kind):
    for number in (N, -N - 1, 1 << 70):
        refused([SCHEDULE[kind](number)], r"must lie in 0\.\.5")


def test_an_edit_that_applies_somewhere_is_no_error():
    model = EditedLoop().eval()
    for where in (
        {"iteration": slice(4, 99)},
        {"position": slice(3, 99)},
        {"low": slice(1, 99)},
        {"call": 0},
    ):
        assert ls.record(model, TOKENS, edits=ls.ablate("hook_low", **where)).origin["edits"]


PATTERNS = {
    "a pattern": ("attn.hook_*", ["attn.hook_q", "attn.hook_z", "attn.hook_pattern"]),
    "a list": (["attn.hook_q", "hook_low"], ["attn.hook_q", "hook_low"]),
    "a predicate": (lambda name: name.endswith("_q"), ["attn.hook_q"]),
}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("kind", INSIDE)
def test_a_pattern_edits_every_site_that_it_matches_and_the_run_names_them(kind, pattern):
    sites, names = PATTERNS[pattern]
    model = EditedLoop().eval()
    by_pattern = ls.record(model, TOKENS, sites=names, edits=INSIDE[kind](sites))
    one_by_one = ls.record(model, TOKENS, sites=names, edits=[INSIDE[kind](name) for name in names])
    assert by_pattern.origin["edits"] == one_by_one.origin["edits"] and len(names) == len(
        one_by_one.origin["edits"]
    )
    assert torch.equal(by_pattern.output, one_by_one.output)
    assert set(names) == set(ls.record(model, TOKENS, sites=sites).names) - {"state"}


def test_a_module_with_two_names_is_edited_once_by_a_pattern():
    model = EditedLoop().eval()
    once = ls.record(model, TOKENS, edits=ls.add("attn.hook_z", value=1.0))
    both = ls.record(model, TOKENS, edits=ls.add(["alias", "attn.hook_z"], value=1.0))
    assert torch.equal(both.output, once.output) and len(both.origin["edits"]) == 1


def test_a_pattern_that_matches_nothing_is_refused():
    for sites in ("attn.hook_x*", lambda name: False, [], "nothing"):
        refused([ls.ablate(sites)], "no site")
