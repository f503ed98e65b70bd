"""The tasks of published questions, on their real files: how many, which golds, which splits, which examples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rest_jax.config.settings import TaskSettings
from rest_jax.core.answers import normalise
from rest_jax.core.errors import UserError
from rest_jax.tasks import gsm8k, mathematics
from rest_jax.tasks.bamboogle import golds
from rest_jax.tasks.check import check
from rest_jax.tasks.fever import title
from rest_jax.tasks.files import write_jsonl
from rest_jax.tasks.hotpotqa_500 import DATASET, QUESTIONS, SUBSET, parse, react_splits
from rest_jax.tasks.metrics import LABELS, Score, score_answer
from rest_jax.tasks.published import Row
from rest_jax.tasks.registry import GAMES, NAMES, OF_FILES, task
from rest_jax.tasks.splits import Split
from rest_jax.tasks.task import Task
from rest_jax.tasks.worked import worked_examples

QUESTIONS_OF = {
    "fever": {"select": 5000, "report": 4999},
    "bamboogle": {"report": 125},
    "strategyqa": {"train": 2381, "select": 115, "report": 114},
    "musique": {"select": 50, "report": 50},
    "nq_open": {"select": 1804, "report": 1804},
    "gsm8k": {"train": 6973, "select": 500, "report": 1319},
    "math": {"train": 4000, "select": 500, "report": 500},
}


@pytest.fixture(scope="module")
def tasks(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Task]:
    folder = tmp_path_factory.mktemp("tasks")
    return {name: task(TaskSettings(name, str(data)), folder) for name in QUESTIONS_OF}


@pytest.mark.parametrize("name", QUESTIONS_OF)
def test_every_gold_answer_is_right_by_the_tasks_own_metric(name: str, tasks: dict[str, Task]) -> None:
    made = tasks[name]
    assert {str(split): len(questions) for split, questions in made.splits.items()} == QUESTIONS_OF[name]
    result = check(made)
    n = sum(QUESTIONS_OF[name].values())
    assert (result.questions, result.answered, result.gold_correct, result.failed) == (n, n, n, ())
    assert result.lines()[0].startswith(f"{n}/{n} ")


@pytest.mark.parametrize("name", QUESTIONS_OF)
def test_no_question_stands_in_two_splits_or_in_a_prompt(name: str, tasks: dict[str, Task]) -> None:
    made = tasks[name]
    texts = [{normalise(question.text) for question in questions} for questions in made.splits.values()]
    texts.append({normalise(example.question.text) for example in made.examples})
    assert made.examples
    assert len(set().union(*texts)) == sum(map(len, texts))


def test_fever_names_the_labels_and_knows_its_evidence(tasks: dict[str, Task]) -> None:
    made = tasks["fever"]
    by_id = {question.id: question for questions in made.splits.values() for question in questions}
    claim = by_id["fever-137334"]
    assert claim.text == (
        "Claim: Fox 2000 Pictures released the film Soul Food. Answer SUPPORTS, REFUTES or NOT ENOUGH INFO."
    )
    assert (claim.answer, claim.meta["evidence"]) == ("SUPPORTS", [["Soul Food (film)"]])
    assert by_id["fever-91198"].meta["evidence"] == []
    assert all(bool(q.meta["evidence"]) == (q.answer != LABELS[2]) for q in by_id.values())
    assert [made.score(said, claim) for said in ("supports.", "SUPPORTS REFUTES", None)] == [
        Score(1.0, 1.0),
        Score(0.0, 0.0),
        Score(0.0, 0.0),
    ]
    assert {example.question.answer for example in made.shots(3)} == set(LABELS)
    assert made.shots(1)[0].question.text.startswith("Claim: The Nile flows into the Red Sea. Answer SUPPORTS")


def test_half_a_label_earns_nothing(tasks: dict[str, Task]) -> None:
    """By F1 "NOT ENOUGH" would be worth 0.8."""
    made = tasks["fever"]
    claim = next(q for q in made.splits[Split.SELECT] if q.answer == LABELS[2])
    assert made.score("not enough", claim) == Score(0.0, 0.0)
    assert score_answer("not enough", LABELS[2]).f1 == pytest.approx(0.8)


def test_fevers_titles_are_wikipedias() -> None:
    assert title("Soul_Food_-LRB-film-RRB-") == "Soul Food (film)"
    assert title("Alien-COLON-_Covenant") == "Alien: Covenant"
    assert title("Beyonce\u0301") == "Beyoncé"


def test_nq_open_takes_any_of_its_golds(tasks: dict[str, Task]) -> None:
    questions = [q for split in tasks["nq_open"].splits.values() for q in split]
    moon = next(q for q in questions if q.text == "when was the last time anyone was on the moon")
    assert set(moon.golds) == {"14 December 1972 UTC", "December 1972"}
    score = tasks["nq_open"].score
    assert [score(gold, moon).em for gold in moon.golds] == [1.0, 1.0]
    assert score("14 December 1972", moon).f1 == pytest.approx(6 / 7), "the best of 6/7 and 4/5"
    assert max(len(q.golds) for q in questions) == 23
    assert tasks["nq_open"].notes["left_out_for_golds_without_words"] == 2


def test_musique_has_its_paragraphs_its_aliases_and_its_chain(tasks: dict[str, Task], data: Path) -> None:
    made = tasks["musique"]
    lines = made.corpus().read_text(encoding="utf-8").splitlines()
    published = json.loads((data / "musique" / "musique_train_corpus.json").read_text())
    assert {(row["title"], row["text"]) for row in map(json.loads, lines)} == {
        (p["title"], p["text"]) for p in published
    }
    by_id = {q.id: q for split in made.splits.values() for q in split}
    first = by_id["2hop__150763_14904"]
    assert first.golds == ("G. Stanley Hall", "Stanley Hall")
    assert first.meta["path"] == ["American Psychological Association", "G. Stanley Hall"]
    result = check(made)
    assert result.support is not None
    assert (result.support.supported, result.support.known) == (99, 100), "G. Stanley Hall stands there as Hall's"


def test_strategyqa_is_yes_or_no_and_its_train_set_shares_no_page_with_the_rest(tasks: dict[str, Task]) -> None:
    made = tasks["strategyqa"]
    assert {q.answer for split in made.splits.values() for q in split} == {"yes", "no"}
    assert sum(made.notes["train_dropped_for_overlap_with_dev"].values()) == 440
    albany = next(
        q for q in made.splits[Split.SELECT] + made.splits[Split.REPORT] if q.text.startswith("Will the Albany")
    )
    assert ["Albany, Georgia", "Albany, New York"] in albany.meta["evidence"]
    assert made.held_out_pages.isdisjoint(page for q in made.splits[Split.TRAIN] for page in q.meta["titles"])


@pytest.mark.parametrize(
    ("answer", "golds_of_it"),
    [
        ("Detroit Red Wings (or Red Wings)", ("Detroit Red Wings", "Red Wings")),
        ("NZ Transport Agency (NZTA)", ("NZ Transport Agency", "NZTA")),
        ("December 2, 1409", ("December 2, 1409",)),
        ("29°17′11″N 81°4′30″W", ("29°17′11″N 81°4′30″W",)),
    ],
)
def test_bamtwoogles_answers_in_brackets_are_as_good(answer: str, golds_of_it: tuple[str, ...]) -> None:
    assert golds(answer) == golds_of_it


def test_bamtwoogle_is_read_from_its_csv(tmp_path: Path) -> None:
    (tmp_path / "bamtwoogle").mkdir()
    rows = ["question,answer", '"Who, then?",Orr (or Ada)', "Was it a leap year?,Yes"]
    (tmp_path / "bamtwoogle" / "bamtwoogle.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    made = task(TaskSettings("bamtwoogle", str(tmp_path)), tmp_path / "made")
    assert [(q.text, q.golds) for q in made.splits[Split.REPORT]] == [
        ("Who, then?", ("Orr", "Ada")),
        ("Was it a leap year?", ("Yes",)),
    ]


def test_the_page_names_each_tasks_folder(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "tasks.md"
    rows = [line.split(" | ") for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    folders = {row[0].strip("| `"): row[4].strip("`") for row in rows}
    assert folders.keys() == {"atlas", "arithmetic", *GAMES, *OF_FILES}
    for name in OF_FILES:
        with pytest.raises(UserError, match=f"{tmp_path}/{folders[name]}[/;]"):
            task(TaskSettings(name, str(tmp_path)), tmp_path / "made")


def test_all_of_bamtwoogle(data: Path, tmp_path: Path) -> None:
    if not (data / "bamtwoogle").is_dir():
        pytest.skip(f"no bamtwoogle in {data}")
    result = check(task(TaskSettings("bamtwoogle", str(data)), tmp_path / "made"))
    assert (result.gold_correct, result.questions) == (100, 100)


def test_gsm8ks_solutions_are_demonstrations_of_its_train_questions(tasks: dict[str, Task]) -> None:
    made = tasks["gsm8k"]
    gold = {one.question.id: one for one in made.sources["gold"]}
    assert gold.keys() == {question.id for question in made.splits[Split.TRAIN]}
    (turn,) = gold["gsm8k-train-0000"].turns
    assert (turn.action, turn.argument) == ("finish", "72")
    assert turn.thought == (
        "Natalia sold 48/2 = 24 clips in May. Natalia sold 48+24 = 72 clips altogether in April and May."
    )
    assert all(made.score(one.turns[-1].argument, one.question).em == 1.0 for one in gold.values())
    assert not any("<<" in one.turns[0].thought for one in gold.values())


def test_svamp_is_read_and_its_numbers_written_as_such(tmp_path: Path) -> None:
    """Three questions of our own in SVAMP's shape."""
    row = {"ID": "chal-1", "Body": "Ada has 9 pens.", "Question": "How many are 2 fewer?", "Type": "Subtraction"}
    rows = [
        row | {"Answer": 7.0},
        row | {"ID": "chal-2", "Body": "Orr has 3 pens", "Answer": 1},
        row | {"ID": "chal-3", "Answer": 0.5},
    ]
    (tmp_path / "svamp").mkdir()
    (tmp_path / "svamp" / "SVAMP.json").write_text(json.dumps(rows))
    made = task(TaskSettings("svamp", str(tmp_path)), tmp_path / "made")
    questions = made.splits[Split.REPORT]
    assert [question.answer for question in questions] == ["7", "1", "0.5"]
    assert [q.text for q in questions[:2]] == [
        "Ada has 9 pens. How many are 2 fewer?",
        "Orr has 3 pens. How many are 2 fewer?",
    ]
    assert questions[0].meta == {"level": "Subtraction"}
    assert [made.score(said, questions[0]).em for said in ("7 pens", "9 - 2 = 7", "2")] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("parse", "row", "told"),
    [
        (gsm8k.parse, {"question": "?", "answer": "It is 7."}, "question 0: its answer does not end in '#### NUMBER'"),
        (gsm8k.parse, {"question": "?", "answer": "#### seven"}, "question 0: its answer does not end in"),
        (mathematics.parse, {"problem": "?", "solution": "It is 7."}, "problem 0: no answer, and its solution boxes"),
    ],
)
def test_a_row_without_an_answer_is_named(
    parse: Callable[[Path], Iterator[Row]], row: dict[str, str], told: str, tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [row])
    with pytest.raises(UserError, match=rf"rows\.jsonl: {told}"):
        list(parse(tmp_path / "rows.jsonl"))


