"""An adapter seen from outside: whether it answers, and what it has answered so far, noted in the run's folder."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from rest_jax.core.files import written_whole
from rest_jax.tools.metrics import Sample, parse
from rest_jax.tools.protocol import parse_health
from rest_jax.tools.redact import own_token

RECORD = "adapter.json"


@dataclass(frozen=True)
class Record:
    """What a run notes of its adapter."""

    url: str
    pid: int | None = None
    """None for an adapter that the run did not start."""
    restarts: int = 0
    samples: tuple[Sample, ...] = ()
    """The metrics of its processes, the last of which may be running."""
    token: str | None = field(default=None, repr=False)
    """What it asks for; None for an adapter that the run did not start."""


def look(url: str, timeout_s: float, token: str | None = None) -> tuple[Sample, ...]:
    """An adapter's metrics now. Raises TimeoutError for one that is silent for so long, other OSErrors and
    http.client.HTTPException for one that cannot be reached, ValueError for what is no adapter. `token` is what it asks
    for; None: what the environment says, if anything."""
    return parse(_got(url, "/metrics", timeout_s, token))


def pid_at(url: str, timeout_s: float, token: str | None = None) -> int:
    """The process of the adapter that answers there. Raises as `look` does."""
    return parse_health(_got(url, "/healthz", timeout_s, token).encode())["pid"]


def _got(url: str, path: str, timeout_s: float, token: str | None) -> str:
    parts = urlsplit(url)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=timeout_s)
    token = token or own_token()
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("GET", f"{parts.path}{path}", headers=headers)
        response = connection.getresponse()
        if response.status != 200:
            raise ValueError(f"it answers {response.status}")
        return response.read().decode()
    finally:
        connection.close()


def write(folder: Path, record: Record) -> None:
    """Note it, for this user alone: it holds a token."""
    noted = {
        "url": record.url,
        "token": record.token,
        "pid": record.pid,
        "restarts": record.restarts,
        "samples": [[sample.name, dict(sample.labels), sample.value] for sample in record.samples],
    }
    with written_whole(folder / RECORD) as part:
        part.touch(0o600)
        part.write_text(json.dumps(noted, indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> Record | None:
    """The record in a run's folder; None where there is none. Raises OSError for one that this user may not read."""
    try:
        noted = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    samples: Iterable[tuple[str, dict[str, str], float]] = noted["samples"]
    return Record(
        noted["url"],
        noted["pid"],
        noted["restarts"],
        tuple(Sample(*sample) for sample in samples),
        noted.get("token"),  # runs of before adapters had one lack it
    )
