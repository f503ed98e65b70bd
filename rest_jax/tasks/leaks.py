"""Leaks: nothing that is learnt, and nothing that a prompt shows, may give away what is held out to be measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rest_jax.core.answers import normalise
from rest_jax.core.errors import UserError
from rest_jax.core.trajectory import Question
from rest_jax.tasks.splits import Split
from rest_jax.tasks.task import Task


@dataclass(frozen=True)
class HeldOut:
    """What is known of the questions of select and report."""

    texts: frozenset[str]
    """Normalised questions."""
    chains: frozenset[tuple[str, ...]]
    """The ways to their answers (`answer_chain`)."""
    pages: frozenset[str]
    """Titles of their gold pages."""

    @staticmethod
    def of(questions: Sequence[Question]) -> HeldOut:
        """What is known of these questions."""
        chains = frozenset(chain for chain in map(answer_chain, questions) if chain is not None)
        pages = frozenset(title for question in questions for title in question.meta.get("titles", ()))
        return HeldOut(frozenset(normalise(question.text) for question in questions), chains, pages)

    def leak(self, question: Question) -> str:
        """What a question shares with one that is held out; empty when it is nothing."""
        if normalise(question.text) in self.texts:
            return "question"
        if answer_chain(question) in self.chains:
            return "answer chain"
        return "gold page" if not self.pages.isdisjoint(question.meta.get("titles", ())) else ""


def held_out(task: Task) -> HeldOut:
    """What nothing that is learnt from this task may share."""
    return HeldOut.of([q for split in task.splits if split is not Split.TRAIN for q in task.splits[split]])


def without_leaks(train: Sequence[Question], kept_back: HeldOut) -> tuple[tuple[Question, ...], dict[str, int]]:
    """The train questions that share nothing with held-out ones, and how many were dropped for what they share."""
    shared = [kept_back.leak(question) for question in train]
    kept = tuple(question for question, leak in zip(train, shared, strict=True) if not leak)
    return kept, dict(Counter(leak for leak in shared if leak))


def answer_chain(question: Question) -> tuple[str, ...] | None:
    """What is found one after another on the way to the answer (`meta["path"]`), normalised; None where it is not
    known. Two questions of one chain are one question in two wordings."""
    path = question.meta.get("path")
    return tuple(map(normalise, path)) if path else None


def refuse_learnt(task: Task) -> None:
    """Raise UserError when a train question shares its text, its answer chain or a gold page with a held-out one."""
    kept_back = held_out(task)
    for question in task.splits.get(Split.TRAIN, ()):
        if shared := kept_back.leak(question):
            raise UserError(
                f"task '{task.name}': train question {question.id} has the {shared} of a question that is held out for "
                f"select or report; take one of the two out of its file"
            )


def refuse_shown(shown: Sequence[str], asked: Sequence[Question]) -> None:
    """Raise UserError when a worked example shows one of the questions asked: the prompt would say the answer."""
    texts = {normalise(question.text): question.id for question in asked}
    for text in shown:
        if (id := texts.get(normalise(text))) is not None:
            raise UserError(
                f"question {id}: a worked example of the prompt asks the same and answers it; ask with --shots 0 "
                f"(agent.shots: 0), or leave the question out"
            )
