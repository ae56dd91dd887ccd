"""The page: what is on it, that it needs nothing from outside, and that no text becomes HTML or
script."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
import torch

import loopscope as ls
from loopscope.common import discovery
from loopscope.common.errors import LoopscopeError
from loopscope.common.text import percent
from loopscope.plots import style
from loopscope.plots.panels import Panel
from loopscope.reports.card_html import card_html
from loopscope.reports.figure_json import literal, panel_json, safe_json, unpacked
from loopscope.reports.folding import sentences, without
from loopscope.reports.page import page as page_of
from loopscope.reports.section import GROUPS, Section, Summary, Table, Tile

from ..toys import hostile_strings

SHOWN = ["accuracy", "answers", "convergence", "trajectory", "halting"]
ASKED = ["convergence", "halting"]
"""Analyses that the pages here show, so that those that come later leave these tests as they
are."""


class Page(HTMLParser):
    """Every tag with its attributes, every script's text, and the text that a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data

    @property
    def drawn(self) -> list[dict]:
        """Every figure's data, unpacked, of one page or of several."""
        kinds = [attributes.get("type") for attributes in self.named("script")]
        pairs = zip(kinds, self.scripts, strict=True)
        pages = [json.loads(unpacked(text)) for kind, text in pairs if kind == "text/plain"]
        return [figure for page in pages for figure in page.values()]

    @property
    def code(self) -> list[str]:
        """Every script that runs."""
        kinds = [attributes.get("type") for attributes in self.named("script")]
        return [text for kind, text in zip(kinds, self.scripts, strict=True) if kind is None]

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def html() -> str:
    return ls.report(hostile_strings.run(name=None), ASKED).html


