"""Hugging Face transformers as a contender: a worker in its own process, asked line by line.

A process of its own, because torch's and XLA's threads would take each other's cores while they spin, and because it
may then be another Python: torch is in the extra `reference`, and need not stand beside jax.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.measure import cores


class Absent(Exception):
    """It does not run here; the message says why in one line."""


@dataclass(frozen=True)
class Answer:
    """Replies, the seconds that they took, and for each token how much its logit was above the next (if asked)."""

    seconds: float
    ids: list[list[int]]
    gaps: list[list[float]]


class Worker:
    """A process of the given module with a model's folder. `Absent` when `python` has no torch, or when what is asked
    for does not run there."""

    def __init__(self, module: str, python: str, folder: Path, dtype: str, log: Path) -> None:
        options = [f"--folder={folder}", f"--dtype={dtype}", f"--threads={cores()}"]
        self._log = log
        try:
            with log.open("wb") as errors:
                self._process = subprocess.Popen(
                    [python, "-m", module, *options],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    cwd=Path(__file__).parents[1],
                    # With huge pages torch is slower: 4.5 s a training step instead of 4.2.
                    env={**os.environ, "GLIBC_TUNABLES": ""},
                    text=True,
                )
        except OSError as why:
            raise Absent(f"{python}: {why.strerror}") from None
        try:
            self.about: Mapping[str, Any] = self._heard()
        except Absent:
            self.close()
            raise

    def asked(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """What the worker answers. `order` names an engine."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended: why is heard below
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        answer = self._heard()
        if "error" in answer:
            raise Absent(f"{order['engine']} does not run here: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process; its input's end is its sign."""
        with contextlib.suppress(BrokenPipeError), self._process:
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _heard(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise Absent(f"torch's process ended: {said[-1] if said else 'no message'}")
        return json.loads(line)


class HuggingFace(Worker):
    """A model that generates."""

    def __init__(self, python: str, folder: Path, dtype: str, log: Path) -> None:
        super().__init__("benchmarks.hf_worker", python, folder, dtype, log)

    def generate(
        self, engine: str, prompts: Sequence[Sequence[int]], tokens: int, *, context: int, gaps: bool = False
    ) -> Answer:
        """Greedy replies of so many tokens each; `context` is what a row must be able to hold."""
        answer = self.asked(
            {"engine": engine, "ids": list(prompts), "tokens": tokens, "context": context, "gaps": gaps}
        )
        short = min(len(ids) for ids in answer["ids"])
        if short != tokens:
            raise Absent(f"{engine} ended a reply after {short} tokens instead of {tokens}")
        return Answer(answer["seconds"], answer["ids"], answer.get("gaps", []))
