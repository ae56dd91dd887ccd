"""The page in a real browser: it draws, its controls work, and it neither complains nor asks for
anything."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import loopscope as ls

from ..toys import hostile_strings
from ..toys.real_browser import cut_network, forget, requests, start, until

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    driver = start()
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ls.report(hostile_strings.run(), ["convergence", "halting"]).save(
        tmp_path_factory.mktemp("page") / "report.html"
    )


@pytest.fixture
def page(browser: Any, path: Path) -> Any:
    """The page of the hostile run, drawn, in the light theme, with the network cut."""
    forget(browser)
    cut_network(browser)
    scheme = {"features": [{"name": "prefers-color-scheme", "value": "light"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    browser.get(path.as_uri())
    until(browser, "return document.documentElement.dataset.drawn")
    return browser


def refused(browser: Any) -> list[str]:
    """The addresses that the page's own policy kept it from."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {
        e["params"]["requestId"]: e["params"]["request"]["url"]
        for e in events
        if e["method"] == "Network.requestWillBeSent"
    }
    failed = [e["params"] for e in events if e["method"] == "Network.loadingFailed"]
    return [asked[one["requestId"]] for one in failed if one.get("blockedReason") == "csp"]


def number(browser: Any, control: str) -> str:
    return browser.execute_script(f"return document.querySelector('[id^={control}-]').dataset.figure")


def press(browser: Any, selector: str, *keys: str) -> None:
    from selenium.webdriver.common.by import By

    element = browser.find_element(By.CSS_SELECTOR, selector)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    element.send_keys(*keys)


def test_it_draws_every_figure_without_a_complaint_or_a_request(page: Any, path: Path):
    figures = page.execute_script("return document.querySelectorAll('figure').length")
    drawn = page.execute_script(
        "return document.querySelectorAll('.chart .main-svg .cartesianlayer .subplot').length"
    )
    assert figures == drawn >= 8
    assert page.get_log("browser") == []
    assert [url for url in requests(page) if not url.startswith("data:")] == [path.as_uri()]


def test_hostile_strings_stay_strings_after_drawing(page: Any):
    assert (
        page.execute_script(
            "return document.querySelectorAll('img, iframe, script[src], [onerror], [onload]').length"
        )
        == 0
    )
    assert page.execute_script("return document.scripts.length") == 2 + page.execute_script(
        "return document.querySelectorAll('figure').length"
    )
    assert page.execute_script("return document.querySelector('h1').textContent") == hostile_strings.NAME
    drawn = page.execute_script(
        "return [...document.querySelectorAll('.chart text')].map((e) => e.textContent)"
    )
    assert hostile_strings.SYMBOLS[0] in drawn
    assert hostile_strings.Parity.difficulty_unit in drawn
    options = page.execute_script("return document.querySelector('option').textContent")
    assert hostile_strings.SYMBOLS[0] in options


def test_a_script_that_got_in_would_not_run(page: Any, path: Path):
    page.execute_script("""
        const script = document.createElement('script');
        script.textContent = 'window.broken = true';
        document.body.append(script);
        const image = document.createElement('img');
        image.src = 'http://example.invalid/x.png';
        document.body.append(image);
    """)
    until(page, "return document.querySelector('img').complete")
    assert page.execute_script("return window.broken === undefined")
    assert "http://example.invalid/x.png" in refused(page)
    forget(page)  # it complains here, as it should


def test_the_theme_changes_the_page_and_its_figures(page: Any):
    look = """
        const axis = document.querySelector('.chart .xtick text');
        return [getComputedStyle(document.body).backgroundColor, getComputedStyle(axis).fill];
    """
    light = page.execute_script(look)
    press(page, "#theme", " ")
    dark = until(page, f"const now = (() => {{{look}}})(); return now[1] !== {light[1]!r} && now")
    assert dark[0] != light[0]
    assert (
        page.execute_script("return document.getElementById('theme').getAttribute('aria-pressed')") == "true"
    )
    press(page, "#theme", " ")
    until(
        page, f"const now = (() => {{{look}}})(); return now[0] === {light[0]!r} && now[1] === {light[1]!r}"
    )


