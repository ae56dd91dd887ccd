"""The course of a finding: its seeds are drawn, each is measured, and the results are written."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ..common.errors import LoopscopeError
from ..shelves.use import sources
from . import store
from .finding import SEEDS
from .record import Attempt, Measured, Record
from .replication import Replication
from .runner import Outcome, outcomes
from .seeds import commit_of, draw
from .work import Work


def draw_seeds(name: str) -> Replication:
    """Draw the seeds of a finding from its commit, and write them into its results. What was
    measured of an earlier recipe is kept there, and counted; one that is taken up again keeps its
    seeds.

    Raises:
        LoopscopeError: its file isn't committed as it is, or its seeds were drawn before.
    """
    one = store.load(name)
    if one.attempt is not None and one.is_current:
        raise LoopscopeError(
            f"The seeds of a recipe are drawn once, and those of {name} were, from its commit "
            f"{one.attempt.commit[:10]}: {', '.join(map(str, one.attempt.seeds))}. Another recipe gets "
            "others: change its file and commit it."
        )
    earlier = [] if one.record is None else [*one.record.earlier]
    if one.attempt is not None and one.attempt.measured:
        earlier.append(one.attempt)
    attempt = next((before for before in earlier if before.digest == one.digest), None)
    if attempt is None:
        commit = commit_of(store.file_of(name))
        attempt = Attempt(commit, one.digest, draw(commit, SEEDS))
    else:  # a recipe that is taken up again has the seeds that it had
        earlier.remove(attempt)
    store.save(name, Record(one.finding.number, attempt, earlier=earlier))
    return store.load(name)


# It is long because its docstring lists all that a user can choose.
def replicate(
    names: Sequence[str],
    *,
    seeds: int = SEEDS,
    workers: int = 0,
    scheduler: str | None = None,
    folder: Path = store.RUNS,
    fresh: bool = False,
    started: Callable[[Work], None] = lambda work: None,
) -> Iterator[tuple[Work, Outcome]]:
    """Measure findings for their seeds, and write the results of each seed as it ends.

    Arguments:
        seeds: how many of each.
        workers: processes; 0: one seed after another in this process.
        scheduler: the address of a dask cluster whose workers share the folder.
        folder: of trainings and measurements, from which a run that was stopped goes on.
        fresh: whether what was measured is measured again. Trainings are kept.
        started: is called with each piece of work that this process begins.

    Yields:
        each seed of a finding, with its numbers or with the error that ended it. A finding whose
        seeds can't be drawn, or whose file has changed since, comes with its error first, as seed
        0; the others are run.
    """
    works = []
    for name in names:
        try:
            attempt = _with_seeds(name, seeds)
        except LoopscopeError as error:
            yield Work(name, 0, str(folder)), error
            continue
        works += [
            Work(name, seed, str(folder), fresh, sources(), attempt.digest) for seed in attempt.seeds[:seeds]
        ]
    for work, outcome in outcomes(works, workers=workers, scheduler=scheduler, started=started):
        if isinstance(outcome, Measured):
            record = store.load(work.name).record
            assert record is not None
            store.save(work.name, record.with_measured({work.seed: outcome}))
        yield work, outcome


def _with_seeds(name: str, count: int) -> Attempt:
    """The attempt of a finding with so many seeds, at least, which follow from its commit."""
    one = store.load(name)
    one = draw_seeds(name) if one.record is None else one
    assert one.record is not None and one.attempt is not None
    if not one.is_current:
        raise LoopscopeError(
            f"The results of {name} must be of its file as it is, but that has changed since its seeds were "
            f"drawn (commit {one.attempt.commit[:10]}). Commit it and draw others, loopscope findings draw "
            f"{one.finding.number}: what was measured is kept. Or take the change back."
        )
    if len(one.attempt.seeds) < count:
        attempt = replace(one.attempt, seeds=draw(one.attempt.commit, count))
        store.save(name, replace(one.record, attempt=attempt))
        return attempt
    return one.attempt
