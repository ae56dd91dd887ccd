"""Until which iteration an input still changes the answer, on loops that read it so long."""

import pytest
import torch

import loopscope as ls
from loopscope.analyses.depth_use.integration_window import IntegrationWindows, integration_windows  # pyright: ignore[reportMissingImports]
from loopscope.common import discovery

from ..toys.reading_loops import Passes, Reads, depth_of, reads

N, BATCH = 12, 64
K = torch.arange(N + 1)[:, None, None]
PLACE = torch.arange(9)[None, None]


def test_the_window_of_an_input_ends_where_it_is_read():
    tokens = reads()
    run = ls.record(Reads().eval(), tokens)
    result = ls.analyses.measure(
        "depth_use", run, difficulty=tokens[:, 1], unit="when", max_inputs=None, points=None
    )
    windows = result.windows
    assert (windows.position == 0).sum() > 40 and windows.iterations == tuple(range(9))
    fact = windows.position == 0
    assert torch.equal(windows.end[fact], tokens[windows.item[fact], 1].double())
    assert torch.equal(windows.changes[fact], windows.state_changes[fact]), (
        "the context is never read, so the state is all that there is"
    )
    for row, when in zip(windows.changes[fact], tokens[windows.item[fact], 1], strict=True):
        assert row.tolist() == [k <= when for k in range(9)]
    assert depth_of(result, "window").slope.slope == pytest.approx(1)


def test_what_is_read_on_and_on_turns_the_answer_as_long_as_it_can_still_arrive():
    tokens = torch.randint(0, 8, (40, 4), generator=torch.Generator().manual_seed(1))
    run = ls.record(Passes().eval(), tokens)
    result = ls.analyses.measure("depth_use", run, difficulty=tokens[:, 1], max_inputs=None, points=None)
    windows = result.windows
    # three iterations carry it from the first place to the last, and the one before them reads it
    assert set(windows.position.tolist()) == {0} and (windows.end == 8 - 3).all()
    assert windows.changes.tolist() == [[k <= 5 for k in range(9)]] * len(windows.item)
    assert windows.state_changes.tolist() == [[k == 5 for k in range(9)]] * len(windows.item), (
        "later tokens overwrite the others"
    )
    assert windows.late_fraction == 1 and "keeps reading" in str(result)


def test_a_fact_that_is_read_from_the_context_has_its_window_there():
    from ..toys.known_circuit import CLUE, WRITE, written

    run = written(60)
    result = ls.analyses.measure(
        "depth_use", run, difficulty=torch.arange(60) % 3, max_inputs=None, points=None
    )
    windows = result.windows
    assert set(windows.position.tolist()) == {CLUE}, "the idle fact is read too, but answers nothing"
    assert (windows.end == WRITE).all() and not windows.state_changes.any()
    assert windows.candidates == 60 * 5


def test_no_clue_is_said_so():
    tokens = reads()
    tokens[:, 1] = 7
    model = Reads().eval()
    run = ls.record(model, tokens, 4)  # it ends before anything is read
    result = ls.analyses.measure("depth_use", run, difficulty=torch.arange(60) % 3)
    assert (
        not len(result.windows.item)
        and result.changes_by_level is None
        and "No relevant input was found" in str(result)
    )
    assert len(discovery.module("analyses", "depth_use").panels(result)) == 1


@pytest.mark.parametrize("entry", ["universal-prefix-parity", "ouro-mano", "huginn-hops", "trm-sudoku"])
def test_a_clue_is_where_another_token_turns_the_answer(entry):
    """Where only the embedding comes before the loop, exchanging it there is the same; after the
    last iteration it is nothing."""
    model = ls.models.load(entry)
    batch = model.task.batch(12, seed=0)
    run = ls.record(model, batch.tokens, seed=0)
    answer_positions = batch.mask.clone()
    if entry == "universal-prefix-parity":
        answer_positions[:, :-1] = False
    windows = integration_windows(
        run, torch.arange(12), answer_positions, causal=False, max_inputs=12, points=4, seed=0
    )
    assert windows.candidates == 24 and len(windows.item) == min(windows.relevant, 12)
    if entry == "universal-prefix-parity":  # every earlier bit turns the last parity
        assert windows.relevant == 24
    assert f"{windows.relevant} of 24 tested inputs are relevant" in windows.sentence
    assert ("drawn at random were measured" in windows.sentence) == (windows.relevant > 12)
    if (
        entry == "huginn-hops"
    ):  # its prelude spreads the token, its coda looks at other positions, its start is drawn anew
        return
    assert not windows.changes[:, -1].any() and not windows.state_changes[:, -1].any()
    assert windows.changes[:, 0].all()
    other = batch.tokens[windows.item].clone()
    other[torch.arange(len(other)), windows.position] = windows.token
    turned = ls.record(model, other).output.argmax(-1) != run.output[windows.item].argmax(-1)
    assert (turned & answer_positions[windows.item]).any(1).all()


@pytest.mark.parametrize(
    ("late", "words"),
    [
        (0, "by then it has integrated its inputs"),
        (1, "by then it has integrated most of its inputs"),
        (2, "the loop keeps reading half of its inputs or more"),
        (4, "the loop keeps reading its inputs"),
    ],
)
def test_what_is_said_of_inputs_follows_from_how_many_still_change_the_answer(late, words):
    changes = torch.ones(4, 3, dtype=torch.bool)
    changes[late:, 1:] = False
    windows = IntegrationWindows(
        torch.arange(4), torch.zeros(4).long(), torch.ones(4).long(), (0, 2, 4), changes, changes, 4, 4
    )
    assert f": {words}." in windows.sentence
