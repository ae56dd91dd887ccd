"""A package with entry points, written into a folder as an installer leaves it."""

from collections.abc import Mapping
from pathlib import Path


def install(folder: Path, package: str, source: str, offers: Mapping[str, Mapping[str, str]]) -> Path:
    """Write a package of one module and its metadata.

    Arguments:
        source: of the module.
        offers: by group, the entry points by name.

    Returns:
        the folder, for sys.path.
    """
    (folder / f"{package}.py").write_text(source, encoding="utf-8")
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = []
    for group, names in offers.items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in names.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder
