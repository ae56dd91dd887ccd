"""use: put an architecture, a task, an analysis, an adapter or a finding of your own on its
shelf."""

from types import ModuleType
from typing import Any

from ..adapters.shelf import ADAPTERS
from ..common.analysis_shelf import ANALYSES
from ..common.architecture_shelf import ARCHITECTURES
from ..common.errors import LoopscopeError
from ..common.finding_shelf import FINDINGS
from ..common.guard import guarded
from ..common.shelf import Shelf, restored, source_name
from ..common.user_files import import_file, is_path
from ..tasks.shelf import TASKS

SHELVES: dict[str, Shelf] = {
    "model": ARCHITECTURES,
    "task": TASKS,
    "analysis": ANALYSES,
    "adapter": ADAPTERS,
    "finding": FINDINGS,
}
"""The shelves, by what `loopscope new` calls what stands on them; it writes no finding."""


@guarded
def use(thing: Any) -> list[str]:
    """Put an architecture, a task, an analysis, an adapter or a finding of your own on its shelf,
    in this process: from then on its name works wherever ours do.

    >>> ls.use("mine.py")
    ['mine']
    >>> ls.models.load("runs/mine/mine.safetensors")     # a checkpoint names its architecture, no path

    On the command line every command has `--use FILE`. An installed package's are there by
    themselves, by entry points in the groups loopscope.models, loopscope.tasks, loopscope.analyses,
    loopscope.adapters and loopscope.findings.

    Arguments:
        thing: the path of a file or a folder, which is run, or a module, a class or an instance. A
            file may hold several kinds.

    Returns:
        the names on the shelves.

    Raises:
        LoopscopeError: the file can't be imported or holds none of these, something is missing in
            it, or a name is taken.
    """
    content = import_file(thing) if is_path(thing) else thing
    names = [shelf.place(thing) for shelf in SHELVES.values() if shelf.holds(content)]
    if not names and not (isinstance(content, ModuleType) and hasattr(content, "RECIPES")):
        raise LoopscopeError(
            "loopscope.use needs a file or an object with an architecture (Config and Model), a task (a "
            "subclass of Task), an analysis (measure and draw), an adapter (a subclass of Adapter) or a "
            f"finding, but {source_name(content)} has none of them. loopscope new model NAME writes one to "
            "start from."
        )
    return names


def sources() -> list[Any]:
    """What another process must `use` to have the same on its shelves: paths and classes. What was
    defined in a notebook or in the script itself is left out."""
    placed = [one for shelf in SHELVES.values() for one in shelf.placed.values()]
    return [thing for one in placed if (thing := restored(one.source)) is not None]
