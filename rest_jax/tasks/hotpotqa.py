"""HotpotQA (Yang et al. 2018) from local files, over a corpus of pooled distractor paragraphs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rest_jax.core.answers import normalise
from rest_jax.core.demonstration import Demonstration, Turn
from rest_jax.core.errors import UserError
from rest_jax.core.trajectory import Question
from rest_jax.tasks.files import read_jsonl, write_jsonl
from rest_jax.tasks.fireact import read_fireact
from rest_jax.tasks.leaks import HeldOut, without_leaks
from rest_jax.tasks.published import Dataset, File, Row
from rest_jax.tasks.splits import Split
from rest_jax.tasks.task import Task

CORPUS = "hotpot_corpus.jsonl"
MORE_CORPUS = "hotpot_corpus_extra.jsonl"
EXAMPLES = 4
"""Train questions set aside as worked examples: those with the shortest gold passages."""

FIELDS = {"id": str, "question": str, "answer": str, "type": str, "level": str, "supporting_titles": list}
SAMPLES = Dataset(
    name="hotpotqa",
    homepage="https://hotpotqa.github.io/",
    files={"train": File("hotpot_train_sample.jsonl"), "validation": File("hotpot_dev_sample.jsonl")},
    fields=FIELDS,
    parse=lambda path: read_jsonl(path, FIELDS, "question"),
    version="2",
)
"""Samples of any size, with the titles of each question's gold pages."""


def hotpotqa(data: Path | None, folder: Path) -> Task:
    """Read the task from `data/hotpotqa/*.jsonl`; what is prepared from it goes to `folder`.

    Train is the train sample without what overlaps the dev sample; select is a quarter of the dev sample (100 of 400),
    report the rest, in an order that each id's sha256 decides. `data/fireact_trajs/hotpotqa.jsonl`, where it is there,
    is the source of demonstrations `fireact`. Raises UserError that names a file that is missing or malformed, and the
    line.
    """
    from rest_jax.tasks.builder import read_rows

    if data is None:
        raise UserError("task 'hotpotqa': it needs its files; give the folder with --data (task.data)")
    source = data / SAMPLES.name
    passages = _passages(source)
    rows = read_rows(SAMPLES, data, folder)
    dev = sorted(rows["validation"], key=_order)
    held_out = HeldOut.of([_question(row) for row in dev])
    clean, dropped = without_leaks([_question(row) for row in rows["train"]], held_out)
    kept_ids = {question.id for question in clean}
    kept = [row for row in sorted(rows["train"], key=_order) if row["id"] in kept_ids]
    texts = {passage["title"]: passage["text"] for passage in passages}
    corpus = folder / "hotpotqa-corpus.jsonl"
    write_jsonl(corpus, passages)
    by_length = sorted(kept, key=lambda row: (_gold_length(row, texts), row["id"]))
    aside = {row["id"] for row in by_length[:EXAMPLES]}
    train = [row for row in kept if row["id"] not in aside]
    quarter = (len(dev) + 3) // 4
    sources = {"gold": _demonstrations(train, texts)}
    notes: dict[str, Any] = {
        "corpus": f"{len(passages) // 1000}k pooled distractors, not full Wikipedia",
        "train_dropped_for_overlap_with_dev": dropped,
        "train_set_aside_as_examples": len(aside),
    }
    fireact = data / "fireact_trajs" / "hotpotqa.jsonl"
    if fireact.exists():
        sources["fireact"], notes["fireact_dropped"] = read_fireact(fireact, {normalise(r["question"]) for r in dev})
    return Task(
        name="hotpotqa",
        corpus_file=corpus,
        splits={
            Split.TRAIN: tuple(map(_question, train)),
            Split.SELECT: tuple(map(_question, dev[:quarter])),
            Split.REPORT: tuple(map(_question, dev[quarter:])),
        },
        sources=sources,
        examples=_demonstrations(by_length[:EXAMPLES], texts),
        version=SAMPLES.version,
        notes=notes,
    )


def search_order(row: Row, texts: Mapping[str, str]) -> list[str]:
    """The gold titles in the order in which one would search them: first those that the question names, then those
    whose passage names the others."""
    question = row["question"].lower()
    titles = list(dict.fromkeys(row["supporting_titles"]))

    def place(title: str) -> tuple[bool, bool]:
        text = texts.get(title, "").lower()
        names_another = any(_bare(other) in text for other in titles if other != title)
        return (_bare(title) not in question, not names_another)

    return sorted(titles, key=place)


def gold_demonstration(row: Row, texts: Mapping[str, str]) -> Demonstration:
    """Search each gold title, then finish with the gold answer."""
    titles = search_order(row, texts)
    compares = row["type"] == "comparison"
    turns = []
    for number, title in enumerate(titles):
        if number == 0:
            thought = f"I compare two things, first {title}." if compares else f"I start with {title}."
        else:
            thought = f"Now the other one, {title}." if compares else f"That leads me to {title}."
        turns.append(Turn(thought, "search", title, f"{title}: {texts[title]}"))
    return Demonstration(_question(row), (*turns, Turn(f"The answer is {row['answer']}.", "finish", row["answer"])))


def _passages(source: Path) -> list[dict[str, Any]]:
    """The corpus's passages; the file of more distractors counts where it is there."""
    if not source.is_dir():
        raise UserError(f"no folder {source}; give --data (task.data) the folder that holds hotpotqa/{CORPUS}")
    files = [source / name for name in (CORPUS, MORE_CORPUS) if name == CORPUS or (source / name).exists()]
    return [
        {"title": row["title"], "text": row["text"]}
        for path in files
        for row in read_jsonl(path, {"title": str, "text": str}, "passage")
    ]


def _demonstrations(rows: Sequence[Row], texts: Mapping[str, str]) -> tuple[Demonstration, ...]:
    """Of the rows whose every gold page the corpus holds."""
    return tuple(
        gold_demonstration(row, texts) for row in rows if all(title in texts for title in row["supporting_titles"])
    )


def _question(row: Row) -> Question:
    titles = list(dict.fromkeys(row["supporting_titles"]))
    meta = {"level": row["level"], "type": row["type"], "titles": titles, "searches": len(titles)}
    return Question(row["id"], row["question"], row["answer"], meta)


def _order(row: Row) -> str:
    return hashlib.sha256(row["id"].encode()).hexdigest()


def _gold_length(row: Row, texts: Mapping[str, str]) -> int:
    return sum(len(texts.get(title, "")) or 10**6 for title in row["supporting_titles"])


def _bare(title: str) -> str:
    """A title as a sentence would name it: lower case, without the bracket that tells namesakes apart."""
    return re.sub(r"\s*\([^()]*\)$", "", title).lower()
