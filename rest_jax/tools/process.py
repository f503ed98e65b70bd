"""The adapter as a child process of the run: started, supervised, and gone when the run is gone."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import os
import secrets
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from rest_jax.config.settings import ToolsSettings
from rest_jax.core.errors import UserError
from rest_jax.tools import watch
from rest_jax.tools.metrics import Sample, summed
from rest_jax.tools.redact import TOKEN_VARIABLE
from rest_jax.tools.watch import Record

SPENT = "tools.spent"
"""In the run's folder: what its calls have cost, a line each."""

FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 5.0
"""The pause before a restart: the first, doubling up to the last while the adapter does not come up."""

STOP_S = 10.0
"""How long an adapter may take to end before it is killed."""

TICK_S = 0.05
"""How soon an adapter that died is noticed."""

RESTART_S = 60.0
RESTART_TIMES = 10
"""How long a restart may take: at least so many seconds, and so many times as long as the first start took."""

LOOK_S = 2.0
"""The pause between two looks at what an adapter has answered."""

SILENCE_S = 10.0
"""An adapter that is silent for so long, when it is looked at, hangs: it is killed and started again."""


class Address(NamedTuple):
    """Where an adapter answers, and to whom."""

    url: str
    token: str | None
    """What every request bears; None: what the environment says, if anything."""


