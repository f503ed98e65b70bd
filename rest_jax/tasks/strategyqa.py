"""StrategyQA (Geva et al. 2021): yes or no, by a strategy that the question does not spell out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rest_jax.core.trajectory import Question
from rest_jax.tasks.leaks import HeldOut, without_leaks
from rest_jax.tasks.published import Dataset, File, Row, gold_pages, halves, read_json
from rest_jax.tasks.splits import Split
from rest_jax.tasks.task import Task
from rest_jax.tasks.worked import worked_examples

PARAGRAPH = re.compile(r"(?P<page>.+)-\d+")
"""How a paragraph is named: by its page and its place there."""

PLACE = "https://raw.githubusercontent.com/anchen1011/FireAct/94c6189f04b10fccae6bcd97a4632d6119266899/data/strategyqa/"


def parse(path: Path) -> Iterator[Row]:
    """The questions of a file. Its development set names, for each of three annotators, the paragraphs of every step;
    the train set only the page that a question was made from."""
    for row in read_json(path, {"qid": str, "term": str, "question": str, "answer": bool}, "question"):
        pages = ["|".join(sorted(_pages(annotator))) for annotator in row.get("evidence", ())]
        yield {
            "id": f"strategyqa-{row['qid']}",
            "question": row["question"],
            "answer": "yes" if row["answer"] else "no",
            "term": row["term"],
            "evidence": [annotated for annotated in dict.fromkeys(pages) if annotated],
        }


DATASET = Dataset(
    name="strategyqa",
    homepage="https://github.com/anchen1011/FireAct/tree/main/data/strategyqa",
    files={
        "train": File(
            "strategyqa_train_filtered.json",
            f"{PLACE}strategyqa_train_filtered.json",
            681_610,
            "5c207a051a4753c930f446591d232520b7db854b19c9da873650643bb03b0362",
        ),
        "validation": File(
            "strategyqa_dev.json",
            f"{PLACE}strategyqa_dev.json",
            424_195,
            "0d94842ffb022db8fd5ecd2168b785d5cf67f6faf64f665476bad544a3eb9dde",
        ),
    },
    fields={"id": str, "question": str, "answer": str, "term": str, "evidence": list},
    parse=parse,
)


def strategyqa(data: Path | None, folder: Path) -> Task:
    """FireAct's filtered train questions, without those that share a question or a page with the 229 of the
    development set, whose halves are select and report."""
    from rest_jax.tasks.builder import read_rows

    rows = read_rows(DATASET, data, folder)
    dev = halves([_question(row) for row in rows["validation"]])
    held_out = HeldOut.of([question for questions in dev.values() for question in questions])
    train, dropped = without_leaks([_question(row) for row in rows["train"]], held_out)
    return Task(
        name=DATASET.name,
        corpus_file=None,
        splits={Split.TRAIN: train, **dev},
        examples=worked_examples("strategyqa"),
        version=DATASET.version,
        notes={
            "corpus": "all of Wikipedia, which is not brought along",
            "train_dropped_for_overlap_with_dev": dropped,
        },
    )


def _question(row: Row) -> Question:
    pages = gold_pages(row["evidence"])
    meta = {**pages, "titles": sorted({row["term"], *pages["titles"]})}
    return Question(row["id"], row["question"], row["answer"], meta)


def _pages(evidence: Any) -> set[str]:
    """The pages in nested lists of paragraphs; other strings say that a step needs none."""
    if isinstance(evidence, str):
        found = PARAGRAPH.fullmatch(evidence)
        return {found["page"]} if found else set()
    return {page for part in evidence for page in _pages(part)}
