"""The page of training-free looping: an entry's windows repeated without training, in three
trainings.

`make looping` measures stack-hops and writes the table into its card:

    python -m loopscope.reports.window_looping NAME      # prints it too
"""

import sys
from collections.abc import Mapping

import torch

from .. import models
from ..common import discovery
from ..training.card_metrics import SEED
from .marked_section import check_markers, write_section
from .reproduce import SEEDS, trained_with_seed
from .window_scores import Criterion, WindowScores, criteria, middle_criterion, window_scores

EXAMPLES = 2000
"""Of the criteria, as they were fixed."""
MANY = 20_000
"""Examples of the middle window, whose differences are small."""
SECTION = "looping"
"""Of the card, between its markers."""


def window_looping(entry: str) -> str:
    """Measure an entry and its recipe trained from two other seeds, and write the tables into its
    card.

    Returns:
        The tables in Markdown.

    Raises:
        LoopscopeError: the card has no place for them, or the entry isn't a stack of layers.
    """
    card = discovery.files("models", ".md")[discovery.checked_name("entry", entry, models.entries())]
    check_markers(card, SECTION)
    seed = models.header(entry).get("recipe", {}).get("seed", 0)
    files = {seed: entry} | {other: str(trained_with_seed(entry, other)) for other in SEEDS}
    scores, middles = {}, {}
    for other, file in files.items():
        model = models.load(file)
        scores[other] = window_scores(model, model.task.batch(EXAMPLES, SEED))
        many, middle = model.task.batch(MANY, SEED), (scores[other].middle,)
        middles[other] = middle_criterion(
            window_scores(model, many, windows=middle, repeats=(2,), rules=("damped",))
        )
    page = looping_page(scores, middles)
    write_section(card, SECTION, page)
    return page


def looping_page(scores: Mapping[int, WindowScores], middles: Mapping[int, Criterion]) -> str:
    """The tables in Markdown.

    Arguments:
        scores: by seed of the training.
        middles: the third criterion on more examples, by seed.
    """
    by_seed = {seed: criteria(one) for seed, one in scores.items()}
    return "\n".join(
        [*_accuracies(scores), "", *_criteria(by_seed, middles), "", *_windows(list(scores.values()))]
    )


def _accuracies(scores: Mapping[int, WindowScores]) -> list[str]:
    """One row for each training: one pass, and the rules on average and in the middle."""
    rules = next(iter(scores.values())).rules
    heads = [
        "seed",
        "one pass",
        *rules,
        *(f"middle: {rule}" for rule in rules),
        "windows where damped >= one pass",
    ]
    lines = [_row(heads), _row(["---:"] * len(heads))]
    for seed, one in scores.items():
        kept = int((one.of("damped").mean(-1) >= one.once.mean()).sum())
        values = [one.once, *(one.of(rule) for rule in rules), *(one.in_the_middle(rule) for rule in rules)]
        cells = [f"{float(value.mean()):.2%}" for value in values]
        lines.append(_row([str(seed), *cells, f"{kept} of {len(one.windows) * len(one.repeats)}"]))
    return lines


def _criteria(by_seed: Mapping[int, tuple[Criterion, ...]], middles: Mapping[int, Criterion]) -> list[str]:
    """A row for each criterion and training."""
    heads = ["criterion", "seed", "difference in points", "95 % interval", "holds"]
    lines = [_row(heads), "|---|---:|---:|---:|---|"]
    for place, parts in enumerate(zip(*by_seed.values(), strict=True), 1):
        lines += [_criterion(str(place), seed, one) for seed, one in zip(by_seed, parts, strict=True)]
    return lines + [_criterion("3, on more examples", seed, one) for seed, one in middles.items()]


def _criterion(name: str, seed: int, one: Criterion) -> str:
    difference = one.difference
    counts = "" if one.gained is None else f" ({one.gained} answers become right, {one.lost} wrong)"
    interval = f"{_points(difference.low, 2)} to {_points(difference.high, 2)}"
    held = "yes" if one.holds else "no"
    return _row([name, str(seed), _points(difference.value, 2) + counts, interval, held])


def _windows(scores: list[WindowScores]) -> list[str]:
    """The change against one pass of every window, the mean of all trainings."""
    first = scores[0]
    ends = [(rule, repeat) for rule in first.rules for repeat in (first.repeats[0], first.repeats[-1])]
    lines = [_row(["layers", *(f"{rule}, K = {k}" for rule, k in ends)]), "|---|" + "---:|" * len(ends)]
    for index, (begin, end) in enumerate(first.windows):
        name = str(begin) if end == begin + 1 else f"{begin} to {end - 1}"
        changes = [
            torch.stack(
                [one.of(rule)[index, one.repeats.index(k)].mean() - one.once.mean() for one in scores]
            )
            for rule, k in ends
        ]
        lines.append(_row([name, *(_points(float(change.mean()), 1) for change in changes)]))
    return lines


def _points(difference: float, digits: int) -> str:
    """A difference of shares in percentage points, with its sign."""
    return "unknown" if difference != difference else f"{100 * difference:+.{digits}f}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        sys.stdout.write(window_looping(name) + "\n")
