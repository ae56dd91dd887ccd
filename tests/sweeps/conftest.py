"""The whole grid of small trainings, for all tests of sweeps."""

import pytest

from loopscope.sweeps import sweep

from ..toys.shared_fixtures import made_once
from .tiny_grid import TINY


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """The whole grid, trained one after another in one process."""

    def grid_in(folder):
        (folder / "tiny.toml").write_text(TINY)
        return sweep(folder / "tiny.toml", folder / "runs", workers=0, progress=False)

    folder = made_once(tmp_path_factory, "undisturbed", grid_in)
    return sweep(
        folder / "tiny.toml", folder / "runs", workers=0, progress=False
    )  # what is trained is only read
