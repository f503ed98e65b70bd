"""HotpotQA with its gold passages in the question: to reason without a search (Reflexion's "CoT (GT)", Shinn et al.
2023, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rest_jax.core.demonstration import Demonstration
from rest_jax.core.trajectory import Question
from rest_jax.tasks.hotpotqa import hotpotqa
from rest_jax.tasks.task import Task
from rest_jax.tools.search.corpus import read_corpus


def hotpotqa_given(data: Path | None, folder: Path) -> Task:
    """The questions of `hotpotqa`, each behind its gold passages; those of which the corpus lacks one are left out."""
    made = hotpotqa(data, folder)
    texts = {passage.title: passage.text for passage in read_corpus(made.corpus()).passages}

    def shown(demonstrations: tuple[Demonstration, ...]) -> tuple[Demonstration, ...]:
        return tuple(replace(one, question=_given(one.question, texts)) for one in demonstrations)

    splits = {
        split: tuple(_given(one, texts) for one in questions if texts.keys() >= set(one.meta["titles"]))
        for split, questions in made.splits.items()
    }
    return replace(
        made,
        name="hotpotqa_given",
        corpus_file=None,
        splits=splits,
        sources={name: shown(demonstrations) for name, demonstrations in made.sources.items() if name == "gold"},
        examples=shown(made.examples),
        notes={
            **{name: note for name, note in made.notes.items() if name.startswith("train")},
            "questions": "behind their gold passages: nothing is searched",
            "left_out_for_want_of_a_passage": sum(map(len, made.splits.values())) - sum(map(len, splits.values())),
        },
    )


def _given(question: Question, texts: Mapping[str, str]) -> Question:
    passages = " ".join(f"{title}: {texts[title]}" for title in question.meta["titles"])
    return replace(question, text=f"{passages} {question.text}")
