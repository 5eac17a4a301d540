"""The small parts of the HTTP layer that need no socket."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_serving.http1 import date_line
from slipway_serving.messages import Response, serialise


@given(st.integers(0, 4_000_000_000))
def test_the_date_is_written_as_http_wants_it(seconds: int) -> None:
    assert date_line(seconds) == f"date: {formatdate(seconds, usegmt=True)}\r\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [("x", "a\r\nb: c"), ("x", "a\nb"), ("x", "a\0b"), ("a b", "c"), ("a:b", "c"), ("", "c"), ("a\r", "c")],
)
def test_headers_that_would_split_a_response_are_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="line break or is no header name"):
        serialise(Response(200, b"", headers=((name, value),)), "", close=False)
    if name == "x":
        with pytest.raises(ValueError, match="line break"):
            serialise(Response(201, b"", content_type=value), "", close=False)


def test_a_tail_follows_the_body() -> None:
    response = Response(200, b"ab", headers=(("x", "y"),), tail=(memoryview(b"cd"), memoryview(b"e")))
    payload = serialise(response, "", close=False)
    assert b"content-length: 5\r\n" in payload
    assert payload.endswith(b"\r\n\r\nabcde")


def test_statuses_without_a_body_have_none() -> None:
    assert serialise(Response(204, b"x"), "", close=True).endswith(b"connection: close\r\n\r\n")
