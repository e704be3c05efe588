"""A page from its parts."""

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fracture_mae.pages.blocks import Section
from fracture_mae.pages.prose import html


def render(title: str, summary: str, sections: Sequence[Section]) -> str:
    """The page as HTML.

    Args:
        title: of the page, text.
        summary: what came out, Markdown; stands on top.
        sections: those in which there is nothing are left out.
    """
    script = _ENVIRONMENT.get_template("sorting.js").render()
    return _ENVIRONMENT.get_template("page.html").render(
        title=title,
        summary=summary,
        sections=[section for section in sections if section.filled],
        style=Markup(_ENVIRONMENT.get_template("style.css").render()),
        script=Markup(script),
        script_hash=b64encode(sha256(script.encode()).digest()).decode(),
    )


_ENVIRONMENT = Environment(
    loader=PackageLoader("fracture_mae.pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["prose"] = html
