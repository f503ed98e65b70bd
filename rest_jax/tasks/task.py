"""What a task is: three splits of questions, a corpus, demonstrations, a metric and a reward. All of it plain data."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rest_jax.core.answers import Voice, normalise
from rest_jax.core.canonical import digest_file, digest_lines
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.errors import UserError
from rest_jax.core.reward import Reward
from rest_jax.core.trajectory import Question
from rest_jax.tasks.metrics import Metric, Score, answer_metric
from rest_jax.tasks.rewards import BUILT_IN, answer_reward, correct_reward, registered_reward, within_bounds
from rest_jax.tasks.splits import Reader, Split, SplitRead, SplitReads, parse_split, refuse_unless_allowed

ABSENT = "absent"
"""In place of the digest of a corpus file that is not there."""


@dataclass(frozen=True)
class Task:
    """A task as data. The modules of this package build it; nobody subclasses it.

    `splits` holds the questions in their fixed order: the first n are the n that a run uses. `gold` and every other
    entry of `sources` hold demonstrations of train questions.
    """

    name: str
    corpus_file: Path | None
    """JSONL of `{"title", "text"}` or `{"id", "contents"}`, one passage a line; None where the task brings none."""
    splits: Mapping[Split, tuple[Question, ...]]
    sources: Mapping[str, tuple[Demonstration, ...]] = field(default_factory=dict)
    """Demonstrations by the name of where they come from; `gold` is the task's own script."""
    examples: tuple[Demonstration, ...] = ()
    """Worked examples for prompts, with observations; their questions are in no split."""
    metric: Metric = answer_metric
    """How an answer is scored; the default reward is made of it."""
    slow_metric: bool = False
    """Whether the metric runs programs, for seconds."""
    scores_toxicity: bool = False
    """Whether F1 is 1 less an answer's toxicity, so that of several samples the worst counts."""
    voice: Voice = normalise
    """What makes two answers one in a vote: words would make one of 2.5 and 25."""
    version: str = "1"
    """Rises when the same files would give other questions."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """What a reader of its tables has to know: the kind of corpus, what was left out and how much."""
    reads: SplitReads = field(default_factory=SplitReads, compare=False)

    def corpus(self) -> Path:
        """The corpus file. Raises UserError when the task has none of its own."""
        if self.corpus_file is None:
            raise UserError(
                f"task '{self.name}': it has no corpus of its own; give one with --corpus, tools with tools.config or "
                f"--tools-url, or an agent that calls no tools"
            )
        return self.corpus_file

    @property
    def held_out_pages(self) -> frozenset[str]:
        """Titles of the gold pages (`meta["titles"]`) of select and report: nothing that is learnt may show them."""
        held_out = (question for split in self.splits if split is not Split.TRAIN for question in self.splits[split])
        return frozenset(title for question in held_out for title in question.meta.get("titles", ()))

    def questions(self, split: str, reader: Reader, n: int | None = None) -> tuple[Question, ...]:
        """The first n questions of a split (None: all), in their fixed order; the read is recorded.

        Raises UserError when the task has no such split, the reader must not see it, or it has fewer than n.
        """
        wanted = parse_split(split)
        refuse_unless_allowed(wanted, reader)
        if wanted not in self.splits:
            raise UserError(f"task '{self.name}': it has no split '{wanted}', only {', '.join(self.splits)}")
        questions = self.splits[wanted][:n]
        if n is not None and not 1 <= n == len(questions):
            raise UserError(
                f"task '{self.name}': {n} questions of {wanted} wanted, it has {len(self.splits[wanted])}; "
                f"ask for 1 to {len(self.splits[wanted])}"
            )
        self.reads.reads.append(SplitRead(self.name, wanted, reader, len(questions)))
        return questions

    def demonstrations(self, source: str, n: int, seed: int) -> tuple[Demonstration, ...]:
        """n demonstrations of a source, drawn by the seed: those of n - 1 are the first of those of n.

        Raises UserError when there is no such source or it has fewer than n.
        """
        if source not in self.sources:
            known = ", ".join(self.sources) or "none"
            raise UserError(f"task '{self.name}': no demonstrations called '{source}'; it has {known}")
        pool = list(self.sources[source])
        if n > len(pool):
            raise UserError(f"task '{self.name}': '{source}' has {len(pool)} demonstrations, {n} wanted; ask for fewer")
        random.Random(f"{self.name}/{source}/{seed}").shuffle(pool)
        self.reads.reads.append(SplitRead(self.name, Split.TRAIN, Reader.TRAINING, n))
        return tuple(pool[:n])

    def shots(self, n: int) -> tuple[Demonstration, ...]:
        """The first n worked examples for a prompt, observations written out."""
        if n > len(self.examples):
            raise UserError(f"task '{self.name}': it has {len(self.examples)} worked examples, {n} wanted; lower shots")
        return self.examples[:n]

    def reward(self, name: str) -> Reward:
        """The reward of this name; `default` and `correct` are made of the task's metric. Raises UserError when there
        is none.

        The reward itself raises UserError for a value outside [0, 1].
        """
        if name not in BUILT_IN:
            return within_bounds(name, registered_reward(name))
        if not any(question.golds for question in self.splits.get(Split.TRAIN, ())):
            raise UserError(f"task '{self.name}': no train question has a gold answer; name a registered task.reward")
        made_of_metric = correct_reward if name == "correct" else answer_reward
        return within_bounds(name, partial(made_of_metric, metric=self.metric))

    def score(self, answer: str | None, question: Question) -> Score:
        """An answer by the task's metric."""
        return self.metric(answer, question)

    def digests(self) -> dict[str, str]:
        """The data's version, and sha256 of the corpus file (where there is one: a replay of what tools answered needs
        none) and of every split's questions."""
        questions = {
            f"{split}_questions": digest_lines(
                [q.id, q.text, q.answer, q.meta, *q.alternatives] for q in self.splits[split]
            )
            for split in self.splits
        }
        corpus = digest_file(self.corpus_file) if self.corpus_file and self.corpus_file.is_file() else ABSENT
        return {"task": self.name, "version": self.version, "corpus": corpus, **questions}

    def describe(self) -> dict[str, Any]:
        """Questions and difficulty per split (`meta["level"]`), demonstrations per source, and the notes."""
        return {
            "splits": {
                str(split): {
                    "questions": len(questions),
                    "levels": dict(sorted(Counter(str(q.meta.get("level", "unknown")) for q in questions).items())),
                }
                for split, questions in self.splits.items()
            },
            "demonstrations": {name: len(demonstrations) for name, demonstrations in self.sources.items()},
            "notes": dict(self.notes),
        }
