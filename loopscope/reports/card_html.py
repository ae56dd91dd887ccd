"""An entry's card, from Markdown to harmless HTML."""

import re

from markupsafe import Markup

_COMMENT = re.compile(r"^\s*<!--.*?-->\s*?$", re.DOTALL | re.MULTILINE)


def card_html(markdown: str) -> tuple[Markup, Markup]:
    """The HTML of a card: the part before its first second-level heading, and the rest.

    Tags are escaped, comments removed, and pictures become links; links may lead to http(s), mail
    or this page only. The first heading is removed, since it is the page's title; the others go
    down one level.
    """
    from markdown_it import MarkdownIt

    parser = (
        MarkdownIt("commonmark", {"html": False})
        .enable(["table"])
        .disable(["image", "html_block", "html_inline"])
    )
    parser.validateLink = _harmless
    tokens = parser.parse(_COMMENT.sub("", markdown))
    if tokens and tokens[0].type == "heading_open" and tokens[0].tag == "h1":
        tokens = tokens[3:]
    for token in tokens:
        if token.type.startswith("heading"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
        for inner in token.children or ():
            if inner.type == "link_open":
                inner.attrSet("rel", "noopener noreferrer")
    cut = next((i for i, t in enumerate(tokens) if t.type == "heading_open" and t.tag == "h3"), len(tokens))
    lead, rest = (parser.renderer.render(part, parser.options, {}) for part in (tokens[:cut], tokens[cut:]))
    return Markup(lead), Markup(rest)


def _harmless(url: str) -> bool:
    return url.strip().lower().startswith(("https://", "http://", "mailto:", "#"))
