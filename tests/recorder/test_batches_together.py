"""Batches that ended at different iterations, or whose sites don't have a row for each example."""

import copy

import pytest
import torch
from torch import nn

import loopscope as ls
from loopscope.common.errors import LoopscopeError, LoopscopeWarning
from loopscope.common.files import StoredTensors
from loopscope.common.shard_reader import ShardedTensors
from loopscope.recorder import batch_folders
from loopscope.runs.blocks import block_values, blocks_of

from ..wrapping.test_batch_rows import PICKS, Leaving

BATCHES = [torch.arange(n * 6).reshape(n, 6) % 5 for n in (3, 2)]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return ls.models.build("universal", vocabulary=5, width=8, heads=2, iterations=3).eval()


def test_examples_that_left_the_loop_are_no_data():
    """Their NaN is counted by no analysis of states, unless nothing of them counts."""
    torch.manual_seed(0)
    last = torch.tensor([12, 14, 11, 14])
    run = ls.record(ls.wrap(Leaving(PICKS["by a mask"]).eval(), body="body"), torch.randn(4, 3), last=last)
    for name in ("convergence", "cycles", "geometry"):
        with pytest.raises(LoopscopeError, match="but 2 of 4 have left it, the first by 'state' at 12"):
            ls.analyses.measure(name, run)
        assert ls.analyses.measure(name, run, mask=(last == 14)[:, None]).verdict is not None


def test_batches_that_ended_at_different_iterations_are_not_gone_on_with(model, tmp_path):
    torch.manual_seed(0)
    adaptive = ls.models.build(
        "universal", vocabulary=5, width=8, heads=2, iterations=6, halting="interpolated", halting_bias=0.0
    ).eval()
    adaptive.act.gate.weight.data.mul_(20)
    singles = [one[None] for one in torch.arange(60).reshape(10, 6) ** 2 % 5]
    lengths = [ls.record(adaptive, one).iterations for one in singles]
    early, late = singles[lengths.index(min(lengths))], singles[lengths.index(max(lengths))]
    run = ls.record_many(adaptive, [early, late], to=tmp_path)
    assert min(lengths) < run.iterations == max(lengths)
    with pytest.raises(
        LoopscopeError, match=f"but 1 of 2 have no state {max(lengths)} to go on from. Record with"
    ):
        ls.resume(adaptive, run, 8)
    assert ls.resume(adaptive, run, 8, start=min(lengths)).states.present.all()


def test_a_folder_of_batches_is_measured_by_its_path(model, tmp_path):
    ls.record_many(model, BATCHES, to=tmp_path, iterations=8)
    by_path = ls.analyses.measure("convergence", tmp_path)
    assert by_path.to_json() == ls.analyses.measure("convergence", ls.load_run(tmp_path)).to_json()


class Experts(nn.Module):
    """Its expert reads the positions of all examples in one row, as a mixture of experts does."""

    def __init__(self):
        super().__init__()
        self.embed, self.body = nn.Embedding(5, 4), nn.Linear(4, 4)
        self.expert, self.mixes = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, tokens, scale=None, shift=None):
        x = self.embed(tokens) * (1 if scale is None else scale[:, None, None])
        x = x + (0 if shift is None else shift[:, None, None])
        for _ in range(3):
            x = torch.tanh(self.body(x))
            x = x + self.expert(x.flatten(0, 1)).view_as(x)
        return self.mixes(x.mean((0, 1), keepdim=True)[0])


@pytest.fixture(scope="module")
def experts():
    torch.manual_seed(0)
    return ls.wrap(Experts().eval(), body="body")


def test_a_site_without_a_row_for_each_example_is_left_out(experts, tmp_path):
    def recorded():
        return ls.record_many(experts, BATCHES, to=tmp_path, sites=["body", "expert", "mixes"])

    for _ in range(2):
        with pytest.warns(LoopscopeWarning, match=r"lacks 'expert' \(18, 4\), 'mixes' \(1, 4\), of which"):
            run = recorded()
        assert (
            run.output is None
            and "expert" not in run
            and "mixes" not in run
            and run["body"].shape == (3, 5, 6, 4)
        )
    with pytest.warns(LoopscopeWarning, match="a row for each of the 3 examples of a batch"):
        assert ls.load_run(tmp_path).names == run.names
    assert ls.load_run(tmp_path / "batch-00001")["expert"].shape == (3, 12, 4)


