"""The 500 development questions of HotpotQA that ReAct is measured on (Yao et al. 2023, its published code)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from rest_jax.core.errors import UserError
from rest_jax.core.trajectory import Question
from rest_jax.tasks.files import write_jsonl
from rest_jax.tasks.published import Dataset, File, Row, read_json
from rest_jax.tasks.splits import Split
from rest_jax.tasks.task import Task
from rest_jax.tasks.worked import worked_examples

SEED = 233
QUESTIONS = 7405
SUBSET = 500

SHAPE = {
    **dict.fromkeys(("_id", "question", "answer", "type", "level"), str),
    **dict.fromkeys(("supporting_facts", "context"), list),
}


def parse(path: Path) -> Iterator[Row]:
    """The questions of the official file, each with its place in it, and its paragraphs as "TITLE\\nTEXT"."""
    for number, row in enumerate(read_json(path, SHAPE, "question")):
        yield {
            "id": row["_id"],
            "index": str(number),
            "question": row["question"],
            "answer": row["answer"],
            "type": row["type"],
            "level": row["level"],
            "titles": list(dict.fromkeys(title for title, _ in row["supporting_facts"])),
            "paragraphs": [f"{title}\n{''.join(sentences)}" for title, sentences in row["context"]],
        }


DATASET = Dataset(
    name="hotpotqa",
    homepage="https://hotpotqa.github.io/",
    files={
        "validation": File(
            "hotpot_dev_distractor_v1.json",
            "http://curtis.ml.cmu.edu/datasets/hotpot/hotpot_dev_distractor_v1.json",
            46_320_117,
            "4e9ecb5c8d3b719f624d66b60f8d56bf227f03914f5f0753d6fa1b359d7104ea",
        )
    },
    fields={
        **dict.fromkeys(("id", "index", "question", "answer", "type", "level"), str),
        **dict.fromkeys(("titles", "paragraphs"), list),
    },
    parse=parse,
)


def hotpotqa_500(data: Path | None, folder: Path) -> Task:
    """ReAct's 500 questions as report and the next 500 of the same order as select, over the paragraphs of all 7,405
    questions (ReAct searched all of Wikipedia)."""
    from rest_jax.tasks.builder import read_rows

    rows = read_rows(DATASET, data, folder)["validation"]
    corpus = folder / "hotpotqa-dev-corpus.jsonl"
    passages = sorted({tuple(paragraph.split("\n", 1)) for row in rows for paragraph in row["paragraphs"]})
    write_jsonl(corpus, ({"title": title, "text": text} for title, text in passages))
    return Task(
        name="hotpotqa_500",
        corpus_file=corpus,
        splits=react_splits(rows),
        examples=worked_examples("qa"),
        version=DATASET.version,
        notes={"corpus": f"{len(passages) // 1000}k pooled distractors of the development set, not full Wikipedia"},
    )


def react_order() -> list[int]:
    """The places of all 7,405 development questions in ReAct's order; its 500 are the first."""
    order = list(range(QUESTIONS))
    random.Random(SEED).shuffle(order)
    return order


def react_splits(rows: Sequence[Row]) -> dict[Split, tuple[Question, ...]]:
    """Report and select, in ReAct's order. Raises UserError unless these are the rows of the whole development set."""
    by_place = {int(row["index"]): row for row in rows}
    if sorted(by_place) != list(range(QUESTIONS)):
        raise UserError(f"task 'hotpotqa_500': {len(by_place)} questions; it needs all {QUESTIONS} in their order")
    ordered = [_question(by_place[place]) for place in react_order()[: 2 * SUBSET]]
    return {Split.SELECT: tuple(ordered[SUBSET:]), Split.REPORT: tuple(ordered[:SUBSET])}


def _question(row: Row) -> Question:
    meta = {"level": row["level"], "type": row["type"], "titles": row["titles"], "searches": len(row["titles"])}
    return Question(row["id"], row["question"], row["answer"], meta)
