"""The measurement: lens of a run. See the package for the question and its references."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from loopscope import lenses
from loopscope.common.errors import LoopscopeError
from loopscope.common.result import AnalysisResult, Verdict
from loopscope.common.text import number, percent
from loopscope.core.looped_model import Looped
from loopscope.lenses.answer_positions import items
from loopscope.lenses.readings import Look, checked_ids, final_logits, flips_of, rank_of, settled_of
from loopscope.lenses.token_table import Table, table_of
from loopscope.maths import kappa, output_signals
from loopscope.recorder.labels import labels_of
from loopscope.runs.run import Run

START, LATE, JUMP, TOP = 0.9, 0.1, 0.5, 5
FINAL, RIGHT = "final answer", "right answer"


class Forming(Verdict):
    """How the answer comes about."""

    start = "The final answer can be read from the start: the iterations change little of it."
    at_once = "The answer forms at once: most of it appears in a single iteration."
    one_by_one = "Each answer appears at once, but not all of them in the same iteration."
    gradual = "The answer forms gradually: it grows likelier from iteration to iteration."
    changing = "The answer goes on changing up to the last iterations."
    alike = "All final answers are the same token, so how they form can't be told."


@dataclass(frozen=True)
class Forms(AnalysisResult):
    """What a lens reads over the iterations."""

    verdict: Forming
    lens: str
    checked: bool
    """Whether the lens gives the model's own logits at the last iteration of the state."""
    caution: str
    sites: tuple[str, ...]
    iterations: tuple[int, ...]
    items: int
    examples: int
    vocabulary: int
    agreement: Float[Tensor, "site iteration"]
    kappa: Float[Tensor, "site iteration"]
    kl: Float[Tensor, "site iteration"]
    entropy: Float[Tensor, "site iteration"]
    margin: Float[Tensor, "site iteration"]
    flips: Float[Tensor, "site iteration"]
    """Fraction of items whose answer differs from that one iteration before."""
    right: Float[Tensor, "site iteration"] | None
    """Fraction of items that are right; None if that isn't known."""
    rank: dict[str, Float[Tensor, "site iteration"]]
    """Mean rank, by what is followed."""
    first: dict[str, Float[Tensor, "site iteration"]]
    """Fraction of items in which it stands first."""
    followed: dict[str, int]
    """Items in which it is followed."""
    settled: Int[Tensor, "site item"]
    step: Float[Tensor, "site item"]
    table: Table
    start_threshold: float = START
    """Kappa at the first iteration from which on the answer counts as there from the start."""
    late_threshold: float = LATE
    """Fraction of items whose answer changes in the last quarter of the iterations that counts as
    going on."""
    jump_threshold: float = JUMP
    """At once: a share of the whole rise of kappa in one iteration, or of an item's probability
    (median)."""

    def summary(self) -> str:
        i, m = _ends(self.kappa[0])
        own = self.settled[0].double()
        low, middle, high = own.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)).tolist()
        told = "; ".join(
            f"{name} (of {self.followed[name]} items) {_trail(self.rank[name][0], self.iterations)}"
            for name in self.rank
        )
        others = "".join(
            f" At '{site}' kappa is {_trail(own, self.iterations)}."
            for site, own in zip(self.sites[1:6], self.kappa[1:6], strict=True)
        )
        names = f"{', '.join(self.sites[:6])}{' ...' * (len(self.sites) > 6)}"
        return (
            f"{self.caution}{' ' * bool(self.caution)}{self.verdict.sentence} The lens is '{self.lens}' at "
            f"{names}, over {self.items} answers of {self.examples} examples. At '{self.sites[0]}' "
            f"{percent(float(self.agreement[0, i]))} of the answers are the final one at iteration "
            f"{self.iterations[i]} (kappa {number(float(self.kappa[0, i]), 2)}), with a KL to it of "
            f"{number(float(self.kl[0, i]))} nats, and {percent(float(self.agreement[0, m]))} at iteration "
            f"{self.iterations[m]} (KL {number(float(self.kl[0, m]))}). Half of the answers no longer "
            f"change after iteration {middle:g}, nine in ten after {high:g}, one in ten after {low:g}; an "
            f"answer flips {number(float(self.flips[0].nansum()), 2)} times in the mean. Mean rank among "
            f"{self.vocabulary} tokens: {told}.{others} Thresholds: there from the start at a kappa of "
            f"{self.start_threshold:g}; going on if {percent(self.late_threshold)} change in the last "
            f"quarter; at once from {self.jump_threshold:g} of the rise in one iteration."
        )


