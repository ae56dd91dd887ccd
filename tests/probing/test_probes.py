"""Probes on states in which it is known what they hold: they find it where it is, and chance where
it isn't."""

import numpy as np
import pytest
import torch

import loopscope as ls
from loopscope.common.errors import LoopscopeError

from ..toys.known_circuit import CLUE, IDLE, LAST, READ, WHERE, WRITE, written
from ..toys.known_maps import Map

BATCH, WIDTH = 200, 8


def states_of(table):
    """A run whose states are the rows of a table, (iteration, batch, position, width)."""
    places = torch.arange(table.shape[1])[:, None].expand(-1, table.shape[2])
    model = Map(lambda x: x, table.shape[-1]).eval()
    model.encode = lambda tokens: table[0]
    model.step = lambda state, context, t: table[t + 1]
    return ls.record(model, places, len(table) - 1)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def drawn(high, *shape, seed=1):
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(seed))


def test_a_fact_is_found_where_and_when_it_is_written_and_nowhere_else():
    run = written(240)
    probes = ls.Probes.fit(run, run.tokens[:, CLUE], random=False)
    for k in range(run.iterations + 1):
        for position in range(6):
            there = (position == WHERE and k > WRITE) or (position == LAST and k > READ)
            score = float(probes.score[0, k, position])
            assert score == 1 if there else score < 0.36, (k, position)
            assert bool(probes.decodable[0, k, position]) == there


def test_a_fact_that_nothing_reads_is_found_as_well():
    run = written(240)
    probes = ls.Probes.fit(run, run.tokens[:, IDLE], random=False)
    assert (probes.score[0, WRITE + 1 :] == 1).all() and (probes.score[0, : WRITE + 1] < 0.36).all()
    # and it is not what the answer comes from: no patch of it changes anything
    donor = written(240, seed=1)
    swapped = ls.record(
        run.model,
        run.tokens,
        edits=[ls.patch("state", value=donor.states[READ], iteration=READ, position=IDLE)],
    )
    assert torch.allclose(swapped.output, run.output, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 5])
def test_shuffled_labels_and_states_of_noise_give_chance_within_the_interval(classes):
    inside, alarms = [], 0
    for seed in range(20):
        run = states_of(noise(2, BATCH, 1, WIDTH, seed=seed))
        probes = ls.Probes.fit(run, drawn(classes, BATCH, seed=100 + seed), random=False)
        inside.append(bool((probes.low < 1 / classes).all() and (probes.high > 1 / classes).all()))
        assert (probes.control - 1 / classes).abs().max() < 0.12
        alarms += int(probes.learned.sum())
    assert alarms <= 3, "one of forty lies above its interval by chance"
    assert sum(inside) >= 16, "each of two intervals misses in one of twenty cases at most"


def test_control_labels_are_the_labels_exchanged_between_examples():
    run = states_of(noise(2, BATCH, 4, WIDTH))
    labels = drawn(3, BATCH, 4)
    from loopscope.probing.labels import checked_labels, shuffled_labels

    checked = checked_labels(labels, batch=BATCH, positions=4)
    control = shuffled_labels(checked, np.arange(BATCH), seed=0, count=2)
    for one in control:
        assert (np.sort(one, axis=0) == np.sort(labels.numpy(), axis=0)).all(), "as frequent at each position"
        rows = {tuple(row) for row in labels.tolist()}
        assert all(tuple(row) in rows for row in one.tolist()), "whole examples are exchanged"
    assert not (control[0] == control[1]).all()
    assert ls.Probes.fit(run, labels, random=False).control.max() < 0.45


