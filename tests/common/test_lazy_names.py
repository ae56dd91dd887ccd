"""Naming `ls.record` imports what a recording needs and nothing else, and a public name of a
package is what its file has, in whatever order files were imported."""

import gc
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import loopscope as ls
from loopscope.common.lazy_names import lazy_names

ROOT = Path(__file__).parents[2]
PROGRAM = """
import gc, json, sys
import torch

before = set(sys.modules)
import loopscope as ls

runs = []
gc.callbacks.append(lambda phase, info: runs.append(len(sys.modules)) if phase == "start" else None)
count = len(sys.modules)
record = ls.record
print(json.dumps({
    "loaded": sorted(set(sys.modules) - before),
    "collections": sum(count < number < len(sys.modules) for number in runs),
}))
"""
HEAVY = {
    "accelerate", "dask", "datasets", "einops", "jinja2", "pandas", "plotly", "pydantic", "rich", "scipy",
    "sklearn", "transformer_lens", "transformers", "typer", "xarray",
}  # fmt: skip
UNREACHED = {
    "dynamics", "lenses", "loop_detection", "patching", "plots", "probing", "reports", "sweeps", "tasks",
    "training",
}  # fmt: skip
"""Folders of loopscope."""


def test_naming_record_imports_neither_large_packages_nor_what_measures_runs():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seen = json.loads(done.stdout)
    assert HEAVY & {name.partition(".")[0] for name in seen["loaded"]} == set()
    parts = [name.split(".")[1:] for name in seen["loaded"] if name.startswith("loopscope.")]
    assert UNREACHED & {part[0] for part in parts} == set()
    maths = {part[1] for part in parts if part[0] == "maths" and len(part) > 1}
    assert maths <= {"precision", "output_signals"}
    assert seen["collections"] == 0, "garbage was looked for in the middle of it"


@pytest.mark.parametrize("package", ["maths", "halting", "recorder"])
def test_a_star_imports_every_public_name(package):
    names: dict = {}
    exec(f"from loopscope.{package} import *", names)
    module = sys.modules[f"loopscope.{package}"]
    assert names.keys() - {"__builtins__"} == {n for n in dir(module) if n in module.__all__} != set()


@pytest.mark.parametrize("enabled", [False, True])
def test_whether_garbage_is_collected_stays_the_callers_choice(enabled):
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        assert ls.record and ls.maths
        with pytest.raises(AttributeError, match="no attribute 'nope'"):
            ls.nope  # noqa: B018 (of a module)
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "of_two_files"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from .period import period as period\n"
        "    from .period import Kind as Sort\n"
    )
    (folder / "period.py").write_text("class Kind:\n    pass\n\n\ndef period():\n    return 3\n")
    (folder / "other.py").write_text("VALUE = 5\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = import_module("of_two_files")
    lazy_names("of_two_files")
    yield module
    for name in [name for name in sys.modules if name.partition(".")[0] == "of_two_files"]:
        del sys.modules[name]


@pytest.mark.parametrize("first", ["the file", "the name"])
def test_a_name_is_never_the_file_of_the_same_name(package, first):
    assert "of_two_files.period" not in sys.modules and {"period", "Sort"} <= set(dir(package))
    if first == "the file":
        import_module("of_two_files.period")
    assert package.period() == 3 and package.Sort.__name__ == "Kind"
    import_module("of_two_files.period")
    assert package.period() == 3
    assert import_module("of_two_files.other") is package.other, "other files are there as always"
    with pytest.raises(AttributeError, match="'of_two_files' has no attribute 'nothing'"):
        package.nothing  # noqa: B018 (of a module)


@pytest.mark.parametrize("folder", ["halting", "maths", "recorder"])
def test_every_name_that_a_package_of_ours_lists_is_there(folder):
    module = import_module(f"loopscope.{folder}")
    names = [name for name in dir(module) if not name.startswith("_")]
    assert all(getattr(module, name) is getattr(module, name) for name in names)