def applies(run: Run) -> bool:
    """Whether the run's states can be read out as tokens."""
    if run.iterations < 1 or run.iterations not in run.states.iterations:
        return False
    try:
        final_logits(run)
        return isinstance(run.model, Looped) and run.origin.get("whole", True) and bool(items(run).any())
    except LoopscopeError:
        return False


def measure(
    run: Run,
    *,
    lens: Any = "coda",
    sites: str | Sequence[str] = "state",
    facts: Mapping[str, Any] | None = None,
    positions: str = "answers",
    check: bool = True,
) -> Forms:
    """What a lens reads from each iteration of a run.

    Arguments:
        lens: "coda", "logit", a TunedLens, or a function of vectors.
        sites: recorded sites; the verdict, the ranks and the table are of the first.
        facts: tokens to follow besides the final and the right answer, by name: one id, one for
            each example, or one for each position, -1 where there is none. Where a fact is asked
            for at positions that aren't answered, pass positions="all".
        positions: "answers": those that the task asks for, where it is known; "all": all but padding.
        check: raise if the lens does not give the model's own logits at the last iteration.
    """
    if positions not in ("answers", "all"):
        raise LoopscopeError(f'positions must be "answers" or "all", but is {positions!r}.')
    read = lenses.lens(run, lens, sites=sites, check=check)
    final = final_logits(run)
    mask = items(run, positions == "answers")
    if not bool(mask.any()):
        raise LoopscopeError("a lens needs an answered position or more, but this run's examples have none.")
    last = final.argmax(-1).cpu()
    target = _targets(run, mask)
    follow = {FINAL: last} | ({} if target is None else {RIGHT: target})
    follow |= {str(name): checked_ids(ids, tuple(final.shape)) for name, ids in (facts or {}).items()}
    told = _read(read, follow)
    answers = told["answer"][:, :, mask].nan_to_num(-1).long()
    agree = _mean((answers == last[mask]).double().where(answers >= 0, torch.nan))
    kappas = _kappas(answers, last[mask])
    settled = settled_of(answers, read.iterations)
    step = _largest_step(told["probability"][:, :, mask])
    return Forms(
        verdict=_verdict(kappas[0], settled[0], step[0], read.iterations, said=last[mask]),
        lens=read.lens.name,
        checked=read.checked,
        caution=read.caution,
        sites=read.sites,
        iterations=read.iterations,
        items=int(mask.sum()),
        examples=len(mask),
        vocabulary=final.shape[-1],
        agreement=agree,
        kappa=kappas,
        kl=_mean(told["kl"][:, :, mask]),
        entropy=_mean(told["entropy"][:, :, mask]),
        margin=_mean(told["margin"][:, :, mask]),
        flips=_flips(answers),
        right=None if target is None else _right(told["answer"], target, mask),
        **_rank_fields(told, follow, mask),
        settled=settled,
        step=step,
        table=_table(run, told, target, read.iterations),
    )


def _targets(run: Run, mask: Tensor) -> Int[Tensor, "batch position"] | None:
    """The right answers, -1 where none is asked for; None where they aren't known."""
    labels = labels_of(run)
    if labels is None or labels.mask.shape != mask.shape or labels.targets.is_floating_point():
        return None
    return torch.where(labels.mask, labels.targets, -1)


def _largest_step(probability: Float[Tensor, "site iteration item"]) -> Float[Tensor, "site item"]:
    """The most that an iteration adds to the final answer's probability."""
    step = (probability[:, 1:] - probability[:, :-1]).nan_to_num(-1.0)
    return step.amax(1) if step.shape[1] else torch.zeros_like(probability[:, 0])


def _flips(answers: Int[Tensor, "site iteration item"]) -> Tensor:
    there = (answers >= 0).any(-1)
    return flips_of(answers).double().where(there[..., None], torch.nan).mean(-1)


