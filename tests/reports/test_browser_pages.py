"""Other pages in a real browser: one with several controls, one with many sections, and those of
real runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
import torch

import loopscope as ls
from loopscope.plots import style
from loopscope.plots.boards import CORRECT, board_cells, board_figure
from loopscope.plots.heatmaps import square_heatmap, token_heatmap, token_label, token_rows
from loopscope.plots.panels import Control, Frame, Panel
from loopscope.reports.page import page as page_of
from loopscope.reports.section import Section

from ..toys.real_browser import press, screen, start, until

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MOST = 300_000
"""Bytes of a page that loads plotly from its server; a page that holds plotly has them too."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    driver = start()
    yield driver
    driver.quit()


def opened(browser: Any, sections: list[Section], file: Path) -> None:
    """A page of these sections, drawn."""
    file.write_text(
        page_of(title="a", subtitle="b", summary=None, card=None, sections=sections, details=[], command="c",
                date="d"))  # fmt: skip
    browser.get(file.as_uri())
    until(browser, "return document.documentElement.dataset.drawn")


@pytest.fixture
def two_controls(browser: Any, tmp_path: Path) -> Any:
    """A figure with a menu and a slider, of which each frame changes two traces."""
    frames = [Frame(f"{a}{b}", {t: {"y": [a, b + t]} for t in (0, 1)}) for a in range(2) for b in range(3)]
    controls = (Control("head", ("0", "1")), Control("iteration", ("0", "1", "2"), "slide"))
    figure = go.Figure([go.Scatter(y=[1, 1]), go.Scatter(y=[1, 2])])
    panel = Panel("Attention", figure, "Seen.", "To read.", frames, first=4, controls=controls)
    opened(browser, [Section("s", "S", 0, [panel])], tmp_path / "two.html")
    return browser


def test_two_controls_choose_among_all_combinations(two_controls: Any):
    from selenium.webdriver.common.keys import Keys

    browser = two_controls
    y = "return document.getElementById('plot-1').data[0].y"
    assert browser.execute_script("return document.getElementById('plot-1').dataset.at") == "4"
    press(browser, "#choose-1", Keys.ARROW_UP)
    until(browser, f"return JSON.stringify((() => {{{y}}})()) === '[0,1]'")
    press(browser, "#slide-1-2", Keys.ARROW_RIGHT)
    assert browser.execute_script(y) == [0, 2]
    assert browser.execute_script("return document.getElementById('at-1-2').textContent") == "2"
    assert browser.execute_script("return document.getElementById('plot-1').data[1].y") == [0, 3]


def test_a_slider_beside_a_menu_plays_and_draws_each_frame_once(two_controls: Any):
    browser = two_controls
    browser.execute_script("""
        window.calls = 0;
        window.seen = [];
        const restyle = Plotly.restyle;
        Plotly.restyle = (...all) => (window.calls++, restyle(...all));
        const plot = document.getElementById('plot-1');
        new MutationObserver(() => seen.push(Number(plot.dataset.at))).observe(plot, {attributes: true,
            attributeFilter: ['data-at']});
        document.getElementById('slide-1-2').value = 2;
    """)
    press(browser, "#play-1-2", " ")
    until(browser, "return document.getElementById('play-1-2').textContent === 'Play' && seen.length > 2")
    assert browser.execute_script("return seen") == [3, 4, 5], "the menu stays on its second value"
    assert browser.execute_script("return calls") == 3, "traces whose same attributes change go together"


@pytest.mark.parametrize("width", [1280, 390])
def test_the_last_link_pressed_is_marked(browser: Any, width: int, tmp_path: Path):
    """Also right after another one, and where there is nothing to scroll."""
    screen(browser, width)
    text = "Words that fill the section. " * 60
    opened(browser, [Section(f"s{i}", f"S {i}", i, text=text) for i in range(12)], tmp_path / "long.html")
    name = "return document.querySelector('#sections a[aria-current]').hash"
    for first, second in (("s11", "s1"), ("s0", "s10"), ("s5", "reproduce"), ("reproduce", "s9")):
        browser.execute_script(f"document.querySelector('a[href=\"#{first}\"]').click()")
        browser.execute_script(f"document.querySelector('a[href=\"#{second}\"]').click()")
        until(browser, "return new Promise((go) => setTimeout(() => go(true), 200))")
        assert browser.execute_script(name) == f"#{second}"
        top = f"return document.getElementById('{second}').getBoundingClientRect().top"
        assert 0 <= browser.execute_script(top) < 800
    browser.execute_script("scrollTo(0, 0)")
    until(browser, f"return (() => {{{name}}})() === '#s0'")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize(("entry", "screens"), [("hrm-sudoku", 12), ("universal-prefix-parity", 12)])
