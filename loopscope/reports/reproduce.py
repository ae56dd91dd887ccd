"""An entry made again from scratch: its weights, the numbers in its card, and other seeds where
training is short.

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
"""Seconds of processor time under which a training is repeated with other seeds."""
SEEDS = (1, 2)


def remake(entry: str, runs: str | Path = "runs/zoo", seeds: tuple[int, ...] = SEEDS) -> Path:
    """Train an entry by its recipe, put the weights on the discovery, and write the numbers of its
    card anew.

    A training that was stopped goes on from its checkpoint in `runs`; for a new one remove that
    folder.

    Arguments:
        entry: one that has a recipe and a card.
        seeds: that are tried besides the recipe's own, if that took less than SHORT.

    Returns:
        the card.
    """
    card = discovery.files("models", ".md").get(entry)
    if card is None:
        raise LoopscopeError(
            f"An entry that is made must have a card, but models/{entry}.md isn't there. Write what it is "
            "and how it was made, with the two lines between which the numbers go; any other card shows them."
        )
    made = Path(runs) / entry
    train(entry, made, progress=False)
    tensors, header = load_file(made / f"{entry}.safetensors", kind="checkpoint")
    told = header["measured"]
    if told["processor_seconds"] < SHORT:
        told["seeds"] = {}
        for seed in seeds:
            other = Path(runs) / f"{entry}-{seed}"
            train(entry, other, seed=seed, progress=False)
            again = load_header(other / f"{entry}.safetensors", kind="checkpoint")["measured"]
            told["seeds"][str(seed)] = {name: again[name] for name in ("accuracy", "processor_seconds")}
    save_file(card.with_suffix(".safetensors"), tensors, header)
    if (history := made / f"{entry}{ENDING}.safetensors").exists():
        shutil.copyfile(history, card.with_name(history.name))
    return rewrite(str(card.with_suffix(".safetensors")))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        sys.stdout.write(f"Wrote {remake(name)}\n")
