"""Work that is killed at every moment: what is there is always whole, the next start goes on from
it and clears what was left, and the end is that of work that nobody disturbed, bit for bit."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from loopscope.common.errors import LoopscopeError
from loopscope.common.files import load_file
from loopscope.common.folder_lock import exclusive_use
from loopscope.sweeps import grid_from_table, sweep
from loopscope.training import train

from ..toys.file_kinds import RECIPE, same

ROOT = Path(__file__).parents[2]


def content(path):
    """What a file holds, without the time that it took."""
    if path.suffix == ".safetensors":
        for kind in ("run", "probes", "training", "checkpoint", "history", "weights"):
            if f'"kind\\": \\"{kind}\\"'.encode() in path.read_bytes()[:100_000]:
                tensors, header = load_file(path, kind)
                names = ("seconds", "processor_seconds", "measured", "versions")
                return tensors, {name: one for name, one in header.items() if name not in names}
    if path.name == "results.json":
        results = json.loads(path.read_text())["trainings"]
        return [{n: v for n, v in one.items() if n not in ("seconds", "resumed_step")} for one in results]
    return None if path.name in (".sweep", ".lock") else path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "least"),
    [("training", 50), ("sweeping", 40), ("saving", 20), ("reporting", 12), ("probing", 5)],
)
def test_killed_at_every_moment_and_started_again_it_ends_as_if_undisturbed(work, least, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.toys.killed_work", work, str(tmp_path)],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+)\n$", done.stdout)[1]) >= least, "as many moments as that"
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    names = {str(path.relative_to(whole)) for path in whole.rglob("*")}
    assert {str(path.relative_to(killed)) for path in killed.rglob("*")} == names, "no litter is left"
    for name in names:
        if (whole / name).is_file():
            assert same(content(killed / name), content(whole / name)), name


def test_two_trainings_or_sweeps_in_one_folder_are_refused_and_change_nothing(tmp_path):
    grid = grid_from_table({"recipe": RECIPE.to_json(), "grid": {"seed": [0]}}, "tiny")
    work = {
        "training": lambda: train(RECIPE, tmp_path, progress=False, resume=False),
        "sweep": lambda: sweep(grid, tmp_path, workers=0, progress=False),
    }
    (tmp_path / "checkpoint.safetensors").write_text("kept")
    for what, start in work.items():
        with exclusive_use(tmp_path, what):
            with pytest.raises(LoopscopeError, match=f"must be used by one {what} at a time, but another"):
                start()
            assert (tmp_path / "checkpoint.safetensors").read_text() == "kept"
    train(RECIPE, tmp_path, progress=False, resume=False)
    assert not list(tmp_path.glob(".*training*"))
