"""A model, a task and a card full of strings that would like to be HTML, script or a link."""

from dataclasses import dataclass
from pathlib import Path

from loopscope import models, tasks
from loopscope.recorder.record_run import record
from loopscope.runs.run import Run

NAME = "</script><script>alert(1)</script>"
SYMBOLS = ("<img src=x onerror=alert(2)>&lt;", "</script><script>alert(3)</script>", "{{913*977}}\"'&amp;")
CARD = """# <script>alert(4)</script>

Before <b onclick="alert(5)">bold</b> and <img src="http://example.invalid/a.png" onerror=alert(6)>
{{913*977}}.

![a picture](http://example.invalid/b.png) [press](javascript:alert(7)) [go](JaVaScRiPt:alert(8))
<javascript:alert(9)>
[data](data:text/html,<script>alert(10)</script>) [fine](https://example.org/?a=1&b="2")
[vb]( vbscript:alert(11))

[ref]: javascript:alert(12)

A [ref] and `<script>alert(13)</script>` <!-- </script><script>alert(14)</script> -->

<iframe src="http://example.invalid/c"></iframe>

## {{ config }} </details><script>alert(15)</script>

| <svg onload=alert(16)> | b |
|---|---|
| <a href="javascript:alert(17)">x</a> | <style>*{display:none}</style> |
"""


@dataclass(frozen=True)
class Parity(tasks.PrefixParity):
    """Prefix parity in symbols that nobody should trust."""

    symbols = SYMBOLS
    difficulty_unit = "<img src=x onerror=alert(18)>&lt;"


def run(halting: bool = True, name: str | None = NAME) -> Run:
    """A recording of a small model under that name, on that task."""
    options = {"halting": "interpolated", "halting_bias": -1.0} if halting else {}
    model = models.build(
        "universal", width=16, vocabulary=3, iterations=8, injection="add", norm="stream", **options
    ).eval()
    model.name, model.task = name, Parity(length=8)
    return record(model, model.task.batch(8, seed=0).tokens, 12)


def entry(folder: Path, run: Run) -> str:
    """Put a checkpoint of the run's model and the hostile card into a folder; the path of the
    checkpoint."""
    from loopscope.common.files import save_file

    model = run.model
    header = {
        "kind": "checkpoint",
        "entry": NAME,
        "architecture": "universal",
        "config": vars(model.config),
        "task": {"name": "prefix-parity", "options": model.task.options},
    }
    path = folder / "<b>bold<img src=x onerror=alert(19)>'\".safetensors"
    save_file(path, model.state_dict(), header)
    path.with_suffix(".md").write_text(CARD, encoding="utf-8")
    return str(path)
