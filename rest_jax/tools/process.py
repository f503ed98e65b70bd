"""The adapter as a child process of the run: started, supervised, and gone when the run is gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rest_jax.config.settings import ToolsSettings
from rest_jax.core.errors import UserError
from rest_jax.tools.client import ToolClient

FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 5.0
"""The pause before a restart: the first, doubling up to the last while the adapter does not come up."""

STOP_S = 10.0
"""How long an adapter may take to end before it is killed."""


class AdapterHandle:
    """A running adapter: its `url`, and what it said of itself at the start (`health`)."""

    def __init__(self, url: str, health: dict[str, Any], child: _Child | None) -> None:
        self.url = url
        self.health = health
        self._child = child

    @property
    def restarts(self) -> int:
        """How often the adapter died and was started again; 0 for one that the run did not start."""
        return self._child.restarts if self._child else 0


@contextmanager
def adapter(settings: ToolsSettings, corpus: Path, *, log: Path) -> Iterator[AdapterHandle]:
    """A running adapter for the length of a `with` block.

    With `settings.url` the adapter there is checked and used; else one is started over `corpus` (JSONL of passages) on
    a free loopback port, restarted on the same port whenever it dies, and stopped at the end. It also ends when this
    process dies, even by SIGKILL. `log` receives what it prints. Raises UserError when it cannot start: no corpus, a
    malformed line, nobody at the URL.
    """
    if settings.url is not None:
        yield AdapterHandle(settings.url, _health(settings.url, settings), None)
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    child = _Child(serve_arguments(settings, corpus), log)
    try:
        yield AdapterHandle(child.url, _health(child.url, settings), child)
    finally:
        child.stop()


def serve_arguments(settings: ToolsSettings, corpus: Path) -> list[str]:
    """The arguments of `serve` that make an adapter of these settings."""
    return [
        f"--corpus={corpus}",
        f"--k1={settings.k1}",
        f"--b={settings.b}",
        f"--title-weight={settings.title_weight}",
        f"--exact-title-first={'yes' if settings.exact_title_first else 'no'}",
        f"--results={settings.results}",
        f"--timeout-s={settings.timeout_s}",
    ]


def _health(url: str, settings: ToolsSettings) -> dict[str, Any]:
    with ToolClient(url, settings) as client:
        return client.check()


class _Child:
    """The process and the thread that restarts it."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self.restarts = 0
        self._arguments = arguments
        self._log = log
        self._stopping = threading.Event()
        self._process, self.url = self._start(port=0)
        self._supervisor = threading.Thread(target=self._supervise, name="tool-supervisor", daemon=True)
        self._supervisor.start()

    def stop(self) -> None:
        self._stopping.set()
        _end(self._process)
        self._supervisor.join()

    def _start(self, port: int) -> tuple[subprocess.Popen[bytes], str]:
        """Start the adapter and wait for its URL. Its end of our pipe, `stdin`, closes when this process dies."""
        with self._log.open("ab") as log:
            said_before = log.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", "rest_jax.tools", "serve", "--lifeline", f"--port={port}", *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,  # Ctrl-C is for the run, which stops its adapter when it is done with it
            )
        assert process.stdout is not None
        with process.stdout as stdout:
            announced = stdout.readline()
        if announced:
            return process, json.loads(announced)["url"]
        _end(process)
        said = self._log.read_bytes()[said_before:].decode(errors="replace").strip().splitlines()
        if process.returncode == 2 and said:
            raise UserError(said[-1].removeprefix("error: "))
        raise UserError(f"the tool adapter ended at its start (exit code {process.returncode}); see {self._log}")

    def _supervise(self) -> None:
        while not self._stopping.is_set():
            self._process.wait()
            _end(self._process)
            self._restart()
        _end(self._process)  # one that was being started while we were told to stop

    def _restart(self) -> None:
        self.restarts += 1
        pause_s = FIRST_PAUSE_S
        while not self._stopping.wait(pause_s):
            try:
                self._process, _ = self._start(port=urlsplit(self.url).port or 0)
            except UserError:  # the port is still taken, or the corpus is gone: the log says so
                pause_s = min(2 * pause_s, LAST_PAUSE_S)
            else:
                return


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let go of the lifeline, which ends the process; kill it if it does not."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