def test_equal_inputs_are_one_group_so_that_nothing_is_learned_by_heart():
    half = noise(1, 50, 1, 200)
    table = torch.cat([half, half], 1)
    labels = drawn(2, 50).repeat(2)
    model = Map(lambda x: x, 200).eval()
    model.encode = lambda tokens: table[0]
    run = ls.record(model, torch.arange(50).repeat(2)[:, None], 0)
    probes = ls.Probes.fit(run, labels, random=False)
    assert float(probes.score) < 0.75, "noise, though each example stands there twice"
    assert probes.groups == 50 and "100 examples make 50 groups" in str(probes)
    # were they not, it could be
    run.tokens = torch.arange(100)[:, None]
    assert float(ls.Probes.fit(run, labels, random=False).score) > 0.85


def test_a_split_that_leaks_is_refused_and_groups_that_leak_are_joined():
    run = states_of(noise(1, BATCH, 1, WIDTH))
    run.tokens = (torch.arange(BATCH) // 2)[:, None]
    with pytest.raises(
        LoopscopeError, match="examples 0 and 1 are equal or of one group and stand in the folds 0 and 1"
    ):
        ls.Probes.fit(run, drawn(2, BATCH), folds=torch.arange(BATCH) % 2)
    with pytest.warns(ls.LoopscopeWarning, match="held equal inputs and were joined"):
        probes = ls.Probes.fit(run, drawn(2, BATCH), groups=torch.arange(BATCH), random=False)
    assert probes.groups == BATCH // 2
    fine = ls.Probes.fit(run, drawn(2, BATCH), folds=torch.arange(BATCH) // 2 % 2, random=False)
    assert fine.folds == 2


def test_groups_given_by_hand_stay_on_one_side():
    run = states_of(noise(1, BATCH, 1, WIDTH))
    groups = [f"story {i // 4}" for i in range(BATCH)]
    probes = ls.Probes.fit(run, drawn(2, BATCH), groups=groups, random=False)
    assert probes.groups == BATCH // 4
    assert all(len(set(probes.fold[i : i + 4].tolist())) == 1 for i in range(0, BATCH, 4))


def test_positions_of_an_example_are_never_on_both_sides():
    """Each example has a signature in all its positions, and one label: read together it could be
    learned by heart."""
    table = noise(1, BATCH, 1, 60).expand(1, BATCH, 6, 60) + 0.01 * noise(1, BATCH, 6, 60, seed=3)
    labels = drawn(2, BATCH)[:, None].expand(BATCH, 6)
    assert float(ls.Probes.fit(states_of(table), labels, random=False).score) < 0.65


def test_the_mean_over_positions_reads_what_no_position_tells():
    labels = drawn(2, BATCH)
    table = 3 * noise(1, BATCH, 40, WIDTH)
    table[..., 0] += labels[:, None] * 1.5
    run = states_of(table)
    pooled = ls.Probes.fit(run, labels, positions="pooled", random=False)
    each = ls.Probes.fit(run, labels, positions=[0, -1], random=False)
    assert float(pooled.score) > 0.9 > 0.75 > float(each.score.max())
    assert each.positions == (0, 39)


def test_the_mean_is_over_the_positions_that_the_mask_leaves():
    labels = drawn(2, BATCH)
    table = noise(1, BATCH, 8, WIDTH)
    table[:, :, 6:, 0] += 5 * labels[:, None]
    table[:, :, :6] *= 100
    mask = (torch.arange(8) >= 6).expand(BATCH, 8)
    probes = ls.Probes.fit(states_of(table), labels, mask=mask, positions="pooled", random=False)
    assert float(probes.score) > 0.97


def test_numbers_are_read_with_r2_and_their_control_is_not_above_the_mean():
    table, labels = noise(2, BATCH, 1, WIDTH), noise(BATCH, seed=5)
    table[1, :, 0, 2] = 7 * labels + 100 + noise(BATCH, seed=6)
    probes = ls.Probes.fit(states_of(table), labels, random=False)
    assert probes.kind == "numbers"
    assert float(probes.score[0, 0]) < 0.05 < 0.95 < float(probes.score[0, 1]), (
        "49 of 50 parts of the variance are told"
    )
    assert probes.low[0, 1] < 0.98 < probes.high[0, 1]
    assert float(probes.control[0, 1]) < 0.05
    with pytest.raises(LoopscopeError, match="numbers have no accuracy, but R²"):
        _ = probes.accuracy


def test_the_probe_that_is_kept_says_the_labels_as_they_were_given():
    labels = torch.tensor([10, 20, 40])[drawn(3, BATCH)]
    table = noise(2, BATCH, 1, WIDTH)
    table[1, :, 0, :3] += 6 * torch.stack([labels == c for c in (10, 20, 40)], -1)
    run = states_of(table)
    probes = ls.Probes.fit(run, labels, random=False)
    said = probes.at(1).predict(run.states[1])
    assert (said[:, 0] == labels).float().mean() > 0.98 and probes.classes == (10, 20, 40)
    assert torch.equal(probes.at(-1).predict(run.states[1]), said)
    with pytest.raises(LoopscopeError, match="this probe reads states of width 8, but got"):
        probes.at(1).predict(torch.zeros(2, 3))
    words = ls.Probes.fit(run, [f"w{one}" for one in labels.tolist()], random=False)
    assert words.classes == ("w10", "w20", "w40") and torch.equal(words.score, probes.score)


# Random features, and what is told beside


def test_random_features_are_those_of_an_untrained_model_of_the_same_architecture():
    model = ls.models.load("universal-prefix-parity")
    batch = model.task.batch(60, seed=0)
    run = ls.record(model, batch.tokens, 6)
    probes = ls.Probes.fit(run, "answer", iterations=[0, 6])
    fresh = ls.models.build("universal", seed=0, **vars(model.config)).eval()
    other = ls.record(fresh, batch.tokens, 6)
    assert "untrained model of the same architecture" in str(probes)
    assert torch.allclose(probes.random, ls.Probes.fit(run, "answer", iterations=[0, 6], random=other).random)
    assert float(probes.random.max()) < 0.65 < float(probes.score.max())


def test_random_functions_of_the_input_know_the_input_and_not_a_fact_outside_it():
    run = written(240)
    clue = ls.Probes.fit(run, run.tokens[:, CLUE], iterations=[8], positions=[LAST])
    lot = ls.Probes.fit(run, drawn(4, 240, seed=9), iterations=[8], positions=[LAST])
    assert "random functions of the input" in str(clue)
    assert float(clue.random) > 0.7 and float(lot.random) < 0.4


def test_what_is_told_beside_is_part_of_the_floor():
    labels, table = drawn(2, BATCH), noise(1, BATCH, 1, WIDTH)
    table[0, :, 0, 0] += 5 * labels
    run = states_of(table)
    told = ls.Probes.fit(run, labels, random=False, baseline_labels=[1 - labels, drawn(3, BATCH, seed=4)])
    lot = ls.Probes.fit(run, labels, random=False, baseline_labels=drawn(3, BATCH, seed=4))
    assert float(told.baseline) == 1 and not told.learned.any() and told.decodable.all()
    assert float(lot.baseline) < 0.65 and lot.learned.all()


# What is left out, and what is refused


def test_rows_that_have_left_the_loop_are_left_out_and_it_is_said():
    from loopscope.core.states import States

    labels, table = drawn(2, BATCH), noise(3, BATCH, 1, WIDTH)
    table[2, :, 0, 0] += 5 * labels
    run = states_of(table)
    there = torch.arange(BATCH) < 120
    last = table[2].clone()
    last[~there] = float("nan")
    values = {(0,): table[0], (1,): table[1], (2,): last}
    ragged = run.with_sites({"state": States("state", values, run.states.axes, 3, rows={(2,): there})})
    probes = ls.Probes.fit(ragged, labels, random=False)
    assert probes.rows[0, :, 0].tolist() == [BATCH, BATCH, 120]
    assert float(probes.score[0, 2]) > 0.95 and "later iterations have fewer" in str(probes)


def test_positions_without_labels_are_nan_and_it_is_said():
    run, labels = states_of(noise(2, BATCH, 3, WIDTH)), drawn(2, BATCH, 3)
    mask = torch.ones(BATCH, 3, dtype=torch.bool)
    mask[:, 1], labels[:, 2] = False, 1
    probes = ls.Probes.fit(run, labels, mask=mask, positions="each", random=False)
    assert probes.score[0, 0].isnan().tolist() == [False, True, True]
    assert "4 of 6 probes had too few labels, or labels all alike" in str(probes)


@pytest.mark.parametrize(
    ("labels", "options", "sentence"),
    [
        (drawn(2, 7), {}, r"labels must be of the shape \(200,\), one for each example, or \(200, 2\)"),
        (torch.zeros(200), {}, "labels must vary to be learned, but all are 0"),
        (torch.zeros(200, dtype=torch.long), {}, "two classes or more to be separated, but all are 0"),
        (torch.full((200,), torch.nan), {}, "labels must be finite"),
        (torch.arange(200), {"kind": "classes"}, "each class must come in 5 groups of examples or more"),
        (torch.arange(200), {"kind": "ranks"}, "kind must be 'classes' or 'numbers'"),
        (drawn(2, 200), {"positions": [2]}, r"positions must lie in 0\.\.1"),
        (drawn(2, 200), {"positions": "all"}, "positions must be numbers, 'each', 'shared' or 'pooled'"),
        (drawn(2, 200, 2), {"positions": "pooled"}, "needs one label for each example, but an example has "
                                                    "several"),
        (drawn(2, 200), {"folds": 150}, "150 folds need 300 groups of examples or more, but there are 200"),
        (drawn(2, 200), {"groups": torch.zeros(200)}, "5 folds need 10 groups of examples or more, but "
                                                      "there are 1"),
        (drawn(2, 200), {"mask": torch.zeros(200)}, "the mask leaves none"),
        (drawn(2, 200), {"sites": "core.0"}, "'core.0' was not recorded in this run"),
        (drawn(2, 200), {"iterations": [7]}, r"be among those recorded .*, but iterations \[7\] are absent"),
        (drawn(2, 200), {"control": "none"}, "control must be 'shuffled' or 'tokens'"),
        (drawn(2, 200), {"random": "weights"}, "random must be 'untrained' or 'projection'"),
        (drawn(2, 200), {"random": "untrained"}, 'Pass random="projection" instead'),
        ("answer", {}, "the fact 'answer' comes from the task of the run's model, but this run has none"),
        (None, {}, "a probe needs labels to learn"),
        ({1: 2}, {}, "labels must be an array, a tensor or a list"),
    ],
)  # fmt: skip
def test_what_can_not_be_probed_gets_a_sentence(labels, options, sentence):
    with pytest.raises(LoopscopeError, match=sentence):
        ls.Probes.fit(states_of(noise(2, 200, 2, WIDTH)), labels, **options)


def test_a_fact_that_the_task_does_not_tell_leads_to_those_it_does():
    model = ls.models.build("universal", vocabulary=3, width=16)
    model.task = ls.tasks.prefix_parity(length=8)
    run = ls.record(model, model.task.batch(40, seed=0).tokens, 1)
    with pytest.raises(
        LoopscopeError, match="prefix-parity has no fact called 'anwser'. Did you mean 'answer'"
    ):
        ls.Probes.fit(run, "anwser")


def test_control_labels_of_tokens_are_a_function_of_the_token():
    from loopscope.probing.labels import checked_labels, token_type_labels

    tokens = drawn(5, 40, 6)
    control = token_type_labels(checked_labels(drawn(2, 40, 6), batch=40, positions=6), tokens, 0, 2)
    for one in control:
        assert all(len(np.unique(one[tokens.numpy() == word])) == 1 for word in range(5))
    model = ls.models.build("universal", vocabulary=5, width=16)
    run = ls.record(model.eval(), tokens, 1)
    assert (
        float(ls.Probes.fit(run, drawn(2, 40, 6), control="tokens", iterations=[0], random=False).control)
        > 0.95
    )
