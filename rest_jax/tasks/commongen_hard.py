"""CommonGen-Hard (Madaan et al. 2023, section 4): one text with all of 20 to 30 concepts, scored by its coverage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rest_jax.core.errors import UserError
from rest_jax.core.trajectory import Question
from rest_jax.tasks.files import read_jsonl
from rest_jax.tasks.metrics import Score
from rest_jax.tasks.published import Dataset, File, Row
from rest_jax.tasks.splits import Split
from rest_jax.tasks.task import Task
from rest_jax.tools.search.text import stems


def parse(path: Path) -> Iterator[Row]:
    """The sets of a file, named by their place in it."""
    for place, row in enumerate(read_jsonl(path, {"concepts": list}, "set of concepts")):
        concepts = row["concepts"]
        if not concepts or not all(isinstance(one, str) and one.strip() for one in concepts):
            raise UserError(f'{path}: set {place}: its concepts are no list of words; write ["dog", "leash", …]')
        yield {"id": f"{place:04d}", "concepts": concepts}


DATASET = Dataset(
    name="commongen_hard",
    homepage="https://github.com/madaan/self-refine",
    files={"test": File("commongen_hard.jsonl")},
    fields={"id": str, "concepts": list},
    parse=parse,
)


def commongen_hard(data: Path | None, folder: Path) -> Task:
    """All of CommonGen-Hard, which is a test set. Gold is the list of concepts: it covers all of them."""
    from rest_jax.tasks.builder import read_rows

    rows = read_rows(DATASET, data, folder)["test"]
    return Task(
        name=DATASET.name,
        corpus_file=None,
        splits={Split.REPORT: tuple(_question(row) for row in sorted(rows, key=lambda row: row["id"]))},
        metric=coverage_metric,
        voice=str.strip,
        version=DATASET.version,
        notes={"metric": "F1 is coverage, the share of concepts in the text; EM is all of them. Sense counts nothing"},
    )


def coverage_metric(answer: str | None, question: Question) -> Score:
    """The share of the question's concepts whose words all stand in the text, in any inflection (Snowball stems), as
    F1; 1 for all of them, else 0, as EM."""
    text, *concepts = (set(words) for words in stems([answer or "", *question.meta["concepts"]]))
    covered = sum(concept <= text for concept in concepts) / len(concepts)
    return Score(float(covered == 1), covered)


def _question(row: Row) -> Question:
    concepts = ", ".join(row["concepts"])
    text = f"Which text of a few sentences holds all of these words and makes sense? {concepts}"
    return Question(f"commongen-hard-{row['id']}", text, concepts, {"concepts": row["concepts"]})
