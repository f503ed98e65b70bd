"""What clients of another's service share."""

from __future__ import annotations

import pytest

from rest_jax.core.http import backoff_s, parse_json, quoted, url_conflicts


@pytest.mark.parametrize("url", ["nonsense", "ftp://x.example", "http://[x/v1", "http://me:secret@x.example"])
def test_what_is_no_address_is_told_in_one_line(url: str) -> None:
    ((field, why),) = url_conflicts(url)
    assert field == "url"
    assert "secret" not in why


def test_an_address_is_fine() -> None:
    assert not list(url_conflicts("http://localhost:8000/v1"))
    assert not list(url_conflicts("http://api.example.org/v1"))


@pytest.mark.parametrize("host", ["api.example.org", "8.8.8.8:80", "[2606:4700::1111]", "local.example"])
def test_a_key_travels_the_internet_by_https_alone(host: str) -> None:
    told = f"would show the key in A_KEY to everybody on the way; write https://{host}"
    assert list(url_conflicts(f"http://{host}", "A_KEY")) == [("url", told)]
    assert not list(url_conflicts(f"https://{host}", "A_KEY"))


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:8000", "[::1]", "10.1.2.3", "192.168.0.7", "[fd00::1]", "vllm:8000", "gpu.local"]
)
def test_nearby_a_key_may_travel_in_clear_text(host: str) -> None:
    assert not list(url_conflicts(f"http://{host}/v1", "A_KEY"))


def test_waits_double_up_to_the_last_however_often_one_tries() -> None:
    assert [backoff_s(attempt, 0.5, 3.0, 1.0) for attempt in (0, 1, 2, 3, 5000)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert backoff_s(1, 0.5, 3.0, 0.25) == 0.25


def test_a_quotation_is_short_and_on_one_line() -> None:
    assert quoted("no\x1b[2J\n\n<b>way</b>") == "no\ufffd[2J <b>way</b>"
    assert len(quoted("x " * 1000)) == 200


@pytest.mark.parametrize("said", ["NaN", '{"a": -Infinity}', "[" * 100_000, "", b"\xff"])
def test_what_is_no_json_is_a_value_error(said: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_json(said)
