"""Every analysis fills in its evidence: a verdict without it can't be made."""

import functools
import inspect
import math
import warnings

import pytest
import torch

import loopscope as ls
from loopscope.common import discovery
from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.errors import LoopscopeWarning
from loopscope.common.verdict import UNCLEAR
from loopscope.training.history import History

from .test_roles import TASK as BOARDS
from .test_roles import Team

TASK = ls.tasks.prefix_parity(length=8)
SOLVED, ONE_STATE = "two states, solved", "one state"
LOADED = "universal-prefix-parity-act"
"""A trained entry that halts: each analysis is put to the first run to which it applies."""

OPTIONS = {"stability": {"iterations": 10, "count": 1, "gains": 1}}


@functools.cache
def run_of(name: str) -> ls.Run:
    if name == LOADED:
        model = ls.models.load(name)
        return ls.record(model, model.task.batch(24, seed=0).tokens)
    if name == SOLVED:
        return ls.record(Team("handed").eval(), BOARDS.batch(12, seed=0).tokens)
    torch.manual_seed(0)
    options = {"width": 8, "heads": 2, "iterations": 8}
    model = ls.models.build("universal", vocabulary=TASK.vocabulary, **options).eval()
    model.task = TASK
    return ls.record(model, TASK.batch(24, seed=0).tokens)


def subject_of(name: str) -> ls.Run | History:
    module = discovery.module("analyses", name)
    if getattr(module, "SUBJECT", "run") == "history":
        return ls.load_history("grokking-modular")
    runs = map(run_of, (ONE_STATE, SOLVED, LOADED))
    return next(run for run in runs if not hasattr(module, "applies") or module.applies(run))


@pytest.mark.parametrize("name", ls.analyses.names())
def test_a_verdict_rests_on_examples_and_its_support_sums_to_one(name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LoopscopeWarning)
        result = ls.analyses.measure(name, subject_of(name), **OPTIONS.get(name, {}))
    evidence = result.evidence
    assert evidence.examples > 0 and evidence.how.endswith(".")
    assert math.isclose(sum(evidence.support.values()), 1)
    assert set(evidence.support) <= {verdict.name for verdict in type(result.verdict)}
    assert type(result.verdict)["unclear"].value == UNCLEAR
    unclear = result.verdict.name == "unclear"
    assert bool(evidence.alternatives) <= unclear
    assert not any(verdict.name == "unclear" for verdict in evidence.alternatives)
    for one in evidence.estimates:
        assert math.isnan(one.low) or one.low <= one.high


def test_a_result_without_evidence_can_not_be_made():
    assert inspect.signature(AnalysisResult).parameters["evidence"].default is inspect.Parameter.empty