def _rank_fields(told: Mapping[str, Tensor], follow: Mapping[str, Tensor], mask: Tensor) -> dict[str, Any]:
    """Mean rank, share of first ranks and number of items of each followed token."""
    counts = {name: int(((ids >= 0) & mask).sum()) for name, ids in follow.items()}
    followed = {name: count for name, count in counts.items() if count}
    ranks = {name: told[f"rank {name}"][:, :, mask] for name in followed}
    return {
        "rank": {name: _mean(rank) for name, rank in ranks.items()},
        "first": {
            name: _mean((rank == 1).double().where(~rank.isnan(), torch.nan)) for name, rank in ranks.items()
        },
        "followed": followed,
    }


def _table(run: Run, told: Mapping[str, Tensor], target: Tensor | None, iterations: Sequence[int]) -> Any:
    """Of the first site."""
    if target is None:
        target = torch.full(told["answer"].shape[2:], -1)
    return table_of(
        run, told["top"][0], told["top p"][0], told["probability"][0], target=target, iterations=iterations
    )


def _read(read: Any, follow: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Everything that is measured, (site, iteration, batch, position, ...), in one pass over the
    readings."""
    said = follow[FINAL]

    def top(look: Look) -> Tensor:
        return look.p.topk(min(TOP, look.p.shape[-1])).indices

    measures: dict[str, Any] = {
        "answer": lambda look: look.logits.argmax(-1),
        "kl": lambda look: output_signals.kl_divergence(look.final, look.p),
        "entropy": lambda look: output_signals.entropy(look.p),
        "margin": lambda look: output_signals.margin(look.logits, said[look.rows].to(look.logits.device)),
        "probability": lambda look: _taken(look.p, said[look.rows]).exp(),
        "top": top,
        "top p": lambda look: look.p.gather(-1, top(look)).exp(),
    }
    for name, ids in follow.items():
        measures[f"rank {name}"] = lambda look, ids=ids: rank_of(look, ids[look.rows])
    return dict(zip(measures, read.over(*measures.values()), strict=True))


def _taken(p: Tensor, ids: Tensor) -> Tensor:
    return p.gather(-1, ids.to(p.device)[..., None])[..., 0]


def _mean(values: Float[Tensor, "site iteration item"]) -> Float[Tensor, "site iteration"]:
    """The mean over the items that are there."""
    return values.nanmean(-1)


def _right(answers: Tensor, target: Tensor, mask: Tensor) -> Float[Tensor, "site iteration"]:
    asked = mask & (target >= 0)
    own = answers[:, :, asked]
    return _mean((own == target[asked]).double().where(~own.isnan(), torch.nan))


def _kappas(answers: Tensor, said: Tensor) -> Float[Tensor, "site iteration"]:
    """Cohen's kappa of the answers at each site and iteration with the final ones."""
    result = torch.full(answers.shape[:2], torch.nan, dtype=torch.float64)
    for place in (answers >= 0).any(-1).nonzero().tolist():
        own = answers[tuple(place)]
        result[tuple(place)] = kappa(own[own >= 0], said[own >= 0])
    return result


def _verdict(
    kappa: Tensor, settled: Tensor, step: Tensor, iterations: Sequence[int], *, said: Tensor
) -> Forming:
    if bool((said == said[0]).all()):
        return Forming.alike
    i, m = _ends(kappa)
    first, last = iterations[i], iterations[m]
    if float(kappa[i]) >= START:
        return Forming.start
    late = float((settled > first + 0.75 * (last - first)).double().mean())
    if last - first >= 4 and late >= LATE:
        return Forming.changing
    rises = kappa[i + 1 : m + 1] - kappa[i:m]
    if len(rises) and float(rises.nan_to_num().max()) >= JUMP * float(kappa[m] - kappa[i]):
        return Forming.at_once
    return Forming.one_by_one if float(step.median()) >= JUMP else Forming.gradual


def _ends(values: Tensor) -> tuple[int, int]:
    """The first and the last iteration, by number, that has a value."""
    there = (~values.isnan()).nonzero()[:, 0]
    return (int(there[0]), int(there[-1])) if len(there) else (0, len(values) - 1)


def _trail(values: Tensor, iterations: Sequence[int]) -> str:
    """Some of the values, each with its iteration."""
    there = (~values.isnan()).nonzero()[:, 0].tolist()
    few = sorted({there[round(s * (len(there) - 1) / 4)] for s in range(5)}) if there else []
    return ", ".join(f"{number(float(values[i]), 3)} at {iterations[i]}" for i in few)
