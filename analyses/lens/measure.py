"""How the answer forms: agreement with the final answer, divergence, margin and ranks by site and
iteration, when each answer settles, and the verdict."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope import lenses
from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.errors import LoopscopeError
from loopscope.common.text import number, percent
from loopscope.core.looped_model import Looped
from loopscope.lenses import ChainMatrix
from loopscope.lenses.answer_positions import lens_positions
from loopscope.lenses.final_logits import final_answers, final_shape
from loopscope.lenses.lens_measures import checked_tokens, settling_iteration
from loopscope.lenses.token_table import TokenTable, token_table
from loopscope.recorder.labels import labels_of
from loopscope.runs.run import Run

from .chain import chain_of, chain_sentence
from .metrics import (
    FINAL,
    RIGHT,
    accuracy,
    agreement,
    banded,
    bands,
    ends_of,
    flip_rate,
    kappas,
    largest_rise,
    rank_fields,
    read_all,
)
from .verdict import JUMP, LATE, READ, START, Formation, LensVerdict, formation_verdict, sharpness

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


def applies(run: Run) -> bool:
    """Whether the run's states can be decoded to tokens."""
    if run.iterations < 1 or run.iterations not in run.states.iterations:
        return False
    try:
        final_shape(run)
        return (
            isinstance(run.model, Looped)
            and run.origin.get("whole", True)
            and bool(lens_positions(run).any())
        )
    except LoopscopeError:
        return False


# It is long because it fills a line for each field of the result.
def measure(
    run: Run,
    *,
    lens: Any = "coda",
    sites: str | Sequence[str] = "state",
    facts: Mapping[str, Any] | None = None,
    positions: Literal["answers", "all"] = "answers",
    check: bool = True,
) -> LensResult:
    """What a lens reads at each iteration of a run.

    Arguments:
        lens: "coda", "logit", a TunedLens, or a function of vectors.
        sites: recorded sites; the verdict, the ranks and the table are of the first.
        facts: tokens to follow besides the final and the right answer, by name: one id, one for
            each example, or one for each position, -1 where there is none. For facts at positions
            that aren't answered, pass positions="all".
        positions: "answers": those with an answer, if the task is known; "all": all but padding.
        check: raise if the lens doesn't give the model's own logits at the last iteration; False:
            use it, and mark the result as unchecked.

    Raises:
        LoopscopeError: no position is answered, `positions` is neither of the two, or the lens
            fails the check.
    """
    readings = lenses.lens(run, lens, sites=sites, check=check)
    shape, mask = final_shape(run), _item_mask(run, positions)
    final, target = final_answers(run), _targets(run, mask)
    tokens = {FINAL: final} | ({} if target is None else {RIGHT: target})
    tokens |= {str(name): checked_tokens(ids, shape) for name, ids in (facts or {}).items()}
    quantities = read_all(readings, tokens)
    answers = quantities["answer"][:, :, mask].nan_to_num(-1).long()
    settled, probability = (
        settling_iteration(answers, readings.iterations),
        quantities["probability"][:, :, mask],
    )
    sharp, example = sharpness(probability), mask.nonzero()[:, 0].unique(return_inverse=True)[1]
    formation = Formation(answers[0], final[mask], settled[0], sharp[0], example, readings.iterations)
    verdict, evidence = formation_verdict(formation)
    return LensResult(
        verdict=verdict,
        evidence=evidence,
        lens=readings.lens.name,
        checked=readings.checked,
        caution=readings.caution,
        sites=readings.sites,
        iterations=readings.iterations,
        items=int(mask.sum()),
        examples=len(mask),
        vocabulary=shape[-1],
        agreement=agreement(answers, final[mask]),
        kappa=kappas(answers, final[mask]),
        kl=quantities["kl"][:, :, mask].nanmean(-1),
        entropy=quantities["entropy"][:, :, mask].nanmean(-1),
        margin=quantities["margin"][:, :, mask].nanmean(-1),
        flips=flip_rate(answers),
        right=None if target is None else accuracy(quantities["answer"], target, mask),
        **rank_fields(quantities, tokens, mask),
        settled=settled,
        rise=largest_rise(probability),
        sharpness=sharp,
        bands=bands(banded(quantities, answers, tokens, mask), example),
        table=_table(run, quantities, target, readings.iterations),
        chain=chain_of(readings),
    )


def _item_mask(run: Run, positions: str) -> Bool[Tensor, "batch position"]:
    mask = lens_positions(run, positions == "answers")
    if not bool(mask.any()):
        raise LoopscopeError(
            "a lens needs one answered position or more, but this run's examples have none. Pass "
            'positions="all".'
        )
    return mask


def _targets(run: Run, mask: Bool[Tensor, "batch position"]) -> Int[Tensor, "batch position"] | None:
    """The right answers, -1 where there is none; None where they are unknown."""
    labels = labels_of(run)
    if labels is None or labels.mask.shape != mask.shape or labels.targets.is_floating_point():
        return None
    return torch.where(labels.mask, labels.targets, -1)


def _table(
    run: Run, quantities: Mapping[str, Tensor], target: Tensor | None, iterations: Sequence[int]
) -> TokenTable:
    """The table of the first site."""
    if target is None:
        target = torch.full(quantities["answer"].shape[2:], -1)
    top, top_p, probability = (quantities[name][0] for name in ("top", "top p", "probability"))
    return token_table(run, top, top_p, probability, target=target, iterations=iterations)


def _trajectory(values: Tensor, iterations: Sequence[int]) -> str:
    """Some of the values, each with its iteration."""
    present = (~values.isnan()).nonzero()[:, 0].tolist()
    few = sorted({present[round(s * (len(present) - 1) / 4)] for s in range(5)}) if present else []
    return ", ".join(f"{number(float(values[i]), 3)} at {iterations[i]}" for i in few)