@pytest.fixture(scope="module")
def hostile_html(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page whose every string comes from somebody who wants to break it: of a checkpoint, and of
    a run with its task."""
    run = hostile_strings.run()
    page = ls.report(hostile_strings.entry(tmp_path_factory.mktemp("entry"), run), ASKED).html
    return page + ls.report(run, ASKED).html


def test_the_sections_stand_in_their_order(html: str):
    page = Page(html)
    ids = [a["id"] for a in page.named("section")]
    assert ids == ["summary", *SHOWN, "reproduce"]
    assert [a["href"] for a in page.named("a") if a.get("href", "") != "#page"] == [f"#{i}" for i in ids]
    assert "after 12 iterations" in page.text
    assert 'ls.report(run).save("report.html")' in page.text
    assert f"torch {torch.__version__}" in page.text


def test_every_figure_has_its_data_its_axes_and_a_name(html: str):
    page = Page(html)
    figures = page.named("figure")
    assert len(figures) == len(page.drawn) == len(page.named("figcaption"))
    assert html.count('class="reading"') == len(figures)
    assert not re.search(r"</strong>\s*</p>", html), "nothing says how to read a figure"
    assert not re.search(r'class="(observation|evidence)">\s*<', html)
    ids = {a.get("id") for _, a in page.tags}
    charts = [a for a in page.named("div") if a.get("class") == "chart"]
    assert all({a["aria-labelledby"], a["aria-describedby"]} <= ids for a in charts)
    files = [a["data-file"] or "" for a in page.named("div") if a.get("class") == "chart"]
    assert len(set(files)) == len(files)
    assert all(re.fullmatch("[a-z0-9-]+", name) for name in files)
    for drawn in page.drawn:
        assert drawn["layout"]["xaxis"]["title"]["text"]
        assert drawn["layout"]["yaxis"]["title"]["text"]


def made(sections: list[Section], **more) -> str:
    """A page of these sections."""
    options: dict[str, Any] = {"title": "a", "subtitle": "b", "summary": None, "card": None, "details": []}
    return page_of(**{**options, "command": "c", "date": "d", **more}, sections=sections)


def test_groups_stand_in_their_order_and_their_sections_by_place():
    sections = [Section(f"{group}-{place}", "T", place, group=group) for group in GROUPS for place in (2, 1)]
    page = Page(made(sections[::-1]))
    ids = [a["id"] for a in page.named("section")]
    assert ids == [f"{group}-{place}" for group in GROUPS for place in (1, 2)] + ["reproduce"]
    places = [page.text.rindex(heading) for heading in GROUPS.values()]
    assert places == sorted(places)


def test_one_group_has_no_heading():
    assert GROUPS["training"] not in Page(made([Section("a", "T", 0, group="training")])).text


def test_a_section_says_its_verdict_once_and_folds_all_but_its_first_figure():
    verdict, how = "The loop converges.", "Of 20 examples, 19 do."
    panels = [
        Panel(f"Title {i}", go.Figure(go.Scatter(y=[1])), f"{verdict} Seen {i}.", f"To read {i}.")
        for i in range(3)
    ]
    summary = f"{verdict} {how} Seen 0. Rate 0.5. Thresholds: a 1; b 2; c 3."
    numbers = Table(("quantity", "value", "95 % interval"), [("rate", "0.5", "0.4 to 0.6")])
    html = made([Section("a", "T", 0, panels, verdict, summary, evidence=how, numbers=numbers)])
    open_part, _, folded = html.partition('<details class="more">')
    assert Page(html).text.count(verdict) == Page(html).text.count(how) == 1
    assert (verdict in open_part, how in open_part, "Seen 0." in open_part) == (True, True, True)
    for text in ("Title 1", "Title 2", "To read 0", "Seen 1.", "Rate 0.5.", "0.4 to 0.6"):
        assert text not in open_part, text
        assert folded.count(text) == 1 or text.startswith(("Title", "Seen")), text
    assert "<li>a 1</li><li>b 2</li><li>c 3</li>" in folded


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two (a. B) here. Three", ["One.", "Two (a. B) here.", "Three"]),
        ("It is 0.5. See e.g. Bai 2019.", ["It is 0.5.", "See e.g. Bai 2019."]),
        ("", []),
    ],
)
def test_a_paragraph_is_cut_into_its_sentences(text: str, parts: list[str]):
    assert sentences(text) == parts


def test_only_what_stands_elsewhere_is_left_out():
    assert without("One. Two. Three.", "Two. Four.") == ["One.", "Three."]


def test_a_figure_that_is_a_table_is_written_as_one():
    figure = style.empty("Rules", "", "", 900)
    cells = [[f"rule {i}" for i in range(12)], ["&lt;b&gt;"] * 12]
    figure.add_table(header={"values": ["rule", "reads"]}, cells={"values": cells})
    html = made([Section("s", "S", 1, [Panel("Rules", figure, "Seen.", "To read.")])])
    assert 'id="plot-1"' not in html and "<h4" in html
    for i in range(12):
        assert f"<td>rule {i}</td><td>&lt;b&gt;</td>" in html


def test_the_summary_is_at_the_top():
    summary = Summary(["It converges."], [Tile("0.5", "rate")], Table(["a"], [["b"]]), ["They differ."])
    text = Page(made([Section("a", "The section", 0)], summary=summary)).text
    order = [text.rindex(part) for part in ("It converges.", "0.5", "Where the loop goes", "They differ.")]
    assert order == sorted(order)
    assert order[-1] < text.rindex("The section")


def test_a_page_of_one_section_is_little_more_than_plotly():
    from plotly.offline import get_plotlyjs

    html = ls.report(hostile_strings.run(name=None), ["convergence"]).html
    assert html.count(get_plotlyjs()[:2000]) == 1
    assert len(html.encode()) < len(get_plotlyjs().encode()) + 500_000


def test_a_page_may_load_plotly_by_its_digest_and_nothing_else():
    page = Page(html := made([Section("a", "T", 0)], cdn=True))
    loaded = [a for a in page.named("script") if "src" in a]
    assert len(loaded) == 1
    assert (loaded[0]["integrity"] or "").startswith("sha256-")
    assert len(html.encode()) < 300_000
    policy = next(a["content"] for a in page.named("meta") if a.get("http-equiv")) or ""
    sources = re.search("script-src ([^;]*);", policy)
    assert sources is not None
    assert sources[1].split()[0] == loaded[0]["src"]
    assert len(sources[1].split()) == 2
    assert policy.startswith("default-src 'none'")


def test_the_page_asks_for_nothing_from_outside(html: str):
    page = Page(html)
    for tag, attributes in page.tags:
        for name in ("src", "href", "data", "action", "srcset", "poster"):
            address = attributes.get(name) or ""
            assert address.startswith(("#", "data:,")) or not address, f"<{tag} {name}={address}>"
    policy = next(
        a["content"] for a in page.named("meta") if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy


def test_every_analysis_that_applies_is_shown():
    page = ls.report(hostile_strings.run(halting=False, name=None))
    ids = [a["id"] for a in Page(page.html).named("section")]
    assert "halting" not in ids  # the model doesn't halt
    left = {one["part"] for one in page.data["left_out"]}
    assert "Halting" in left
    shown = set(page.data["results"])
    modules = [(n, discovery.module("analyses", n)) for n in ls.analyses.names()]
    on_runs = {
        n: m.TITLE for n, m in modules if getattr(m, "SUBJECT", "run") == "run" and hasattr(m, "TITLE")
    }
    assert {title for name, title in on_runs.items() if name not in shown} <= left, "each is shown or listed"
    assert "convergence" in ids
    always = [n for n in ls.analyses.names() if not hasattr(discovery.module("analyses", n), "applies")]
    assert {name.replace("_", "-") for name in always} <= set(ids)


def test_the_analyses_can_be_chosen():
    ids = [
        a["id"] for a in Page(ls.report(hostile_strings.run(name=None), ["halting"]).html).named("section")
    ]
    assert ids == ["summary", "accuracy", "answers", "trajectory", "halting", "reproduce"]
    with pytest.raises(LoopscopeError, match="There is no analysis called 'convergense'"):
        ls.report(hostile_strings.run(name=None), ["convergense"])


def test_an_analysis_that_cannot_say_anything_says_why():
    page = Page(ls.report(hostile_strings.run(halting=False, name=None), ["halting"]).html)
    assert "Not measured: halting needs a run of a model that halts" in page.text


def test_a_run_without_its_model_still_has_a_page(tmp_path: Path):
    run = ls.load_run(hostile_strings.run(name=None).save(tmp_path / "run.safetensors"))
    ids = [a["id"] for a in Page(ls.report(run, ASKED).html).named("section")]
    assert ids == ["summary", "convergence", "trajectory", "halting", "left-out", "reproduce"]


def test_no_string_becomes_a_tag_an_attribute_or_a_script(hostile_html: str):
    page = Page(hostile_html)
    head = {"html", "head", "meta", "title", "link", "style", "body", "script", "noscript"}
    parts = {"header", "main", "nav", "section", "div", "span", "figure", "figcaption", "details", "summary"}
    texts = {"h1", "h2", "h3", "h4", "p", "ul", "li", "strong", "em", "pre", "code", "dl", "dt", "dd", "a"}
    controls = {"button", "label", "select", "option", "input", "output"}
    allowed = head | parts | texts | controls | {"table", "thead", "tbody", "tr", "th", "td"}
    assert {tag for tag, _ in page.tags} <= allowed
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert len(page.code) == 4  # plotly's and the page's, of two pages
    assert not [s for s in page.code if "alert(1" in s]
    for address in (a.get("href") or "" for a in page.named("a")):
        assert address.startswith(("#", "https://example.org/", "http://example.invalid/b.png"))


def test_hostile_text_is_shown_as_it_is(hostile_html: str):
    text = Page(hostile_html).text
    assert hostile_strings.NAME in text
    assert "{{913*977}}" in text
    assert "892001" not in text
    assert '<b onclick="alert(5)">bold</b>' in text
    assert "<b>bold<img src=x onerror=alert(19)>" in text  # the file's name, in the command


def test_nothing_in_the_data_can_end_its_script_or_draw_a_tag(hostile_html: str):
    page = Page(hostile_html)
    assert len(page.drawn) > 10
    for text in page.scripts:
        assert text in page.code or not set(text) & set("<>&")
    for drawn in page.drawn:
        for string in strings(drawn):
            assert not re.search(r"<(?!/?(?:b|i|br|sub|sup|extra)>)", string), string


def test_labels_are_made_literal_even_where_nobody_escaped_them():
    assert style.label("<b>&</b>") == "&lt;b&gt;&amp;&lt;/b&gt;"
    assert style.label("%{x}") == "&#37;{x}"  # no template of plotly's
    title = style.empty("<b>", "<i>", "").layout
    assert (title.title.text, title.xaxis.title.text) == ("&lt;b&gt;", "&lt;i&gt;")
    figure = go.Figure(go.Scatter(y=[1], name='<a href="javascript:alert(1)">x</a><b>y</b>'))
    told = json.loads(panel_json(Panel("", figure, "", "")))
    assert told["data"][0]["name"] == '&lt;a href="javascript:alert(1)">x&lt;/a><b>y</b>'
    assert literal(["<svg onload=x>", {"a": "<br>"}]) == ["&lt;svg onload=x>", {"a": "<br>"}]


def test_json_in_a_page_holds_no_sign_that_html_reads():
    said = safe_json({"a": "</script><!--&\u2028"})
    assert not set(said) & set("<>&\u2028")
    assert json.loads(said) == {"a": "</script><!--&\u2028"}


def test_a_card_keeps_its_tables_and_harmless_links_and_nothing_else():
    lead, rest = card_html(hostile_strings.CARD)
    both = Page(str(lead) + str(rest))
    assert both.named("table")
    links = [a["href"] for a in both.named("a")]
    assert links == ["http://example.invalid/b.png", "https://example.org/?a=1&b=%222%22"]
    assert not both.named("img")
    assert not both.scripts
    lead, rest = card_html(
        "# Title\n\nOne.\n<!-- a note -->\n\n## Two\n\n<!-- begin -->\nThree.\n<!-- end -->\n"
    )
    assert str(lead) == "<p>One.</p>\n"
    assert str(rest) == "<h3>Two</h3>\n<p>Three.</p>\n"


def test_a_report_is_saved_whole_or_not_at_all(tmp_path: Path, html: str):
    report = ls.report(hostile_strings.run(name=None), [])
    path = report.save(tmp_path / "report.html")
    assert path.read_text(encoding="utf-8") == report.html
    with pytest.raises(LoopscopeError, match="the report must be written to"):
        report.save(tmp_path / "nowhere" / "report.html")
    (tmp_path / "folder").mkdir()
    with pytest.raises(LoopscopeError, match="must be a file to be replaced by a new one, but is a folder"):
        report.save(tmp_path / "folder")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "report.html", "report.json"]
    assert len(html) < 7e6


def test_nan_states_have_no_page():
    model = hostile_strings.run(name=None).model
    with torch.no_grad():
        next(model.core.parameters()).fill_(torch.inf)
    with pytest.warns(ls.LoopscopeWarning):
        run = ls.record(model, model.task.batch(4, seed=0).tokens, 4)
    with pytest.raises(LoopscopeError, match="the states must be finite"):
        ls.report(run)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.5, "50 %"),
        (0.996, "99.6 %"),
        (0.9996, "99.96 %"),
        (0.999999, "more than 99.999 %"),
        (1e-7, "less than 0.001 %"),
        (0.004, "0.4 %"),
        (float("nan"), "unknown"),
    ],
)
def test_a_share_is_never_rounded_to_all_or_nothing(share: float, text: str):
    assert percent(share) == text


def strings(value: object) -> list[str]:
    """Every string in a piece of JSON."""
    if isinstance(value, dict):
        return [s for inner in value.values() for s in strings(inner)]
    if isinstance(value, list):
        return [s for inner in value for s in strings(inner)]
    return [value] if isinstance(value, str) else []
