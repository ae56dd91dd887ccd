"""What lenses find in trained entries; the numbers are in the notebook and in the entries'
cards."""

import pytest
import torch

import loopscope as ls

pytestmark = pytest.mark.zoo


def standing(read, ids, rows):
    """The mean rank of a token at the last position by iteration, and its standard error."""
    rank = read.rank(ids)[0][:, rows, -1]
    return rank.mean(1), rank.std(1) / rank.shape[1] ** 0.5


def control(*known, count):
    """For each example a value of 0..count-1 that is none of the known ones."""
    taken = torch.zeros(len(known[0]), count, dtype=torch.bool)
    for values in known:
        taken[torch.arange(len(values)), values] = True
    draw = torch.rand(taken.shape, generator=torch.Generator().manual_seed(0)).masked_fill(taken, -1)
    return torch.where(taken.all(1), -1, draw.argmax(1))


def test_in_prefix_parity_the_front_of_answers_moves_along_the_string():
    model = ls.models.load("universal-prefix-parity")
    run = ls.record(model, model.task.batch(128, seed=0).tokens)
    settled = ls.lens(run, "coda").settling_iteration()[0][:, 1:].double().mean(0)
    assert (settled[2:] > settled[:-2]).all(), "two positions on, an answer is later"
    steps = (settled[-1] - settled[0]) / (len(settled) - 1)
    assert 0.4 < float(steps) < 1.2, "iterations for each position"


def test_in_mano_the_value_of_a_part_is_never_nearer_than_a_number_that_has_nothing_to_do_with_it():
    model = ls.models.load("ouro-mano")
    task = model.task
    batch = task.label(torch.cat([task.batch(1024, seed=seed).tokens for seed in (0, 1)]))
    run = ls.record(model, batch.tokens)
    answer, place = batch.targets[:, -1], (batch.tokens == task.vocabulary - 3).int().argmax(1) + 3
    part = batch.values.gather(1, place[:, None])[:, 0]
    worked_out = batch.tokens.gather(1, place[:, None])[:, 0] >= task.modulus
    rows = worked_out & (part != answer) & (run.output[:, -1].argmax(-1) == answer)
    assert rows.sum() > 200
    read = ls.lens(run, "coda")
    mean, off = standing(read, part, rows)
    other, _ = standing(read, control(part, answer, count=task.modulus), rows)
    assert (mean > other - 3 * 2**0.5 * off).all()
    own, _ = standing(read, answer, rows)
    assert (own[1:] < mean[1:] - 1).all(), "while the answer is there from the first iteration on"


def test_in_hops_the_nodes_on_the_way_are_never_nearer_than_a_node_that_is_not_on_it():
    model = ls.models.load("huginn-hops")
    batch = model.task.batch(1024, seed=0, exactly=3)
    run = ls.record(model, batch.tokens, seed=0)
    path = batch.path[:, :4]
    distinct = (path.sort(1).values.diff(dim=1) > 0).all(1)
    rows = distinct & (run.output[:, -1].argmax(-1) == batch.targets[:, -1])
    assert rows.sum() > 60
    read = ls.lens(run, "coda")
    other, off = standing(read, control(*path.T, count=model.task.nodes), rows)
    for hop in (1, 2):
        mean, own = standing(read, path[:, hop], rows)
        assert (mean[1:] > other[1:] - 3 * (off + own)[1:]).all()
    assert float(standing(read, path[:, 3], rows)[0][2]) < 1.2, "while the answer is, after two iterations"


def test_what_the_coda_does_to_huginns_state_the_logit_lens_lacks():
    model = ls.models.load("huginn-hops")
    batch = model.task.batch(512, seed=0)
    run = ls.record(model, batch.tokens, seed=0)
    last = run.output[:, -1].argmax(-1)
    logit = ls.lens(run, "logit", check=False).answers()[0, -1, :, -1]
    assert float((logit == last).double().mean()) < 0.4, "the nodes alone are six"
