"""The shelf of the findings: published claims with their criterion, found by name in the folder
`findings/`, and run by a command.

>>> import loopscope as ls
>>> ls.findings.names()
>>> print(ls.findings.result(10))              # what was measured, and whether it holds
>>> ls.findings.run(19, seeds=3)               # by its number or its name
>>> ls.findings.run("my_finding.py")           # one's own
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..common import discovery
from ..common.arguments import Address, Count, FilePath, PositiveCount, whole_number
from ..common.errors import LoopscopeError
from ..common.finding_shelf import FINDINGS
from ..common.guard import guarded
from ..common.reading import checked_path
from ..replication import store
from ..replication.finding import SEEDS
from ..replication.replicate import draw_seeds, replicate
from ..replication.replication import Replication

if TYPE_CHECKING:
    from ..reports.document import Report

__path__ = discovery.folders("findings")


def names() -> list[str]:
    """The names of all findings: ours, then those of the user and of packages."""
    return FINDINGS.names()


def numbers() -> dict[int, str]:
    """The findings' names by their numbers, in order. Of several with one number, ours is taken."""
    by_number: dict[int, str] = {}
    for name in names():
        by_number.setdefault(FINDINGS.get(name).finding.number, name)
    return dict(sorted(by_number.items()))


def name_of(which: Any) -> str:
    """The name of a finding, by its number (10 or "10") or its name; the path of a file and a
    module stand for one of your own, which is on the shelf from now on.

    Raises:
        LoopscopeError: there is none of that number or name.
    """
    try:
        which = whole_number(int(which) if isinstance(which, str) and which.isdecimal() else which)
    except ValueError:
        return FINDINGS.place(which)
    if which not in (known := numbers()):
        raise LoopscopeError(
            f"There is no finding of the number {which}. The numbers are {', '.join(map(str, known))}; "
            "loopscope findings lists them."
        )
    return known[which]


@guarded
def result(which: Any) -> Replication:
    """A finding, with what was measured of it and whether it holds.

    >>> ls.findings.result(10).status

    Arguments:
        which: its number, its name, or the path of a file of your own.

    Raises:
        LoopscopeError: there is none, or the file of its results is damaged.
    """
    return store.load(name_of(which))


def results() -> list[Replication]:
    """All findings by their numbers, with what was measured of each.

    >>> [one.status for one in ls.findings.results()]
    """
    return [store.load(name) for name in numbers().values()]


@guarded
def page(which: Any) -> "Report":
    """A self-contained HTML page about a finding, with its figures.

    >>> ls.findings.page(10).save("finding.html")

    Raises:
        LoopscopeError: there is none, or the file of its results is damaged.
    """
    from ..replication.page import replication_page  # jinja2 and plotly are needed for pages alone

    return replication_page(result(which))


@guarded
def draw(which: Any) -> list[int]:
    """Draw the seeds of a finding from the hash of the commit that its file is in. The first run
    does so by itself. Returns the seeds.

    >>> ls.findings.draw("my_finding.py")

    Raises:
        LoopscopeError: its file isn't committed as it is, or its seeds were drawn before.
    """
    one = draw_seeds(name_of(which))
    return [] if one.attempt is None else list(one.attempt.seeds)


@guarded
def note(which: Any, text: str) -> Replication:
    """Write why a finding came out as it did, as far as it is known, into its results.

    >>> ls.findings.note(14, "One pass counts at a glance.")

    Raises:
        LoopscopeError: it has no results yet.
    """
    one = result(which)
    if one.record is None:
        raise LoopscopeError(
            f"A note is about results, but {one.name} has none yet. Run it first: loopscope findings run "
            f"{one.finding.number}."
        )
    store.save(one.name, replace(one.record, note=" ".join(text.split())))
    return store.load(one.name)


@guarded
def run(
    which: Any,
    *,
    seeds: PositiveCount = SEEDS,
    workers: Count = 0,
    scheduler: Address | None = None,
    folder: FilePath | None = None,
    fresh: bool = False,
) -> Replication:
    """Train and measure a finding for its seeds, and write its results next to it. What was stopped
    goes on where it was.

    >>> print(ls.findings.run(19))

    Arguments:
        which: its number, its name, or the path of a file of your own.
        seeds: how many. They follow from the commit of its file; the first run draws them.
        workers: processes on this machine; 0: one seed after another in this process.
        scheduler: the address of a dask cluster whose workers share the folder.
        folder: of trainings and measurements; None: runs/findings.
        fresh: measure again what was measured. Trainings are kept.

    Raises:
        LoopscopeError: the seeds can't be drawn, or a training or measurement failed.
    """
    name = name_of(which)
    place = store.RUNS if folder is None else checked_path(folder, "a folder")
    done = replicate([name], seeds=seeds, workers=workers, scheduler=scheduler, folder=place, fresh=fresh)
    for _, outcome in list(done):
        if isinstance(outcome, LoopscopeError):
            raise outcome
    return store.load(name)
