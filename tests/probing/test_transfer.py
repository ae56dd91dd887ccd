"""Probes between iterations, of the iteration itself, and of relations, on states in which it is
known what there is."""

import pytest
import torch

import loopscope as ls
from loopscope import probing
from loopscope.common.errors import LoopscopeError

from ..toys.known_circuit import CLUE, LAST, READ, WHERE, WRITE, written
from .test_probes import BATCH, WIDTH, drawn, noise, states_of


def turning():
    """The label lies along one direction at iterations 0 and 1, and along another from 2 on."""
    labels, table = drawn(2, BATCH), 0.3 * noise(4, BATCH, 1, WIDTH)
    table[:2, :, 0, 0] += 3 * labels
    table[2:, :, 0, 1] += 3 * labels
    return states_of(table), labels


def test_a_probe_transfers_where_the_code_is_the_same_and_not_where_it_has_changed():
    run, labels = turning()
    result = ls.Probes.fit(run, labels, random=False).transfer(run)
    for i in range(4):
        for j in range(4):
            score = float(result.score[i, j])
            assert score > 0.95 if (i < 2) == (j < 2) else score < 0.7, (i, j)
    assert (
        (result.control < 0.65).all() and result.held_out == 1 and "trained at one iteration" in str(result)
    )


def test_the_diagonal_is_what_the_probes_scored():
    run, labels = turning()
    probes = ls.Probes.fit(run, labels, random=False)
    result = probes.transfer(run)
    assert torch.allclose(result.score.diagonal().double(), probes.score[0, :, 0])
    numbers = ls.Probes.fit(run, labels + 0.1 * noise(BATCH), random=False)
    assert torch.allclose(numbers.transfer(run).score.diagonal().double(), numbers.score[0, :, 0], atol=1e-5)


def test_what_was_learned_by_heart_does_not_transfer_to_the_same_examples():
    """The same noise at all iterations: a probe that had seen an example would know it again."""
    table = noise(1, 100, 1, 120).expand(3, 100, 1, 120).clone()
    run, labels = states_of(table), drawn(2, 100)
    result = ls.Probes.fit(run, labels, random=False).transfer(run)
    assert result.score.max() < 0.7


def test_others_are_judged_by_probes_trained_on_all_and_need_labels():
    run, labels = turning()
    probes = ls.Probes.fit(run, labels, random=False)
    other, theirs = turning()
    other.tokens = other.tokens + 1000
    result = probes.transfer(other, theirs)
    assert result.held_out == 0 and float(result.score[0, 0]) > 0.95
    with pytest.raises(LoopscopeError, match="200 of 200 are others. Pass labels="):
        probes.transfer(other)
    with pytest.raises(LoopscopeError, match="labels must be classes of the probes"):
        probes.transfer(other, theirs + 5)
    with pytest.raises(LoopscopeError, match="a transfer needs a run to test on"):
        probes.transfer()
    with pytest.raises(LoopscopeError, match="the states must be 8 wide"):
        probes.transfer(states_of(noise(1, BATCH, 1, 3)), labels)


def test_a_written_fact_stays_where_it_is_written():
    run = written(240)
    result = ls.Probes.fit(run, run.tokens[:, CLUE], random=False).transfer(run, position=WHERE)
    assert (result.score[WRITE + 1 :, WRITE + 1 :] == 1).all() and (result.score[:, : WRITE + 1] < 0.4).all()
    with pytest.raises(LoopscopeError, match="pass position="):
        ls.Probes.fit(run, run.tokens[:, CLUE], random=False).transfer(run)


# Which iteration is it?


def test_a_clock_in_the_state_is_read():
    table = noise(5, BATCH, 2, WIDTH)
    table[..., 0] += 8 * torch.arange(5)[:, None, None]
    result = probing.probe_iteration(states_of(table))
    assert result.accuracy > 0.99 and result.confusion.diagonal().min() > 0.98 and result.error < 0.02
    assert abs(result.control - 0.2) < 0.05 and result.chance == pytest.approx(0.2)


def test_states_that_rest_can_not_be_told_apart():
    table = noise(1, BATCH, 1, WIDTH).expand(6, BATCH, 1, WIDTH).clone()
    table[:3] += 10 * noise(3, 1, 1, WIDTH, seed=5)
    result = probing.probe_iteration(states_of(table))
    assert result.confusion[:3].diagonal()[:3].min() > 0.95
    assert result.confusion[3:].diagonal(offset=3).mean() < 0.6, "three that are one"
    assert result.low < result.accuracy < result.high


def test_a_clock_that_is_the_norm_alone_is_gone_without_it():
    directions = torch.nn.functional.normalize(noise(5, BATCH, 1, WIDTH), dim=-1)
    table = directions * torch.tensor([1.0, 2, 4, 8, 16])[:, None, None, None]
    result = probing.probe_iteration(states_of(table))
    assert result.norm == 1 and result.direction < 0.3
    still = probing.probe_iteration(states_of(table[:, :1].expand(5, BATCH, 1, WIDTH) + 0))
    assert still.groups == BATCH
    with pytest.raises(LoopscopeError, match="must be two or more"):
        probing.probe_iteration(states_of(table[:1]))


