"""Arrows point inward: models -> loopscope <- analyses. The instrument knows no particular model and no particular
question, and what stands on a shelf knows nothing else that stands there."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from loopscope.common import discovery

ROOT = Path(__file__).parent.parent
CONTENTS = {
    f"{prefix}{folder}.{name}"
    for prefix in ("", "loopscope.")
    for folder in discovery.SHELVES
    for name in discovery.names(folder)
}
FILES = [
    path for folder in ("loopscope", *discovery.SHELVES) for path in sorted((ROOT / folder).rglob("*.py"))
]


def imported(source: str, package: str) -> set[str]:
    """Every dotted name that a module of `package` imports, anywhere in its text; `from a import b` counts as a.b."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{origin}.{alias.name}" for alias in node.names}
    return found


def outward(source: str, package: str) -> set[str]:
    """The imports that point the wrong way: a folder that isn't a package, what stands on a discovery, or, from a discovery,
    the other discovery."""
    other = {"models": "loopscope.analyses", "analyses": "loopscope.models"}.get(package)
    return {
        name
        for name in imported(source, package)
        if name.split(".")[0] in discovery.SHELVES
        or any(f"{name}.".startswith(f"{content}.") for content in CONTENTS)
        or (other and f"{name}.".startswith(f"{other}."))
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_import_points_outward(path: Path):
    package = ".".join(path.relative_to(ROOT).parent.parts)
    assert outward(path.read_text(encoding="utf-8"), package) == set()


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("loopscope", "import models"),
        ("loopscope", "from models import universal"),
        ("loopscope", "from loopscope.models import universal"),
        ("loopscope", "from .models.universal import Universal"),
        ("loopscope.nn", "from ..models import universal as u"),
        ("loopscope.nn", "def late():\n    import loopscope.models.universal"),
        ("models", "from loopscope import analyses"),
        ("models", "from loopscope.analyses import measure"),
        ("models", "from loopscope.models.universal import Universal"),
        ("analyses", "import loopscope.models"),
        ("analyses", "from loopscope.models import load"),
    ],
)
def test_the_check_sees_an_arrow_that_points_outward(package: str, source: str):
    assert outward(source, package)


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("loopscope", "from . import models, shelf"),
        ("loopscope.reports", "from ..models import load"),
        ("models", "from loopscope.nn import Block"),
        ("analyses", "from loopscope.states import States\nimport transformer_lens.model_bridge"),
    ],
)
def test_the_check_lets_inward_arrows_pass(package: str, source: str):
    assert outward(source, package) == set()


def test_the_shelves_are_not_packages():
    assert not [folder for folder in discovery.SHELVES if (ROOT / folder / "__init__.py").exists()]


def test_the_maths_is_reached_from_the_package_and_costs_nothing_before():
    says = "import sys, loopscope as ls; print('scipy' in sys.modules, hasattr(ls.maths, 'period'), hasattr(ls, 'math'))"
    done = subprocess.run([sys.executable, "-c", says], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False"]
