"""HotpotQA from real local files: overlap removed, halves disjoint, demonstrations that lead to the answer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rest_jax.core.errors import UserError
from rest_jax.tasks.check import check
from rest_jax.tasks.fireact import read_fireact
from rest_jax.tasks.hotpotqa import hotpotqa, search_order
from rest_jax.tasks.hotpotqa_given import hotpotqa_given
from rest_jax.tasks.leaks import refuse_learnt
from rest_jax.tasks.metrics import normalise
from rest_jax.tasks.splits import Split
from rest_jax.tasks.support import Support
from rest_jax.tasks.task import Task


@pytest.fixture(scope="module")
def task(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Task:
    return hotpotqa(data, tmp_path_factory.mktemp("hotpotqa"))


def _rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_row_of_the_files_is_used_or_counted(task: Task, data: Path) -> None:
    train, dev = (_rows(data / "hotpotqa" / f"hotpot_{name}_sample.jsonl") for name in ("train", "dev"))
    dropped = task.notes["train_dropped_for_overlap_with_dev"]
    assert dropped == {"gold page": 4}
    assert len(task.splits[Split.TRAIN]) == len(train) - 4 - task.notes["train_set_aside_as_examples"]
    parts = [{question.id for question in task.splits[split]} for split in (Split.SELECT, Split.REPORT)]
    assert parts[0].isdisjoint(parts[1])
    assert parts[0] | parts[1] == {row["id"] for row in dev}
    assert [len(part) for part in parts] == [100, 300]
    by_id = {row["id"]: row for row in train + dev}
    for questions in task.splits.values():
        for question in questions:
            row = by_id[question.id]
            assert (question.text, question.answer, question.meta["level"]) == (
                row["question"],
                row["answer"],
                row["level"],
            )
            assert set(question.meta["titles"]) == set(row["supporting_titles"])


def test_train_and_dev_share_no_gold_page_and_no_question(task: Task) -> None:
    learnt = [*task.splits[Split.TRAIN], *(shot.question for shot in task.shots(4))]
    held_out = [*task.splits[Split.SELECT], *task.splits[Split.REPORT]]
    assert {title for q in learnt for title in q.meta["titles"]}.isdisjoint(
        title for q in held_out for title in q.meta["titles"]
    )
    assert {normalise(q.text) for q in learnt}.isdisjoint(normalise(q.text) for q in held_out)


def test_nothing_that_is_learnt_may_show_a_gold_page_of_dev(task: Task, data: Path) -> None:
    dev = _rows(data / "hotpotqa" / "hotpot_dev_sample.jsonl")
    assert task.held_out_pages == {title for row in dev for title in row["supporting_titles"]}


def test_difficulty_is_told_for_each_split(task: Task) -> None:
    splits = task.describe()["splits"]
    assert set(splits["train"]["levels"]) == {"easy", "medium", "hard"}
    assert splits["report"]["levels"] == {"hard": 300}


def test_the_corpus_supports_every_answer(task: Task) -> None:
    result = check(task)
    assert result.gold_correct == result.questions == 692
    assert result.support == Support(692, 692, 692)
    assert result.passages == 8701 + 4342


def test_gold_demonstrations_search_the_gold_pages_and_finish(task: Task) -> None:
    demonstrations = task.demonstrations("gold", 292, seed=0)
    assert {d.question.id for d in demonstrations} == {q.id for q in task.splits[Split.TRAIN]}
    for demonstration in demonstrations:
        *searches, last = demonstration.turns
        assert sorted(turn.argument for turn in searches) == sorted(demonstration.question.meta["titles"])
        assert all((turn.observation or "").startswith(f"{turn.argument}: ") for turn in searches)
        assert (last.action, last.argument) == ("finish", demonstration.question.answer)


def test_search_begins_where_the_question_points() -> None:
    texts = {"Lit (band)": "Known for a hit.", "A Place (Lit album)": "An album by Lit."}
    row = {"question": "Which hit has the band that recorded A Place?", "supporting_titles": list(texts)}
    assert search_order(row, texts) == ["A Place (Lit album)", "Lit (band)"]
    row = {"question": "Which hit is it?", "supporting_titles": list(texts)}
    assert search_order(row, texts) == ["A Place (Lit album)", "Lit (band)"]


def test_fireact_is_parsed_whole_and_keeps_no_observation(task: Task, data: Path) -> None:
    demonstrations = task.demonstrations("fireact", 500, seed=0)
    assert task.notes["fireact_dropped"] == {"held_out_question": 0, "malformed": 0}
    for demonstration in demonstrations:
        assert [turn.action for turn in demonstration.turns].index("finish") == len(demonstration.turns) - 1
        assert all(turn.observation is None and turn.argument for turn in demonstration.turns)
        assert demonstration.question.answer == demonstration.turns[-1].argument
    question = demonstrations[0].question.text
    kept, dropped = read_fireact(data / "fireact_trajs" / "hotpotqa.jsonl", {normalise(question)})
    assert (len(kept), dropped["held_out_question"]) == (499, 1)


def test_fireact_is_named_by_what_it_says(tmp_path: Path) -> None:
    """A stage that replayed other demonstrations is refused by their names: a line's number would hide the change."""
    path = tmp_path / "fireact.jsonl"

    def names(*thoughts: str) -> list[str]:
        said = [f"Thought: {thought}\nAction: finish[y]" for thought in thoughts]
        pairs = [[{"role": "user", "content": "Who?"}, {"role": "assistant", "content": turn}] for turn in said]
        path.write_text("\n".join(json.dumps({"messages": messages}) for messages in pairs))
        return [demonstration.question.id for demonstration in read_fireact(path, ())[0]]

    first, second = names("x", "z", "x")
    assert names("z", "w")[0] == second
    assert first not in names("w", "z")


