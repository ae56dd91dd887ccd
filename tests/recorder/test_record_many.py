"""record_many makes one run of a data set, the same whether it was interrupted or not."""

import copy
import itertools
import pickle
import re

import pytest
import torch

import loopscope as ls
from loopscope.common.errors import LoopscopeError, LoopscopeWarning
from loopscope.core.lazy_values import LazyValues

from ..toys.checked_modules import CASES, wrapped
from ..toys.disk_runs import difference
from ..toys.foreign_loops import batch
from ..toys.strange_loops import Masked

BATCHES = [torch.arange(n * 6).reshape(n, 6) % 5 for n in (3, 2, 4)]


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    options = {"vocabulary": 5, "width": 8, "heads": 2, "iterations": 3}
    kinds = {"plain": {}, "halting": {"halting": "interpolated", "halting_bias": -1.0}}
    return {name: ls.models.build("universal", **options, **kind).eval() for name, kind in kinds.items()}


class Interrupted(Exception):
    """As an end of the process between two batches, or within one."""


def interrupted(batches, count):
    yield from itertools.islice(batches, count)
    raise Interrupted


def test_the_run_of_batches_is_that_of_each_batch(models, tmp_path):
    """Every site, tokens, output and lens, by the rows of each batch."""
    model = models["plain"]
    run = ls.record_many(model, BATCHES, to=tmp_path / "run", sites="all")
    loaded = ls.load_run(tmp_path / "run", model=model)
    assert run.states.shape == (4, 9, 6, 8) and isinstance(run.states.by_index, LazyValues)
    assert not difference(loaded, run)
    begin = 0
    for tokens in BATCHES:
        part, rows = ls.record(model, tokens, sites="all"), slice(begin, begin + len(tokens))
        for name in part.names:
            whole = run[name]
            if isinstance(whole, torch.Tensor):
                assert whole[rows].equal(part[name])
                continue
            here = whole.at(batch=rows)
            assert isinstance(here.by_index, LazyValues) and here.axes == part[name].axes
            assert here.tensor.equal(part[name].tensor) and whole.tensor[:, rows].equal(part[name].tensor)
        assert run.tokens[rows].equal(tokens) and run.output[rows].equal(part.output)
        assert loaded.logits[1][rows].equal(part.logits[1])
        begin += len(tokens)
    assert run.states.at(batch=-1, position=[0, 2])[3].equal(run.states[3][-1, [0, 2]])
    assert pickle.loads(pickle.dumps(run)).states[2].equal(run.states[2])
    longer = ls.resume(model, run, 5)
    assert longer.states.at(batch=slice(3)).tensor.equal(ls.record(model, BATCHES[0], 5).states.tensor)
    assert ls.analyses.measure("convergence", run).verdict is not None


def test_a_selection_reads_the_batches_that_it_has(models, tmp_path):
    ls.record_many(models["plain"], BATCHES, to=tmp_path)
    run = ls.load_run(tmp_path)
    (tmp_path / "batch-00001" / "values-00000.safetensors").unlink()
    assert run.states.at(batch=slice(3))[2].shape == (3, 6, 8)
    assert run.states.at(batch=slice(5, 9)).tensor.shape == (4, 4, 6, 8)
    with pytest.raises(LoopscopeError, match="batch-00001"):
        run.states.at(batch=slice(4))[2]


@pytest.mark.parametrize("kind", ["plain", "halting"])
def test_an_interrupted_recording_goes_on(kind, models, tmp_path, monkeypatch):
    """Batches that are there aren't computed again, and the whole is what an undisturbed one is."""
    model, options = models[kind], {"seed": 3, "sites": "core.0.hook_resid_post"}
    whole = ls.record_many(model, BATCHES, to=tmp_path / "whole", **options)
    with pytest.raises(Interrupted):
        ls.record_many(model, interrupted(BATCHES, 2), to=tmp_path / "run", **options)
    with pytest.warns(LoopscopeWarning, match="the run has the first 2 batches"):
        assert ls.load_run(tmp_path / "run").states.shape[1] == 5
    assert ls.load_run(tmp_path / "whole" / "batch-00001").origin["seed"] == 4  # another draw
    passes = []
    handle = model.register_forward_pre_hook(lambda *_: passes.append(1))
    embedded = model.embed.register_forward_hook(lambda *_: passes.append(1))
    again = ls.record_many(model, iter(BATCHES), to=tmp_path / "run", **options)
    handle.remove()
    embedded.remove()
    assert len(passes) == 1 and not difference(again, whole)
    assert not difference(ls.record_many(model, BATCHES, to=tmp_path / "run", **options), whole)
    halting = [ls.record(model, tokens, seed=3).halting for tokens in BATCHES]
    if kind == "halting":
        assert whole.halting.iteration.equal(torch.cat([one.iteration for one in halting]))
        assert whole.halting.weights.sum(0).allclose(torch.ones(9, 6))


