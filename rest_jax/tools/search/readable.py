"""A web page as text to read.

One pass, linear in the page's length whatever it holds, as any stranger may have written it. (The standard library's
parser is not: 50 kB of nothing but `<a ` took Python 3.11.7 56 seconds.)
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SKIPPED = _names("script style template noscript iframe svg math canvas object select textarea")
"""Elements without anything to read; each ends at the first closing tag of its name."""

_BLOCKS = _names("""
address article aside blockquote body br caption dd details div dl dt fieldset figcaption figure footer form h1 h2 h3 h4
h5 h6 head header hr html li main nav ol option p pre section summary table tbody tfoot thead tr ul
""")
"""Elements that begin and end a line."""

_CELLS = _names("td th")

_START = re.compile(r"<(?=[a-zA-Z/!?])")
_NAME = re.compile(r"/?+([a-zA-Z][^\s/>]*+)")
_REST = re.compile(r"""(?:[^>=]++|=\s*+"[^"]*+"|=\s*+'[^']*+'|=)*+>""")
"""The rest of a tag. A quote counts only after `=`, and only if it is closed: stray ones swallow nothing."""

_ENDS = {name: re.compile(rf"</{name}(?![^\s/>])", re.IGNORECASE) for name in (*_SKIPPED, "title")}
_LONG_NUMBER = re.compile(r"&#[xX]?[0-9a-fA-F]{9,}+;?")


@dataclass(frozen=True)
class Page:
    """What a page says: its title on one line, and its text, a line for each block."""

    title: str
    text: str


def readable(source: str) -> Page:
    """The page in a source of HTML, well-formed or not."""
    titles: list[str] = []
    pieces: list[str] = []
    for tag, text in _parts(source):
        if tag == "title":
            titles.append(text)
        else:
            pieces.append("\n" if tag in _BLOCKS else " " if tag in _CELLS else text)
    lines = (" ".join(line.split()) for line in unescape("".join(pieces)).splitlines())
    title = " ".join(unescape(next(filter(None, titles), "")).split())
    return Page(title, "\n".join(line for line in lines if line))


def unescape(text: str) -> str:
    """The text with entities as their characters. Numbers too long for a character, which Python refuses, are none."""
    return html.unescape(_LONG_NUMBER.sub("\ufffd", text))


def _parts(source: str) -> Iterator[tuple[str, str]]:
    """(name, "") for each opening or closing tag, ("", text) for what stands between them, ("title", its text)."""
    at = 0
    while (found := _START.search(source, at)) is not None:
        yield "", source[at : found.start()]
        at = found.end()
        name = _NAME.match(source, at)
        if name is None:
            closing = "-->" if source.startswith("!--", at) else ">"
            end = source.find(closing, at)
            if end < 0:
                return
            at = end + len(closing)
            continue
        rest = _REST.match(source, name.end())
        if rest is None:
            return  # a tag that never ends: nothing after it can be told from it
        tag, closes, at = name[1].lower(), source[at] == "/", rest.end()
        if tag not in _ENDS or closes:
            yield tag, ""
            continue
        end = _ENDS[tag].search(source, at)
        if end is None:
            return
        if tag == "title":
            yield "title", source[at : end.start()]
        at = end.start()
    yield "", source[at:]
