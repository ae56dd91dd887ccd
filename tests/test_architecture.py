"""Arrows point one way: between folders in the order that docs/architecture.md gives, between files
without a circle, and no module uses another's privates."""

import re
from pathlib import Path

import pytest

from loopscope.common import discovery

from .toys.import_graph import ROOT, circles, folder, imports, reaches, sources, upward

MODULES = sources()
GRAPH = imports(MODULES)


def order() -> list[list[str]]:
    """The folders, lowest first, as docs/architecture.md lists them."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = re.search(r"```order\n(.*?)```", text, re.DOTALL)
    assert block, "docs/architecture.md must have a block ```order"
    return [line.split("#")[0].split() for line in block[1].splitlines()]


def test_no_module_imports_itself_however_far_round():
    assert circles(GRAPH) == []


def test_the_order_lists_every_folder_once():
    listed = [name for line in order() for name in line]
    assert sorted(listed) == sorted({folder(module) for module in MODULES} - {""})


def test_every_arrow_follows_the_order():
    assert upward(GRAPH, order()) == []


def test_no_module_uses_privates_of_another():
    assert reaches(MODULES) == []


def test_the_root_holds_three_modules_and_folders():
    assert {p.name for p in (ROOT / "loopscope").glob("*.py")} == {"__init__.py", "cli.py", "run_loading.py"}


def test_the_shelves_are_not_packages():
    assert not [folder for folder in discovery.SHELVES if (ROOT / folder / "__init__.py").exists()]


# The checks see what they are for


@pytest.mark.parametrize(
    "b",
    [
        "from .a import x",
        "from . import a",
        "import loopscope.core.a",
        "def late():\n    from .a import x",
        "def late():\n    from loopscope.core import a",
    ],
)
def test_a_circle_is_seen(b: str):
    planted = {
        "loopscope": "",
        "loopscope.core": "",
        "loopscope.core.a": "from .b import y",
        "loopscope.core.b": b,
    }
    assert circles(imports(planted)) == [["loopscope.core.a", "loopscope.core.b"]]


def test_an_import_for_annotations_is_no_arrow():
    b = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import x"
    planted = {"loopscope.core": "", "loopscope.core.a": "from .b import y", "loopscope.core.b": b}
    assert circles(imports(planted)) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("loopscope.core.sites", "from ..recorder.record_run import record"),
        ("loopscope.core.sites", "def late():\n    from ..runs import Run"),
        ("loopscope.maths.period", "from ..plots import style"),
        ("loopscope.core.sites", "from .. import record"),
        ("loopscope.nn.block", "from ..models.universal import Universal"),
        ("loopscope.nn.block", "import loopscope.models.universal"),
        ("models/.universal", "from loopscope.analyses import measure"),
        ("models/.universal", "from loopscope.models.huginn import Huginn"),
        ("analyses/.cycles", "from loopscope.analyses.lens import Lens"),
        ("analyses/.cycles", "from loopscope.models.huginn import Huginn"),
        (
            "findings/.act_bias_sets_first_halting",
            "from loopscope.findings.grokking_needs_weight_decay import A",
        ),
        ("findings/.act_bias_sets_first_halting", "from loopscope.findings import names"),
        ("loopscope.replication.rule", "from ..findings import names"),
        ("analyses/.cycles", "from loopscope.replication import Finding"),
    ],
)
def test_an_arrow_against_the_order_is_seen(module: str, source: str):
    graph = imports(MODULES | {module: source})
    assert [arrow for arrow in upward(graph, order()) if arrow.startswith(f"{module} ")]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("loopscope.cli", "from . import models\nfrom .common import discovery"),
        ("loopscope.reports.report", "from ..models import load"),
        ("models/.universal", "from loopscope.nn import Block"),
        ("findings/.act_bias_sets_first_halting", "from loopscope.models.trm import rollouts"),
        ("analyses/.cycles.figures", "from .measure import Cycles"),
        (
            "analyses/.cycles.measure",
            "from loopscope.core.states import States\nimport transformer_lens.model_bridge",
        ),
    ],
)
def test_an_arrow_in_order_passes(module: str, source: str):
    graph = imports(MODULES | {module: source})
    assert [arrow for arrow in upward(graph, order()) if arrow.startswith(f"{module} ")] == []


@pytest.mark.parametrize(
    "source",
    [
        "from .states import _index",
        "from . import states\nstates._index(3)",
        "def f(run):\n    return run.states._values",
    ],
)
def test_a_reach_into_privates_is_seen(source: str):
    states = "def _index(): ...\nclass States:\n    def __init__(self):\n        self._values = {}"
    planted = {"loopscope.core": "", "loopscope.core.states": states, "loopscope.core.b": source}
    assert len(reaches(planted)) == 1


def test_what_is_no_reach_passes():
    b = "class B:\n    def f(self, b, state):\n        self._x = b._x\n        return state._replace(a=1)"
    assert reaches({"loopscope.core": "", "loopscope.core.b": b}) == []


def test_a_shelf_is_found_by_path():
    assert Path(discovery.modules("analyses")["cycles"]).is_dir()
