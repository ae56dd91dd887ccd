"""The page for people who come from elsewhere runs as it is printed."""

import re
from pathlib import Path

import pytest
import torch

from .toys.small_models import bridge, hrm_text

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda path: path.stem)
def test_a_page_runs_as_it_is_printed(page, capsys):
    torch.manual_seed(0)
    names = {
        "hf_model": hrm_text().eval(),
        "bridge": bridge(),
        "tokens": torch.randint(1, 38, (2, 5)),
    }
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) > 5
    for block in blocks:
        exec(compile(block, str(page), "exec"), names)
    assert "model.L_module, model.H_module run one after another" in capsys.readouterr().out