def test_a_real_page_is_small_has_few_screens_and_fits_a_phone(
    browser: Any, entry: str, screens: int, tmp_path: Path
):
    from plotly.offline import get_plotlyjs

    report = ls.report(entry)
    file = report.save(tmp_path / "report.html")
    assert len(report.html.encode()) - len(get_plotlyjs().encode()) < MOST, "what a page has beside plotly"
    assert file.with_suffix(".json").stat().st_size < 2e6
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


def curves() -> list[Section]:
    """A figure whose lines have all colours, and whose title and names are longer than a phone is
    wide."""
    figure = style.empty("t", "a title of an axis that is longer than the screen of a phone is wide", "y")
    for i, colour in enumerate(style.COLOURS):
        name = f"example {i} of those that the loop was continued on after its own depth"
        figure.add_scatter(y=[i, i + 1], mode="lines+markers", name=name,
                           line={"color": colour}, marker={"color": [colour, colour]})  # fmt: skip
    return [Section("s", "S", 0, [Panel("Curves", figure, "Seen.", "To read.")])]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_line_stands_out_from_the_page(browser: Any, tmp_path: Path, theme: str):
    """At least 2:1 in the light theme, whose palette is Okabe and Ito's; 4.5:1 in the dark one."""
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    opened(browser, curves(), tmp_path / "curves.html")
    sheet, lines = browser.execute_script("""
        const rgb = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
        const card = getComputedStyle(document.querySelector(".card")).backgroundColor;
        const all = (selector, name) =>
          [...document.querySelectorAll(selector)].map((one) => rgb(getComputedStyle(one)[name]));
        return [rgb(card), [...all(".js-line", "stroke"), ...all(".points path", "fill")]];
    """)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert len(lines) >= 4 * len(style.COLOURS)  # lines, their legend, two markers each
    least = {"light": 2.0, "dark": 4.5}[theme]
    assert min(contrast(line, sheet) for line in lines) >= least


def contrast(one: list[float], other: list[float]) -> float:
    """The contrast ratio of two colours (WCAG 2.2)."""

    def luminance(colour: list[float]) -> float:
        parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_no_title_or_name_is_cut_off_on_a_phone(browser: Any, tmp_path: Path):
    bars = style.empty("t", "cosine of the final states", "")  # its axis begins far to the right
    bars.add_bar(x=[1, 2], y=["start from another example's state", "random start"], orientation="h")
    screen(browser, 390)
    sections = [*curves(), Section("bars", "Bars", 1, [Panel("Bars", bars, "Seen.", "To read.")])]
    opened(browser, sections, tmp_path / "phone.html")
    cut = browser.execute_script("""
        return [...document.querySelectorAll(".chart text")].filter((text) => {
          const { left, right, bottom, width } = text.getBoundingClientRect();
          const frame = text.closest(".chart").getBoundingClientRect();
          return width && (left < frame.left - 1 || right > frame.right + 1 || bottom > frame.bottom + 1);
        }).map((text) => text.textContent);
    """)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert cut == []


@pytest.mark.parametrize("width", [390, 1280])
def test_the_title_of_an_axis_keeps_clear_of_its_labels(browser: Any, tmp_path: Path, width: int):
    names = ["0: e23", "1: another", "2: r6"]
    figure = square_heatmap("t", torch.eye(3), "query position", "attention", labels=names)
    screen(browser, width)
    panels = [Section(name, name, 0, [Panel("P", figure, "Seen.", "To read.")]) for name in ("s", "t")]
    opened(browser, panels, tmp_path / "title.html")
    title, labels = browser.execute_script("""
        const box = (text) => text.getBoundingClientRect();
        const labels = document.querySelector(".chart").querySelectorAll(".ytick text");
        const left = Math.min(...[...labels].map((label) => box(label).left));
        return [box(document.querySelector(".ytitle")).right, left];
    """)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert title <= labels