def test_an_examples_states_are_never_on_both_sides():
    """Each example stays where it is, and nothing tells the iteration."""
    table = 5 * noise(1, 60, 1, 100) + 0.1 * noise(3, 60, 1, 100, seed=2)
    result = probing.probe_iteration(states_of(table.expand(3, 60, 1, 100) + 0))
    assert result.low < 1 / 3 < result.high


# Relations


def related(seed=0, code=3.0, size=BATCH):
    """A hidden rank in one direction, behind a much larger disturbance that both examples of a pair
    share."""
    rank = noise(size, seed=10 + seed)
    shared = 20 * noise(size // 2, seed=20 + seed).repeat_interleave(2)
    table = 0.3 * noise(2, size, 1, WIDTH, seed=seed)
    table[1, :, 0, 0] += code * rank + shared
    pairs = torch.arange(size).view(-1, 2)
    return states_of(table), pairs, rank[pairs[:, 0]] > rank[pairs[:, 1]]


def test_a_relation_is_read_from_the_difference_though_no_state_alone_tells_it():
    run, pairs, holds = related()
    result = probing.fit_pairs(run, pairs, holds)
    assert float(result.score[1]) > 0.9 and float(result.single[1]) < 0.65
    assert float(result.score[0]) < 0.65 and (result.control < 0.62).all()
    assert float(result.flip[1]) > 0.9 and result.untested == 0 and result.pairs == BATCH // 2
    assert float(result.low[1]) < float(result.score[1]) < float(result.high[1])


def test_a_constant_passes_in_the_order_given_and_fails_the_flip_test():
    run, pairs, holds = related()
    ordered = torch.where(holds[:, None], pairs, pairs.flip(1))  # the preferred one always first
    always = torch.ones(len(pairs), dtype=torch.bool)
    told = probing.fit_pairs(run, ordered, always, swap=False)
    assert (told.ordered == 1).all() and (told.flip == 0).all() and (told.score == 0.5).all()
    honest = probing.fit_pairs(run, ordered, always)
    assert float(honest.score[1]) > 0.9 and float(honest.flip[1]) > 0.9 and float(honest.score[0]) < 0.65


def test_a_bias_lowers_the_strict_flip_rate_and_is_taken_off():
    run, pairs, holds = related(code=0.4)
    mostly = torch.where((torch.arange(len(pairs)) % 6 > 0) | holds, 1, 0).bool()
    ordered = torch.where((mostly == holds)[:, None], pairs, pairs.flip(1))  # five of six hold as given
    told = probing.fit_pairs(run, ordered, mostly, swap=False)
    assert float(told.flip[1]) < 0.75 < 0.95 < float(told.flip_unbiased[1])


def test_pairs_that_share_an_example_are_on_one_side_and_those_across_are_not_tested():
    run, *_ = related()
    rank = run.states[1][:, 0, 0]
    every = torch.tensor([(i, j) for i in range(0, 60) for j in range(i + 1, 60)])
    result = probing.fit_pairs(run, every, rank[every[:, 0]] > rank[every[:, 1]])
    assert result.untested + result.pairs == len(every) and result.untested > result.pairs
    assert float(result.score[1]) > 0.95
    assert f"{result.untested} pairs were not tested" in str(result)


def test_relations_drawn_by_lot_are_not_read():
    inside = 0
    for seed in range(12):
        run, pairs, _ = related(seed)
        result = probing.fit_pairs(run, pairs, drawn(2, len(pairs), seed=seed).bool(), iterations=[1])
        inside += bool(result.low[0] <= 0.5 <= result.high[0])
    assert inside >= 10


@pytest.mark.parametrize(
    ("pairs", "relation", "options", "sentence"),
    [
        (torch.zeros(3, 3), torch.zeros(3), {}, r"pairs must be \(pair, 2\) numbers of examples"),
        (torch.tensor([[0, 0]]), torch.zeros(1), {}, r"two different examples of 0\.\.199"),
        (torch.tensor([[0, 900]]), torch.zeros(1), {}, r"two different examples of 0\.\.199"),
        (torch.tensor([[0, 1]]), torch.zeros(1), {}, "must have both examples in one fold to be tested"),
        (torch.tensor([[0, 1]]), torch.zeros(1), {"form": "sum"}, "form must be 'difference' or 'both'"),
    ],
)  # fmt: skip
def test_pairs_that_are_none_get_a_sentence(pairs, relation, options, sentence):
    with pytest.raises(LoopscopeError, match=sentence):
        probing.fit_pairs(related()[0], pairs, relation, **options)


def test_all_of_them_draw_themselves():
    run, labels = turning()
    probes = ls.Probes.fit(run, labels, random=False)
    drawn_ones = [probes, probes.transfer(run), probing.probe_iteration(run), probing.fit_pairs(*related())]
    drawn_ones.append(ls.Probes.fit(written(60), written(60).tokens[:, CLUE], random=False))
    for one in drawn_ones:
        figure = one.figure()
        assert figure.layout.title.text and figure.layout.xaxis.title.text and figure.layout.yaxis.title.text
    assert READ < LAST + 1
