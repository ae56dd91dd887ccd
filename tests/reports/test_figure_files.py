"""Every figure of a page as a file."""

import importlib
from pathlib import Path
from typing import Any

import pytest

import loopscope as ls

from ..toys.public_calls import run
from ..toys.real_browser import BROWSERS


@pytest.fixture(scope="module")
def page() -> Any:
    return ls.report(run(), ["geometry"])


def test_without_kaleido_the_sentence_says_what_to_install(
    page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = importlib.import_module

    def without(name: str) -> Any:
        if name == "kaleido":
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ls.LoopscopeError, match=r'pip install "loopscope\[figures\]"'):
        page.save_figures(tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize(("format", "beginning"), [("svg", b"<svg"), ("png", b"\x89PNG")])
def test_every_figure_has_its_file(page: Any, tmp_path: Path, format: Any, beginning: bytes):
    import shutil

    pytest.importorskip("kaleido")
    if not any(shutil.which(name) for name in BROWSERS):
        pytest.skip("kaleido needs Chromium: run `make browser`")
    paths = page.save_figures(tmp_path / "figures", format)
    assert [path.name.split("-")[1] for path in paths] == [name.split("-")[0] for name, _ in page.panels]
    assert sorted(paths) == sorted((tmp_path / "figures").iterdir()) == paths
    for path, (_, panel) in zip(paths, page.panels, strict=True):
        content = path.read_bytes()
        assert content.startswith(beginning)
        if format == "svg":
            assert f'height="{panel.figure.layout.height or 380}"'.encode() in content
