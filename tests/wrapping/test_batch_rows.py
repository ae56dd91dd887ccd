"""Rows that leave the batch: masked where they are gone, and never in another's place."""

import pytest
import torch
from torch import nn

import loopscope as ls

from ..toys.small_models import tiny_recursive


class Leaving(nn.Module):
    """Rows leave when their number of iterations is over; `pick` is the way in which the others go
    on."""

    def __init__(self, pick, mixed: bool = False) -> None:
        super().__init__()
        self.body, self.pick, self.mixed = nn.Linear(3, 3), pick, mixed

    def forward(self, x, last):
        out, who, e = torch.zeros_like(x), torch.arange(len(x)), x
        for t in range(int(last.max())):
            x = torch.tanh(self.body(x + e if self.mixed else x))
            done = last[who] == t + 1
            out[who[done]] = x[done]
            x, who, e = (self.pick(value, done) for value in (x, who, e))
        return out


PICKS = {
    "by a mask": lambda x, done: x[~done],
    "by numbers": lambda x, done: x[(~done).nonzero()[:, 0]],
    "by index_select": lambda x, done: x.index_select(0, (~done).nonzero()[:, 0]),
    "one by one": lambda x, done: x[~done].clone(),
}


@pytest.fixture(params=PICKS)
def pick(request):
    return PICKS[request.param]


@pytest.mark.parametrize("mixed", [False, True])
def test_a_row_keeps_its_place_and_is_absent_once_it_has_left(pick, mixed):
    torch.manual_seed(0)
    module, x, last = Leaving(pick, mixed).eval(), torch.randn(5, 3), torch.tensor([2, 4, 1, 3, 4])
    run = ls.record(ls.wrap(module, body="body"), x, last=last, sites=["body"])
    result = run["body"]
    assert torch.equal(run.output, module(x, last))
    expected = torch.arange(4)[:, None] < last
    assert torch.equal(result.present, expected)
    assert torch.equal(result.tensor.isnan().any(-1), ~expected)
    for row in range(5):  # alone, so that nobody else can be in its place
        alone = ls.record(
            ls.wrap(module, body="body"), x[row : row + 1], last=last[row : row + 1], sites=["body"]
        )
        assert torch.allclose(result.tensor[: last[row], row], alone["body"].tensor[:, 0], atol=1e-6)


def test_rows_that_go_in_from_the_end_are_told_by_a_slice():
    class Sorted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(3, 3)

        def forward(self, x):
            for left in (4, 3, 1):
                x = torch.tanh(self.body(x[:left]))
            return x

    result = ls.record(ls.wrap(Sorted().eval(), body="body"), torch.randn(4, 3), sites=["body"])["body"]
    assert result.present.int().tolist() == [[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0]]


def test_a_selection_of_rows_keeps_their_mask(tmp_path):
    module, x, last = Leaving(PICKS["by a mask"]).eval(), torch.randn(3, 3), torch.tensor([1, 3, 2])
    run = ls.record(ls.wrap(module, body="body"), x, last=last, sites=["body"])
    result = run["body"]
    assert result[1:].present.tolist() == [[False, True, True], [False, True, False]]
    assert result.at(batch=[1, 2]).present.tolist() == [[True, True], [True, True], [True, False]]
    run.save(tmp_path / "run.safetensors")
    assert torch.equal(ls.load_run(tmp_path / "run.safetensors")["body"].present, result.present)


def test_absent_rows_are_no_alarm(recwarn):
    module, x = Leaving(PICKS["by a mask"]).eval(), torch.randn(3, 3)
    run = ls.record(ls.wrap(module, body="body"), x, last=torch.tensor([1, 3, 2]))
    assert run.first_nonfinite() is None
    assert not recwarn.list


def test_tiny_recursive_models_predict_drops_the_rows_that_halt():
    class Predicting(nn.Module):
        def __init__(self, model) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens):
            return self.model.predict(tokens)

    torch.manual_seed(1)
    model = tiny_recursive().eval()
    nn.init.normal_(model.to_halt_pred[1].weight, std=30.0)
    tokens = torch.randint(0, 40, (6, 8))
    run = ls.record(ls.wrap(Predicting(model), body="model.network"), tokens)
    _, segments = run.output
    calls = 21 * segments  # three blocks of six turns and one
    assert len(segments.unique()) > 1
    assert torch.equal(run["core_in"].present, torch.arange(run.iterations)[:, None] < calls)


def test_values_of_several_shapes_are_there_one_by_one():
    class Growing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(3, 3)

        def forward(self, x):
            for _ in range(3):
                x = torch.cat([x, self.body(x)], 1)
            return x

    run = ls.record(ls.wrap(Growing().eval(), body="body"), torch.randn(2, 1, 3), sites=["body"])
    assert [value.shape[1] for value in run["body"]] == [1, 2, 4]
    with pytest.raises(ls.LoopscopeError, match="must have one shape at every iteration to be stacked"):
        _ = run["body"].tensor
