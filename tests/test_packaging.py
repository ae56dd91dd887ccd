"""The wheel, installed outside the checkout, has every model, analysis, card and weight, and
pollutes nothing."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from loopscope.common import discovery

from .toys.shared_fixtures import made_once

ROOT = Path(__file__).parent.parent
KINDS = {".py", ".md", ".safetensors", ".json"}


def run(*command: object, cwd: Path) -> str:
    """The command's output, run as a stranger would: from a folder of its own, without our
    PYTHONPATH."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def place(home: Path, kind: str) -> Path:
    """The folder of that kind in the environment at home."""
    return Path(sysconfig.get_path(kind, "venv", {"base": str(home), "platbase": str(home)}))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as it is released: built from the source distribution, not from the checkout."""

    def build(out: Path) -> None:
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, cwd=out)

    return next(made_once(tmp_path_factory, "dist", build).glob("*.whl"))


@pytest.fixture(scope="module")
def stranger(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment that has the wheel, and sees this one's libraries but not
    its loopscope."""

    def install(home: Path) -> None:
        venv.create(home, with_pip=False)
        # A path in a .pth file is searched, but .pth files found there, such as our editable
        # install's, are not read.
        place(home, "purelib").joinpath("libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            place(home, "scripts") / "python",
            "install",
            "--quiet",
        ]
        run(*pip, "--no-deps", "--no-index", "--ignore-installed", wheel, cwd=home)

    return place(made_once(tmp_path_factory, "stranger", install), "scripts") / "python"


def test_everything_on_the_shelves_is_in_the_wheel(wheel: Path):
    packed = set(zipfile.ZipFile(wheel).namelist())
    shelved = {
        f"loopscope/{path.relative_to(ROOT)}"
        for folder in discovery.SHELVES
        for path in (ROOT / folder).rglob("*")
        if path.suffix in KINDS
    }
    assert {"loopscope/models/universal.py", "loopscope/analyses/cycles/measure.py"} <= shelved
    assert shelved - packed == set()


def test_everything_in_the_package_is_in_the_wheel_and_nothing_lies_outside_it(wheel: Path):
    packed = set(zipfile.ZipFile(wheel).namelist())
    kinds = {".py", ".js", ".css", ".html", ".typed"}
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "loopscope").rglob("*") if path.suffix in kinds}
    assert ours - packed == set()
    assert "loopscope/reports/template.html" in packed
    assert {name.split("/")[0] for name in packed} - {"loopscope"} == {
        f"{'-'.join(wheel.stem.split('-')[:2])}.dist-info"
    }


def test_a_strangers_environment_finds_the_shelves_by_name_and_no_models_package(
    stranger: Path, tmp_path: Path
):
    code = """
import importlib.util, json
import loopscope, loopscope.models as models, loopscope.analyses as analyses, loopscope.findings as findings
from loopscope.models.universal import Universal
loaded = {entry: models.load(entry) for entry in models.entries()}
print(json.dumps({
    "folder": loopscope.__file__,
    "names": [models.names(), models.entries(), analyses.names(), findings.names()],
    "findings": [str(one.status) for one in findings.results()],
    "answers": [list(m(m.task.batch(2, seed=0).tokens).shape)[0] for m in loaded.values()],
    "cards": [len(models.card(entry)) > 0 for entry in loaded],
    "built": type(models.build("universal")) is Universal,
    "stray": [name for name in ("models", "analyses", "findings") if importlib.util.find_spec(name)],
}))"""
    seen = json.loads(run(stranger, "-I", "-c", code, cwd=tmp_path).splitlines()[-1])
    import loopscope.analyses as analyses
    import loopscope.findings as findings
    import loopscope.models as models

    assert Path(seen["folder"]).is_relative_to(stranger.parent.parent)
    assert seen["names"] == [models.names(), models.entries(), analyses.names(), findings.names()]
    assert seen["findings"] == [str(one.status) for one in findings.results()]
    assert seen["answers"] == [2] * len(models.entries())
    assert all(seen["cards"])
    assert seen["built"]
    assert seen["stray"] == []


def test_the_command_is_installed(stranger: Path, tmp_path: Path):
    assert "measure" in run(stranger.parent / "loopscope", "--help", cwd=tmp_path)
    run(stranger.parent / "loopscope", "copy", "models/universal.py", ".", cwd=tmp_path)
    assert (tmp_path / "universal.py").read_bytes() == (ROOT / "models" / "universal.py").read_bytes()
    run(stranger.parent / "loopscope", "copy", "analyses/cycles", ".", cwd=tmp_path)
    assert (tmp_path / "cycles" / "measure.py").is_file()