@pytest.mark.parametrize("text", ["", "answer,question\nx,y\n", "question,answer\nx\n", 'question,answer\n"x,y\n'])
def test_a_csv_that_is_not_bamtwoogles_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "bamtwoogle").mkdir()
    (tmp_path / "bamtwoogle" / "bamtwoogle.csv").write_text(text)
    with pytest.raises(UserError, match=r"bamtwoogle\.csv.*question,answer"):
        task(TaskSettings("bamtwoogle", str(tmp_path)), tmp_path / "made")


def test_eli5_asks_and_cannot_be_scored(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "eli5" / "eli5.jsonl", [{"id": "a", "question": "Why is the sky blue?"}])
    made = task(TaskSettings("eli5", str(tmp_path)), tmp_path / "made")
    assert [question.golds for question in made.splits[Split.TRAIN]] == [()]
    result = check(made)
    assert result.ok
    assert result.lines()[0].endswith("; 1 questions have no gold answer")
    with pytest.raises(
        UserError, match=r"task 'eli5': no train question has a gold answer; name a registered task\.reward"
    ):
        made.reward("default")
    with pytest.raises(UserError, match=r"eli5\.jsonl has to be given"):
        task(TaskSettings("eli5"), tmp_path / "made")


def test_reacts_subset_is_its_codes() -> None:
    """Yao et al. 2023's code: `idxs = list(range(7405)); random.Random(233).shuffle(idxs)`, then the first 500. The
    figures are what that printed, by a Python of its own."""
    rows = [
        {"id": f"q{place}", "index": str(place), "question": "?", "answer": "x", "type": "bridge", "level": "hard"}
        | {"titles": ["A"]}
        for place in reversed(range(QUESTIONS))
    ]
    splits = react_splits(rows)
    report, select = ([question.id for question in splits[split]] for split in (Split.REPORT, Split.SELECT))
    assert report[:3] == ["q3687", "q6238", "q5388"]
    assert (report[-1], select[:3]) == ("q4082", ["q1629", "q6157", "q1571"])
    whole = hashlib.sha256(",".join(id.removeprefix("q") for id in report).encode()).hexdigest()
    assert whole == "53189daed720123336376f4df4279c4b30b7e2c48f838e5042fce8925e73584c"
    assert len(report) == len(select) == SUBSET
    with pytest.raises(UserError, match="7404 questions; it needs all 7405"):
        react_splits(rows[:-1])


