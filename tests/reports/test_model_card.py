"""The model card: new numbers between its markers, and nothing else changed."""

import re

import pytest

import loopscope as ls
from loopscope.common.errors import LoopscopeError
from loopscope.reports import model_card
from loopscope.reports.marked_section import markers
from loopscope.training import train

from .test_reproduce import TINY

BEGIN, END = markers(model_card.SECTION)


def test_a_card_gets_new_numbers_and_keeps_its_words(tmp_path):
    train(TINY, tmp_path, progress=False)
    page = tmp_path / "universal.md"
    page.write_text(f"# Before\n{BEGIN}\nold numbers\n{END}\n## After\n", encoding="utf-8")
    model_card.rewrite(str(tmp_path / "universal.safetensors"))
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# Before\n{BEGIN}\n")
    assert text.endswith(f"\n{END}\n## After\n")
    assert "old numbers" not in text
    measured = ls.models.header(tmp_path / "universal.safetensors")["measured"]
    assert f"length 5, 2 iterations: {measured['accuracy']:.2%} of answers correct" in text
    page.write_text(text.replace("fixed_points", "older words"), encoding="utf-8")
    weights = (tmp_path / "universal.safetensors").read_bytes()
    model_card.renew_verdicts(str(tmp_path / "universal.safetensors"))
    assert page.read_text(encoding="utf-8") == text, "the verdicts come anew, the numbers stay"
    assert (tmp_path / "universal.safetensors").read_bytes() == weights
    page.write_text("# No place for numbers\n", encoding="utf-8")
    with pytest.raises(LoopscopeError, match="must have one line <!-- measured: begin -->"):
        model_card.rewrite(str(tmp_path / "universal.safetensors"))


@pytest.mark.parametrize("entry", ls.models.entries())
def test_a_card_says_no_verdict_that_no_analysis_has(entry: str):
    """Its sentences are those of today's enumerations: `make cards` writes them anew."""
    card = " ".join(ls.models.path(entry).with_suffix(".md").read_text(encoding="utf-8").split())
    block = card.partition(BEGIN)[2].partition(END)[0]
    for question in model_card.QUESTIONS:
        said = block.partition(f"- `{question}`: ")[2].partition("- `")[0]
        if not said or "can't be measured" in said:
            continue
        verdict = "".join(part.capitalize() for part in question.split("_")) + "Verdict"
        members = getattr(ls.analyses.module(question), verdict)
        claims = re.split(r"\(\d\) ", said)[1:] or [said]
        for claim in claims:
            assert any(claim.startswith(member.sentence) for member in members), claim
