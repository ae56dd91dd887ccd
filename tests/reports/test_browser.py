"""The page in a real browser: it draws, its controls work, and it neither complains nor asks for
anything."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import loopscope as ls

from ..toys import hostile_strings
from ..toys.real_browser import cut_network, forget, press, requests, screen, start, until

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
    browser.execute_script("scrollTo(0, 0)")
    return browser


@pytest.fixture
def unfolded(page: Any) -> Any:
    """The same page with all details open."""
    page.execute_script("for (const e of document.querySelectorAll('details')) e.open = true")
    until(page, "return [...document.querySelectorAll('.chart')].every((e) => e.dataset.at)")
    return page


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


def test_it_draws_every_figure_without_a_complaint_or_a_request(unfolded: Any, path: Path):
    page = unfolded
    figures = page.execute_script("return document.querySelectorAll('figure .chart').length")
    drawn = page.execute_script(
        "return document.querySelectorAll('.chart .main-svg .cartesianlayer .subplot').length"
    )
    assert figures == drawn >= 8
    assert page.get_log("browser") == []
    assert [url for url in requests(page) if not url.startswith("data:")] == [path.as_uri()]


def test_hostile_strings_stay_strings_after_drawing(unfolded: Any):
    page = unfolded
    assert (
        page.execute_script(
            "return document.querySelectorAll('img, iframe, script[src], [onerror], [onload]').length"
        )
        == 0
    )
    assert page.execute_script("return document.scripts.length") == 3
    assert page.execute_script("return document.querySelector('h1').textContent") == hostile_strings.NAME
    drawn = page.execute_script(
        "return [...document.querySelectorAll('.chart text')].map((e) => e.textContent)"
    )
    assert any(text.startswith("<img src") for text in drawn), "the beginning of a symbol"
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


def test_it_prints_everything_light_and_without_controls(page: Any):
    import base64

    press(page, "#theme", " ")
    page.execute_script("""
        const root = document.documentElement;
        window.addEventListener('beforeprint', () => {
            const charts = [...document.querySelectorAll('.chart')];
            window.printed = [root.dataset.theme, charts.filter((e) => !e.querySelector('.subplot')).length,
                              document.querySelectorAll('details:not([open])').length];
        });
    """)
    closed = "return document.querySelectorAll('details:not([open])').length"
    before = page.execute_script(closed)
    pdf = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"])
    assert pdf.startswith(b"%PDF")
    assert page.execute_script("return window.printed") == ["light", 0, 0]
    assert until(page, "return document.documentElement.dataset.theme") == "dark"
    assert page.execute_script(closed) == before > 0
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    visible = page.execute_script(
        "return [...document.querySelectorAll('.control, #theme, nav')].filter((e) => e.offsetParent)"
    )
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert visible == []


def test_details_draw_their_figures_when_they_are_opened(page: Any):
    inside = "document.querySelector('details.more:has(.chart)')"
    drawn = (
        f"return [...{inside}.querySelectorAll('.chart')].filter((e) => e.querySelector('.subplot')).length"
    )
    assert page.execute_script(drawn) == 0
    name = page.execute_script(f"return {inside}.closest('section').id")
    press(page, f"#{name} details.more > summary", " ")
    until(page, f"return {inside}.open")
    every = page.execute_script(f"return {inside}.querySelectorAll('.chart').length")
    assert until(page, drawn) == every


def test_what_is_opened_stays_where_it_is_on_the_screen(page: Any):
    screen(page, 1280)
    for summary in page.find_elements("css selector", "details.more > summary")[:4]:
        page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", summary)
        top = "return arguments[0].getBoundingClientRect().top"
        before = page.execute_script(top, summary)
        summary.click()
        until(page, "return new Promise((go) => requestAnimationFrame(() => go(true)))")
        assert abs(page.execute_script(top, summary) - before) < 3
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("width", [1280, 390])
def test_the_contents_lead_to_every_section_and_mark_it(page: Any, width: int):
    from selenium.webdriver.common.keys import Keys

    screen(page, width)
    names = page.execute_script(
        "return [...document.querySelectorAll('#sections a')].map((e) => e.hash.slice(1))"
    )
    assert names == page.execute_script("return [...document.querySelectorAll('section')].map((e) => e.id)")
    for name in names:
        if width < 1100:
            press_fixed(page, "#contents", Keys.ENTER)
            assert page.execute_script("return document.getElementById('sections').offsetHeight") > 0
        press_fixed(page, f"#sections a[href='#{name}']", Keys.ENTER)
        current = "return document.querySelector('#sections a[aria-current]').hash"
        until(page, f"const r = document.getElementById('{name}').getBoundingClientRect();"
                    "return r.top < innerHeight && r.bottom > 0")  # fmt: skip
        assert page.execute_script(current) == f"#{name}"
        side = page.execute_script("return document.querySelector('.side').getBoundingClientRect().top")
        assert abs(side) < 1, "the contents stay in sight"
        if width < 1100:
            assert page.execute_script("return document.getElementById('sections').offsetHeight") == 0
    page.execute_script("scrollTo(0, 0)")
    until(page, f"{current} === '#{names[0]}'")
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def press_fixed(browser: Any, selector: str, *keys: str) -> None:
    """Press keys on an element that is always in sight."""
    browser.find_element("css selector", selector).send_keys(*keys)


def test_everything_is_reached_by_the_keyboard_alone(unfolded: Any):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    page = unfolded
    page.execute_script("document.activeElement.blur()")
    wanted = page.execute_script("""
        window.seen = new Set();
        document.addEventListener('focusin', (event) => window.seen.add(event.target));
        window.wanted = [...document.querySelectorAll('a, button, select, input, summary, .scroll')]
            .filter((e) => e.getClientRects().length);
        return window.wanted.length;
    """)
    assert wanted > 30
    for _ in range(wanted // 20 + 2):
        ActionChains(page).send_keys(Keys.TAB * 20).perform()
    missed = page.execute_script(
        "return window.wanted.filter((e) => !window.seen.has(e)).map((e) => e.outerHTML.slice(0, 90))"
    )
    assert missed == []


@pytest.mark.parametrize("format", ["png", "svg"])
def test_a_picture_is_saved_under_the_figures_name(page: Any, format: str, tmp_path: Path):
    page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    button = page.find_element("css selector", f".chart .modebar-btn[data-val='{format}']")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.send_keys(" ")
    name = page.execute_script("return arguments[0].closest('.chart').dataset.file", button)
    file = tmp_path / f"{name}.{format}"
    for _ in range(100):
        if file.exists():
            break
        page.execute_async_script("setTimeout(arguments[0], 100)")
    begin = file.read_bytes()[:5]
    assert begin == {"png": b"\x89PNG\r", "svg": b"<svg "}[format]
    assert page.get_log("browser") == []


CONTRAST = """
    const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92
                                                                 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const under = (e) => {
        for (let one = e; one; one = one.parentElement) {
            const colour = numbers(getComputedStyle(one).backgroundColor);
            if (colour.length < 4 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
    };
    const faint = [];
    for (const e of document.querySelectorAll('body *:not(script, noscript, .chart, .chart *)')) {
        const words = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
        if (!words || !e.getClientRects().length) continue;
        const [a, b] = [light(numbers(getComputedStyle(e).color)), light(under(e))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) faint.push([e.outerHTML.slice(0, 80), contrast]);
    }
    return faint;
"""


def test_every_text_has_contrast_aa_in_both_themes(unfolded: Any):
    assert unfolded.execute_script(CONTRAST) == []
    press(unfolded, "#theme", " ")
    assert unfolded.execute_script("return document.documentElement.dataset.theme") == "dark"
    assert unfolded.execute_script(CONTRAST) == []


def test_it_fits_a_narrow_screen(unfolded: Any):
    screen(unfolded, 360, 780)
    until(
        unfolded,
        "return [...document.querySelectorAll('.chart .main-svg')].every((e) => "
        "e.getBoundingClientRect().right <= 360)",
    )
    assert unfolded.execute_script("return document.documentElement.scrollWidth") <= 360
    unfolded.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_machine_without_a_browser_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="make browser"):
        start()
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="make browser"):
        start()
