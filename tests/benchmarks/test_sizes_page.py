"""What `make sizes` writes about its figures."""

import pytest

from . import sizes

ROW = {
    "processor": 1.0, "seconds": 9.0, "peak": 1.5, "note": "12 cells | exactly", "parameters": 157_000_000,
    "record processor": 2.0, "record seconds": 3.0, "record peak": 1.25,
}  # fmt: skip


@pytest.mark.parametrize(("load", "compared"), [(0.5, True), (1000.0, False)])
def test_times_by_the_clock_are_comparable_without_other_load_only(load: float, compared: bool):
    page = " ".join(sizes.page({"patch grid": ROW | {"load": load}}).split())
    assert page.startswith("# What one model of 157 million parameters costs")
    assert ("times by the clock can't be compared" in page) != compared
    assert "| patch grid | 1.0 | 9.0 | 1.50 | 12 cells / exactly |" in page
