"""Whether recording changes the output."""

from .finding import Finding, inapplicable, largest_difference, same
from .subject import Subject


def output(subject: Subject) -> Finding:
    """The output of a recording without options, and the model's own."""
    unsteady = unsteady_output(subject)
    if unsteady is not None:
        return unsteady
    off = largest_difference(subject.run.output, subject.output)
    return same(off, f"the outputs recorded ({subject.run.iterations} iterations) and not recorded")


def output_with_all_sites(subject: Subject) -> Finding:
    """The output of a recording of all sites, and the model's own."""
    unsteady = unsteady_output(subject)
    if unsteady is not None:
        return unsteady
    off = largest_difference(subject.full_run.output, subject.output)
    return same(off, f"the outputs with {len(subject.full_run.names)} sites recorded and not recorded")


def unsteady_output(subject: Subject) -> Finding | None:
    """That nothing can be compared, since the model itself gives another output every time."""
    off = subject.unsteadiness
    if off == 0:
        return None
    return inapplicable(
        "the model by itself gives another output each time, with the same seed and buffers, so there is "
        "nothing to compare with",
        off,
    )
