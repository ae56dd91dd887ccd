"""Tasks: exact labels against plain Python, batches by seed, and a line between training and test
that never moves."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loopscope import tasks
from loopscope.common.errors import LoopscopeError

TASKS = [
    tasks.prefix_parity(length=9),
    tasks.addition(digits=2),
    tasks.addition(digits=6),
    tasks.parity_ones(length=9),
    tasks.parity_ones(length=12, most=5),
    tasks.hops(nodes=4, hops=3),
    tasks.hops(nodes=6, hops=5, pairs=True),
    tasks.mano(modulus=5, operators=4),
    tasks.mano(operators=10),
    tasks.modular_chain(modulus=5, operations=3),
    tasks.modular_chain(modulus=6, operations=8),
    tasks.roots(nodes=8, depth=4),
    tasks.sudoku(size=4),
    tasks.sudoku(size=6),
    tasks.copy(length=4),
    tasks.reverse(length=6, letters=3),
    tasks.regression(dimensions=3, points=5),
    tasks.regression(noise=0.5),
]
TOKENS = [task for task in TASKS if not task.continuous]
LENGTHENED = [
    task for task in TASKS if task.name not in ("hops", "roots", "sudoku")
]  # theirs asks more in as many tokens


def every(task):
    return pytest.mark.parametrize(
        "task", task, ids=lambda task: f"{task.name}-{task.options[task.difficulty_option]}"
    )


def read(digits) -> int:
    """A number whose digits come least significant first."""
    return int("".join(str(int(digit)) for digit in reversed(digits.tolist())))


def rows(tokens) -> set:
    return {tuple(row) for row in tokens.flatten(1).tolist()}


# Labels
# ------------------------------------------------------------------------------------------


def test_parity_is_that_of_the_ones_so_far():
    batch = tasks.prefix_parity(length=23).batch(200, seed=5)
    for tokens, targets in zip(batch.tokens.tolist(), batch.targets.tolist(), strict=True):
        assert targets[1:] == [sum(tokens[1 : i + 1]) % 2 for i in range(1, 24)]


def test_a_string_written_by_hand():
    task = tasks.prefix_parity()
    tokens = torch.tensor([[2, 0, 1, 1, 0, 1]])
    assert task.render(tokens) == ["^01101"]
    assert task.render(task.solve(tokens)) == ["^01001"]
    assert task.mask(tokens).tolist() == [[False, True, True, True, True, True]]


@pytest.mark.parametrize("digits", [1, 2, 6, 18])
def test_addition_agrees_with_python_integers(digits):
    batch = tasks.addition(digits=digits).batch(200 if digits > 1 else 5, seed=3)
    for tokens, targets in zip(batch.tokens, batch.targets, strict=True):
        a, b = read(tokens[:digits]), read(tokens[digits + 1 : 2 * digits + 1])
        assert read(targets[-digits - 1 :]) == a + b


@given(a=st.integers(0, 999_999), b=st.integers(0, 999_999))
@settings(max_examples=60)
def test_any_sum_is_solved_from_its_tokens(a, b):
    def reverse(number, digits):
        return f"{number:0{digits}}"[::-1]

    task = tasks.addition(digits=6)
    text = f"{reverse(a, 6)}+{reverse(b, 6)}=_______"
    solved = task.render(task.solve(torch.tensor([[task.symbols.index(symbol) for symbol in text]])))
    assert solved == [f"{reverse(a, 6)}+{reverse(b, 6)}={reverse(a + b, 7)}"]


def test_carries_agree_with_python_integers():
    batch = tasks.addition(digits=5).batch(300, seed=0)
    assert isinstance(batch, tasks.AdditionBatch)
    for tokens, carry in zip(batch.tokens, batch.carry, strict=True):
        for place in range(5):
            a, b = read(tokens[: place + 1]), read(tokens[6 : 7 + place])
            assert int(carry[place]) == (a + b) // 10 ** (place + 1)


def test_a_carry_chain_is_as_long_as_the_nines_it_passes():
    task = tasks.addition(digits=4)
    tokens = [[9, 9, 9, 9, 10, 1, 0, 0, 0, 11, *[12] * 5], [5, 5, 5, 5, 10, 5, 5, 5, 5, 11, *[12] * 5]]
    assert task.make_batch(torch.tensor(tokens)).difficulty.tolist() == [
        4,
        1,
    ]  # 9999 + 1; 5555 + 5555 carries afresh


@pytest.mark.parametrize("chain", range(7))
def test_chains_of_a_wanted_length_are_all_of_that_length(chain):
    batch = tasks.addition(digits=6).batch(100, seed=1, chain=chain)
    assert batch.difficulty.unique().tolist() == [chain]


def test_the_difficulty_of_a_string_is_its_number_of_ones():
    batch = tasks.prefix_parity(length=12).batch(50, seed=0)
    assert batch.difficulty.tolist() == [row.count(1) for row in batch.tokens.tolist()]


# Every task
# ------------------------------------------------------------------------------------------


@every(TASKS)
def test_labels_come_from_the_tokens_alone(task):
    batch = task.batch(64, seed=2)
    assert torch.equal(task.solve(batch.tokens), batch.targets)
    assert torch.equal(task.mask(batch.tokens), batch.mask)
    shown = batch.tokens[..., 0] if task.continuous else batch.tokens
    assert torch.equal(batch.targets[~batch.mask], shown[~batch.mask])
    again = task.label(batch.tokens)
    assert all(torch.equal(value, getattr(batch, name)) for name, value in vars(again).items())


@every([task for task in TOKENS if task.causal])
def test_no_answer_needs_a_later_token(task):
    """A causal model can solve it: rows that begin alike, up to an answered position, have the same
    answer there."""
    batch = task.batch(2000, seed=2)
    answers = {}
    for tokens, targets, mask in zip(
        *(x.tolist() for x in (batch.tokens, batch.targets, batch.mask)), strict=True
    ):
        for i in range(len(tokens)):
            if mask[i]:
                assert answers.setdefault(tuple(tokens[: i + 1]), targets[i]) == targets[i]


@every(TASKS)
def test_the_same_seed_gives_the_same_batch_and_another_seed_another(task):
    assert torch.equal(task.batch(32, seed=7).tokens, task.batch(32, seed=7).tokens)
    assert not torch.equal(task.batch(32, seed=7).tokens, task.batch(32, seed=8).tokens)


def test_batches_are_the_same_on_every_machine():
    assert (
        tasks.prefix_parity(length=8).render(tasks.prefix_parity(length=8).batch(3, seed=0).tokens) == PARITY
    )
    assert tasks.addition(digits=3).render(tasks.addition(digits=3).batch(3, seed=0).tokens) == SUMS
    for task, first in FIRST.items():
        assert task.render(task.batch(1, seed=0).tokens) == [first]


PARITY = ["^00011101", "^00100101", "^11110001"]
FIRST = {
    tasks.parity_ones(): "1110010010001111?",
    tasks.copy(): "gehahbedba=__________",
    tasks.reverse(): "gehahbedba=__________",
    tasks.sudoku(size=4): ".21414322.434321",
    tasks.sudoku(size=6): "421.6.6.31.23.56.1.62.5..364.5514236",
    tasks.sudoku(level="hard"): ".1...3.421.52...14...3...23...4.1...",
    tasks.mano(modulus=7, operators=3): "^ l3 - * 1 * 2 5 0 =",
    tasks.hops(): "2 1 0 4 3 5 6 7 0 h3",
    tasks.hops(pairs=True): "6 6 4 3 7 7 1 1 0 2 3 4 5 5 2 0 0 h3",
}
SUMS = ["743+334=____", "650+950=____", "104+790=____"]


@every(TASKS)
def test_no_test_example_is_ever_a_training_example(task):
    train, test = (
        task.batch(4000, seed=seed, split=split).tokens for seed, split in ((0, "train"), (0, "test"))
    )
    assert not rows(train) & rows(test)
    assert not task.is_test(train).any()
    assert task.is_test(test).all()


def test_training_and_test_strings_together_are_all_strings():
    task = tasks.prefix_parity(length=8)
    train, test = (rows(task.batch(8000, seed=0, split=split).tokens) for split in ("train", "test"))
    assert len(train | test) == 2**8
    assert 0.08 < len(test) / 2**8 < 0.18


def test_a_sum_and_its_mirror_image_are_on_the_same_side():
    task = tasks.addition(digits=6)
    tokens = task.batch(500, seed=0, split="train").tokens
    mirrored = torch.cat([tokens[:, 7:13], tokens[:, 6:7], tokens[:, :6], tokens[:, 13:]], dim=1)
    assert not task.is_test(mirrored).any()


def test_test_strings_are_as_random_as_any():
    bits = torch.arange(2**16)[:, None] >> torch.arange(16) & 1
    tests = bits[tasks.prefix_parity().is_test(torch.cat([torch.full((2**16, 1), 2), bits], dim=1))].float()
    assert abs(len(tests) / 2**16 - 1 / 8) < 0.005
    assert (tests.mean(0) - 0.5).abs().max() < 0.02
    assert (torch.corrcoef(tests.T) - torch.eye(16)).abs().max() < 0.04


@every(LENGTHENED)
def test_a_batch_can_be_longer_than_the_task(task):
    longer = task.options[task.difficulty_option] + 3
    assert (
        task.batch(2, seed=0, **{task.difficulty_option: longer}).tokens.shape[1]
        > task.batch(2, seed=0).tokens.shape[1]
    )


@every(TASKS)
def test_the_dial_goes_as_far_as_its_limit_and_no_farther(task):
    if task.difficulty_limit is None:
        assert (
            task.batch(2, seed=0, **{task.difficulty_option: 3 * task.options[task.difficulty_option]})
            .mask.any(1)
            .all()
        )
    else:
        assert task.batch(2, seed=0, **{task.difficulty_option: task.difficulty_limit}).mask.any(1).all()
        with pytest.raises(
            LoopscopeError, match=f"{task.difficulty_option} must be at most {task.difficulty_limit}"
        ):
            task.batch(2, seed=0, **{task.difficulty_option: task.difficulty_limit + 1})


@every(TASKS)
def test_what_says_how_tokens_are_read_is_not_up_to_a_batch(task):
    for option in set(task.fixed_options) - {"size"}:  # that of a batch is its number of examples
        task.batch(2, seed=0, **{option: task.options[option]})
        other = not task.options[option] if isinstance(task.options[option], bool) else 7
        with pytest.raises(LoopscopeError, match=f"{task.name}'s {option} decides how its tokens are read"):
            task.batch(2, seed=0, **{option: other})


@every(TASKS)
def test_sure_logits_of_the_right_answers_are_right_and_cost_nothing(task):
    batch = task.batch(16, seed=0)
    one_hot = torch.nn.functional.one_hot
    logits = batch.targets[..., None] if task.continuous else 50.0 * one_hot(batch.targets, task.vocabulary)
    assert (task.correctness(logits, batch.targets) == 1).all()
    assert (task.losses(logits, batch.targets) < 1e-6).all()


@every(TOKENS)
def test_logits_that_know_nothing_cost_the_logarithm_of_the_vocabulary(task):
    batch = task.batch(16, seed=0)
    losses = task.losses(torch.zeros(*batch.targets.shape, task.vocabulary), batch.targets)
    assert torch.allclose(losses, torch.tensor(float(task.vocabulary)).log())
    assert torch.equal(
        task.correctness(torch.zeros(*batch.targets.shape, task.vocabulary), batch.targets),
        (batch.targets == 0).float(),  # argmax takes the first of equals
    )


@every(TASKS)
def test_only_boards_have_rows_and_columns_and_only_numbers_features(task):
    assert task.shape == ((task.size, task.size) if task.name == "sudoku" else None)
    assert task.features == (task.dimensions if task.continuous else None)


@every(TASKS)
def test_no_option_hides_what_every_task_has(task):
    assert not set(task.options) & set(dir(tasks.Task))


@every(TASKS)
def test_options_make_the_task_again(task):
    assert tasks.build(task.name, **task.options) == task
    assert task.vocabulary == (1 if task.continuous else len(set(task.symbols)))
    assert len(set(task.symbols)) == len(task.symbols)


# What can't be
# ------------------------------------------------------------------------------------------


def test_unknown_names_lead_to_the_nearest():
    with pytest.raises(LoopscopeError, match="no task called 'adition'. Did you mean 'addition'"):
        tasks.build("adition")
    with pytest.raises(LoopscopeError, match="no option 'digit'. Did you mean 'digits'"):
        tasks.build("addition", digit=3)
    with pytest.raises(LoopscopeError, match="no difficulty called 'lenght'. Did you mean 'length'"):
        tasks.prefix_parity().batch(2, seed=0, lenght=3)
    with pytest.raises(LoopscopeError, match="split must be 'train' or 'test', but is 'valid'"):
        tasks.prefix_parity().batch(2, seed=0, split="valid")  # pyright: ignore[reportArgumentType]


def test_too_few_examples_to_split():
    with pytest.raises(
        LoopscopeError, match="at least 32 different examples .* has 16 with length=4. Choose a larger length"
    ):
        tasks.prefix_parity(length=4).batch(2, seed=0)


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        ([[2, 0, 1]], "needs its tokens as a Tensor of integers .* got a list"),
        (torch.tensor([2, 0, 1]), r"shape \(batch, position\) .* got \(3,\). Add the missing axis"),
        (torch.tensor([[2.0, 0.0]]), r"integer tokens \(int64\), but got torch.float32"),
        (torch.tensor([[2, 0, 7]]), r"tokens in 0..2, but they reach from 0 to 7"),
        (torch.tensor([[0, 1, 1]]), r"begin with the mark '\^' \(token 2\)"),
        (torch.tensor([[2, 1, 2]]), r"begin with the mark '\^' \(token 2\)"),
    ],
)
def test_tokens_that_are_none(tokens, sentence):
    with pytest.raises(LoopscopeError, match=sentence):
        tasks.prefix_parity().solve(tokens)


def test_a_row_that_is_no_sum():
    with pytest.raises(LoopscopeError, match=r"d digits, '\+', d digits, '=' and d \+ 1 blanks"):
        tasks.addition().solve(torch.tensor([[1, 2, 3, 4, 5]]))
    with pytest.raises(LoopscopeError, match=r"d digits, '\+', d digits, '=' and d \+ 1 blanks"):
        tasks.addition().solve(torch.tensor([[1, 10, 10, 11, 12, 12]]))


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "3"])
def test_sizes_that_are_none(value):
    with pytest.raises(LoopscopeError, match="length must be a whole number"):
        tasks.prefix_parity(length=value)
    with pytest.raises(LoopscopeError, match="size must be a whole number, 1 or more"):
        tasks.prefix_parity().batch(value, seed=0)


def test_a_chain_longer_than_the_number():
    with pytest.raises(LoopscopeError, match="chain must be at most its digits, 6, but is 7"):
        tasks.addition(digits=6).batch(2, seed=0, chain=7)
    with pytest.raises(LoopscopeError, match="at most 18"):
        tasks.addition(digits=19)