@pytest.mark.parametrize(
    "turns",
    [
        ["Thought: x\nAction: search[y]"],
        ["Thought: x\nAction: finish[y]", "Thought: x\nAction: search[y]"],
        ["Thought: x\nAction: finish[ ]"],
        ["I give up."],
        [],
    ],
)
def test_fireact_drops_what_does_not_end_in_an_answer(turns: list[str], tmp_path: Path) -> None:
    path = tmp_path / "fireact.jsonl"
    messages = [{"role": "user", "content": "Who?"}, *({"role": "assistant", "content": turn} for turn in turns)]
    path.write_text(json.dumps({"messages": messages}))
    assert read_fireact(path, ()) == ((), {"held_out_question": 0, "malformed": 1})


@pytest.mark.parametrize("message", ["text", {"role": "user"}, {"role": "assistant", "content": None}, {"role": 3}])
def test_fireact_drops_messages_that_are_none(message: object, tmp_path: Path) -> None:
    path = tmp_path / "fireact.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "user", "content": "Who?"}, message]}))
    assert read_fireact(path, ()) == ((), {"held_out_question": 0, "malformed": 1})


def test_preparing_twice_gives_the_same(task: Task, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = hotpotqa(data, task.corpus().parent)
    assert again.digests() == task.digests()
    assert capsys.readouterr().out == "", "stdout belongs to the caller"


def test_bad_files_are_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "hotpotqa").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*hotpot_corpus\.jsonl: No such file"):
        hotpotqa(tmp_path, tmp_path)
    for file in (data / "hotpotqa").glob("*.jsonl"):
        shutil.copy(file, tmp_path / "hotpotqa")
    broken = tmp_path / "hotpotqa" / "hotpot_dev_sample.jsonl"
    lines = broken.read_text().splitlines()
    broken.write_text("\n".join([*lines[:5], lines[5][:40], *lines[6:]]))
    with pytest.raises(UserError, match=r"hotpot_dev_sample\.jsonl:6: malformed question"):
        hotpotqa(tmp_path, tmp_path)


def test_gold_passages_stand_before_the_question_where_they_are_given(
    task: Task, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    given = hotpotqa_given(data, tmp_path_factory.mktemp("given"))
    texts = {row["title"]: row["text"] for row in _rows(task.corpus())}
    assert given.notes["left_out_for_want_of_a_passage"] == 0
    assert given.corpus_file is None
    for split, questions in task.splits.items():
        for plain, one in zip(questions, given.splits[split], strict=True):
            assert (one.id, one.answer, one.meta) == (plain.id, plain.answer, plain.meta)
            assert one.text.endswith(f" {plain.text}")
            assert all(f"{title}: {texts[title]}" in one.text for title in plain.meta["titles"])
    refuse_learnt(given)
    assert all(shot.question.text.startswith(shot.question.meta["titles"][0]) for shot in given.shots(4))
    assert given.digests() != task.digests()
    result = check(given)
    assert (result.gold_correct, result.questions) == (692, 692)
