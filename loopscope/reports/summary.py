"""The summary at the top of a page: how its training went, what the model does, where its loop
goes, when it stops, what more iterations buy, and what is unclear."""

from collections.abc import Mapping, Sequence

from ..common.analysis_result import AnalysisResult
from ..common.evidence import interval_text
from ..common.fate import MEANINGS, WORDS
from ..common.text import percent, plural
from .fates import Fates
from .section import NO_RANK, Section, Summary, Table, Tile, Topic, anchor

MAX_TILES = 6
_NO_TASK = "Which answers are right isn't known: the run has no task whose answers could be compared."
_AFTER_FATES: tuple[Topic, ...] = ("halting", "gain")


def summary(results: Mapping[str, AnalysisResult], sections: Sequence[Section], fates: Fates) -> Summary:
    """The summary of a page.

    Arguments:
        results: by the name of the analysis.
        sections: with their claims and tiles. Tiles of analyses that say where states go are left
            out: the reconciled fate has the only tile on that.
        fates: of the run's examples.
    """
    sentences = [section.claim for section in sections if section.topic == "training"]
    sentences += [_claim(sections, "model") or _NO_TASK, fates.sentence or _claim(sections, "dynamics")]
    sentences += [_claim(sections, topic) for topic in _AFTER_FATES]
    sentences.append(_unclear_sentence(results, sections, fates))
    speaks_of_fates = {anchor(name) for name, result in results.items() if result.fates}
    ranked = sorted(
        (section for section in sections if section.name not in speaks_of_fates), key=lambda s: s.rank
    )
    tiles = [
        tile
        for section in ranked
        if section.rank < NO_RANK
        for tile in section.tiles[:1]
        if tile.value.strip(" -")
    ]
    if fates.by_example:
        tiles.insert(min(1, len(tiles)), _fate_tile(fates))
    return Summary(
        sentences=[sentence for sentence in sentences if sentence],
        tiles=tiles[:MAX_TILES],
        table=_fate_table(fates) if len(fates.counts) > 1 else None,
        disagreements=(*fates.disagreements, *fates.reconciled, *fates.notes),
    )


def _claim(sections: Sequence[Section], topic: Topic) -> str:
    return next((section.claim for section in sections if section.topic == topic and section.claim), "")


def _unclear_sentence(
    results: Mapping[str, AnalysisResult], sections: Sequence[Section], fates: Fates
) -> str:
    titles = {section.name: section.title for section in sections}
    named = {verdict: [] for verdict in ("unclear", "unresolved")}
    for name, result in results.items():
        if result.verdict.name in named:
            named[result.verdict.name].append(titles.get(anchor(name), name))
    several, limited = named["unclear"], named["unresolved"]
    parts = []
    if several:
        parts.append(
            f"{len(several)} of {plural(len(results), 'verdict')} {'is' if len(several) == 1 else 'are'} "
            f"unclear ({', '.join(several)})"
        )
    if limited:
        parts.append(f"the states as they are decide nothing on {', '.join(limited)}")
    if fates.disagreements:
        parts.append("analyses disagree, as is said below")
    if fates.notes and not fates.disagreements:
        parts.append("numbers on one thing differ with how they are measured, as is said below")
    if not parts:
        return f"No verdict is unclear, of {len(results)}." if results else ""
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _fate_tile(fates: Fates) -> Tile:
    (fate, count), total = fates.counts[0], len(fates.by_example)
    if fates.rest_range is not None and fates.position_counts is not None:
        low, high, positions = fates.rest_range
        return Tile(
            f"{percent(low / positions).removesuffix(' %')} to {percent(high / positions)}",
            f"of {positions} positions converge, by criterion; all positions of an example do, "
            f"undisputed, in {fates.whole_at_rest} of {total}{fates.clauses}",
        )
    if fates.position_counts is not None:
        at_rest, positions = fates.position_counts
        whole, known = fates.whole_at_rest, sum(one == "converges" for one in fates.by_example.values())
        disputed = f"; of the whole state that is known in {known}" if known < whole else ""
        return Tile(
            percent(at_rest / positions),
            f"of {positions} positions converge; all positions of an example do in {whole} "
            f"of {total}{disputed}{fates.clauses}",
        )
    caption = f"examples whose states {WORDS[fate]} ({interval_text(count, total)}){fates.clauses}"
    return Tile(f"{count} of {total}", caption)


def _fate_table(fates: Fates) -> Table:
    total = len(fates.by_example)
    rows = []
    for fate, count in fates.counts:
        rows.append(
            (
                f"They {WORDS[fate]}: {MEANINGS[fate]}",
                f"{count} of {total}",
                percent(count / total),
                interval_text(count, total),
            )
        )
    return Table(("Where the states go", "Examples", "Share", "95 % interval"), rows)
