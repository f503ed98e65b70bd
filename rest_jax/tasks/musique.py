"""MuSiQue (Trivedi et al. 2022): 2 to 4 hops, each of which needs the one before it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rest_jax.core.trajectory import Question
from rest_jax.tasks.files import write_jsonl
from rest_jax.tasks.published import Dataset, File, Row, halves, read_json, with_golds
from rest_jax.tasks.task import Task
from rest_jax.tasks.worked import worked_examples

SHAPE = {
    "id": str,
    "question": str,
    "answer": str,
    "answer_aliases": list,
    "question_decomposition": list,
    "paragraphs": list,
}


def parse(path: Path) -> Iterator[Row]:
    """The questions of a file, with their paragraphs as "TITLE\\nTEXT"."""
    for row in read_json(path, SHAPE, "question"):
        paragraphs = row["paragraphs"]
        yield {
            "id": row["id"],
            "question": row["question"],
            "answers": [row["answer"], *row["answer_aliases"]],
            "path": [step["answer"] for step in row["question_decomposition"]],
            "titles": sorted({paragraph["title"] for paragraph in paragraphs if paragraph["is_supporting"]}),
            "paragraphs": [f"{paragraph['title']}\n{paragraph['paragraph_text']}" for paragraph in paragraphs],
        }


DATASET = Dataset(
    name="musique",
    homepage="https://github.com/StonyBrookNLP/musique",
    files={
        "train": File(
            "musique_train.json",
            "https://raw.githubusercontent.com/yhshu/HippoRAG/c3424ec2093367327ddfe3e9dd8b31c399af12af/data/"
            "musique_train.json",
            1_179_088,
            "bca674746844637f5c68408a96b67bc0542d98e7c53715f3acafe144bd5e4ff4",
        )
    },
    fields={"id": str, "question": str, "answers": list, "path": list, "titles": list, "paragraphs": list},
    parse=parse,
)


def musique(data: Path | None, folder: Path) -> Task:
    """The 100 questions that HippoRAG drew from MuSiQue's train set, over all of their paragraphs."""
    from rest_jax.tasks.builder import read_rows

    rows = read_rows(DATASET, data, folder)["train"]
    passages = sorted({tuple(paragraph.split("\n", 1)) for row in rows for paragraph in row["paragraphs"]})
    corpus = folder / "musique-corpus.jsonl"
    write_jsonl(corpus, ({"title": title, "text": text} for title, text in passages))
    return Task(
        name=DATASET.name,
        corpus_file=corpus,
        splits=halves([_question(row) for row in rows]),
        examples=worked_examples("qa"),
        version=DATASET.version,
        notes={"corpus": f"the {len(passages)} paragraphs of its 100 questions, not full Wikipedia"},
    )


def _question(row: Row) -> Question:
    hops = len(row["path"])
    meta = {"level": f"{hops} hops", "titles": row["titles"], "path": row["path"], "searches": hops}
    return with_golds(row["id"], row["question"], row["answers"], meta)