@contextlib.contextmanager
def adapter(
    settings: ToolsSettings, corpus: Path | None, *, log: Path, hidden: Collection[str] = ()
) -> Iterator[Address]:
    """The address of an adapter for the length of a `with` block.

    With `settings.url` it is that one, unasked; else one is started with the tools of `settings.config`, or over
    `corpus` (JSONL of passages; None where the settings need none), on a free loopback port, for whoever bears a token
    that is made here; restarted on the same port whenever it dies or hangs, and stopped at the end. It also ends when
    this process dies, even by SIGKILL. `log`, a regular file, receives what it prints; a record of its address and
    metrics stands beside it (`watch.RECORD`). `hidden`: environment variables that it does not get, because they are
    nobody's business who runs users' functions. Raises UserError when it cannot start: no corpus, a malformed line.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if settings.url is not None:
        watch.write(log.parent, Record(settings.url))
        yield Address(settings.url, None)
        return
    child = _Child(command(settings, corpus, log.parent), log, hidden)
    try:
        yield Address(child.url, child.token)
    finally:
        child.stop()


def command(settings: ToolsSettings, corpus: Path | None, folder: Path) -> list[str]:
    """The command of `rest-jax tools` that makes an adapter of these settings; a budget is kept in `folder`."""
    if settings.mode == "replay":
        return ["replay", str(settings.cassette), f"--timeout-s={settings.timeout_s}"]
    named = ["serve"] if settings.mode == "live" else ["record", str(settings.cassette)]
    return [*named, *serve_arguments(settings, corpus), f"--spent={folder / SPENT}"]


def serve_arguments(settings: ToolsSettings, corpus: Path | None) -> list[str]:
    """The arguments of `serve` that make an adapter of these settings."""
    common = [*([] if corpus is None else [f"--corpus={corpus}"]), f"--timeout-s={settings.timeout_s}"]
    if settings.config is not None:
        return [f"--config={settings.config}", *common]
    return [
        *common,
        f"--k1={settings.k1}",
        f"--b={settings.b}",
        f"--title-weight={settings.title_weight}",
        f"--exact-title-first={'yes' if settings.exact_title_first else 'no'}",
        f"--results={settings.results}",
    ]


class _Child:
    """The process, and the thread that looks at it and restarts it."""

    def __init__(self, command: Sequence[str], log: Path, hidden: Collection[str]) -> None:
        self._command = command
        self._log = log
        self._hidden = hidden
        self.token = secrets.token_hex()
        self._stopping = threading.Event()
        self._restarts = 0
        self._ended: tuple[Sample, ...] = ()
        self._last: tuple[Sample, ...] = ()
        self._written: Record | None = None
        started: Future[None] = Future()
        self._supervisor = threading.Thread(target=self._run, args=[started], name="tool-supervisor", daemon=True)
        self._supervisor.start()
        try:
            started.result()
        except BaseException:  # Ctrl-C, too
            self.stop()
            raise

    def stop(self) -> None:
        self._stopping.set()
        self._supervisor.join()

    def _run(self, started: Future[None]) -> None:
        """All starts are this thread's, which lives as long as the adapter may: it dies with whoever started it."""
        began = time.monotonic()
        try:
            self._process, self.url = self._start(port=0, within_s=math.inf)  # somebody is looking: it may be long
        except BaseException as error:
            started.set_exception(error)
            return
        self._restart_s = max(RESTART_S, RESTART_TIMES * (time.monotonic() - began))
        self._write()
        started.set_result(None)
        self._supervise()

    def _start(self, port: int, within_s: float) -> tuple[subprocess.Popen[bytes], str]:
        """Start the adapter and wait for its URL. Its end of our pipe, `stdin`, closes when this process dies."""
        with self._log.open("ab") as log:
            said_before = log.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", "rest_jax.tools", *self._command, "--lifeline", f"--port={port}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={
                    **{name: value for name, value in os.environ.items() if name not in self._hidden},
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    TOKEN_VARIABLE: self.token,  # not an argument, which all users of a machine may read
                },
                start_new_session=True,  # Ctrl-C is for the run, which stops its adapter when it is done with it
            )
        assert process.stdout is not None
        give_up = time.monotonic() + within_s
        with process.stdout as stdout:
            while not select.select([stdout], [], [], TICK_S)[0]:
                if self._stopping.is_set() or time.monotonic() >= give_up:
                    _kill(process)
                    raise TimeoutError(f"it was silent for {within_s:g} s")
            announced = stdout.readline()
        if announced:
            return process, json.loads(announced)["url"]
        _end(process)
        said = self._log.read_bytes()[said_before:].decode(errors="replace").strip().splitlines()
        if process.returncode == 2 and said:
            raise UserError(said[-1].removeprefix("error: "))
        last = said[-1] if said else "no message"
        raise UserError(
            f"the tool adapter ended at its start (exit code {process.returncode}: {last}); see all that it says with "
            f"`rest-jax tools {shlex.join(self._command)}`"
        )

    def _supervise(self) -> None:
        looked = time.monotonic()
        while not self._stopping.wait(TICK_S):
            if self._process.poll() is not None:
                _end(self._process)
                self._restart()
            elif time.monotonic() >= looked + LOOK_S:
                self._look(SILENCE_S)
                looked = time.monotonic()
        self._look(LOOK_S)
        _end(self._process)

    def _look(self, patience_s: float) -> None:
        """Note what the adapter has answered so far, and kill one that hangs; one that cannot be reached is about to
        end by itself."""
        try:
            self._last = watch.look(self.url, patience_s, self.token)
        except TimeoutError:
            self._note(f"the adapter was silent for {patience_s:g} s: killed")
            os.killpg(self._process.pid, signal.SIGKILL)  # what it started hangs on it too
        except (OSError, ValueError, http.client.HTTPException):
            pass
        else:
            self._write()

    def _write(self) -> None:
        samples = summed(self._ended, self._last)
        record = Record(self.url, self._process.pid, self._restarts, samples, self.token)
        if record != self._written:
            with contextlib.suppress(OSError):  # a full disk: the run itself will say so
                watch.write(self._log.parent, record)
                self._written = record

    def _restart(self) -> None:
        self._ended, self._last = summed(self._ended, self._last), ()
        self._restarts += 1
        pause_s = FIRST_PAUSE_S
        while not self._stopping.wait(pause_s):
            try:
                self._process, _ = self._start(urlsplit(self.url).port or 0, self._restart_s)
            except Exception as error:  # whatever it is (the port is still taken, no memory …), it may pass
                self._note(f"the adapter did not start again: {error}")
                pause_s = min(2 * pause_s, LAST_PAUSE_S)
            else:
                return

    def _note(self, line: str) -> None:
        with contextlib.suppress(OSError), self._log.open("a", encoding="utf-8") as log:
            log.write(f"{line}\n")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let go of the lifeline, which ends the process; kill it if it does not."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and what it started, which may hang on it."""
    assert process.stdin is not None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdin.close()