def test_the_official_development_file_is_read_with_its_places_and_paragraphs(tmp_path: Path) -> None:
    row = {
        "_id": "5a",
        "question": "Who?",
        "answer": "Ada",
        "type": "bridge",
        "level": "hard",
        "supporting_facts": [["Vell", 0], ["Vell", 1], ["Orr", 0]],
        "context": [["Vell", ["A town.", " It is old."]], ["Orr", ["A river."]]],
    }
    path = tmp_path / "dev.json"
    path.write_text(json.dumps([row, {**row, "_id": "5b"}]))
    first, second = parse(path)
    assert (first["id"], first["index"], second["id"], second["index"]) == ("5a", "0", "5b", "1")
    assert (first["titles"], first["paragraphs"]) == (["Vell", "Orr"], ["Vell\nA town. It is old.", "Orr\nA river."])
    assert set(first) == set(DATASET.fields)


def test_every_task_has_a_name_and_the_other_way_round() -> None:
    assert set(OF_FILES) | set(GAMES) | {"atlas", "arithmetic"} == set(NAMES)


@pytest.mark.parametrize("kind", ["qa", "strategyqa", "fever", "word_problems", "mathematics"])
def test_worked_examples_find_what_they_answer(kind: str) -> None:
    for example in worked_examples(kind):
        *acts, last = example.turns
        assert (last.action, last.argument) == ("finish", example.question.answer)
        assert all(turn.observation for turn in acts)
        assert all(isinstance(text, str) for turn in example.turns for text in (turn.thought, turn.argument))
        assert all(turn.thought.endswith(".") for turn in example.turns)


