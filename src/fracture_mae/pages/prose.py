"""Markdown to HTML that fetches nothing and runs nothing."""

from markdown_it import MarkdownIt
from markupsafe import Markup

_FIRST_LEVEL = 3  # of headings, below those of a page's sections


def html(text: str) -> Markup:
    """Markdown with tables as HTML.

    Markup inside it is shown as text, and so are links and images: a page is read away from the UI that links lead into, and an image
    that a file's name asks for would be fetched from elsewhere.
    """
    return Markup(_MARKDOWN.render(text))


def _made() -> MarkdownIt:
    # "js-default" lets no HTML through; all that could carry an address is told by its text alone.
    made = MarkdownIt("js-default", {"html": False, "linkify": False})
    made.add_render_rule("link_open", lambda *_: "")
    made.add_render_rule("link_close", lambda *_: "")
    made.add_render_rule("image", lambda _, tokens, index, *__: str(Markup.escape(tokens[index].content)))
    made.add_render_rule(
        "table_open", lambda *_: '<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>'
    )
    made.add_render_rule("table_close", lambda *_: "</table></div>")
    made.add_render_rule("heading_open", lambda _, tokens, index, *__: f"<{_lower(tokens[index].tag)}>")
    made.add_render_rule("heading_close", lambda _, tokens, index, *__: f"</{_lower(tokens[index].tag)}>\n")
    return made


def _lower(tag: str) -> str:
    """h1 → h3, and so on."""
    return f"h{min(6, int(tag[1:]) + _FIRST_LEVEL - 1)}"


_MARKDOWN = _made()
