"""Modular addition and composition: what they ask, and what is kept apart."""

import pytest
import torch

import loopscope as ls


def test_every_pair_is_in_exactly_one_split_and_its_answer_is_the_sum():
    task = ls.tasks.modular_addition(modulus=13, share=0.3)
    train, test = task.full_batch("train"), task.full_batch("test")
    pairs = {tuple(row) for batch in (train, test) for row in batch.tokens[:, :2].tolist()}
    assert len(train) + len(test) == 169 == len(pairs)
    assert 0.15 < len(train) / 169 < 0.45
    for batch in (train, test):
        a, b = batch.tokens[:, 0], batch.tokens[:, 1]
        assert torch.equal(batch.targets[batch.mask], (a + b) % 13)
        assert bool((batch.mask.sum(1) == 1).all()) and bool(batch.mask[:, 2].all())


def test_batches_come_from_their_split():
    task = ls.tasks.modular_addition(modulus=13)
    for split in ("train", "test"):
        rows = {tuple(row) for row in task.full_batch(split).tokens.tolist()}
        assert {tuple(row) for row in task.batch(500, 1, split).tokens.tolist()} <= rows


def test_a_task_without_a_list_says_so():
    with pytest.raises(ls.LoopscopeError, match="must list its examples"):
        ls.tasks.prefix_parity().full_batch("train")


def test_answers_of_a_composition_follow_the_table():
    task = ls.tasks.composition(entities=9, relations=5)
    batch = task.batch(200, 0, "train")
    head, first, second = batch.tokens[:, 0], batch.tokens[:, 1] - 9, batch.tokens[:, 2] - 9
    for row in range(200):
        bridge = task.table[head[row], first[row]]
        assert int(batch.targets[row, 2]) == int(task.table[bridge, second[row]])
    facts = task.batch(100, 0, "train", hops=1)
    late = facts.tokens[:, 0] == task.vocabulary - 1  # the same facts, one place further
    assert 30 < int(late.sum()) < 70 and bool((facts.mask.sum(1) == 1).all())
    for row, place in enumerate(late.long().tolist()):
        head, relation = facts.tokens[row, place], facts.tokens[row, place + 1]
        assert bool(facts.mask[row, place + 1])
        assert int(facts.targets[row, place + 1]) == int(task.table[head, relation - 9])


def test_new_facts_are_trained_alone_and_never_combined():
    task = ls.tasks.composition(entities=12, relations=6, new=0.25)

    def facts_of(batch):
        head, first, second = batch.tokens[:, 0], batch.tokens[:, 1] - 12, batch.tokens[:, 2] - 12
        bridge = task.table[head, first]
        return task.new_facts[head, first], task.new_facts[bridge, second]

    for split in ("train", "test"):
        one, two = facts_of(task.batch(400, 0, split))
        assert not bool((one | two).any()), split
    for ask, wanted in {"new": (True, True), "first": (True, False), "second": (False, True)}.items():
        one, two = facts_of(task.batch(200, 0, "test", ask=ask))
        assert bool((one == wanted[0]).all()) and bool((two == wanted[1]).all()), ask
        with pytest.raises(ls.LoopscopeError, match="must have examples for train"):
            task.batch(8, 0, "train", ask=ask)
    facts = task.batch(2000, 0, "train", hops=1).tokens
    assert len({tuple(row) for row in facts.tolist()}) == 144  # all of them, the new ones too, at both places


def test_worlds_differ_by_their_seed_and_options_are_checked():
    one, other = (ls.tasks.composition(world=seed) for seed in (0, 1))
    assert not torch.equal(one.table, other.table) and torch.equal(one.table, ls.tasks.composition().table)
    with pytest.raises(ls.LoopscopeError, match="hops must be 1 or 2"):
        ls.tasks.composition(hops=3)
    with pytest.raises(ls.LoopscopeError, match="ask must be 'known' or 'new'"):
        ls.tasks.composition(ask="old")
    with pytest.raises(ls.LoopscopeError, match="share must lie between 0 and 1"):
        ls.tasks.modular_addition(share=1.0)
    with pytest.raises(ls.LoopscopeError, match="needs an entity"):
        one.solve(torch.zeros(2, 3, dtype=torch.long))
