"""SiteCalls: to which iteration the calls of a site belong, when it is called between two calls of
the loop's body.

A site that is first called before the body belongs to the next iteration; one that is first called
after it belongs to the previous one. A site that is called between one pair of calls only is
outside the loop.
"""

from collections import defaultdict

from ..runs.entry import Entry

BETWEEN = "between"
"""Marks a call between two calls of the body, whose iteration is determined after the pass."""


class SiteCalls:
    """The calls of each site in one pass."""

    def __init__(self) -> None:
        self.gaps: dict[str, set[int]] = defaultdict(set)
        """By site, the numbers of completed iterations at its calls between two calls of the
        body."""
        self.inside: set[str] = set()
        """The sites that were called inside the body."""

    def iteration_between(self, site: str, done: int) -> int:
        """The iteration of a call outside the body, after `done` iterations."""
        self.gaps[site].add(done)
        return done if 0 in self.gaps[site] else done - 1

    def outside(self, site: str, done: int) -> bool:
        """Whether the calls of a site outside the body belong to no iteration."""
        return len(self.gaps[site]) == 1 and (done > 1 or site not in self.inside)


def with_iterations(entries: list[Entry], done: int, last: int) -> list[Entry]:
    """Entries of one site, with each call between two calls of the body assigned to an
    iteration.

    Arguments:
        done: the number of iterations.
        last: the last index of the site in the loop; what comes after is outside.
    """
    between = [entry for entry in entries if entry.loops[:1] == (BETWEEN,)]
    result = [entry for entry in entries if entry.loops[:1] != (BETWEEN,)]
    result = [
        entry._replace(loops=(), index=()) if entry.index and entry.index[0] > last else entry
        for entry in result
    ]
    gaps = {entry.index[0] for entry in between}
    outside = len(gaps) == 1 and all(len(entry.index) == 1 for entry in between) and (done > 1 or not result)
    for entry in between:
        t = entry.index[0] - (0 if 0 in gaps else 1)
        if outside or not 0 <= t < done:
            result.append(entry._replace(loops=(), index=()))
        else:
            result.append(entry._replace(loops=entry.loops[1:], index=(t, *entry.index[1:])))
    return result
