"""The measured part of an entry's card, rewritten with new measurements.

`make cards` runs this for every entry, which writes the verdicts anew and keeps the measured
numbers: python -m loopscope.reports.model_card NAME
"""

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import analyses, models
from ..common.errors import LoopscopeError
from ..common.files import load_file, save_file
from ..common.text import plural
from ..recorder.record_run import record
from ..training.card_metrics import SEED, measure_entry
from .marked_section import check_markers, write_section

QUESTIONS = ("convergence", "cycles", "fixed_points", "stability", "path_independence")
"""The analyses of an entry's dynamics."""
RECORDED = 32
"""Examples that the analyses record."""
SECTION = "measured"
"""Of the card, between its markers."""


def rewrite(entry: str) -> Path:
    """Measure an entry, and write the numbers into its header and between the markers of its card.
    The rest is unchanged.

    Arguments:
        entry: its name, or the path of its `.safetensors`; the card `.md` is next to it.

    Returns:
        the path of the card.
    """
    file = models.path(entry)
    card = file.with_suffix(".md")
    tensors, header = load_file(file, kind="checkpoint")
    numbers = header["measured"] | measure_entry(models.load(entry))  # the training time stays
    check_markers(card, SECTION)
    save_file(file, tensors, header | {"measured": numbers})
    content = wrapped("\n".join([section(header, numbers), "", *dynamics(entry)]))
    write_section(card, SECTION, content)
    return card


def renew_verdicts(entry: str) -> Path:
    """Write the verdicts between the markers of an entry's card as today's analyses have them. The
    numbers beside them are those of its header: neither they nor the entry's file change.

    Arguments:
        entry: its name, or the path of its `.safetensors`; the card `.md` is next to it.

    Returns:
        the path of the card.

    Raises:
        LoopscopeError: the card has no such place.
    """
    header = models.header(entry)
    card = models.path(entry).with_suffix(".md")
    check_markers(card, SECTION)
    content = wrapped("\n".join([section(header, header["measured"]), "", *dynamics(entry)]))
    write_section(card, SECTION, content)
    return card


def dynamics(entry: str) -> list[str]:
    """The dynamics of the loop, as the verdicts of analyses, in Markdown."""
    model = models.load(entry)
    run = record(model, model.task.batch(RECORDED, SEED).tokens, seed=SEED)
    lines = [
        f"Dynamics of the loop ({RECORDED} test examples, {plural(run.iterations, 'iteration')}, and more "
        "where an analysis needs them):",
        "",
    ]
    for question in QUESTIONS:
        try:
            result = analyses.measure(question, run)
        except LoopscopeError as error:
            lines.append(f"- `{question}` can't be measured: {error}")
            continue
        value, caption = analyses.module(question).headline(result)
        lines.append(f"- `{question}`: {result.sentence} ({value} {caption})")
    return lines


def section(header: dict[str, Any], measured: dict[str, Any]) -> str:
    """The numbers in Markdown.

    Arguments:
        header: of the entry's file.
        measured: the result of `loopscope.training.measure_entry`, with the training's `seconds`
            and `machine`.
    """
    n, length, twice = measured["iterations"], measured["length"], measured["twice"]
    machine, by, dial = measured["machine"], measured["by_iteration"], measured["dial"]
    tokens = measured["score"] == "accuracy"
    processor = measured.get("processor_seconds")
    processor_text = "" if processor is None else f" ({processor / 60:.1f} of processor time)"
    lines = [
        f"Trained for {header['step']:,} steps in {measured['seconds'] / 60:.1f} minutes{processor_text} on "
        f"{_machine(machine)} with torch {header['versions']['torch']}. Measured on "
        f"{measured['examples']:,} test examples (seed {measured['seed']}):",
        "",
        f"- {dial} {length}, {plural(n, 'iteration')}: {_score(measured)}",
        f"- twice the iterations ({2 * n}) change {_change(measured, tokens)}",
    ]
    if twice is not None:
        lines.append(
            f"- {dial} {twice['length']}, {plural(twice['iterations'], 'iteration')}: "
            f"{_score(measured | twice)}; half as many iterations again change {_change(twice, tokens)}"
        )
    if measured["moved"] is not None:
        lines.append(
            f"- the largest relative change of the state in the last iteration: {measured['moved']:.1e}"
        )
    if halting := measured.get("halting"):
        lines.append(_halting(halting, n))
    if seeds := measured.get("seeds"):
        others = ", ".join(
            f"{other['accuracy']:.2%} (seed {seed}, {other['processor_seconds'] / 60:.1f} minutes of "
            "processor time)"
            for seed, other in seeds.items()
        )
        lines.append(f"- trained from other seeds: {others}")
    score = "accuracy" if tokens else measured["score"]
    headings, columns = [f"{score}, {dial} {length}"], [by["length"]]
    if twice is not None:
        headings, columns = [*headings, f"{score}, {dial} {twice['length']}"], [*columns, by["twice"]]
    lines += ["", *_table("iterations", headings, by["iterations"], columns, bars=True)]
    if levels := measured.get("by_difficulty"):
        headings = [f"{level:g}" for level in levels["levels"]]
        lines += ["", f"By {levels['unit']}:", ""]
        lines += _table(
            "iterations", headings, levels["iterations"], list(zip(*levels["score"], strict=True))
        )
    return "\n".join(lines)


