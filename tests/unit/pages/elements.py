"""What stands in a page, as a browser would read it."""

from html.parser import HTMLParser

FETCHING = {"src", "href", "srcset", "action", "data", "poster", "background", "xlink:href", "formaction"}


class Elements(HTMLParser):
    """tags: names in order; addresses: values of all attributes that may fetch or lead somewhere; texts: by the innermost tag."""

    def __init__(self, page: str):
        super().__init__(convert_charrefs=True)
        self.tags, self.addresses, self.texts, self.attributes, self._open = [], [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        self.addresses += [value for name, value in attrs if name in FETCHING]
        if tag not in ("meta", "img", "br", "hr", "link"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self._open[-1] if self._open else "", data.strip()))

    def of(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


def fetched(page: str) -> list[str]:
    """Addresses that are neither inside the page nor a part of it; what a style would fetch is one too."""
    found = Elements(page)
    elsewhere = [each for each in found.addresses if not (each or "").startswith(("data:image/png;base64,", "#"))]
    return elsewhere + [style for style in found.of("style") if "url(" in style or "@import" in style]
