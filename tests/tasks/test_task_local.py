from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rest_jax.config.settings import TaskSettings
from rest_jax.core.errors import UserError
from rest_jax.tasks.check import check
from rest_jax.tasks.files import write_jsonl
from rest_jax.tasks.local import local
from rest_jax.tasks.registry import task
from rest_jax.tasks.splits import Reader
from rest_jax.tasks.support import Support

PASSAGES = [{"title": "Tolven", "text": "A town. The mayor is Kel Dorim."}, {"title": "Orn", "text": "A river."}]
ROWS = [
    {"id": "b", "question": "Who is the mayor of Tolven?", "answer": "Kel Dorim", "hops": 1},
    {"id": "a", "question": "Is Orn a town?", "answer": "no"},
    {"id": "c", "question": "Who is the mayor of Orn?", "answer": "Kel"},
    {"id": "d", "question": "Where?", "answer": "Mayor is"},
    {"id": "e", "question": "Where?", "answer": "ver"},
]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    questions, corpus = tmp_path / "questions.jsonl", tmp_path / "corpus.jsonl"
    write_jsonl(questions, ROWS)
    write_jsonl(corpus, PASSAGES)
    return questions, corpus


def test_questions_come_in_the_files_order(files: tuple[Path, Path]) -> None:
    questions = local(*files).questions("report", Reader.EVALUATION)
    assert [question.id for question in questions] == ["b", "a", "c", "d", "e"]
    assert questions[0].meta == {"hops": 1}


def test_a_local_task_has_nothing_to_train_on(files: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match="task 'local': it has no split 'train', only report"):
        local(*files).questions("train", Reader.TRAINING)


def test_check_counts_gold_answers_and_what_the_corpus_supports(files: tuple[Path, Path], tmp_path: Path) -> None:
    made = local(*files)
    result = check(made)
    assert (result.gold_correct, result.questions, result.ok) == (5, 5, True)
    assert result.support == Support(3, 4, 5), "'ver' is no word of any passage; of 'no' the page is not known"
    assert result.lines()[0].startswith("5/5 ")
    other = tmp_path / "other.jsonl"
    write_jsonl(other, PASSAGES[1:])
    assert check(made, other).support == Support(0, 4, 5)


def test_a_question_may_have_several_gold_answers(files: tuple[Path, Path]) -> None:
    questions, corpus = files
    row = {"id": "x", "question": "Who?", "answer": "Orr", "alternatives": ["Ada Orr", "Ada"], "hops": 1}
    write_jsonl(questions, [row])
    (question,) = local(questions, corpus).questions("report", Reader.EVALUATION)
    assert (question.golds, question.meta) == (("Orr", "Ada Orr", "Ada"), {"hops": 1})
    before = local(questions, corpus).digests()
    write_jsonl(questions, [{**row, "alternatives": ["Ada Orr"]}])
    assert local(questions, corpus).digests()["report_questions"] != before["report_questions"]
    for wrong in ("Ada", [3], None):
        write_jsonl(questions, [{**row, "alternatives": wrong}])
        with pytest.raises(UserError, match="alternatives of question 'x' are no list of texts"):
            local(questions, corpus)


def test_check_fails_an_answer_that_the_metric_cannot_see(tmp_path: Path, files: tuple[Path, Path]) -> None:
    questions = tmp_path / "articles.jsonl"
    write_jsonl(questions, [{"id": "x", "question": "Which article?", "answer": "the"}])
    result = check(local(questions, files[1]))
    assert (result.ok, result.failed) == (False, ("x",))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "x", "question": "Who?"', r":2: malformed question \(Expecting"),
        ('{"id": "x", "question": "Who?"}', r':2: malformed question \("answer" is missing\); a line is \{"id": str'),
        ('{"id": 7, "question": "Who?", "answer": "x"}', r':2: malformed question \("id" is int\)'),
        ('{"id": "x\\ud800", "question": "Who?", "answer": "x"}', r":2: malformed question \(.*surrogates not allowed"),
        ('{"id": "x", "question": "\\ud800", "answer": "x"}', r":2: malformed question \(.*surrogates not allowed"),
        ('{"id": "x", "question": "?", "answer": "x", "by": ["\\ud800"]}', r":2: malformed .*surrogates not allowed"),
        ('{"id": "x", "question": "?", "answer": "x", "hops": NaN}', r":2: malformed question \(Out of range"),
        ('["id"]', r":2: malformed question \(not a JSON object\)"),
        (json.dumps(ROWS[0]), r"the id 'b' comes twice"),
    ],
)
def test_malformed_questions_are_named_by_file_and_line(files: tuple[Path, Path], line: str, message: str) -> None:
    questions, corpus = files
    questions.write_text(json.dumps(ROWS[0]) + "\n" + line + "\n")
    with pytest.raises(UserError, match=message) as caught:
        local(questions, corpus)
    assert str(questions) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_empty_files(files: tuple[Path, Path], tmp_path: Path) -> None:
    questions, corpus = files
    with pytest.raises(UserError, match=r"cannot read .*nowhere\.jsonl: No such file"):
        local(questions, tmp_path / "nowhere.jsonl")
    questions.write_text("\n")
    with pytest.raises(UserError, match="no questions"):
        local(questions, corpus)


def test_write_jsonl_leaves_equal_bytes_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.jsonl"
    write_jsonl(path, ROWS)
    first = path.stat().st_ino
    write_jsonl(path, ROWS)
    assert path.stat().st_ino == first
    write_jsonl(path, ROWS[:1])
    assert path.read_text() == json.dumps(ROWS[0]) + "\n"
    assert [child.name for child in path.parent.iterdir()] == ["file.jsonl"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (TaskSettings("atlass"), "task 'atlass': there is none of this name; use one of atlas, arithmetic, "),
        (TaskSettings("hotpotqa"), "task 'hotpotqa': it needs its files; give the folder with --data"),
        (TaskSettings("hotpotqa", data="nowhere"), "no folder nowhere/hotpotqa"),
        (TaskSettings("hotpotqa", data="nowhere", seed=7), "task 'hotpotqa': its files are its world; leave out"),
    ],
)
def test_a_task_that_cannot_be_had(settings: TaskSettings, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        task(settings, tmp_path)


def test_a_corpus_may_be_search_r1s(files: tuple[Path, Path], tmp_path: Path) -> None:
    rows = [{"id": str(i), "contents": f'"{p["title"]}"\n{p["text"]}'} for i, p in enumerate(PASSAGES)]
    corpus = tmp_path / "contents.jsonl"
    write_jsonl(corpus, rows)
    assert check(local(files[0], corpus)) == replace(check(local(*files)), corpus=corpus)