@pytest.mark.filterwarnings("ignore::loopscope.common.errors.LoopscopeWarning")
@pytest.mark.parametrize("name", ["leaves the loop when settled", "rows leave the batch", "two levels"])
def test_rows_of_loops_that_ended_are_absent(name, tmp_path):
    """Batches may run different numbers of iterations."""
    batches = [scale * batch(seed, size=3) for seed, scale in enumerate((1.0, 30.0))]
    parts = [ls.record(wrapped(CASES[name]), x, sites="all", seed=i) for i, x in enumerate(batches)]
    run = ls.record_many(wrapped(CASES[name]), batches, to=tmp_path, sites="all", seed=0)
    assert run.iterations == max(part.iterations for part in parts)
    present = run.states.present
    for number, part in enumerate(parts):
        rows = slice(3 * number, 3 * number + 3)
        for place, k in enumerate(run.states.iterations):
            expected = (
                part.states.present[part.states.iterations.index(k)] if k in part.states.iterations else 0
            )
            assert present[place, rows].equal(torch.ones(3, dtype=torch.bool) & expected)
            if k in part.states.iterations:
                assert run.states[k][rows].nan_to_num(9).equal(part.states[k].nan_to_num(9))
            else:
                assert run.states[k][rows].isnan().all()


def test_masks_count_what_they_count(tmp_path):
    torch.manual_seed(0)
    model = ls.wrap(Masked().eval(), body="layer")
    masks = [torch.ones(2, 3, dtype=torch.bool).triu(k) for k in (1, 2)]  # True where padding is
    pairs = [(batch(seed=i), {"src_key_padding_mask": mask}) for i, mask in enumerate(masks)]
    run = ls.record_many(model, pairs, to=tmp_path)
    assert run.inputs["src_key_padding_mask"].equal(torch.cat(masks))
    assert run.mask.equal(~torch.cat(masks))
    assert run.mask.equal(torch.cat([ls.record(model, x, **kw).mask for x, kw in pairs]))


def test_what_does_not_belong_together_is_refused(models, tmp_path):
    model, folder = models["plain"], tmp_path / "run"
    changed = copy.deepcopy(model)
    changed.unembed.weight.data[0] += 1
    ls.record_many(model, BATCHES[:2], to=folder)

    def refused(match, model=model, batches=BATCHES[:2], to=folder, **options):
        with pytest.raises(LoopscopeError, match=match):
            ls.record_many(model, batches, to=to, **options)

    refused("batch 1 must be the one that was recorded", batches=[BATCHES[0], BATCHES[1] % 4])
    refused("there were 1, and it has batch-00001 too", batches=BATCHES[:1])
    refused("recorded alike, but those in .* have iterations = None, and this call has 2", iterations=2)
    refused("have sites = ", sites="all")
    refused("have keep = everything", keep=ls.keep.every(2))
    refused("have seed = None, and this call has 1", seed=1)
    refused("have edits = ", edits=[ls.skip(1)])
    refused("have weights = ", model=changed)
    refused("must be several, such as a list, but is one Tensor", batches=BATCHES[0])
    refused("one batch or more", batches=[], to=tmp_path / "none")
    shorter = [BATCHES[0], BATCHES[1][:, :4]]
    refused(
        "'state' has .*'position': 6.* in batch 0, and .*'position': 4.* in batch 1. Pad all",
        batches=shorter,
        to=tmp_path / "shorter",
    )
    ls.record_many(model, BATCHES, to=tmp_path / "shorter")  # what didn't fit is gone
    ls.record(model, BATCHES[0], to=tmp_path / "one")
    refused("or one that record_many began", to=tmp_path / "one")
    damaged = folder / "batch-00001" / "index.jsonl"
    damaged.write_bytes(re.sub(rb"0", b"1", damaged.read_bytes(), count=1))
    refused("batch-00001/index.jsonl must hold what was written")
