"""A finding of a training of three steps, committed in a checkout of its own."""

import subprocess
from pathlib import Path

SOURCE = '''"""A toy: what is measured, and how often."""

from pathlib import Path

from loopscope.replication import Finding, Paper
from loopscope.training import Fixed, Recipe

finding = Finding(
    number={number},
    claim="Tiny loops have weights",
    source=Paper("Us", 2026, title="a test"),
    metric="the sum of the weights",
    criterion="a finite sum",
    minutes=0.1,
)
SCALE = {scale}


def trainings():
    config = {{"vocabulary": 3, "width": 8, "heads": 2, "iterations": 2}}
    more = {{"config": config, "options": {{"length": 8}}, "batch": 4}}
    return {{"tiny": Recipe("recall", "prefix-parity", 6, Fixed(2), **more)}}


def measure(seed, trained):
    with Path(__file__).with_name("calls.txt").open("a") as file:
        file.write(f"{{seed}}\\n")
    weights = trained("tiny").state_dict().values()
    return {{"sum of the weights": SCALE * float(sum(one.double().sum() for one in weights))}}


def holds(numbers):
    return abs(numbers["sum of the weights"]) >= 0
'''


def git(folder: Path, *command: str) -> str:
    """What git prints, in a folder; it reads no settings of the user's."""
    settings = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *settings, *command], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout


def write(folder: Path, name: str = "tiny", number: int = 900, scale: float = 1.0) -> Path:
    """The file of a finding, in its checkout, not committed yet."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet")
        (folder / ".gitignore").write_text("results/\ncalls.txt\n")
    file = folder / f"{name}.py"
    file.write_text(SOURCE.format(number=number, scale=scale))
    return file


def commit(file: Path) -> str:
    """Commit everything in the folder of a file. Returns the commit's hash."""
    git(file.parent, "add", "-A")
    git(file.parent, "commit", "--quiet", "-m", "A recipe")
    return git(file.parent, "rev-parse", "HEAD").strip()


def calls(file: Path) -> list[int]:
    """The seeds that were measured, in order."""
    record = file.with_name("calls.txt")
    return [int(line) for line in record.read_text().split()] if record.exists() else []