@pytest.mark.parametrize("width", [390, 1280])
def test_tokens_are_cut_to_their_cells_and_whole_under_the_pointer(browser: Any, tmp_path: Path, width: int):
    tokens = ["<eos>", "a", "electroencephalographically✗", "internationalization", "&lt;", "to"] * 2
    cells = [[token_label(token) for token in tokens]] * 3
    update = {"z": [[0] * 12] * 3, "text": cells, "customdata": [[0.5] * 12] * 3}
    hover = "k = %{y}, position %{x}: %{text}"
    figure = token_heatmap("t", update, range(3), 12, hover=hover, rows=token_rows(tokens), showscale=False)
    frames = [Frame(name, {0: {"text": cells}, 1: token_rows(tokens)}) for name in ("one", "two")]
    screen(browser, width)
    panel = Panel("Answers", figure, "Seen.", "To read.", frames)
    opened(browser, [Section("s", "S", 0, [panel])], tmp_path / "tokens.html")
    for chosen in (0, 1):
        browser.execute_script(f"""
            const menu = document.getElementById("choose-1");
            menu.value = "{chosen}";
            menu.dispatchEvent(new Event("input"));
        """)
        rows = browser.execute_script("""
            const rows = {};
            for (const text of document.querySelectorAll(".heatmap-label text, .textpoint text")) {
              const { left, right, top } = text.getBoundingClientRect();
              if (right > left) (rows[Math.round(top / 4)] ??= []).push([left, right, text.textContent]);
            }
            return Object.values(rows).map((row) => row.sort((a, b) => a[0] - b[0]));
        """)
        assert len(rows) >= 4
        for row in rows:
            assert min(after[0] - before[1] for before, after in zip(row, row[1:], strict=False)) > -2
        assert any(text.endswith("…✗") for row in rows for _, _, text in row)
        browser.execute_script('Plotly.Fx.unhover("plot-1")')
        browser.execute_script('Plotly.Fx.hover("plot-1", { xval: 2, yval: 1 }, "xy")')
        words = "k = 1, position 2: electroencephalographically✗"
        until(browser, f"return document.querySelector('.hoverlayer').textContent === '{words}'")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_signs_of_a_board_and_long_numbers_fit_their_cells_on_a_phone(browser: Any, tmp_path: Path):
    cells = board_cells(["4"] * 36, [CORRECT] * 36, (6, 6))
    board = board_figure("b", cells, cells, (6, 6), box=(2, 3), hover="%{text}")
    update = {"z": [[0] * 24] * 30, "text": [["72985"] * 24] * 30, "customdata": [[0.5] * 24] * 30}
    rows = token_heatmap("t", update, range(30), 24, hover="%{text}", rows=token_rows(["72985"] * 24))
    screen(browser, 390)
    panels = [Panel("Board", board, "", ""), Panel("Answers", rows, "", "")]
    sections = [Section(f"s{i}", "S", i, [panel]) for i, panel in enumerate(panels)]
    opened(browser, sections, tmp_path / "cells.html")
    lines = browser.execute_script("""
        const rows = {};
        for (const text of document.querySelectorAll(".heatmap-label text, .textpoint text")) {
          const { left, right, top, bottom } = text.getBoundingClientRect();
          if (right > left) (rows[Math.round(top)] ??= []).push([left, right, top, bottom]);
        }
        return Object.values(rows).map((row) => row.sort((a, b) => a[0] - b[0]));
    """)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert any(len(row) == 12 for row in lines), "both boards have their signs"
    assert all(a[1] - b[0] < 1 for row in lines for a, b in zip(row, row[1:], strict=False))


@pytest.mark.parametrize(("width", "count", "every"), [(390, 24, False), (1280, 12, True)])
def test_labels_of_cells_do_not_overlap(browser: Any, tmp_path: Path, width: int, count: int, every: bool):
    """On a phone fewer of them are named; a wide screen has room for all."""
    names = [f"{i} token" for i in range(count)]
    figure = style.empty("t", "key position", "query position", 520)
    figure.add_heatmap(z=[[0.5] * count] * count, x=names, y=names)
    figure.update_yaxes(type="category", autorange="reversed", scaleanchor="x", constrain="domain", dtick=1)
    figure.update_xaxes(type="category", constrain="domain", tickangle=-90, dtick=1)
    screen(browser, width)
    panel = Panel("Patterns", figure, "Seen.", "To read.")
    opened(browser, [Section("s", "S", 0, [panel])], tmp_path / "cells.html")
    sides = browser.execute_script("""
        const boxes = (axis) => [...document.querySelectorAll(`.${axis}tick text`)].map((text) => {
          const { left, right, top, bottom } = text.getBoundingClientRect();
          return axis === "x" ? [left, right] : [top, bottom];
        }).sort((a, b) => a[0] - b[0]);
        return [boxes("x"), boxes("y")];
    """)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    for boxes in sides:
        assert len(boxes) >= 5 and (len(boxes) == count) == every
        gaps = [after[0] - before[1] for before, after in zip(boxes, boxes[1:], strict=False)]
        assert min(gaps) > -2, "line boxes touch, letters don't"
