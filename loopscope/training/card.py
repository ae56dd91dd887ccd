"""The measured part of an entry's card, written anew from numbers measured now."""

from pathlib import Path
from typing import Any

from .. import models
from ..errors import LoopscopeError
from .measure import measured

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def rewrite(entry: str) -> Path:
    """Measure the entry, and put the numbers between the markers of its card. The rest of the card stays as it is.

    Arguments:
        entry: by name, or the path of its `.safetensors`, which the card `.md` lies beside.
    """
    card = models.path(entry).with_suffix(".md")
    header = models.header(entry)
    numbers = header["measured"] | measured(
        models.load(entry)
    )  # how long it trained is told, not measured again
    text = card.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise LoopscopeError(
            f"{card} must have one line {BEGIN} and after it one line {END}, between which the numbers go, but hasn't. "
            "Put them where the numbers belong."
        )
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    card.write_text(f"{before}{BEGIN}\n{section(header, numbers)}\n{END}{after}", encoding="utf-8")
    return card


def section(header: dict[str, Any], measured: dict[str, Any]) -> str:
    """The numbers in Markdown.

    Arguments:
        header: of the entry's file.
        measured: as `loopscope.training.measured` gives it, with the training's `seconds` and `machine`.
    """
    n, length, twice = measured["iterations"], measured["length"], measured["twice"]
    machine, by = measured["machine"], measured["by_iteration"]
    lines = [
        f"Trained for {header['step']:,} steps in {measured['seconds'] / 60:.1f} minutes on {_machine(machine)} "
        f"with torch {header['versions']['torch']}. Measured on {measured['examples']:,} test examples "
        f"(seed {measured['seed']}):",
        "",
        f"- length {length}, {n} iterations: {measured['accuracy']:.2%} of answers right, "
        f"{measured['sequences']:.2%} of sequences wholly right",
        f"- twice the iterations ({2 * n}) change {measured['changed']:.2%} of the answers",
        f"- length {twice['length']}, {twice['iterations']} iterations: {twice['accuracy']:.2%} of answers right, "
        f"{twice['sequences']:.2%} of sequences; half as many iterations again change {twice['changed']:.2%}",
    ]
    if measured["moved"] is not None:
        lines.append(f"- the last relative step of the state, where it is largest: {measured['moved']:.1e}")
    if halting := measured.get("halting"):
        first, last = halting["by_position"][0], halting["by_position"][-1]
        lines.append(
            f"- mean halting iteration: {halting['mean']:.2f}, from {first:.2f} at the first answered position to "
            f"{last:.2f} at the last; rank correlation with the position (Spearman) {_number(halting['spearman'])}; "
            f"{halting['halted']:.2%} of positions halt within {n} iterations"
        )
    lines += [
        "",
        f"| iterations | right, length {length} | right, length {twice['length']} |",
        "|---:|---:|---:|",
    ]
    rows = zip(by["iterations"], by["length"], by["twice"], strict=True)
    return "\n".join([*lines, *(f"| {k} | {own:.2%} | {double:.2%} |" for k, own, double in rows)])


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _machine(machine: dict[str, Any]) -> str:
    threads = "one thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    return f"{threads} of {machine['cores']} CPU cores" if machine["device"] == "cpu" else machine["device"]
