"""When a service asks to be left alone, and for how long."""

from __future__ import annotations

import pytest

from rest_jax.core.http import retry_after_s
from rest_jax.tools.upstream import Request

NOON = "Sat, 21 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": "-1"}, 0),
        ({"Retry-After": "soon"}, 0),
        ({"Retry-After": "9" * 400}, 999_999_999),
        ({"Retry-After": "Sat, 21 Nov 2026 12:00:30 GMT", "Date": NOON}, 30),
        ({"Retry-After": "Sat, 21 Nov 2026 11:00:00 GMT", "Date": NOON}, 0),
        ({"Retry-After": "Sat, 21 Nov 2026 12:00:30 GMT"}, 0),
        ({"Retry-After": "Sat, 21 Nov 2026 12:00:30", "Date": NOON}, 0),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float):
    assert retry_after_s(headers) == seconds


def test_a_request_does_not_show_its_key():
    assert "k-0123456789" not in repr(Request("http://a.org", {"X-API-KEY": "k-0123456789"}))
