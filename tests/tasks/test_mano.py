"""Mano: the value of an expression is what Python makes of it, wherever it stands and however it is
padded."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loopscope import tasks
from loopscope.common.errors import LoopscopeError

# An expression is a number, or (operator, left, right).
EXPRESSIONS = st.recursive(
    st.integers(0, 10), lambda part: st.tuples(st.sampled_from("+-*"), part, part), max_leaves=12
)


def prefix(expression) -> list[str]:
    if isinstance(expression, int):
        return [str(expression)]
    operator, left, right = expression
    return [operator, *prefix(left), *prefix(right)]


def infix(expression) -> str:
    if isinstance(expression, int):
        return str(expression)
    operator, left, right = expression
    return f"({infix(left)} {operator} {infix(right)})"


def parsed(symbols):
    """The expression at the front of a list of symbols, which is taken from the list."""
    symbol = symbols.pop(0)
    return (symbol, parsed(symbols), parsed(symbols)) if symbol in "+-*" else int(symbol)


def read(task, text):
    return torch.tensor([[task.symbols.index(symbol) for symbol in text.split()]])


@given(expression=EXPRESSIONS.filter(lambda one: not isinstance(one, int)), padding=st.integers(0, 5))
@settings(max_examples=100)
def test_an_expression_has_the_value_that_python_gives_it(expression, padding):
    task = tasks.mano(modulus=11)
    written = prefix(expression)
    operators = (len(written) - 1) // 2
    batch = task.label(read(task, " ".join(["_"] * padding + ["^", f"l{operators}", *written, "="])))
    assert batch.targets[0, -1] == eval(infix(expression)) % 11
    assert batch.difficulty.tolist() == [operators]


def test_every_part_has_its_value():
    task = tasks.mano(modulus=7, operators=6)
    batch = task.batch(100, seed=2)
    assert isinstance(batch, tasks.ManoBatch)
    for row, values in zip(task.render(batch.tokens), batch.values.tolist(), strict=True):
        symbols = row.split()
        begin = symbols.index("^") + 2
        for i, value in enumerate(values):
            if begin <= i < len(symbols) - 1:
                assert value == eval(infix(parsed(symbols[i:]))) % 7
            else:
                assert value == -1


def test_an_expression_written_by_hand():
    task = tasks.mano(modulus=7)
    tokens = read(task, "_ _ ^ l3 - * 3 2 + 4 1 =")
    assert task.render(task.solve(tokens)) == ["_ _ ^ l3 - * 3 2 + 4 1 1"]
    assert task.mask(tokens).nonzero().tolist() == [[0, 11]]
    assert task.label(tokens).values.tolist() == [[-1, -1, -1, -1, 1, 6, 3, 2, 5, 4, 1, -1]]


def test_every_row_is_asked_at_its_last_position_whatever_its_length():
    batch = tasks.mano(operators=6).batch(300, seed=0)
    assert batch.tokens.shape == (300, 2 * 6 + 4)
    assert batch.mask[:, -1].all() and not batch.mask[:, :-1].any()
    assert batch.difficulty.unique().tolist() == [1, 2, 3, 4, 5, 6]


def test_operators_are_drawn_evenly_in_number_and_kind():
    batch = tasks.mano(modulus=23, operators=5).batch(5000, seed=0)
    for count in range(1, 6):
        assert abs(int((batch.difficulty == count).sum()) - 1000) < 130
    kinds = torch.stack([(batch.tokens == 23 + kind).sum() for kind in range(3)]) / batch.difficulty.sum()
    assert (kinds - 1 / 3).abs().max() < 0.02
    numbers = torch.bincount(batch.tokens[batch.tokens < 23], minlength=23)
    assert (numbers / numbers.sum() * 23 - 1).abs().max() < 0.12


def test_operators_are_shared_out_evenly_to_left_and_right():
    tokens = tasks.mano(modulus=5, exactly=3).batch(6000, seed=1, split="train").tokens
    left = []
    for symbols in (row.split()[3:] for row in tasks.mano(modulus=5).render(tokens)):
        left.append(sum(symbol in "+-*" for symbol in prefix(parsed(symbols))))
    assert all(abs(left.count(count) - 2000) < 200 for count in (0, 1, 2))


def test_more_operators_than_were_trained_on():
    task = tasks.mano(operators=4)
    assert task.batch(400, seed=0, operators=20).difficulty.max() == 20
    assert task.batch(10, seed=0, exactly=30).tokens.shape == (10, 64)
    assert tasks.mano(exactly=7).batch(10, seed=0).difficulty.unique().tolist() == [7]


def test_padding_is_no_part_of_an_example():
    task = tasks.mano(operators=3)
    for split in ("train", "test"):
        tokens = task.batch(200, seed=0, split=split).tokens
        wider = torch.nn.functional.pad(tokens, (10, 0), value=task.vocabulary - 1)
        assert torch.equal(task.is_test(wider), task.is_test(tokens))


@pytest.mark.parametrize(
    "text",
    [
        "^ l1 + 1 2",
        "^ l2 + 1 2 =",
        "^ l1 1 + 2 =",
        "^ l2 + 1 2 * 3 =",
        "^ l1 + _ 2 =",
        "_ l1 + 1 2 =",
        "1 ^ l1 + 1 2 =",
        "^ l1 + 1 = =",
        "^ ^ l1 + 1 2 =",
        "^ l2 1 2 3 4 5 =",
    ],
)
def test_what_is_no_expression(text):
    task = tasks.mano()
    with pytest.raises(
        LoopscopeError, match=r"an expression in prefix notation .* such as \^ l2 \+ 1 \* 2 3 ="
    ):
        task.solve(read(task, text))


def test_options_that_are_none():
    with pytest.raises(
        LoopscopeError, match="operators must be at most 32, the last number that has a token, but is 40"
    ):
        tasks.mano(operators=40)
    with pytest.raises(LoopscopeError, match="modulus must be a whole number, 2 or more"):
        tasks.mano(modulus=1)
    with pytest.raises(LoopscopeError, match="at least 32 different examples .* has 12"):
        tasks.mano(modulus=2, operators=1).batch(2, seed=0)
