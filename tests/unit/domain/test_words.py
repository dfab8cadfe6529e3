from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident_rollback.domain.words import clock_time, join, listed, quote, span
from tests.builders import NOW

SPANS = [
    pytest.param({"days": 6, "hours": 4, "minutes": 59}, "6 d 4 h", id="the two largest units"),
    pytest.param({"days": 6, "minutes": 59}, "6 d", id="none in between: one unit"),
    pytest.param({"seconds": 61}, "1 min 1 s", id="minutes"),
    pytest.param({"seconds": 31.9}, "31 s", id="whole seconds, cut"),
    pytest.param({}, "0 s", id="nothing"),
    pytest.param({"seconds": -5}, "0 s", id="clocks that disagree: never negative"),
]


@pytest.mark.parametrize(("length", "said"), SPANS)
def test_span(length: dict[str, float], said: str) -> None:
    assert span(timedelta(**length)) == said


def test_clock_time() -> None:
    assert clock_time(NOW) == "02:14:00"


QUOTES = [
    pytest.param("<!channel> & <b>", "&lt;!channel&gt; &amp; &lt;b&gt;", id="markup"),
    pytest.param("@here", "@\u200bhere", id="nobody is rung"),
    pytest.param("img@sha256:ab", "img@sha256:ab", id="a digest stays as it is"),
    pytest.param("one\n\ttwo  three\r\n", "one two three", id="one line"),
    pytest.param("x" * 200, "x" * 200, id="200 characters are kept"),
    pytest.param("x" * 201, "x" * 199 + "…", id="longer ones are cut at 200"),
    pytest.param("&" * 201, "&amp;" * 199 + "…", id="cut first: no half entity"),
]


@pytest.mark.parametrize(("text", "quoted"), QUOTES)
def test_quote(text: str, quoted: str) -> None:
    assert quote(text) == quoted


@given(st.text(alphabet="<>&@#!sha256: \nab"))
def test_what_is_quoted_is_one_line_without_markup_or_mention(text: str) -> None:
    quoted = quote(text).replace("@sha256:", "").replace("@\u200b", "")
    assert not set(quoted) & set("<>@\n")


JOINS = [
    pytest.param(("a:1", "b:2"), "a:1 + b:2", id="in order"),
    pytest.param((), "no image", id="none"),
    pytest.param(("<x>",), "&lt;x&gt;", id="quoted"),
]


@pytest.mark.parametrize(("images", "said"), JOINS)
def test_join(images: tuple[str, ...], said: str) -> None:
    assert join(images) == said


ROWS = [
    pytest.param("abcde", "a, b, c, d, e", id="five are named"),
    pytest.param("abcdef", "a, b, c, d, e and 1 more", id="of more it is said how many"),
    pytest.param("", "", id="none"),
]


@pytest.mark.parametrize(("items", "said"), ROWS)
def test_listed(items: str, said: str) -> None:
    assert listed(items) == said
