"""Reproduce an entry from scratch: its weights, the numbers in its card, and, if training is short,
its accuracy for other seeds.

`make zoo` runs this for every entry: python -m loopscope.reports.reproduce NAME
"""

import shutil
import sys
from pathlib import Path

from ..common import discovery
from ..common.errors import LoopscopeError
from ..common.files import load_file, load_header, save_file
from ..training.history import ENDING
from ..training.trainer import train
from .model_card import rewrite

SHORT = 600.0
"""Seconds of processor time; a shorter training is repeated with other seeds."""
SEEDS = (1, 2)
RUNS = Path("runs/zoo")


def reproduce(entry: str, runs: str | Path = RUNS, seeds: tuple[int, ...] = SEEDS) -> Path:
    """Train an entry by its recipe, write its weights into the zoo, and renew the numbers in its
    card.

    A training that was stopped resumes from its checkpoint in `runs`. Remove that folder to start
    from scratch.

    Arguments:
        entry: the name of an entry that has a recipe and a card.
        runs: folder for the trainings.
        seeds: other seeds to train with, if the first training took less than SHORT.

    Returns:
        the path of the card.

    Raises:
        LoopscopeError: the entry has no card.
    """
    card = discovery.files("models", ".md").get(entry)
    if card is None:
        raise LoopscopeError(
            f"An entry to reproduce must have a card, but models/{entry}.md isn't there. Write one that "
            "describes the entry and has the two marker lines for the numbers; copy them from another card."
        )
    folder = Path(runs) / entry
    train(entry, folder, progress=False)
    tensors, header = load_file(folder / f"{entry}.safetensors", kind="checkpoint")
    measured = header["measured"]
    if measured["processor_seconds"] < SHORT:
        measured["seeds"] = {}
        for seed in seeds:
            other = load_header(trained_with_seed(entry, seed, runs), kind="checkpoint")["measured"]
            measured["seeds"][str(seed)] = {name: other[name] for name in ("accuracy", "processor_seconds")}
    save_file(card.with_suffix(".safetensors"), tensors, header)
    if (history := folder / f"{entry}{ENDING}.safetensors").exists():
        shutil.copyfile(history, card.with_name(history.name))
    return rewrite(str(card.with_suffix(".safetensors")))


def trained_with_seed(entry: str, seed: int, runs: str | Path = RUNS) -> Path:
    """The file of an entry's recipe trained from another seed; what is in `runs` already isn't
    trained again."""
    folder = Path(runs) / f"{entry}-{seed}"
    train(entry, folder, seed=seed, progress=False)
    return folder / f"{entry}.safetensors"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        sys.stdout.write(f"Wrote {reproduce(name)}\n")
