"""Pairs that people have labelled: what a judge is tried on before its word counts.

A line of a file is `{"question", "answer", "reference", "label"}`, label true where the answer says what the reference
says; or `{"seen", "outputs", "best"}`, best the number, from 1, of the better one of two outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rest_jax.agents.judges.equivalence import equivalence_judge
from rest_jax.agents.judges.ranking import order_of, ranker
from rest_jax.core.answers import normalise
from rest_jax.core.effects import Agent, Sampling
from rest_jax.core.jsonl import read_rows

Kind = Literal["answers", "ranking"]


@dataclass(frozen=True)
class LabelledAnswer:
    """An answer and whether it says what the reference says."""

    question: str
    answer: str
    reference: str
    label: bool

    def asks(self, questions: Collection[str]) -> str | None:
        """Which of these questions, given as `normalise` has them, it is about."""
        text = normalise(self.question)
        return text if text in questions else None

    def ask(self, max_tokens: int, sampling: Sampling) -> Agent:
        return equivalence_judge(self.question, self.answer, [self.reference], max_tokens=max_tokens, sampling=sampling)

    def verdict(self, answer: str) -> bool:
        return answer == "True"


@dataclass(frozen=True)
class LabelledOutputs:
    """Two outputs of one step, what their author had seen, and the place, from 0, of the better one."""

    seen: str
    outputs: tuple[str, str]
    label: int

    def asks(self, questions: Collection[str]) -> str | None:
        """Which of these questions, given as `normalise` has them, the author had seen."""
        seen = f" {normalise(self.seen)} "
        return next((question for question in questions if f" {question} " in seen), None)

    def ask(self, max_tokens: int, sampling: Sampling) -> Agent:
        return ranker(self.seen, self.outputs, max_tokens=max_tokens, sampling=sampling)

    def verdict(self, answer: str) -> int:
        order = order_of(answer, len(self.outputs))
        assert isinstance(order, tuple)
        return order[0]


Labelled = LabelledAnswer | LabelledOutputs


def read_labels(path: Path, kind: Kind) -> list[Labelled]:
    """The labelled pairs of a file, each once. Raises UserError that names file and line for whatever is none."""
    parse: Callable[[dict[str, Any]], Labelled] = _answer if kind == "answers" else _outputs
    shape = '{"question", "answer", "reference", "label"}' if kind == "answers" else '{"seen", "outputs", "best"}'
    return list(dict.fromkeys(read_rows(path, parse, "labelled pair", shape)))


def _answer(row: dict[str, Any]) -> LabelledAnswer:
    texts = [row.get(name) for name in ("question", "answer", "reference")]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError("question, answer and reference are texts that say something")
    if not isinstance(row.get("label"), bool):
        raise ValueError("label is true or false")
    return LabelledAnswer(row["question"], row["answer"], row["reference"], row["label"])


def _outputs(row: dict[str, Any]) -> LabelledOutputs:
    outputs = row.get("outputs")
    if not isinstance(row.get("seen"), str):
        raise ValueError("seen is a text")
    if not isinstance(outputs, list) or len(outputs) != 2 or not all(isinstance(one, str) for one in outputs):
        raise ValueError("outputs are two texts")
    if row.get("best") not in (1, 2) or isinstance(row["best"], bool):
        raise ValueError("best is 1 or 2")
    return LabelledOutputs(row["seen"], (outputs[0], outputs[1]), row["best"] - 1)
