"""The facts of each task, against the rule worked out again by hand."""

import pytest
import torch

import loopscope as ls


def facts_of(task, size=200, seed=0, **difficulty):
    batch = task.batch(size, seed=seed, **difficulty)
    return batch, task.facts(batch.tokens)


@pytest.mark.parametrize("name", ls.tasks.names())
def test_every_task_tells_its_answer_and_shapes_that_fit(name):
    batch, facts = facts_of(ls.tasks.build(name), 40)
    answer = facts["answer"]
    assert torch.equal(answer.values, batch.targets) and torch.equal(answer.mask, batch.mask)
    for fact in facts.values():
        assert fact.values.shape == fact.mask.shape and fact.values.shape[0] == 40
        assert fact.values.shape in {(40,), batch.targets.shape} and fact.description


def test_the_nodes_on_the_way_are_where_the_arrows_lead():
    batch, facts = facts_of(ls.tasks.hops(nodes=6, hops=4))
    for i, row in enumerate(batch.tokens.tolist()):
        node, hops = row[6], row[7] - 5
        assert facts["start"].values[i] == node
        for j in range(1, 4):
            node = row[node]
            assert facts[f"hop {j}"].values[i] == node
            assert bool(facts[f"hop {j}"].mask[i]) == (hops > j), (
                "the last node is the answer, not on the way"
            )
    assert "hop 4" not in facts


def valued(symbols, modulus):
    """(value, symbols left) of an expression in prefix notation."""
    first, rest = symbols[0], symbols[1:]
    if first not in "+-*":
        return int(first), rest
    a, rest = valued(rest, modulus)
    b, rest = valued(rest, modulus)
    return {"+": a + b, "-": a - b, "*": a * b}[first] % modulus, rest


def test_the_parts_of_an_expression_have_their_values():
    task = ls.tasks.mano(modulus=5, operators=4)
    batch, facts = facts_of(task, 300)
    seen = 0
    for i, text in enumerate(task.render(batch.tokens)):
        symbols = text.split("^")[1].split()[1:-1]
        left = valued(symbols[1:], 5)
        right = valued(left[1], 5)
        parts = {"left part": (left[0], symbols[1]), "right part": (right[0], left[1][0])}
        for name, (value, first) in parts.items():
            assert bool(facts[name].mask[i]) == (first in "+-*")
            if first in "+-*":
                assert facts[name].values[i] == value
                seen += 1
    assert seen > 100


def test_the_carry_is_what_the_digits_below_hand_on():
    batch, facts = facts_of(ls.tasks.addition(digits=4))
    carry = facts["carry"]
    for row, values, mask in zip(batch.tokens.tolist(), carry.values, carry.mask, strict=True):
        a, b = row[:4], row[5:9]
        for place in range(5):
            below = sum((x + y) * 10**k for k, (x, y) in enumerate(zip(a[:place], b[:place], strict=True)))
            assert bool(mask[10 + place]) == (0 < place < 4)
            if 0 < place < 4:
                assert values[10 + place] == below // 10**place
        assert not mask[:10].any()


def test_the_bridge_is_where_the_first_relation_leads():
    task = ls.tasks.composition()
    batch, facts = facts_of(task)
    for (head, relation, _), bridge in zip(batch.tokens.tolist(), facts["bridge"].values, strict=True):
        assert bridge == task.table[head, relation - task.entities]
    assert facts["bridge"].mask.all()
    assert not facts_of(task, split="train", hops=1)[1]["bridge"].mask.any()


def test_the_parity_so_far_is_that_of_the_ones_so_far():
    batch, facts = facts_of(ls.tasks.parity_ones(length=8))
    for row, values in zip(batch.tokens.tolist(), facts["parity so far"].values.tolist(), strict=True):
        assert values[:8] == [sum(row[: p + 1]) % 2 for p in range(8)]