def wrapped(markdown: str) -> str:
    """The text with paragraphs and list items of at most 100 columns; tables keep their rows."""
    lines = []
    for line in markdown.splitlines():
        indent = "  " if line.startswith("- ") else ""
        lines += (
            [line] if line.startswith("|") else textwrap.wrap(line, 100, subsequent_indent=indent) or [""]
        )
    return "\n".join(lines)


def _table(
    first: str, headings: list[str], ks: list[int], columns: Sequence[Sequence[float]], *, bars: bool = False
) -> list[str]:
    """Rows by iteration; with `bars` each column is also drawn as bars of text."""
    sides = [":---|" if bars else ""] * len(headings)
    columns_text = [f"{heading} | 0 to 100 %" if bars else heading for heading in headings]
    rows = [
        f"| {' | '.join([first, *columns_text])} |",
        "|---:|" + "".join(f"---:|{side}" for side in sides),
    ]
    for k, *values in zip(ks, *columns, strict=True):
        cells = [f"{value:.2%}{f' | {_bar(value)}' if bars else ''}" for value in values]
        rows.append(f"| {k} | {' | '.join(cells)} |")
    return rows


def _bar(fraction: float) -> str:
    """A bar of up to 20 blocks, to an eighth of a block."""
    eighths = round(160 * min(max(fraction, 0.0), 1.0))
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _score(measured: dict[str, Any]) -> str:
    if measured["score"] != "accuracy":
        return f"{measured['accuracy']:.2%} {measured['score']}"
    return (
        f"{measured['accuracy']:.2%} of answers correct, {measured['sequences']:.2%} of sequences entirely "
        "correct"
    )


def _change(measured: dict[str, Any], tokens: bool) -> str:
    return (
        f"{measured['changed']:.2%} of the answers"
        if tokens
        else f"answers by {measured['changed']:.2%} of their variance"
    )


def _halting(halting: dict[str, Any], n: int) -> str:
    # iteration t is the last of t + 1 that are run
    first, last = halting["by_position"][0] + 1, halting["by_position"][-1] + 1
    text = f"- iterations run until halting, on average: {halting['mean'] + 1:.2f}"
    if len(halting["by_position"]) > 1:
        text += (
            f", from {first:.2f} at the first answered position to {last:.2f} at the last; rank correlation "
            f"with the position (Spearman) {_number(halting['spearman'])}"
        )
    text += (
        f"; rank correlation of their expected number with the difficulty "
        f"{_number(halting['difficulty'])}; entropy of the "
        f"halting distribution {halting['entropy']:.3f} nats; {halting['halted']:.2%} of positions halt "
        f"within {n} iterations"
    )
    return text


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _machine(machine: dict[str, Any]) -> str:
    threads = "one thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    return f"{threads} of {machine['cores']} CPU cores" if machine["device"] == "cpu" else machine["device"]


if __name__ == "__main__":
    for name in sys.argv[1:]:
        sys.stdout.write(f"Wrote {renew_verdicts(name)}\n")
