"""An entry's card, from Markdown to HTML that can do nothing but be read."""

from markupsafe import Markup


def card_html(markdown: str) -> Markup:
    """HTML of a card. Tags in it stay literal, pictures become their text, and a link leads to http(s), mail or this page.

    The headings go down two levels, since the page has its own; the card's first heading is left out: it is the page's.
    """
    from markdown_it import MarkdownIt

    parser = (
        MarkdownIt("commonmark", {"html": False})
        .enable(["table"])
        .disable(["image", "html_block", "html_inline"])
    )
    parser.validateLink = _harmless
    tokens = parser.parse(markdown)
    if tokens and tokens[0].type == "heading_open" and tokens[0].tag == "h1":
        tokens = tokens[3:]
    for token in tokens:
        if token.type.startswith("heading"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
        for inner in token.children or ():
            if inner.type == "link_open":
                inner.attrSet("rel", "noopener noreferrer")
    return Markup(parser.renderer.render(tokens, parser.options, {}))


def _harmless(address: str) -> bool:
    return address.strip().lower().startswith(("https://", "http://", "mailto:", "#"))
