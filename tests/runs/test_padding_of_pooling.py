"""A law for every other measure and edit that pools over positions: padding changes no number."""

from functools import cache

import pytest
import torch

import loopscope as ls
from loopscope.halting.exit_rules import rule_halting
from loopscope.probing.iteration_probe import probe_iteration
from loopscope.reports import trajectory

from ..toys.padded_loop import padded, padded_loop, ragged
from ..toys.same_result import differences


@cache
def run_of(kind: str, left: int = 0, right: int = 0, at_pads: float = 0.5, seed: int = 0):
    """A run of whole rows, or of ragged ones, with more padding before and after them."""
    model = padded_loop(at_pads)
    tokens = model.task.batch(24, seed=seed).tokens
    tokens = ragged(tokens) if kind == "ragged" else tokens
    return ls.record(model, padded(tokens, left, right), 4, sites=["core.0.attn.hook_z"])


def labels(run):
    """The symbol at each position, and another where nothing counts."""
    return torch.where(run.mask, run.tokens, 3)


def probed(run, values, **options):
    probes = ls.Probes.fit(run, values, random=False, seed=1, **options)
    return [getattr(probes, name) for name in ("score", "low", "high", "control", "majority", "rows")]


def first_symbol(run):
    return run.tokens.gather(1, run.mask.int().argmax(1, keepdim=True))[:, 0]


def ablated(run, **options):
    edited = ls.record(
        run.model, run.tokens, 4, edits=[ls.ablate("core.0.attn.hook_z", how="mean", **options)]
    )
    return edited.output[run.mask]


def added(run):
    edit = ls.patch("state", iteration=1, value=torch.where(run.mask[..., None], 0.1, 7.0))
    return ls.record(run.model, run.tokens, 4, edits=[edit])


POOLED = {
    "probes of positions": lambda run: probed(run, labels(run), controls=1),
    "probes of token types": lambda run: probed(run, labels(run), controls=1, control="tokens"),
    "probes of the mean over positions": lambda run: probed(run, first_symbol(run), positions="pooled"),
    "probes by a fact's name": lambda run: probed(run, "answer", controls=0),
    "probes of several runs": lambda run: probed([(run, labels(run))], None, controls=1),
    "probe of the iteration": lambda run: probe_iteration(run),
    "probe of the iteration of the mean": lambda run: probe_iteration(run, positions="pooled"),
    "lens, KL": lambda run: ls.lens(run).kl().nanmean((2, 3)),
    "lens, entropy inside": lambda run: ls.lens(run, "logit").entropy().nanmean((2, 3)),
    "tuned lens": lambda run: vars(ls.TunedLens.fit(run, steps=4, positions="all").kl["state"]),
    "halting of whole examples by a rule": lambda run: rule_halting(run, "kl", 0.1, "example").iteration[
        run.mask
    ],
    "effects of a mean": lambda run: ls.effects(run, "mean", iterations=[0, 2]).mean,
    "effects of noise": lambda run: ls.effects(run, ls.noise(1.0), iterations=[2]).mean,
    "effects of zero, all positions": lambda run: ls.effects(run, "zero", positions="all").mean,
    "effects of a donor": lambda run: ls.effects(run, donor_of(run), iterations=[2]).carried,
    "attribution": lambda run: (
        ls.effects(run, "mean", metric="margin", method="attribution", exact_cells=4).mean
    ),
    "mediation": lambda run: ls.mediation(run, added(run)),
    "ablation by the mean": ablated,
    "mean ablation, mask passed": lambda run: ablated(run, mask=run.mask),
    "trajectory of the report": lambda run: trajectory.section(run).panels[0].observation,
}


def donor_of(run):
    kind = next(key for key in (WHOLE, WHOLE_PADDED, RAGGED, RAGGED_PADDED) if run_of(*key) is run)
    return run_of(*kind, seed=1)


WHOLE, WHOLE_PADDED = ("whole", 0, 0, 0.5), ("whole", 3, 2, 1e6)
RAGGED, RAGGED_PADDED = ("ragged", 0, 0, 0.5), ("ragged", 2, 1, float("nan"))


@pytest.mark.parametrize("name", POOLED)
@pytest.mark.parametrize(("kind", "more"), [(WHOLE, WHOLE_PADDED), (RAGGED, RAGGED_PADDED)])
def test_padding_changes_nothing(name, kind, more):
    one, other = (POOLED[name](run_of(*key)) for key in (kind, more))
    assert one == other if isinstance(one, str) else differences(one, other, more[1]) == []


def test_probes_of_a_file_read_the_positions_that_count_in_it(tmp_path):
    run = run_of(*RAGGED_PADDED)
    path = run.save(tmp_path / "run.safetensors")
    assert differences(probed(run, labels(run), controls=1), probed(path, labels(run), controls=1), 0) == []
