"""Probes on disk, and probes of what doesn't fit into memory: the same numbers as in memory."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch

import loopscope as ls
from loopscope.common.errors import LoopscopeError
from loopscope.probing import file_source, sources

from ..toys.known_circuit import CLUE, written
from .test_probes import BATCH, WIDTH, drawn, noise, states_of

SAME = ("score", "low", "high", "control", "random", "majority", "rows", "fold")


def alike(one, other, names=SAME, **tolerance):
    return all(
        torch.allclose(
            getattr(one, name).double(), getattr(other, name).double(), equal_nan=True, **tolerance
        )
        for name in names
    )


@pytest.fixture
def small_pieces(monkeypatch):
    """Read a few examples at a time."""
    monkeypatch.setattr(file_source, "PIECE", 20_000)


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_saved_probes_come_back_as_they_were(tmp_path, kind):
    table, labels = noise(3, BATCH, 2, WIDTH), noise(BATCH, seed=4)
    table[1:, :, 0, 0] += 3 * labels
    probes = ls.Probes.fit(states_of(table), labels if kind == "numbers" else labels > 0)
    again = ls.load_probes(probes.save(tmp_path / "probes.safetensors"))
    assert alike(probes, again, rtol=0, atol=0) and str(again) == str(probes)
    assert torch.equal(again.at(2, position=0).scores(table[2]), probes.at(2, position=0).scores(table[2]))
    assert again.classes == probes.classes and again.positions == probes.positions
    run = states_of(table)
    assert torch.equal(again.transfer(run, position=0).score, probes.transfer(run, position=0).score)


@pytest.mark.parametrize("harm", ["truncated", "nothing", "a run", "without scores", "of another shape"])
def test_a_file_that_holds_no_probes_gets_a_sentence(tmp_path, harm):
    path = tmp_path / "probes.safetensors"
    run = states_of(noise(2, BATCH, 1, WIDTH))
    probes = ls.Probes.fit(run, drawn(2, BATCH), random=False)
    if harm == "a run":
        run.save(path)
    elif harm != "nothing":
        probes.save(path)
    if harm == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    if harm in ("without scores", "of another shape"):
        from loopscope.common.files import load_file, save_file

        tensors, header = load_file(path, "probes")
        tensors["score"] = torch.zeros(2)
        if harm == "without scores":
            del tensors["score"]
        save_file(path, tensors, header)
    sentence = {
        "truncated": "truncated or something else",
        "nothing": "must be a file",
        "a run": "must hold a probes, but holds a 'run'",
        "without scores": "lacks what probes need",
        "of another shape": "lacks what probes need",
    }[harm]
    with pytest.raises(LoopscopeError, match=sentence):
        ls.load_probes(path)


@pytest.mark.parametrize("kind", ["classes", "numbers", "positions"])
def test_a_run_read_from_its_file_piece_by_piece_gives_the_same_probes(tmp_path, small_pieces, kind):
    model = ls.models.load("universal-prefix-parity")
    batch = model.task.batch(120, seed=0)
    run = ls.record(model, batch.tokens, 5, sites=["core.0.hook_resid_post"])
    path = run.save(tmp_path / "run.safetensors")
    labels = {
        "classes": batch.targets[:, -1],
        "numbers": batch.difficulty + 0.1 * noise(120),
        "positions": batch.targets,
    }[kind]
    options = {"sites": ["state", "core.0.hook_resid_post"], "iterations": [0, 2, 4]}
    options |= {"mask": batch.mask} if kind == "positions" else {"positions": [-1]}
    whole = ls.Probes.fit(run, labels, **options)
    pieces = ls.Probes.fit(path, labels, **options)
    chunks = list(file_source.FileSource(path, ["state"]).chunks([("state", 0)]))
    assert len(chunks) > 10 and chunks[-1].first > 100
    assert alike(whole, pieces, rtol=0, atol=1e-9)
    assert torch.allclose(
        whole.at(2, "state", whole.positions[0]).weight, pieces.at(2, "state", whole.positions[0]).weight
    )
    assert whole.features == pieces.features == "an untrained model of the same architecture"


def test_the_fact_of_a_saved_run_of_an_entry_is_known_without_labels(tmp_path, small_pieces):
    model = ls.models.load("universal-prefix-parity")
    run = ls.record(model, model.task.batch(80, seed=0).tokens, 3)
    path = run.save(tmp_path / "run.safetensors")
    assert alike(ls.Probes.fit(path, "answer"), ls.Probes.fit(run, "answer"), atol=1e-9)


def test_inner_loops_and_rows_that_left_are_read_from_a_file_as_from_memory(tmp_path, small_pieces):
    model = ls.models.load("hrm-sudoku")
    batch = model.task.batch(60, seed=0)
    site = next(
        name for name in model.hook_dict if name.startswith("low") and name.endswith("hook_resid_post")
    )
    run = ls.record(model, batch.tokens, 3, sites=[site])
    assert len(run[site].inner) == 1
    path = run.save(tmp_path / "run.safetensors")
    options = {"mask": batch.mask, "sites": site, "iterations": [1], "random": False}
    whole = ls.Probes.fit(run, batch.targets, **options)
    assert alike(
        whole, ls.Probes.fit(path, batch.targets, **options), ("score", "low", "control", "rows"), atol=1e-9
    )
    assert whole.at(1).weight.shape[0] == run[site].inner[0] * run[site].shape[-1]


def test_runs_one_by_one_give_what_one_run_of_all_gives(monkeypatch):
    whole = written(240)
    labels = whole.tokens[:, CLUE]
    parts = [
        (ls.record(whole.model, whole.tokens[a : a + 60]), labels[a : a + 60]) for a in range(0, 240, 60)
    ]
    options = {"positions": [3, 5], "random": "projection"}
    one = ls.Probes.fit(whole, labels, **options)
    assert alike(one, ls.Probes.fit(parts, **options), atol=1e-9)
    made = []

    def again(i):
        made.append(i)
        return parts[i] if i < len(parts) else None

    assert alike(one, ls.Probes.fit(again, **options), atol=1e-9) and len(made) > 8
    monkeypatch.setattr(sources, "SUMS", 40 * 16**2 * 4)  # four places at a time
    assert alike(one, ls.Probes.fit(parts, **options), atol=1e-9)


def test_what_can_be_read_only_once_or_has_no_labels_gets_a_sentence():
    run = written(60)
    with pytest.raises(LoopscopeError, match="which can be read only once"):
        ls.Probes.fit(pair for pair in [(run, run.tokens[:, 0])])
    with pytest.raises(LoopscopeError, match=r"must come as \(run, labels\)"):
        ls.Probes.fit([run])
    with pytest.raises(LoopscopeError, match="there must be runs to probe"):
        ls.Probes.fit([])
    with pytest.raises(LoopscopeError, match="leave labels= out"):
        ls.Probes.fit([(run, run.tokens[:, 0])], run.tokens[:, 0])
    other = ls.record(run.model, run.tokens, 3)
    with pytest.raises(LoopscopeError, match="all runs must have the same iterations and positions"):
        ls.Probes.fit([(run, run.tokens[:, 0]), (other, run.tokens[:, 0])])


def test_a_file_without_the_site_or_with_infinity_in_it_gets_a_sentence(tmp_path):
    table = noise(3, BATCH, 1, WIDTH)
    run = states_of(table)
    path = run.save(tmp_path / "run.safetensors")
    with pytest.raises(
        LoopscopeError, match=r"must hold the site 'core' with iterations, but holds \['state'\]"
    ):
        ls.Probes.fit(path, drawn(2, BATCH), sites="core")
    table[2, 7] = float("inf")
    with pytest.warns(ls.LoopscopeWarning):
        path = states_of(table).save(path)
    with pytest.raises(
        LoopscopeError, match=r"NaN or infinity at iteration 2. Probe those before it: iterations=range\(2\)"
    ):
        ls.Probes.fit(path, drawn(2, BATCH))


def test_reading_a_file_takes_no_more_memory_than_a_piece(tmp_path):
    """120 MB of states, the growth of the peak while they are probed below 40 MB. See bench_probes
    for 5 GB."""
    script = f"""
        import resource, torch, loopscope as ls
        from loopscope.probing import sources, file_source
        torch.set_num_threads(1)
        file_source.PIECE = 2_000_000
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        labels = torch.arange(2000) % 2
        small = ls.iterate(torch.tanh, torch.randn(200, 2, 64), 2)
        small.save(r"{tmp_path}/small.safetensors")
        ls.Probes.fit(r"{tmp_path}/small.safetensors", labels[:200], positions="pooled")
        before = peak()
        ls.Probes.fit(r"{tmp_path}/run.safetensors", labels, positions="pooled", iterations=range(0, 30, 4))
        print((peak() - before) / 1e6)
    """
    run = ls.iterate(lambda x: 0.99 * x, torch.randn(2000, 8, 64), 29)
    assert run.nbytes > 120e6
    run.save(tmp_path / "run.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1500:]
    assert float(done.stdout) < 40


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_of_others_is_probed_beside_its_own_untrained_likeness(tmp_path, small_pieces, dtype):
    from ..toys.small_models import hrm_text

    torch.manual_seed(0)
    model = ls.wrap(hrm_text().eval().to(dtype))
    tokens = torch.randint(1, 38, (120, 5), generator=torch.Generator().manual_seed(2))
    run = ls.record(model, tokens)
    labels = tokens[:, 3] > 18
    probes = ls.Probes.fit(run, labels, sites=["state", "state.low"], positions=[0, 3])
    assert probes.features == "an untrained model of the same architecture"
    assert float(probes.score[0, -1, 1]) > 0.75 and float(probes.score[0, :, 0].max()) < 0.65, (
        "no position sees ahead"
    )
    path = run.save(tmp_path / "run.safetensors")
    assert alike(
        probes,
        ls.Probes.fit(path, labels, sites=["state", "state.low"], positions=[0, 3], model=model),
        atol=1e-9,
    )
