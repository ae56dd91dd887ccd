"""Finding: a published claim, how it is measured, and when it holds."""

from dataclasses import dataclass

from ..common.errors import LoopscopeError

SEEDS = 3
"""A finding is decided by so many seeds, at least."""


@dataclass(frozen=True)
class Paper:
    """Where a claim is from."""

    authors: str
    """Such as "Nanda et al."; empty where they aren't known."""
    year: int
    arxiv: str = ""
    """Its arXiv id, such as "2301.05217"."""
    title: str = ""
    """For what has no arXiv id."""

    def __str__(self) -> str:
        where = f"arXiv {self.arxiv}" if self.arxiv else self.title
        return f"{self.authors} {self.year}, {where}" if self.authors else f"{where} ({self.year})"


@dataclass(frozen=True)
class Finding:
    """A published claim with its metric and criterion, both fixed before the first run.

    The rule is the same for all: the criterion holds for the mean of three seeds and in at least
    two of the three (`loopscope.replication.rule`).
    """

    number: int
    """By which it is called: `loopscope findings run 10`."""
    claim: str
    """A sentence."""
    source: Paper
    metric: str
    """What is measured."""
    criterion: str
    """As it was fixed, word for word; criteria.md lists all."""
    minutes: float
    """Of one thread for one seed, its trainings included."""
    recipes_tried: int = 1
    """How many recipes and ways to measure were tried, this one included. Those whose seeds were
    drawn by the command are counted on top of it."""
    reserve: bool = False
    """Whether it stands in for one of the thirty."""
    fresh_only: bool = False
    """Whether its criterion was written after a look at trained entries, so that it counts on
    trainings that weren't there before, alone."""
    curve_start: int = 0
    """What the first value of its curves stands for, such as 1 for "after one iteration"."""

    def __post_init__(self) -> None:
        for name in ("number", "recipes_tried"):
            if type(value := getattr(self, name)) is not int or value < 1:
                raise LoopscopeError(f"Finding.{name} must be a whole number, 1 or more, but is {value!r}.")
        if type(self.curve_start) is not int or self.curve_start < 0:
            raise LoopscopeError(
                f"Finding.curve_start must be a whole number, 0 or more, but is {self.curve_start!r}."
            )
        for name in ("claim", "metric", "criterion"):
            if not (isinstance(value := getattr(self, name), str) and value.strip()):
                raise LoopscopeError(f"Finding.{name} must be a text, but is {value!r}. Write it.")
