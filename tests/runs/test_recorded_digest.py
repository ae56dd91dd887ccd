"""The digest of a run's weights is that of every byte, though it is computed only when one has
changed."""

import pytest
import torch
from torch import nn

from loopscope.core.same_bytes import same_bytes
from loopscope.runs import weight_digests
from loopscope.runs.weight_digests import recorded_digest, weights_digest


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 300), nn.BatchNorm1d(300), nn.Linear(300, 300))


def changed_name(net: nn.Sequential) -> None:
    net.add_module("other", net._modules.pop("2"))


CHANGES = {
    "in place": lambda net: net[0].weight.detach().add_(1),
    "one number, by .data": lambda net: net[2].weight.data[150, 77].add_(1),
    "one bit, by numpy": lambda net: net[2].weight.detach().numpy().view("int32")[151].__ixor__(1),
    "the sign of a zero": lambda net: net[1].running_mean.data.neg_(),
    "a buffer": lambda net: net[1].running_var.mul_(2),
    "another tensor": lambda net: setattr(net[0], "bias", nn.Parameter(torch.zeros(300))),
    "another memory": lambda net: setattr(net[0].bias, "data", torch.zeros(300)),
    "another name": changed_name,
    "another precision": lambda net: net.double(),
}


UNCOUNTED = {"one number, by .data", "one bit, by numpy"}
"""Of large weights, these show where a sample is taken."""


@pytest.mark.parametrize(
    ("change", "small"),
    [(change, small) for change in CHANGES for small in (True, False) if small or change not in UNCOUNTED],
)
def test_it_follows_every_change(change, small, monkeypatch):
    if not small:
        monkeypatch.setattr(weight_digests, "CACHED", 0)
    net = model()
    before = recorded_digest(net)
    assert before == recorded_digest(net) == weights_digest(net)
    CHANGES[change](net)
    assert recorded_digest(net) == recorded_digest(net) == weights_digest(net) != before


def test_it_is_computed_once_for_the_same_weights(monkeypatch):
    net, calls = model(), []
    monkeypatch.setattr(weight_digests, "weights_digest", lambda net: calls.append(1) or weights_digest(net))
    digests = {recorded_digest(net) for _ in range(3)}
    assert len(digests) == len(calls) == 1


def test_what_a_module_saves_besides_its_tensors_counts():
    class Counting(nn.Linear):
        extra = 0

        def get_extra_state(self) -> torch.Tensor:
            return torch.tensor(self.extra)

        def set_extra_state(self, state: torch.Tensor) -> None:
            self.extra = int(state)

    net = nn.Sequential(Counting(2, 2))
    before = recorded_digest(net)
    net[0].extra = 1
    assert recorded_digest(net) == weights_digest(net) != before


def test_bytes_are_compared_where_they_can_be():
    a = torch.tensor([[0.0, float("nan")], [1.0, 2.0]])
    assert same_bytes(a, a.clone()) is True and same_bytes(a, -a) is False
    assert same_bytes(torch.zeros(2), -torch.zeros(2)) is False
    assert same_bytes(torch.zeros(2), torch.zeros(1, 2)) is False
    assert same_bytes(torch.zeros(2), torch.zeros(2, dtype=torch.int32)) is False
    mirrored = torch.complex(torch.zeros(1), torch.ones(1)).conj().imag
    zero = torch._efficientzerotensor(2)  # pyright: ignore[reportPrivateImportUsage]
    for other in (a.T, a.to_sparse(), a.to("meta"), nn.Parameter(a), mirrored, zero):
        assert same_bytes(other, other) is None
    seen = []
    torch.func.vmap(lambda row: (seen.append(same_bytes(row, row)), row)[1])(a)
    assert seen == [None]
