"""Expensive fixtures, made once for all workers: the first that needs one makes it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

WHOLE = ".whole"


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder of that name, filled by make(folder). Other workers wait until it is whole."""
    base = factory.getbasetemp()
    # A worker's base lies in that of the run.
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = root / f"shared-{name}"
    with FileLock(root / f"shared-{name}.lock"):
        if not (folder / WHOLE).exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a maker that failed has left
            folder.mkdir()
            make(folder)
            (folder / WHOLE).touch()
    return folder
