"""Every string of a user stays text: in the page of a run, of a wrapped module, of an entry, of a
sweep, and in figures; in a real browser, whose policy against scripts is put out of force."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import loopscope as ls

from ..toys import hostile_places, hostile_strings
from ..toys.hostile_places import PLACES, hostile, plain
from ..toys.real_browser import cut_network, forget, requests, start, until

pytestmark = [pytest.mark.browser, pytest.mark.slow]

HALTS = {"halting": "interpolated", "halting_bias": -1.0}
PAGES = {
    "run": lambda word, folder: ls.report(hostile_places.run(word, **HALTS)).html,
    "wrapped": lambda word, folder: ls.report(hostile_places.wrapped_run(word), ls.analyses.names()).html,
    "sweep": lambda word, folder: hostile_places.sweep_page(word),
    "figures": hostile_places.figures_page,
}
OURS = """
    const count = {};
    for (const e of document.querySelectorAll('*')) {
        if (e.closest('.chart') && !e.matches('.chart')) continue;
        count[e.localName] = (count[e.localName] || 0) + 1;
    }
    return count;
"""
FOREIGN = """
    const names = new Set(['a', 'img', 'image', 'iframe', 'object', 'embed', 'script', 'style', 'use', 'form',
                           'foreignObject', 'link', 'base', 'meta']);
    const found = [...document.querySelectorAll('.chart *')].filter((e) => names.has(e.localName) &&
                           !(e.localName === 'image' && e.href.baseVal.startsWith('data:image/png')));
    const handlers = [...document.querySelectorAll('*')].filter((e) =>
        [...e.attributes].some((a) => a.name.startsWith('on') || /^\\s*(java|vb)script:/i.test(a.value) &&
                                      ['href', 'src', 'action', 'xlink:href'].includes(a.name)));
    return [...found, ...handlers].map((e) => e.outerHTML.slice(0, 200));
"""
TEXTS = """
    const done = arguments[arguments.length - 1];
    const read = (selector) => [...document.querySelectorAll(selector)].map((e) => e.textContent);
    const texts = read('.chart text, option, title, h1, h2, h3, h4, p, li, td, th, dt, dd, pre, output');
    texts.push(...read('label'));
    for (const e of document.querySelectorAll('[aria-label]')) texts.push(e.getAttribute('aria-label'));
    const charts = arguments[0] ? [...document.querySelectorAll('.chart')] : [];
    (async () => {
        for (const chart of charts) {
            for (const [i, trace] of chart.data.entries()) {
                if (trace.hoverinfo === 'skip' || i > 3) continue;
                const flat = trace.type === 'heatmap';
                Plotly.Fx.hover(chart, [{ curveNumber: i, pointNumber: flat ? [1, 1] : 0 }]);
                await new Promise((resume) => setTimeout(resume, 60));
                for (const e of chart.querySelectorAll('.hoverlayer text')) texts.push(e.textContent);
                Plotly.Fx.unhover(chart);
            }
        }
        done(texts);
    })();
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a network, which lets every script of a page run and counts the alerts."""
    driver = start()
    cut_network(driver)
    driver.execute_cdp_cmd("Page.enable", {})
    driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
    said = "window.alerts = []; window.alert = (n) => window.alerts.push(n);"
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": said})
    driver.set_script_timeout(120)
    yield driver
    driver.quit()


def opened(browser: Any, html: str, path: Path, hover: bool = True) -> list[str]:
    """Every text that a page shows, drawn and under the pointer; nothing else came of its
    strings."""
    path.write_text(html, encoding="utf-8")
    forget(browser)
    browser.get(path.as_uri())
    until(browser, "return document.documentElement.dataset.drawn")
    browser.execute_script("for (const e of document.querySelectorAll('details')) e.open = true")
    until(browser, "return [...document.querySelectorAll('.chart')].every((e) => e.dataset.at)", 300)
    texts = browser.execute_async_script(TEXTS, hover)
    assert browser.execute_script("return window.alerts") == []
    assert browser.execute_script(FOREIGN) == []
    assert browser.get_log("browser") == []
    assert [url for url in requests(browser) if not url.startswith("data:")] == [path.as_uri()]
    return texts


def unquoted(text: str) -> str:
    """A text without the quoting of JSON, of sentences and of a shell, and with common blanks."""
    return text.replace("\\", "").replace("\xa0%", " %").replace("'\"'\"'", "'")


def joined(text: str) -> str:
    """A text without its blanks."""
    return "".join(text.split())


@pytest.fixture(scope="module")
def shown(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """By page: its texts. Its elements are those of the same page of plain words."""
    folder = tmp_path_factory.mktemp("pages")
    result = {}
    for name, make in PAGES.items():
        opened(browser, make(plain, folder / f"plain-{name}"), folder / f"plain-{name}.html", hover=False)
        elements = browser.execute_script(OURS)
        result[name] = opened(browser, make(hostile, folder / name), folder / f"{name}.html")
        assert browser.execute_script(OURS) == elements, name
    return result


def test_every_string_is_shown_as_it_is_or_not_at_all(shown: dict[str, list[str]]):
    for name, texts in shown.items():
        for place in PLACES:
            for text in texts:
                # plotly breaks long labels into lines at their blanks, which are then not there
                whole = joined(hostile(place))
                left = joined(unquoted(text)).replace(whole, "")
                for end in range(len(whole), 0, -1):  # in a cell and on an axis a long token is cut
                    left = left.replace(f"{whole[:end]}…", "")
                assert plain(place) not in left, f"{place} in {name}: {text[:400]!r}"


def test_every_place_is_on_a_page(shown: dict[str, list[str]]):
    everything = [unquoted(text) for texts in shown.values() for text in texts]
    assert [place for place in PLACES if not any(hostile(place) in text for text in everything)] == []


def test_an_entry_with_a_hostile_card_and_file_name_is_text(browser: Any, tmp_path: Path):
    entry = hostile_strings.entry(tmp_path, hostile_strings.run())
    texts = opened(browser, ls.report(entry, ["convergence"]).html, tmp_path / "entry.html")
    assert hostile_strings.NAME in texts
    assert any(Path(entry).name.partition("'")[0] in text for text in texts)
    assert (
        browser.execute_script(
            "return document.querySelectorAll('img, iframe, svg:not(.chart svg, #js-plotly-tester)').length"
        )
        == 0
    )


def test_a_script_in_a_page_would_be_counted_here(browser: Any, tmp_path: Path):
    html = ls.report(hostile_places.run(plain), []).html
    with pytest.raises(AssertionError):
        opened(browser, html.replace("</main>", "<img src=x onerror=alert(1)></main>"), tmp_path / "bad.html")
    assert until(browser, "return window.alerts.length") == 1