@pytest.mark.slow
def test_what_needs_no_checkout_works_with_the_wheel_alone(stranger: Path, tmp_path: Path):
    """`make matrix` runs the same program where nothing but the wheel was installed."""
    run(stranger, "-I", ROOT / "tests" / "wheel_alone.py", cwd=tmp_path)


@pytest.mark.slow
def test_a_finding_runs_from_the_wheel_and_writes_into_the_working_folder(stranger: Path, tmp_path: Path):
    from loopscope.findings import result

    before = result(19)
    shown = run(stranger.with_name("loopscope"), "findings", "show", "19", cwd=tmp_path)
    assert f"Status: {before.status}" in shown
    run(stranger.with_name("loopscope"), "findings", "run", "19", "--seeds", "1", cwd=tmp_path)
    stored = json.loads((tmp_path / "runs/findings/results" / f"{before.name}.json").read_text())
    assert stored["attempt"]["seeds"] == before.record.attempt.seeds
    assert len(stored["attempt"]["measured"]) == len(before.numbers)


GRID = """
entry = "mine.py"
[fixed]
steps = 70
batch = 8
config.width = 8
[grid]
seed = [0, 1]
"""


@pytest.mark.slow
def test_ones_own_model_task_analysis_and_adapter_work_in_every_command(stranger: Path, tmp_path: Path):
    def loopscope(*command: object) -> str:
        return run(stranger.with_name("loopscope"), *command, cwd=tmp_path)

    for kind, name in (("model", "mine"), ("task", "largest"), ("analysis", "moves"), ("adapter", "theirs")):
        loopscope("new", kind, name)
    run(stranger, "-m", "pytest", "-q", "-p", "no:cacheprovider", ".", cwd=tmp_path)
    file = tmp_path / "mine.py"
    text = "from largest import Largest\n" + file.read_text()
    for old, changed in (
        ('task="prefix-parity"', "task=Largest(length=4)"),
        ('options={"length": 8}', "options={}"),
        ('config={"vocabulary": 3}', 'config={"vocabulary": 10}'),
    ):
        assert text.count(old) == 1
        text = text.replace(old, changed)
    file.write_text(text)

    loopscope("train", "./mine.py", "--steps", 60, "--out", "stopped")
    loopscope("train", "./mine.py", "--steps", 120, "--out", "stopped")
    loopscope("train", "./mine.py", "--steps", 120, "--out", "whole")
    script = """
import loopscope as ls
files = [f"{run}/mine-parity.safetensors" for run in ("stopped", "whole")]
ends = [ls.models.load(file, architecture="mine.py") for file in files]
one, other = (end.state_dict() for end in ends)
assert all(value.equal(other[name]) for name, value in one.items())
assert ends[0].task.name == "largest"
assert ls.load_history("whole").model(-1)(ends[0].task.batch(2, seed=0).tokens).isfinite().all()
print(ends[0].save("again", "again"))
"""
    saved = run(stranger, "-c", script, cwd=tmp_path).strip()
    weights = "whole/mine-parity.safetensors"
    result = json.loads(loopscope("measure", "./moves.py", weights, "--use", "mine.py", "--json"))
    assert result["analysis"] == "moves" and len(result["distance"]) == 8
    again = json.loads(loopscope("measure", "./moves.py", saved, "--use", "mine.py", "--json"))
    assert len(again["distance"]) == 8
    loopscope("probe", weights, "--use", "mine.py", "--positions", 0)
    loopscope("report", weights, "--use", "mine.py", "--use", "moves.py", "--analyses", "moves,convergence")
    assert "moves the state" in (tmp_path / "report.html").read_text(encoding="utf-8")
    loopscope("report", "whole", "--use", "mine.py", "--analyses", "grokking", "-o", "training.html")
    (tmp_path / "grid.toml").write_text(GRID)
    loopscope("sweep", "grid.toml", "--workers", 2)
    results = json.loads((tmp_path / "runs" / "grid" / "results.json").read_text())
    assert [one["status"] for one in results["trainings"]] == ["finished", "finished"]
    with pytest.raises(AssertionError, match="which is on no shelf"):
        loopscope("measure", "convergence", weights)
