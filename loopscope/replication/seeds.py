"""Seeds that nobody chose: they follow from the hash of the commit that a finding's file is in."""

import hashlib
import subprocess
from pathlib import Path

from ..common.errors import LoopscopeError
from .digest import files_of

FIRST, RANGE = 1000, 1_000_000
"""Seeds are from FIRST on: the zoo's entries have smaller ones."""


def draw(commit: str, count: int) -> list[int]:
    """The first `count` seeds of a commit. Findings that are committed together have the same ones,
    and so share their trainings.

    Arguments:
        commit: its hash, as 40 hexadecimal digits.
    """
    seeds: list[int] = []
    index = 0
    while len(seeds) < count:
        digest = hashlib.sha256(f"{commit}:{index}".encode()).digest()
        seed = FIRST + int.from_bytes(digest[:8], "big") % RANGE
        seeds += [] if seed in seeds else [seed]
        index += 1
    return seeds


def commit_of(file: Path) -> str:
    """The hash of the last commit that changed a file.

    Raises:
        LoopscopeError: it lies in no git checkout, was never committed, or has changed since.
    """
    paths = [str(one.relative_to(file.parent)) for one in files_of(file)]
    if _git(file, "rev-parse", "--is-shallow-repository").strip() == "true":
        raise LoopscopeError(
            f"Seeds follow from the commit that {file} is in, but this clone doesn't have its whole history. "
            "Run git fetch --unshallow first."
        )
    if changes := _git(file, "status", "--porcelain", "--ignored", "--", *paths).strip():
        state = "has never been committed" if changes[:2] in ("??", "!!") else "has changed since its commit"
        raise LoopscopeError(
            f"Seeds follow from the commit that {file} is in, so it must be committed before they are drawn, "
            f"but it {state}. Commit it first."
        )
    if not (commit := _git(file, "log", "-1", "--format=%H", "--", *paths).strip()):
        raise LoopscopeError(
            f"Seeds follow from the commit that {file} is in, but no commit has it. Commit it first."
        )
    return commit


def _git(file: Path, *command: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(file.parent), *command], capture_output=True, text=True, check=False
        )
        problem = done.stderr.strip().splitlines()[-1:] if done.returncode else []
    except OSError as error:
        done, problem = None, [str(error)]
    if done is None or done.returncode:
        raise LoopscopeError(
            f"Seeds follow from the commit that {file} is in, so it must lie in a git checkout, but git "
            f"doesn't say its commit ({''.join(problem) or 'no reason given'}). Run it in a checkout."
        )
    return done.stdout
