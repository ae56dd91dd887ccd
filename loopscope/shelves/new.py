"""new: a file of your own to start from, which runs, and its test."""

import re
from pathlib import Path
from typing import Literal

from ..common import discovery
from ..common.arguments import FilePath
from ..common.errors import LoopscopeError
from ..common.guard import guarded
from .use import SHELVES

Kind = Literal["model", "task", "analysis", "adapter"]
TEMPLATES = Path(__file__).parent / "templates"
"""MY_KIND.py, and its test as text, since it is no part of the package."""


@guarded
def new(kind: Kind, name: str, folder: FilePath = ".") -> list[Path]:
    """Write an architecture, a task, an analysis or an adapter that runs, and a test of it.

    >>> new("model", "mine")
    [PosixPath('mine.py'), PosixPath('test_mine.py')]

    Arguments:
        name: of the file without its ending: words with underscores, such as running_maximum.
        folder: to write them into.

    Returns:
        the paths of the two files.

    Raises:
        LoopscopeError: no such kind; a name that can't be imported, or is loopscope's own; there is
            no such folder, or a file of that name is in it.
    """
    hyphens = name.replace("_", "-")
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        raise LoopscopeError(
            f"The name must be words of small letters and digits with underscores, but is {name[:80]!r}. "
            "Write e.g. my_model."
        )
    if {name, hyphens} & set(SHELVES[kind].ours()) or name in discovery.SHELVES or name.startswith("test_"):
        raise LoopscopeError(
            f"The name must be free, but {name!r} is loopscope's own. Choose another, such as my_{name}."
        )
    if not Path(folder).is_dir():
        raise LoopscopeError(f"{folder} must be a folder to write into, but there is none. Make it first.")
    targets = {
        f"my_{kind}.py": Path(folder) / f"{name}.py",
        f"test_my_{kind}.py.txt": Path(folder) / f"test_{name}.py",
    }
    for target in targets.values():
        if target.exists():
            raise LoopscopeError(f"{target} exists and would be lost. Move it away, or choose another name.")
    for template, target in targets.items():
        text = (TEMPLATES / template).read_text(encoding="utf-8")
        title = "".join(word.capitalize() for word in name.split("_"))
        for placeholder, value in (
            (f"my_{kind}", name),
            (f"my-{kind}", hyphens),
            (f"My{kind.capitalize()}", title),
        ):
            text = text.replace(placeholder, value)
        target.write_text(text, encoding="utf-8")
    return list(targets.values())
