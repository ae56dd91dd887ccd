"""What the lens analysis gives: the verdict, the numbers, and their summary."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.text import number, percent
from loopscope.lenses import ChainMatrix
from loopscope.lenses.token_table import TokenTable

from .chain import chain_sentence
from .metrics import ends_of
from .verdict import JUMP, LATE, READ, START, LensVerdict

REPEATED, SATURATED = 1.5, 0.05
"""From the first on, changes of an answer on its way are in the sentence; below the second, as a
fraction of the largest entropy, a lens is nearly certain."""
_LENSES = {
    "coda": "The coda lens applies the model's own output layers to each state.",
    "logit": "The logit lens applies the final norm and the unembedding to each state.",
}


@dataclass(frozen=True)
class LensResult(AnalysisResult):
    """What a lens reads over the iterations."""

    verdict: LensVerdict
    lens: str
    checked: bool
    """Whether the lens gives the model's own logits at the last iteration of the state."""
    caution: str
    """The caution that belongs to every number of an unchecked lens; else empty."""
    sites: tuple[str, ...]
    iterations: tuple[int, ...]
    """The k: coordinates of the axis `iteration`."""
    items: int
    examples: int
    vocabulary: int
    agreement: Float[Tensor, "site iteration"]
    """Fraction of items whose answer is the final one."""
    kappa: Float[Tensor, "site iteration"]
    kl: Float[Tensor, "site iteration"]
    entropy: Float[Tensor, "site iteration"]
    margin: Float[Tensor, "site iteration"]
    flips: Float[Tensor, "site iteration"]
    """Fraction of items whose answer differs from that one iteration before."""
    right: Float[Tensor, "site iteration"] | None
    """Fraction of items that are right; None if the right answers are unknown."""
    rank: dict[str, Float[Tensor, "site iteration"]]
    """Mean rank, by followed token."""
    first: dict[str, Float[Tensor, "site iteration"]]
    """Fraction of items in which it has rank 1."""
    followed: dict[str, int]
    """Number of items in which it is followed."""
    settled: Int[Tensor, "site item"]
    """The k after which the answer no longer changes."""
    rise: Float[Tensor, "site item"]
    """The largest rise of the final answer's probability in one iteration, 0..1."""
    sharpness: Float[Tensor, "site item"]
    """Its largest rise within an eighth of the iterations, or in one, as a fraction of its largest
    rise overall; NaN where it hardly rises."""
    bands: dict[str, tuple[Float[Tensor, " iteration"], Float[Tensor, " iteration"]]]
    """The 95 % intervals of some means over items at the first site, by name: lower and upper
    ends, over bootstrap samples of the examples."""
    table: TokenTable
    """What is read in some of the examples."""
    chain: ChainMatrix | None = None
    """How often each result of the task's chain is read; None for a task without."""
    start_threshold: float = START
    """The verdict is `start` if kappa at the first iteration is at least this."""
    late_threshold: float = LATE
    """The verdict is `changing` if at least this fraction of the answers changes in the last
    quarter of the iterations."""
    jump_threshold: float = JUMP
    """The verdict is `at_once` if kappa's rise within an eighth of the iterations, or in one, comes
    this part of the way from an even rise to all of it, and `one_by_one` if the median rise of an
    item's probability does."""
    read_threshold: float = READ
    """The verdict is `hidden` if kappa at the last iteration is below this."""

    @property
    def sentence(self) -> str:
        """The verdict, and how often answers change on the way where they do so repeatedly."""
        text = super().sentence
        if self.flip_count < REPEATED or self.verdict in (LensVerdict.alike, LensVerdict.hidden):
            return text
        certain = (
            " The read-out is nearly certain of one token at most iterations, so every change is abrupt."
            if self.is_saturated
            else ""
        )
        return (
            f"{text} On the way an answer changes {number(self.flip_count, 2)} times on average. It may "
            f"appear and vanish again before it stays.{certain}"
        )

    @property
    def flip_count(self) -> float:
        """How often an answer changes from one iteration to the next, mean over items."""
        return float(self.flips[0].nansum())

    @property
    def is_saturated(self) -> bool:
        """Whether the lens is nearly certain at most iterations after the first: an entropy below
        5 % of the largest. Probabilities then jump at every change of the answer."""
        entropy = self.entropy[0][~self.entropy[0].isnan()][1:]
        limit = SATURATED * math.log(max(self.vocabulary, 2))
        return len(entropy) > 0 and float((entropy < limit).double().mean()) > 0.5

    @property
    def by_chance(self) -> Float[Tensor, "site iteration"]:
        """The agreement with the final answer that answers as frequent as these would have by
        chance: kappa is (agreement - chance) / (1 - chance)."""
        chance = (self.agreement - self.kappa) / (1 - self.kappa)
        return torch.where(self.kappa < 1 - 1e-6, chance, torch.nan)

    def summary(self) -> str:
        i, m = ends_of(self.kappa[0])
        quantiles = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
        low, middle, high = self.settled[0].double().quantile(quantiles).tolist()
        ranks = "; ".join(
            f"{name} (of {self.followed[name]} items) {_trajectory(self.rank[name][0], self.iterations)}"
            for name in self.rank
        )
        others = "".join(
            f" At '{site}' kappa is {_trajectory(values, self.iterations)}."
            for site, values in zip(self.sites[1:6], self.kappa[1:6], strict=True)
        )
        k = "k" if self.sites[0] == "state" else "t"
        default = f"The lens '{self.lens}' decodes each state."
        names = f"{', '.join(self.sites[:6])}{' ...' * (len(self.sites) > 6)}"
        return (
            f"{self.caution}{' ' * bool(self.caution)}{self.sentence} "
            f"{'' if self.chain is None else chain_sentence(self.chain) + ' '}"
            f"{_LENSES.get(self.lens, default)} Read at {names}: {self.items} answers "
            f"of {self.examples} examples. At '{self.sites[0]}', "
            f"{percent(float(self.agreement[0, i]))} of the answers are the final one at {k} = "
            f"{self.iterations[i]} (kappa {number(float(self.kappa[0, i]), 2)}, KL divergence from the final "
            f"answer {number(float(self.kl[0, i]))} nats), and {percent(float(self.agreement[0, m]))} at "
            f"{k} = {self.iterations[m]} (KL {number(float(self.kl[0, m]))}). Half of the answers no "
            f"longer change from {k} = {middle:g} on, 90 % from {high:g}, 10 % from {low:g}; on average "
            f"an answer flips {number(self.flip_count, 2)} times. Mean rank among "
            f"{self.vocabulary} tokens: {ranks}.{others} Thresholds: readable from the start at a kappa of "
            f"{self.start_threshold:g}; still changing if {percent(self.late_threshold)} change in the last "
            f"quarter; at once if the rise within an eighth of the iterations, or in one, comes "
            f"{self.jump_threshold:g} of the way from an even rise to all of it."
        )


def _trajectory(values: Tensor, iterations: Sequence[int]) -> str:
    """Some of the values, each with its iteration."""
    present = (~values.isnan()).nonzero()[:, 0].tolist()
    few = sorted({present[round(s * (len(present) - 1) / 4)] for s in range(5)}) if present else []
    return ", ".join(f"{number(float(values[i]), 3)} at {iterations[i]}" for i in few)
