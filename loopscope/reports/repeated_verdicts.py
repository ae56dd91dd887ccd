"""Whether verdicts hold: every analysis of an entry on ten batches of other examples.

`make verdicts` runs this for every entry and writes `docs/verdicts.md`:

    python -m loopscope.reports.repeated_verdicts NAME      # measures an entry
    python -m loopscope.reports.repeated_verdicts           # writes the page from all that were
"""

import json
import sys
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import analyses, models
from ..common.atomic_write import save_text
from ..common.errors import LoopscopeError
from ..recorder.record_run import record

BATCHES, EXAMPLES = 10, 64
FIRST_SEED = 100
"""Of the batches: thresholds were chosen with a look at batches 0 to 9."""
EXCEPTIONS = 1
"""So many of ten verdicts may differ from the others and still not be `unclear`."""
MOST_UNCLEAR = 0.15
"""Share of (entry, analysis) pairs whose verdict may be `unclear`."""
FOLDER, PAGE = Path("runs/verdicts"), Path("docs/verdicts.md")


def repeated_verdicts(
    entry: str,
    batches: int = BATCHES,
    examples: int = EXAMPLES,
    names: Sequence[str] | None = None,
) -> dict[str, list[str]]:
    """The names of the verdicts of every analysis on several batches of an entry's task.

    Arguments:
        entry: a trained entry.
        batches: how many; their seeds are 100, 101, ...
        examples: in each batch.
        names: of the analyses; None: all that apply to a run.

    Returns:
        by analysis, one verdict for each batch to which it applies.
    """
    model = models.load(entry)
    verdicts: dict[str, list[str]] = {}
    for seed in range(FIRST_SEED, FIRST_SEED + batches):
        run = record(model, model.task.batch(examples, seed=seed).tokens)
        for name in analyses.names() if names is None else names:
            module = analyses.module(name)
            if getattr(module, "SUBJECT", "run") == "run" and getattr(module, "applies", lambda _: True)(run):
                verdicts.setdefault(name, []).append(analyses.measure(name, run).verdict.name)
    return verdicts


def holds(verdicts: Sequence[str]) -> bool:
    """Whether all verdicts but one of ten are the same, or `unclear`."""
    clear = Counter(name for name in verdicts if name != "unclear")
    return sum(clear.values()) - max(clear.values(), default=0) <= EXCEPTIONS * len(verdicts) // BATCHES


def is_unclear(verdicts: Sequence[str]) -> bool:
    """Whether more than half of the verdicts are `unclear`."""
    return 2 * list(verdicts).count("unclear") > len(verdicts)


def verdicts_page(by_entry: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """A Markdown page with one table of all verdicts, and how many of them hold."""
    pairs = [(e, a, v) for e, results in by_entry.items() for a, v in results.items()]
    unclear = sum(is_unclear(v) for *_, v in pairs)
    broken = [f"{a} of {e}" for e, a, v in pairs if not holds(v)]
    lines = [
        "# Do the verdicts hold?",
        "",
        f"Every analysis was run on {BATCHES} batches of {EXAMPLES} examples of each entry's task (seeds",
        f"{FIRST_SEED} to {FIRST_SEED + BATCHES - 1}). A verdict holds if at least nine of ten are the same,",
        "or `unclear`. Each cell says how often each verdict came out. `make verdicts` writes this page.",
        "",
        f"- {len(pairs) - len(broken)} of {len(pairs)} pairs of entry and analysis hold"
        + (f"; these don't: {', '.join(broken)}." if broken else "."),
        f"- {unclear} of {len(pairs)} ({unclear / max(1, len(pairs)):.0%}) are unclear in most batches.",
        "",
    ]
    for name in sorted({a for _, a, _ in pairs}):
        lines += [f"## {name}", "", "| entry | verdicts |", "|---|---|"]
        lines += [f"| {e} | {_counts(v)} |" for e, a, v in pairs if a == name]
        lines.append("")
    return "\n".join(lines)


def _counts(verdicts: Sequence[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in Counter(verdicts).most_common())


def _write_page() -> bool:
    files = sorted(FOLDER.glob("*.json"))
    if not files:
        raise LoopscopeError(f"{FOLDER} must hold measured entries, but is empty. Run make verdicts.")
    by_entry = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}
    save_text(PAGE, verdicts_page(by_entry))
    every = [v for results in by_entry.values() for v in results.values()]
    few = sum(is_unclear(v) for v in every) <= MOST_UNCLEAR * len(every)
    return few and all(holds(v) for v in every)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for entry in sys.argv[1:]:
        save_text(FOLDER / f"{entry}.json", json.dumps(repeated_verdicts(entry), indent=1))
    if not sys.argv[1:] and not _write_page():
        sys.exit(f"Some verdicts don't hold, or too many are unclear: see {PAGE}.")
