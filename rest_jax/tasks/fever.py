"""FEVER (Thorne et al. 2018): does what can be found support a claim, refute it, or neither?"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rest_jax.core.trajectory import Question
from rest_jax.tasks.files import read_jsonl
from rest_jax.tasks.metrics import LABELS, label_metric
from rest_jax.tasks.published import Dataset, File, Row, gold_pages, halves
from rest_jax.tasks.task import Task
from rest_jax.tasks.worked import worked_examples

ESCAPES = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-COLON-": ":", "_": " "}
"""How FEVER spells titles."""


def parse(path: Path) -> Iterator[Row]:
    """The claims of a file as FEVER publishes them."""
    for row in read_jsonl(path, {"id": int, "label": str, "claim": str, "evidence": list}, "claim"):
        evidence = list(dict.fromkeys(map(_pages, row["evidence"])))
        yield {
            "id": f"fever-{row['id']}",
            "claim": row["claim"],
            "label": row["label"],
            "evidence": [pages for pages in evidence if pages],
        }


DATASET = Dataset(
    name="fever",
    homepage="https://fever.ai",
    files={
        "validation": File(
            "paper_dev.jsonl",
            "https://fever.ai/download/fever/paper_dev.jsonl",
            2_168_767,
            "41158707810008747946bf23471e82df53e77a513524b9e3ec1c2e674ef5ef8c",
        )
    },
    fields={"id": str, "claim": str, "label": str, "evidence": list},
    parse=parse,
)


def fever(data: Path | None, folder: Path) -> Task:
    """The 9,999 claims of the paper's development set, over no corpus of their own: FEVER's is the Wikipedia of 2017.

    The metric is accuracy. `meta["evidence"]` holds the sets of pages of which each suffices; none where the label is
    NOT ENOUGH INFO.
    """
    from rest_jax.tasks.builder import read_rows

    rows = read_rows(DATASET, data, folder)["validation"]
    return Task(
        name=DATASET.name,
        corpus_file=None,
        splits=halves([_question(row) for row in rows]),
        examples=tuple(replace(e, question=_asked(e.question)) for e in worked_examples("fever")),
        metric=label_metric,
        version=DATASET.version,
        notes={"corpus": "FEVER's is Wikipedia of June 2017, which is not brought along"},
    )


def title(spelt: str) -> str:
    """A page's title as Wikipedia writes it, from FEVER's spelling."""
    for escape, plain in ESCAPES.items():
        spelt = spelt.replace(escape, plain)
    return unicodedata.normalize("NFC", spelt)


def _pages(evidence: list[list[Any]]) -> str:
    """The pages of one set of evidence sentences `[annotation, evidence, page, sentence]`, as `gold_pages` reads it."""
    return "|".join(sorted({title(page) for *_, page, _ in evidence if page is not None}))


def _question(row: Row) -> Question:
    meta = {"level": row["label"], **gold_pages(row["evidence"])}
    return _asked(Question(row["id"], row["claim"], row["label"], meta))


def _asked(claim: Question) -> Question:
    """The question that a claim puts: it names the labels, so that a prompt without an instruction does."""
    return replace(claim, text=f"Claim: {claim.text} Answer {', '.join(LABELS[:-1])} or {LABELS[-1]}.")
