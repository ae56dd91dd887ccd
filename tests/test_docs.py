"""What the pages show works: blocks run, the names and parameters they use exist, and the commands
they give are targets of the Makefile."""

import re
from pathlib import Path

import pytest
import torch

import loopscope as ls

from .toys.import_graph import ROOT
from .toys.page_code import blocks, missing_names, missing_parameters, snippets
from .toys.small_models import bridge, hrm_text

PAGES = [
    page
    for folder in (".", "docs", "models", "analyses", "findings")
    for page in sorted(ROOT.glob(f"{folder}/*.md"))
]
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""All but the page that names what there was before."""
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
TABLES = ("findings.md", "models.md", "sizes.md", "verdicts.md")
"""Pages without code."""
APART = ("architecture.md", "disk.md", *TABLES)
GUIDES = [p for p in sorted(ROOT.glob("docs/*.md")) if p.name not in APART]
"""Pages whose blocks run one after another. Those of architecture.md are templates; they and those
of disk.md have a test of their own."""
COMMANDS = ["README.md", "CONTRIBUTING.md", "models/README.md", ".github/workflows/ci.yml"]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_page_on_runs_larger_than_memory_runs_as_it_is_printed():
    page, names = ROOT / "docs/disk.md", {}
    code = blocks(page.read_text(encoding="utf-8"))
    assert code
    for block in code:
        exec(compile(block, str(page), "exec"), names)
    assert names["run"].iterations == 32


@pytest.mark.parametrize("page", GUIDES, ids=relative)
def test_a_page_runs_as_it_is_printed(page, capsys):
    torch.manual_seed(0)
    names = {
        "hf_model": hrm_text().eval(),
        "bridge": bridge(),
        "tokens": torch.randint(1, 38, (2, 5)),
    }
    code = blocks(page.read_text(encoding="utf-8"))
    assert len(code) > 5
    for block in code:
        exec(compile(block, str(page), "exec"), names)
    assert "model.L_module, model.H_module run one after another" in capsys.readouterr().out


@pytest.mark.parametrize("name", TABLES)
def test_a_page_without_code_has_none(name):
    assert blocks((ROOT / "docs" / name).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", [*CURRENT, *NOTEBOOKS], ids=relative)
def test_code_uses_public_names_and_parameters_that_exist(path):
    code = snippets(path)
    assert [name for snippet in code for name in missing_names(snippet)] == []
    assert [name for snippet in code for name in missing_parameters(snippet)] == []


def test_the_readme_lists_every_question():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = re.search(r"^## Questions$(.*?)^## ", text, re.DOTALL | re.MULTILINE)
    assert listed, "README.md must have a section Questions"
    questions = "".join(re.findall(r"^(?:- |  ).*\n", listed[1], re.MULTILINE))
    assert sorted(re.findall(r"`(\w+)`", questions)) == ls.analyses.names()


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_are_targets_of_the_makefile(name):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    commands = re.findall(r"\bmake ([a-z-]+)(?: PYTHON|\s+#|`|$)", (ROOT / name).read_text(), re.MULTILINE)
    assert commands
    assert set(commands) <= set(targets)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_within_the_repository_lead_to_files(page):
    links = re.findall(r"\]\(([^)#:\s]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", [page for page in CURRENT if page.parent != ROOT / "models"], ids=relative)
def test_paths_on_pages_exist(page):
    paths = re.findall(r"`([\w./]+/[\w.]*)`", page.read_text(encoding="utf-8"))
    folders = (ROOT, ROOT / "loopscope", page.parent)
    paths = [path for path in paths if "NAME" not in path]
    assert [path for path in paths if not any((folder / path).exists() for folder in folders)] == []


# The checks see what they are for


@pytest.mark.parametrize(
    "code", ["ls.recrod(model)", "ls.core", "ls.maths.no_such_function(x)", "ls._MODULES"]
)
def test_a_missing_name_is_seen(code):
    assert len(missing_names(code)) == 1


@pytest.mark.parametrize("code", ["ls.lens(run, chunks=3)", 'ls.analyses.measure("lens", run, lenz=1)'])
def test_a_missing_parameter_is_seen(code):
    assert missing_names(code) == []
    assert len(missing_parameters(code)) == 1