def test_a_text_is_worth_the_concepts_that_it_covers(tmp_path: Path) -> None:
    """Two sets of our own in CommonGen-Hard's shape."""
    rows = [{"concepts": ["dog", "leash", "run", "ice cream"]}, {"concepts": ["sky"]}]
    write_jsonl(tmp_path / "commongen_hard" / "commongen_hard.jsonl", rows)
    made = task(TaskSettings("commongen_hard", str(tmp_path)), tmp_path / "made")
    first, second = made.splits[Split.REPORT]
    assert first.text.endswith("makes sense? dog, leash, run, ice cream")
    said = {
        "The dogs were running off their leashes.": Score(0.0, 0.75),
        "Dogs running, leashed; ICE creams.": Score(1.0, 1.0),
        "A dogma of ice.": Score(0.0, 0.0),
    }
    assert {text: made.score(text, first) for text in said} == said
    assert made.score(None, second) == Score(0.0, 0.0)
    assert check(made).gold_correct == 2
    write_jsonl(tmp_path / "commongen_hard" / "commongen_hard.jsonl", [{"concepts": ["dog", 1]}])
    with pytest.raises(UserError, match="set 0: its concepts are no list of words"):
        task(TaskSettings("commongen_hard", str(tmp_path)), tmp_path / "again")
