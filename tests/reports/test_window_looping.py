"""Training-free looping: the scores of repeated windows are those of stacks whose answers are
known, and the card of stack-hops says what is measured."""

import pytest
import torch
from torch import Tensor, nn

import loopscope as ls
from loopscope.common.errors import LoopscopeError
from loopscope.reports import window_looping as page
from loopscope.reports.window_scores import criteria, middle_criterion, window_scores
from loopscope.tasks import Batch

LAYERS = 4


class Adding(nn.Module):
    """Adds the second number of the state to its first."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x[..., 1:] * torch.tensor([1.0, 0.0])


class Counter(nn.Module):
    """Adds the token once in each layer, and answers with the sum: `layers` times the token."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Adding() for _ in range(LAYERS))

    def forward(self, tokens: Tensor) -> Tensor:
        x = torch.stack([torch.zeros(tokens.shape), tokens.float()], -1)
        for layer in self.layers:
            x = layer(x)
        return -((x[..., :1] - torch.arange(40.0)) ** 2)


def batch(*tokens: int) -> Batch:
    given = torch.tensor(tokens)[:, None]
    return Batch(given, LAYERS * given, torch.ones_like(given, dtype=torch.bool), given[:, 0].float())


def test_repeated_layers_add_too_much_and_damped_sub_steps_as_much_as_one():
    scores = window_scores(Counter(), batch(0, 1, 2, 1), "layers")
    assert scores.windows == ((0, 1), (1, 2), (2, 3), (3, 4), (0, 2), (1, 3), (2, 4), (0, 4))
    assert scores.middle == (1, 3)
    assert scores.once.tolist() == [1, 1, 1, 1]
    assert scores.of("plain").flatten(0, 1).unique(dim=0).tolist() == [[1, 0, 0, 0]]
    assert (scores.of("damped") == 1).all() and (scores.of("anchored") == 1).all()
    plain, damped, middle = criteria(scores)
    assert plain.holds and plain.difference.value == -0.75
    assert damped.holds and damped.difference.value == 0.75
    assert middle.holds and (middle.gained, middle.lost) == (0, 0)
    assert middle.difference.low < 0 < middle.difference.high


def test_examples_that_are_drawn_twice_count_once_in_the_interval():
    model = Counter()
    once = window_scores(model, batch(*range(9)), "layers")
    often = window_scores(model, batch(*range(9), *range(9)), "layers")
    assert once.different == often.different == 9
    for one, other in zip(criteria(once), criteria(often), strict=True):
        assert (one.difference.low, one.difference.high) == (other.difference.low, other.difference.high)


def test_a_worse_middle_fails_and_says_how_many_answers_it_costs():
    model = Counter()
    model.layers[1].forward = lambda x: x * 1.5 + x[..., 1:]  # growth that small steps overshoot less
    given = batch(0, 1, 2)
    right = model(given.tokens).argmax(-1)
    scores = window_scores(model, Batch(given.tokens, right, given.mask, given.difficulty), "layers")
    middle = middle_criterion(scores)
    assert not middle.holds
    assert (middle.gained, middle.lost) == (0, 2)
    assert middle.difference.value == pytest.approx(-2 / 3)


def test_one_window_alone_is_scored_as_among_all_of_them():
    """Those of 20,000 examples are needed of the middle window only."""
    model, given = Counter(), batch(0, 1, 2, 1)
    every = window_scores(model, given, "layers")
    alone = window_scores(model, given, "layers", windows=((1, 3),), repeats=(2,), rules=("damped",))
    assert torch.equal(alone.in_the_middle("damped"), every.in_the_middle("damped"))
    assert middle_criterion(alone) == middle_criterion(every)
    assert alone.looped.shape == (1, 1, 1, 4)


def test_a_window_longer_than_the_stack_is_refused():
    with pytest.raises(
        LoopscopeError, match=r"lengths must have one of at most 4, the layers of 'layers', but"
    ):
        window_scores(Counter(), batch(1), "layers", lengths=(5,))


def test_the_page_has_a_row_for_each_training_criterion_and_window():
    scores = window_scores(Counter(), batch(0, 1, 2, 1), "layers")
    text = page.looping_page({7: scores}, {7: middle_criterion(scores)})
    assert "| 7 | 100.00% | 25.00% | 100.00% | 100.00% | 25.00% | 100.00% | 100.00% | 24 of 24 |" in text
    assert "| 1 | 7 | -75.00 | -100.00 to " in text
    assert "| 3 | 7 | +0.00 (0 answers become right, 0 wrong) | " in text
    assert "| 0 to 3 | -75.0 | -75.0 | +0.0 | +0.0 | +0.0 | +0.0 |" in text


@pytest.mark.slow
def test_the_card_of_stack_hops_says_what_is_measured():
    model = ls.models.load("stack-hops")
    scores = window_scores(
        model,
        model.task.batch(page.EXAMPLES, page.SEED),
        windows=((3, 5),),
        repeats=(2,),
        rules=("plain", "damped"),
    )
    values = [scores.in_the_middle(rule).mean() for rule in ("plain", "damped")]
    row = next(line for line in ls.models.card("stack-hops").splitlines() if line.startswith("| 0 | 9"))
    cells = [cell.strip() for cell in row.split("|")]
    assert [cells[2], *cells[6:8]] == [f"{float(value):.2%}" for value in (scores.once.mean(), *values)]
    middle = middle_criterion(scores)
    assert f"({middle.gained} answers become right, {middle.lost} wrong)" in ls.models.card("stack-hops")
