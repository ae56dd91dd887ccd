"""In-context regression: labels from the points, references against numpy, and the same numbers on
every machine."""

import numpy as np
import pytest
import torch

from loopscope import tasks
from loopscope.common.errors import LoopscopeError
from loopscope.tasks.regression import gradient_descent, least_squares, parts


def test_x_and_y_take_turns_and_y_is_asked_where_x_is_read():
    batch = tasks.regression(dimensions=3, points=5).batch(20, seed=0)
    assert batch.tokens.shape == (20, 10, 3) and batch.targets.shape == (20, 10)
    assert batch.mask[0].tolist() == [True, False] * 5
    assert torch.equal(batch.targets[:, 0::2], batch.tokens[:, 1::2, 0])
    assert not batch.tokens[:, 1::2, 1:].any()


def test_y_is_linear_in_x_and_spread_as_the_loss_takes_it():
    """One w for each example, found by numpy from all points, tells every y; the variance of y is
    the dimension."""
    task = tasks.regression(dimensions=8, points=24)
    x, y = parts(task.batch(1500, seed=0, split="train").tokens.double())
    w = np.stack([np.linalg.lstsq(a, b, rcond=None)[0] for a, b in zip(x.numpy(), y.numpy(), strict=True)])
    assert np.abs((x.numpy() @ w[..., None])[..., 0] - y.numpy()).max() < 1e-5
    for values, variance in ((x, 1), (torch.tensor(w), 1), (y, 8)):
        assert abs(values.mean().item()) < 0.1 * variance
        assert abs(values.var().item() / variance - 1) < 0.05


def test_noise_is_what_linear_functions_leave_over():
    x, y = parts(
        tasks.regression(dimensions=4, points=64, noise=0.5).batch(400, seed=0, split="train").tokens.double()
    )
    left = y - (x @ torch.linalg.lstsq(x, y[..., None]).solution)[..., 0]
    assert abs((left**2).sum(1).mean().item() / (64 - 4) - 0.25) < 0.01


def test_an_answer_of_zero_costs_one_and_explains_nothing():
    task = tasks.regression(dimensions=6)
    batch = task.batch(2000, seed=0)
    zero = torch.zeros(*batch.targets.shape, 1)
    assert abs(task.losses(zero, batch.targets)[batch.mask].mean() - 1) < 0.05
    assert torch.allclose(task.correctness(zero, batch.targets), 1 - batch.targets**2 / 6)
    assert task.score == "variance explained"


def test_numbers_are_multiples_so_that_sums_are_exact():
    """Nothing then depends on the order in which a machine adds up."""
    task = tasks.regression(dimensions=5, points=7)
    x, y = parts(task.batch(50, seed=3).tokens.double())
    assert torch.equal(x * 1024, (x * 1024).round())
    w = (torch.linalg.lstsq(x, y[..., None]).solution[..., 0] * 1024).round() / 1024
    assert torch.equal((x * w[:, None]).sum(-1).float(), y.float())
    assert task.batch(1, seed=0, points=1).tokens.tolist() == FIRST


FIRST = [
    [
        [0.0732421875, 1.1953125, 0.83203125, 1.0634765625, 1.1181640625],
        [2.98846435546875, 0.0, 0.0, 0.0, 0.0],
    ]
]


def test_difficulty_is_the_condition_number():
    batch = tasks.regression(dimensions=4, points=6).batch(30, seed=1)
    conditions = np.linalg.cond(parts(batch.tokens)[0].double().numpy())
    assert np.allclose(batch.difficulty, conditions, rtol=1e-5)


# References
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_least_squares_answers_as_numpy_does_from_the_points_before(noise):
    tokens = tasks.regression(dimensions=4, points=9, noise=noise).batch(20, seed=0).tokens
    answers, (x, y) = least_squares(tokens), (part.double().numpy() for part in parts(tokens))
    assert answers.shape == (20, 18) and not answers[:, 1::2].any()
    for b in range(20):
        assert answers[b, 0] == 0
        for n in range(1, 9):
            w = np.linalg.lstsq(x[b, :n], y[b, :n], rcond=None)[0]
            assert abs(w @ x[b, n] - answers[b, 2 * n].item()) < 1e-4 * max(1, np.abs(w).max())


def test_least_squares_explains_everything_from_as_many_points_as_dimensions():
    task = tasks.regression(dimensions=5, points=10)
    batch = task.batch(200, seed=0)
    merit = task.correctness(least_squares(batch.tokens)[..., None], batch.targets)[:, 0::2].median(0).values
    assert (merit[6:] > 0.9999).all()
    share = task.correctness(least_squares(batch.tokens)[..., None], batch.targets)[:, 0::2].mean(0)[:5]
    assert (share - torch.arange(5) / 5).abs().max() < 0.12  # n points tell n of 5 directions


def test_gradient_descent_follows_the_plain_loop():
    tokens = tasks.regression(dimensions=3, points=5).batch(6, seed=2).tokens
    answers, (x, y) = gradient_descent(tokens, 7, 0.2), (part.double() for part in parts(tokens))
    assert answers.shape == (8, 6, 10) and not answers[..., 1::2].any()
    for b in range(6):
        for n in range(5):
            w = torch.zeros(3, dtype=torch.float64)
            for k in range(8):
                assert abs(answers[k, b, 2 * n] - w @ x[b, n]) < 1e-5
                if n:
                    w = w - 0.2 * sum((w @ x[b, j] - y[b, j]) * x[b, j] for j in range(n)) / n


def test_gradient_descent_ends_at_least_squares():
    tokens = tasks.regression(dimensions=3, points=30).batch(20, seed=0).tokens
    answers = gradient_descent(tokens, 600, 0.3)
    assert (answers[-1] - least_squares(tokens))[:, 20:].abs().max() < 1e-3
    assert (answers[5] - least_squares(tokens))[:, 20:].abs().max() > 1e-2


# The line and the limits
# -------------------------------------------------------------------------------------------


def test_more_points_leave_an_example_on_its_side():
    task = tasks.regression(dimensions=3, points=4)
    for split in ("train", "test"):
        tokens = task.batch(300, seed=0, split=split).tokens
        assert torch.equal(task.is_test(tokens[:, :4]), task.is_test(tokens))


def test_about_one_example_in_eight_is_for_testing():
    task = tasks.regression(dimensions=2)
    drawn = task.draw(8000, torch.Generator().manual_seed(0), **task.options)
    assert abs(task.is_test(drawn).double().mean() - 1 / 8) < 0.015


def test_points_are_rendered_as_numbers():
    tokens = torch.tensor([[[1.0, -0.5], [2.0, 0.0], [0.25, 3.0], [-1.0, 0.0]]])
    assert tasks.regression(dimensions=2).render(tokens) == ["(1.00 -0.50) → 2.00  (0.25 3.00) → -1.00"]


def test_what_are_no_points():
    task = tasks.regression(dimensions=3)
    for tokens in (
        torch.zeros(2, 4, dtype=torch.int64),
        torch.zeros(2, 4, 2),
        torch.zeros(2, 3, 3),
        torch.ones(2, 4, 3),
        [[0.0]],
    ):
        with pytest.raises(
            LoopscopeError, match=r"needs numbers \(batch, 2 \* points, 3\), in which x and y take turns"
        ):
            task.solve(tokens)
    for noise in (-1, "0", float("nan"), True):
        with pytest.raises(LoopscopeError, match="noise must be a number"):
            tasks.regression(noise=noise)
