"""Progress measures: what develops inside a network before its accuracy changes, at every
checkpoint and every iteration.

For any task the effective rank of the states. For addition modulo p also the Fourier components of
states and logits (`loopscope.maths.fourier`): restricted and excluded loss, and their fractions of
a state's variance.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
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
class FourierMeasures:
    """How a network that adds modulo p uses Fourier components (Nanda et al. 2023, arXiv
    2301.05217). Iterations k = 0..n: as if the loop had stopped after k of them."""

    frequencies: list[int]
    """The key frequencies: of the last checkpoint's logits after the last iteration."""
    chance: float
    """ln p, nats: the loss of guessing."""
    share: Float[Tensor, " frequency"]
    """Of the power of all components of a + b in these logits, the fraction of each frequency k =
    1..p // 2."""
    restricted: Float[Tensor, "step iteration"]
    """Restricted loss, nats: of only the components of a + b at the key frequencies."""
    excluded: Float[Tensor, "step iteration"]
    """Excluded loss on the training pairs, nats: without these components."""
    sum_fraction: Float[Tensor, "step iteration"]
    """Fraction of the variance of the answer position's state in components of a + b at the key
    frequencies."""
    single_fraction: Float[Tensor, "step iteration"]
    """The same for components of a alone and of b alone."""
    concentration: Float[Tensor, "step iteration"]
    """Gini coefficient of the norms of that state's two-dimensional Fourier components, without the
    constant."""
    embedding: Float[Tensor, " step"]
    """Gini coefficient of the norms of the embedding's Fourier components."""


@dataclass(frozen=True)
class ProgressMeasures:
    """Measures at every checkpoint."""

    steps: list[int]
    effective_rank: Float[Tensor, "step iteration"]
    """Of the answer positions' states (exp of the entropy of their variances); NaN where all are
    equal."""
    fourier: FourierMeasures | None
    """None unless the task is addition modulo p."""


def progress_measures(history: History) -> ProgressMeasures:
    """Measure a history at its checkpoints. The definitions are in `loopscope.maths.fourier`."""
    task, steps = history.task, history.checkpoints
    adds = isinstance(task, ModularAddition)
    tokens = _every_pair(task) if adds else task.batch(EXAMPLES, SEED).tokens
    mask = task.mask(tokens)
    runs = {step: record(history.model(step), tokens, seed=SEED) for step in steps}
    states = {step: [run.states[k][mask] for k in range(run.iterations + 1)] for step, run in runs.items()}
    rank = torch.stack([torch.stack([effective_rank(h) for h in states[step]]) for step in steps])
    return ProgressMeasures(steps, rank, _fourier_measures(history, task, runs, states) if adds else None)


def _fourier_measures(
    history: History, task: ModularAddition, runs: dict[int, Run], states: dict[int, list[Tensor]]
) -> FourierMeasures:
    p, steps = task.modulus, list(runs)
    train = ~task.is_test(_every_pair(task)).view(p, p)

    def logits(step: int, k: int) -> Tensor:
        return runs[step].logits[k][:, -1, :p].reshape(p, p, p)  # of the numbers, not of the equals sign

    final = fourier.power(logits(steps[-1], -1)).sums
    frequencies = fourier.key_frequencies(logits(steps[-1], -1))
    index = torch.tensor(frequencies) - 1
    measures: dict[str, list[list[float]]] = {
        name: [] for name in ("restricted", "excluded", "sum_fraction", "single_fraction", "concentration")
    }
    for step in steps:
        row: dict[str, list[float]] = {name: [] for name in measures}
        for k, h in enumerate(states[step]):
            answer, table = logits(step, k), h.reshape(p, p, -1)
            row["restricted"].append(fourier.restricted_loss(answer, frequencies))
            row["excluded"].append(fourier.excluded_loss(answer, frequencies, train))
            power = fourier.power(table)
            row["sum_fraction"].append(float(power.sums[index].sum()))
            row["single_fraction"].append(float(power.single_number[index].sum()))
            row["concentration"].append(float(fourier.gini(fourier.amplitudes(table))))
        for name, values in row.items():
            measures[name].append(values)
    tables = [_embedding(run.model, task.vocabulary)[:p] for run in runs.values()]
    return FourierMeasures(
        frequencies=frequencies,
        chance=math.log(p),
        share=final / final.sum(),
        embedding=torch.stack([fourier.gini(fourier.components(table)) for table in tables]),
        **{name: torch.tensor(values, dtype=torch.float64) for name, values in measures.items()},
    )


def _every_pair(task: ModularAddition) -> Int[Tensor, "pair position"]:
    """The tokens of all pairs (a, b), of both splits, in the order of a, then b."""
    tokens = torch.cat([task.full_batch("train").tokens, task.full_batch("test").tokens])
    return tokens[(tokens[:, 0] * task.modulus + tokens[:, 1]).argsort()]


def _embedding(model: nn.Module, vocabulary: int) -> Float[Tensor, "vocab width"]:
    """The embedding table of the tokens."""
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding) and m.num_embeddings == vocabulary]
    if not tables:
        raise LoopscopeError(
            f"{type(model).__name__} must have an nn.Embedding of its {vocabulary} tokens for the embedding "
            "to be measured, but has none. Measure an architecture that embeds tokens by a table."
        )
    return tables[0].weight.detach()
