"""Intervals of shares and ranks are those of scipy, which isn't imported for them."""

import subprocess
import sys

import pytest
import torch
from scipy.stats import binomtest, rankdata

from loopscope.common.wilson import wilson_interval
from loopscope.maths.ranks import centred_ranks


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("total", [1, 2, 7, 64, 1000])
def test_the_interval_is_that_of_scipy(total, level):
    for hits in {0, 1, total // 2, total - 1, total}:
        theirs = binomtest(hits, total).proportion_ci(level, "wilson")
        assert wilson_interval(hits, total, level) == pytest.approx((theirs.low, theirs.high), abs=1e-14)
    assert wilson_interval(0, total, level)[0] == 0 and wilson_interval(total, total, level)[1] == 1


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_ranks_are_those_of_scipy(dtype):
    values = torch.tensor([3, 1, 3, 2, -5, 3, 1], dtype=dtype)
    expected = torch.from_numpy(rankdata(values.numpy()))
    assert torch.equal(centred_ranks(values), expected - expected.mean())


def test_evidence_needs_no_statistics_package():
    code = """
        import sys
        from loopscope.common.evidence import share_estimate
        share_estimate("a", 3, 7)
        sys.exit("scipy.stats" in sys.modules)
    """
    subprocess.run([sys.executable, "-c", "if 1:" + code], check=True)
