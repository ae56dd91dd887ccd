"""A grid of small trainings."""

from loopscope.common import files
from loopscope.sweeps import grid_from_table

RECIPE = {
    "architecture": "universal",
    "task": "prefix-parity",
    "steps": 30,
    "depth": {"part": "Fixed", "iterations": 2},
    "config": {
        "vocabulary": 3,
        "width": 16,
        "heads": 2,
        "iterations": 2,
        "norm": "stream",
        "injection": "add",
    },
    "options": {"length": 6},
    "batch": 8,
    "optimiser": {"part": "AdamW", "lr": 0.01, "warmup": 4, "decay": 4},
}


TINY = """
checkpoint_every = 5
log_every = 5

[recipe]
architecture = "universal"
task = "prefix-parity"
steps = 30
depth = { part = "Fixed", iterations = 2 }
config = { vocabulary = 3, width = 16, heads = 2, iterations = 2, norm = "stream", injection = "add" }
options = { length = 6 }
batch = 8
optimiser = { part = "AdamW", lr = 0.01, warmup = 4, decay = 4 }

[grid]
seed = [0, 1, 2]
optimiser.weight_decay = [0.0, 1.0]
"config.iterations, depth.iterations" = [1, 2]
"""


def tiny(**grid):
    return grid_from_table({"recipe": RECIPE, "grid": grid, "checkpoint_every": 5, "log_every": 5}, "tiny")


def weights(folder, trial):
    return files.load_file(folder / trial.name / "universal.safetensors", "checkpoint")[0]
