"""Other pages in a real browser: one with several controls, and those of real runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

import loopscope as ls
from loopscope.plots.panels import Control, Frame, Panel
from loopscope.reports.page import page as page_of
from loopscope.reports.section import Section

from ..toys.real_browser import press, screen, start, until

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    driver = start()
    yield driver
    driver.quit()


def test_two_controls_choose_among_all_combinations(browser: Any, tmp_path: Path):
    from selenium.webdriver.common.keys import Keys

    frames = [Frame(f"{a}{b}", {0: {"y": [a, b]}}) for a in range(2) for b in range(3)]
    controls = (Control("head", ("0", "1")), Control("iteration", ("0", "1", "2"), "slide"))
    figure = go.Figure(go.Scatter(y=[1, 1]))
    panel = Panel("Attention", figure, "Seen.", "To read.", frames, first=4, controls=controls)
    file = tmp_path / "two.html"
    file.write_text(
        page_of(title="a", subtitle="b", summary=None, card=None, sections=[Section("s", "S", 0, [panel])],
                details=[], command="c", date="d"))  # fmt: skip
    browser.get(file.as_uri())
    until(browser, "return document.documentElement.dataset.drawn")
    y = "return document.getElementById('plot-1').data[0].y"
    assert browser.execute_script("return document.getElementById('plot-1').dataset.at") == "4"
    press(browser, "#choose-1", Keys.ARROW_UP)
    until(browser, f"return JSON.stringify((() => {{{y}}})()) === '[0,1]'")
    press(browser, "#slide-1-2", Keys.ARROW_RIGHT)
    assert browser.execute_script(y) == [0, 2]
    assert browser.execute_script("return document.getElementById('at-1-2').textContent") == "2"


@pytest.mark.parametrize(("entry", "screens"), [("hrm-sudoku", 12), ("universal-prefix-parity", 12)])
def test_a_real_page_has_few_screens_and_fits_a_phone(browser: Any, entry: str, screens: int, tmp_path: Path):
    file = ls.report(entry).save(tmp_path / "report.html")
    screen(browser, 1280)
    browser.get(file.as_uri())
    until(browser, "return document.documentElement.dataset.drawn")
    assert browser.execute_script("return document.documentElement.scrollHeight") <= screens * 800
    screen(browser, 390)
    browser.execute_script("for (const e of document.querySelectorAll('details')) e.open = true")
    until(browser, "return [...document.querySelectorAll('.chart')].every((e) => e.dataset.at)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    assert browser.get_log("browser") == []
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
