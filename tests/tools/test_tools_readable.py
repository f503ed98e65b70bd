"""HTML as text: what is left, what is skipped, and that no page takes long."""

from __future__ import annotations

import html
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rest_jax.tools.search.readable import Page, readable, unescape


def test_a_page():
    source = """<!doctype html><html><head><title>A &amp; B</title><style>x {}</style></head>
    <body><h1>Head</h1><p>Hi <b>the</b>re &copy; <a title='a > b' href=x">link</a><br>next
    <table><tr><td>1<td>2</table><script>if (a<b) '</p>'</script><!-- <p>not this --> 3 < 4 <p>end</body>"""
    assert readable(source) == Page("A & B", "Head\nHi there © link\nnext\n1 2\n3 < 4\nend")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("plain", "plain"),
        ("", ""),
        ("a<SCRIPT>x</script >b", "ab"),
        ("a<script>x</scripture>y</script>b", "ab"),
        ("a<script>x", "a"),
        ("a<!-- x", "a"),
        ("a<b", "a"),
        ('a<b x="1>2">c', "ac"),
        ('a<b x="1>c', "ac"),
        ("a<b x=''y='>'>c", "ac"),
        ("a</>b</ x>c<?php x?>d", "abcd"),
        ("1 < 2 <3 <= 4", "1 < 2 <3 <= 4"),
        ("<li>a<li>b", "a\nb"),
        ("<svg><title>not this</title></svg><title>T</title>", ""),
        ("</title>a<title></title><title>T</title>", "a"),
        ("&lt;b&gt; &#x2014; &unknown; &#99999999999999999999;", "<b> — &unknown; �"),
    ],
)
def test_what_is_left(source: str, text: str):
    assert readable(source).text == text


@given(st.text(alphabet="<>&;#x9\"' \n\t\u2028aé文"))
def test_text_that_is_escaped_comes_back(text: str):
    lines = (" ".join(line.split()) for line in text.splitlines())
    assert readable(html.escape(text)).text == "\n".join(line for line in lines if line)


@given(st.text(alphabet="<>/!-?='\"&#; \nabtitlescrp", max_size=200))
def test_anything_is_read(source: str):
    page = readable(source)
    assert "\n" not in page.title
    assert "\n\n" not in page.text


def test_the_title_is_the_first_that_says_something():
    assert readable("</title><title></title><title> T\n2 </title><title>U</title>").title == "T 2"


def test_numbers_that_python_refuses():
    assert unescape("&#" + "9" * 5000 + ";") == "\ufffd"


@pytest.mark.parametrize(
    "unit",
    [
        "<",
        "<!",
        "<!--",
        "<a ",
        '<a b="',
        "<a b='>",
        "<a =  ",
        "<?",
        "</",
        "</a",
        "&",
        "&#x",
        "<script>",
        "<title>",
        "<svg>",
    ],
)
def test_no_page_takes_time_that_grows_faster_than_it(unit: str):
    """Quadratic time would be minutes for a megabyte; this is a bound against hanging."""
    began = time.perf_counter()
    for beginning in ("", "<a ", "<a b='", "<!--", "<script>"):
        readable(beginning + unit * (1_000_000 // len(unit)))
    assert time.perf_counter() - began < 60