def test_it_begins_in_the_theme_that_the_reader_prefers(browser: Any, path: Path):
    scheme = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    browser.get(path.as_uri())
    assert until(browser, "return document.documentElement.dataset.theme") == "dark"


def test_another_example_can_be_chosen_with_the_keyboard(page: Any):
    from selenium.webdriver.common.keys import Keys

    figure = number(page, "choose")
    cells = f"return JSON.stringify(document.getElementById('plot-{figure}').data[0].z)"
    before = page.execute_script(cells)
    press(page, f"#choose-{figure}", Keys.ARROW_DOWN)
    assert until(page, f"return document.getElementById('plot-{figure}').dataset.at") == "1"
    assert page.execute_script(cells) != before
    press(page, f"#choose-{figure}", Keys.ARROW_UP)
    until(page, f"return document.getElementById('plot-{figure}').dataset.at === '0'")
    assert page.execute_script(cells) == before


def test_the_slider_moves_the_trajectory(page: Any):
    from selenium.webdriver.common.keys import Keys

    figure = number(page, "slide")
    dots = (
        f"const d = document.getElementById('plot-{figure}').data; return JSON.stringify(d[d.length - 1].x)"
    )
    says = f"return document.getElementById('at-{figure}').textContent"
    last, end = page.execute_script(dots), page.execute_script(says)
    press(page, f"#slide-{figure}", Keys.HOME)
    assert page.execute_script(says) == "after 0 iterations"
    assert page.execute_script(dots) != last
    press(page, f"#slide-{figure}", Keys.ARROW_RIGHT)
    assert page.execute_script(says) == "after 1 iteration"
    press(page, f"#slide-{figure}", Keys.END)
    assert page.execute_script(says) == end
    assert page.execute_script(dots) == last


def test_playing_goes_through_every_iteration_and_stops(page: Any):
    figure = number(page, "play")
    at, button = (
        f"document.getElementById('plot-{figure}').dataset.at",
        f"document.getElementById('play-{figure}')",
    )
    end = int(page.execute_script(f"return {at}"))
    page.execute_script(f"window.seen = []; new MutationObserver(() => window.seen.push(Number({at})))"
                        f".observe(document.getElementById('plot-{figure}'), {{attributeFilter: "
                        "['data-at']})")  # fmt: skip
    press(page, f"#play-{figure}", " ")
    assert page.execute_script(f"return {button}.textContent") == "Pause"
    until(page, f"return {button}.textContent === 'Play' && window.seen.length > 3")
    assert page.execute_script("return window.seen") == list(range(end + 1))
    press(page, f"#play-{figure}", " ")
    until(page, f"return Number({at}) > 0 && Number({at}) < {end}")
    press(page, f"#play-{figure}", " ")
    assert page.execute_script(f"return {button}.getAttribute('aria-pressed')") == "false"


def test_it_prints_light_and_without_controls(page: Any):
    import base64

    press(page, "#theme", " ")
    page.execute_script("""
        const root = document.documentElement;
        window.addEventListener('beforeprint', () => { window.printed = root.dataset.theme; });
    """)
    pdf = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"])
    assert pdf.startswith(b"%PDF")
    assert page.execute_script("return window.printed") == "light"
    assert until(page, "return document.documentElement.dataset.theme") == "dark"
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    shown = page.execute_script(
        "return [...document.querySelectorAll('.control, #theme, nav')].filter((e) => e.offsetParent)"
    )
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert shown == []


def test_it_fits_a_narrow_screen(page: Any):
    metrics = {"width": 360, "height": 780, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    until(
        page,
        "return [...document.querySelectorAll('.chart .main-svg')].every((e) => "
        "e.getBoundingClientRect().right <= 360)",
    )
    assert page.execute_script("return document.documentElement.scrollWidth") <= 360
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_machine_without_a_browser_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="make browser"):
        start()
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="make browser"):
        start()
