"""Progress measures: what grows inside a network before its answers show it, at every kept step and
every iteration.

For any task the effective rank of the states. Where the task is addition modulo p, also how the
states and the logits are made of waves (`loopscope.maths.fourier`): restricted and excluded loss,
and where the variance of a state lies.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from loopscope.common.errors import LoopscopeError
from loopscope.maths import fourier
from loopscope.maths.dimension import effective_rank
from loopscope.recorder.record_run import record
from loopscope.runs.run import Run
from loopscope.tasks import ModularAddition
from loopscope.training.history import History

EXAMPLES, SEED = 512, 2024


@dataclass(frozen=True)
class Waves:
    """How a network that adds modulo p uses waves. Iterations k = 0..n: had the loop stopped after
    k of them."""

    frequencies: list[int]
    """The key frequencies: of the last kept step's logits after the last iteration."""
    chance: float
    """ln p, nats: the loss of guessing."""
    share: Float[Tensor, " frequency"]
    """Fraction of the power of all waves of a + b in these logits that each frequency k = 1..p // 2
    has."""
    restricted: Float[Tensor, "step iteration"]
    """Restricted loss, nats."""
    excluded: Float[Tensor, "step iteration"]
    """Excluded loss, nats."""
    sums: Float[Tensor, "step iteration"]
    """Fraction of the variance of the state that answers that is waves of a + b at the key
    frequencies."""
    alone: Float[Tensor, "step iteration"]
    """The same for waves of a alone and of b alone."""
    concentration: Float[Tensor, "step iteration"]
    """Gini coefficient of the norms of that state's two-dimensional Fourier components, the
    constant left out."""
    embedding: Float[Tensor, " step"]
    """Gini coefficient of the norms of the embedding's Fourier components."""


@dataclass(frozen=True)
class Progress:
    """Measures at every kept step."""

    steps: list[int]
    rank: Float[Tensor, "step iteration"]
    """Effective rank of the answering positions' states (exp of the entropy of their variances);
    NaN where all are alike."""
    waves: Waves | None
    """None unless the task is addition modulo p."""


def progress(history: History) -> Progress:
    """Measure a history at its checkpoints. The definitions are in `loopscope.maths.fourier`."""
    task, steps = history.task, history.checkpoints
    adds = isinstance(task, ModularAddition)
    tokens = task.every_example() if adds else task.batch(EXAMPLES, SEED).tokens
    assert tokens is not None
    asked = task.mask(tokens)
    runs = {step: record(history.model(step), tokens, seed=SEED) for step in steps}
    states = {step: [run.states[k][asked] for k in range(run.iterations + 1)] for step, run in runs.items()}
    rank = torch.stack([torch.stack([effective_rank(h) for h in states[step]]) for step in steps])
    return Progress(steps, rank, _waves(history, task, runs, states) if adds else None)


def _waves(
    history: History, task: ModularAddition, runs: dict[int, Run], states: dict[int, list[Tensor]]
) -> Waves:
    p, steps = task.modulus, list(runs)
    train = ~task.is_test(task.every_example()).view(p, p)

    def logits(step: int, k: int) -> Tensor:
        return runs[step].logits[k][:, -1, :p].reshape(p, p, p)  # of the numbers, not of the sign of equality

    final = fourier.power(logits(steps[-1], -1)).sums
    keys = fourier.key_frequencies(logits(steps[-1], -1))
    place = torch.tensor(keys) - 1
    result: dict[str, list[list[float]]] = {
        name: [] for name in ("restricted", "excluded", "sums", "alone", "concentration")
    }
    for step in steps:
        row: dict[str, list[float]] = {name: [] for name in result}
        for k, h in enumerate(states[step]):
            answer, table = logits(step, k), h.reshape(p, p, -1)
            row["restricted"].append(fourier.restricted_loss(answer, keys))
            row["excluded"].append(fourier.excluded_loss(answer, keys, train))
            power = fourier.power(table)
            row["sums"].append(float(power.sums[place].sum()))
            row["alone"].append(float(power.single_number[place].sum()))
            row["concentration"].append(float(fourier.gini(fourier.amplitudes(table))))
        for name, values in row.items():
            result[name].append(values)
    tables = [_embedding(run.model, task.vocabulary)[:p] for run in runs.values()]
    return Waves(
        frequencies=keys,
        chance=math.log(p),
        share=final / final.sum(),
        embedding=torch.stack([fourier.gini(fourier.components(table)) for table in tables]),
        **{name: torch.tensor(values, dtype=torch.float64) for name, values in result.items()},
    )


def _embedding(model: nn.Module, vocabulary: int) -> Float[Tensor, "vocab width"]:
    """The table that tokens are looked up in."""
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding) and m.num_embeddings == vocabulary]
    if not tables:
        raise LoopscopeError(
            f"{type(model).__name__} must have an nn.Embedding of its {vocabulary} tokens for the embedding "
            "to be measured, but has none. Measure an architecture that embeds tokens by a table."
        )
    return tables[0].weight.detach()