def test_batches_with_other_inputs_are_not_put_together(experts, tmp_path):
    first, second = ((x, {"scale": torch.ones(len(x))}) for x in BATCHES)
    with pytest.raises(
        LoopscopeError, match=r"same inputs, but batch 0 has \['scale'\], and batch 1 has \[\]"
    ):
        ls.record_many(experts, [first, BATCHES[1]], to=tmp_path / "one")
    with pytest.raises(LoopscopeError, match=r"batch 0 has \[\], and batch 1 has \['scale'\]"):
        ls.record_many(experts, [BATCHES[0], second], to=tmp_path / "other")
    ls.record_many(experts, [first, second], to=tmp_path / "both")
    with pytest.raises(LoopscopeError, match="batch 0 must be the one that was recorded"):
        ls.record_many(experts, [BATCHES[0], second], to=tmp_path / "both")


def test_a_recording_goes_on_only_as_it_was_begun(model, experts, tmp_path):
    """The numbers of an edit, the values of options, the modes and autocast are compared too."""

    def edits(value):
        return [ls.add("state", value=torch.full((8,), value), iteration=1)]

    def refused(match, of=model, **options):
        with pytest.raises(LoopscopeError, match=match):
            ls.record_many(of, BATCHES, to=tmp_path / "run", **options)

    ls.record_many(model, BATCHES[:1], to=tmp_path / "run", edits=edits(1.0), copy=True)
    refused("have edits = ", edits=edits(2.0), copy=True)
    refused("have options = ", edits=edits(1.0), copy=False)
    refused("have training = False, and", copy.deepcopy(model).train(), edits=edits(1.0), copy=True)
    with torch.autocast("cpu", torch.bfloat16):
        refused("have autocast = {}, and", edits=edits(1.0), copy=True)
    assert ls.record_many(model, BATCHES, to=tmp_path / "run", edits=edits(1.0), copy=True).iterations == 3


def test_batches_come_from_a_data_loader(model, tmp_path):
    """Each a list of one tensor; or without a known number of batches."""

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(torch.cat(BATCHES))

    tokens, load = torch.cat(BATCHES), torch.utils.data.DataLoader
    for name, data in {"listed": torch.utils.data.TensorDataset(tokens), "stream": Stream()}.items():
        run = ls.record_many(model, load(data, batch_size=2), to=tmp_path / name)
        assert run.tokens.equal(tokens) and run.states.shape[1] == 5


def test_an_output_that_is_too_large_is_not_read(model, tmp_path, monkeypatch):
    ls.record_many(model, BATCHES, to=tmp_path)
    assert ls.load_run(tmp_path).output.shape == (5, 6, 5)
    each = [len(one) * 6 * 5 * 4 for one in BATCHES]
    read = []
    original = StoredTensors.__getitem__
    monkeypatch.setattr(
        StoredTensors, "__getitem__", lambda self, name: read.append(name) or original(self, name)
    )
    monkeypatch.setattr(batch_folders, "MOST", sum(each))
    assert ls.load_run(tmp_path).output is not None and "output" in read
    read.clear()
    monkeypatch.setattr(batch_folders, "MOST", sum(each) - 1)
    assert ls.load_run(tmp_path).output is None and "output" not in read


def test_a_block_reads_the_batches_that_it_is_of(model, tmp_path, monkeypatch):
    run = ls.record_many(model, torch.cat(BATCHES).split(1), to=tmp_path)
    read = []
    original = ShardedTensors.__getitem__
    monkeypatch.setattr(
        ShardedTensors, "__getitem__", lambda self, name: read.append(name) or original(self, name)
    )
    blocks, states = blocks_of(run.states, 1000), run.states.tensor
    read.clear()
    parts = [block_values(run.states, block, run.mask) for block in blocks]
    assert len(blocks) > 5 and len(read) == len(blocks) * 4, "each reads its one example"
    assert torch.cat([part[3] for part in parts]).equal(states[3].flatten(0, 1))
