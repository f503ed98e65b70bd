"""The papers' tables: their files are right, and what finished runs hold stands beside them."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from tiny_runs import drafting, of_the_search_agent

from rest_jax.agents.registry import agent
from rest_jax.cli.main import main
from rest_jax.config.loader import load
from rest_jax.config.plain import as_plain
from rest_jax.config.settings import RestConfig
from rest_jax.config.tables import TableConfig
from rest_jax.core.effects import Status
from rest_jax.core.errors import UserError
from rest_jax.core.files import write_json
from rest_jax.evaluation.records import Record
from rest_jax.evaluation.table import row, to_json
from rest_jax.recipes.controls import ROWS
from rest_jax.recipes.drafts import checked_answers
from rest_jax.recipes.players import config_of_run
from rest_jax.recipes.tables import NO_COUNTERPART, NOT_RUN, OfTable, beside, controlled, footnotes, runs_of
from rest_jax.recipes.workbench import serves, shots_there
from rest_jax.rollout import store
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.splits import Reader

PAPERS = sorted((Path(__file__).parents[2] / "configs" / "paper").glob("*.yaml"))

NOT_AT_HAND = ("svamp", "mbpp", "commongen_hard")
"""Tasks whose files are not among the real data (docs/tasks.md)."""

opened = cache(open_task)

TABLE = """\
paper: {{title: A paper, arxiv: "1", table: Table 1, metric: "EM, %", n: "7"}}
runs:
  - {{name: tiny, config: {config}, folder: {folder}}}
  - {{name: other, config: {config}, folder: {folder}-other}}
differs: [another world]
rows:
  - {{name: pilot, value: 44.7, spread: 3.1, run: tiny, row: pilot, differs: tiny}}
  - {{name: second, value: 65.9, run: other, row: gen 1}}
  - {{name: large, value: 76.1}}
  - {{name: unknown, run: tiny, row: {row}}}
"""


def written(folder: Path, config: Path, run: Path, row: str = "prompted") -> Path:
    path = folder / "table.yaml"
    path.write_text(TABLE.format(config=config, folder=run, row=row))
    return path


def rows_of(config: RestConfig) -> set[str]:
    generations = (f"gen {number}" for number, _ in enumerate(config.generations, 1))
    policies = {"prompted", "pilot", *generations}
    others = {f"{method}: {row}" for method in config.evaluate.methods for row in policies}
    return {*policies, *others, *(ROWS[control] for control in config.evaluate.controls)}


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_every_papers_file_loads_with_its_runs(path: Path) -> None:
    table = load(path, TableConfig).value
    rows = {name: rows_of(run.loaded.value) for name, run in runs_of(table, path.parent).items()}
    for entry in table.rows:
        assert entry.run is None or entry.row in rows[entry.run]
        assert entry.value is None or 0 <= entry.value <= 100


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_every_papers_evaluations_can_be_asked(path: Path, data: Path) -> None:
    for name, entry in runs_of(load(path, TableConfig).value, path.parent).items():
        config = entry.loaded.value
        if config.task.name in NOT_AT_HAND or entry.agent is None:
            continue
        task, method = opened(replace(config.task, data=str(data))), agent(entry.agent)
        assert task.questions(config.evaluate.split, Reader.EVALUATION, config.evaluate.final), name
        assert method.own_shots or task.shots(config.agent.shots) == task.examples[: shots_there(entry.player, task)]
        assert serves(task, config.tools) or not method.tools, name


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_every_difference_is_to_a_row_that_draws_as_warmly(path: Path) -> None:
    """Reflexion played greedily beside a control at 0.7 would differ in more than its lessons."""
    table = load(path, TableConfig).value
    rows, runs = {entry.name: entry for entry in table.rows}, runs_of(table, path.parent)

    def reflects(name: str | None) -> bool:
        return "reflexion" in (runs[name or ""].agent or "")

    for entry in table.rows:
        for control in (rows[name] for name in entry.against if reflects(entry.run)):
            resampled = "resample" in (runs[control.run or ""].agent or "")
            assert runs[entry.run or ""].player.temperature == (0.7 if resampled else None), entry.name


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_every_papers_file_is_valid_and_shown_without_a_run(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["config", "validate", str(path)]) == 0
    assert capsys.readouterr().out.startswith(f"{path}: valid, ")
    assert main(["config", "show", str(path)]) == 0
    (tmp_path / "shown.yaml").write_text(capsys.readouterr().out)
    assert load(tmp_path / "shown.yaml", TableConfig) == load(path, TableConfig)
    (tmp_path / "shown.yaml").unlink()
    assert main(["tables", str(path), "--show"]) == 0
    out = capsys.readouterr().out
    values = [row.value for row in load(path, TableConfig).value.rows if row.value is not None]
    assert all(f"{value:g}" in out for value in values)
    assert not list(tmp_path.iterdir())


def test_a_table_whose_run_is_not_there_is_not_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, tmp_path / "nowhere.yaml", tmp_path / "run")
    assert main(["config", "validate", str(path)]) == 2
    assert "nowhere.yaml" in capsys.readouterr().err


def test_table_1_of_rest_meets_react() -> None:
    path = next(path for path in PAPERS if path.stem == "rest_react_table1")
    values = {row.name: (row.value, row.spread) for row in load(path, TableConfig).value.rows}
    assert values["Pre-trained (prompted), XS"] == (None, None)
    assert values["Pilot, human filtered, S"] == (56.6, 3.8)
    assert values["Self-improvement, 2nd gen, XS"] == (65.9, 2.6)


def test_what_finished_runs_hold(tiny_config: Path, finished_run: Path, tmp_path: Path) -> None:
    path = written(tmp_path, tiny_config, finished_run)
    table = load(path, TableConfig).value
    runs = runs_of(table, tmp_path)
    pilot, second, large, unknown = beside(table, runs)
    row = next(r for r in json.loads((finished_run / "summary.json").read_text())["rows"] if r["name"] == "pilot")
    assert (pilot.paper, pilot.ours, pilot.n) == ("44.7 ± 3.1", f"{100 * row['em']:.1f}", row["n"])
    assert pilot.interval == (100 * row["em_ci"][0], 100 * row["em_ci"][1])
    assert pilot.differs == f"tiny; weights {row['weights_digest'][:8]}"
    assert (second.paper, second.ours) == ("65.9", NOT_RUN)
    assert (large.paper, large.ours) == ("76.1", NO_COUNTERPART)
    assert (unknown.paper, unknown.n) == ("–", 4)
    every, tiny, other = footnotes(table, runs)
    assert every == "what differs in every row: another world"
    assert "retriever BM25" in tiny
    assert other.endswith("has not finished")


def test_show_runs_nothing(tiny_config: Path, finished_run: Path, tmp_path: Path, capsys) -> None:
    path = written(tmp_path, tiny_config, finished_run)
    assert main(["tables", str(path), "--show"]) == 0
    assert "44.7 ± 3.1" in capsys.readouterr().out
    assert not finished_run.with_name(f"{finished_run.name}-other").exists()


@pytest.mark.parametrize("options", [[], ["--show"]], ids=["run", "show"])
def test_a_run_of_other_settings_is_not_shown_as_one_of_these(
    options: list[str], tiny_config: Path, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, tiny_config, finished_run)
    assert main(["tables", str(path), "--set", "generations.0.grow.samples=8", *options]) == 2
    assert "made with another config (generations.0.grow.samples)" in capsys.readouterr().err


def test_what_is_missing_is_run(tiny_config: Path, tmp_path: Path, capsys) -> None:
    path = written(tmp_path, tiny_config, tmp_path / "runs")
    path.write_text("\n".join(line for line in path.read_text().splitlines() if "other" not in line))
    assert main(["tables", str(path)]) == 0
    assert (tmp_path / "runs" / "summary.json").is_file()
    told = capsys.readouterr()
    assert NOT_RUN not in told.out
    assert "not finished, so run one after the other: tiny; --show runs nothing" in " ".join(told.err.split())


def test_a_row_that_a_run_does_not_have(tiny_config: Path, finished_run: Path, tmp_path: Path) -> None:
    table = load(written(tmp_path, tiny_config, finished_run, row="gen 7"), TableConfig).value
    with pytest.raises(UserError, match="'unknown': run 'tiny' has no row 'gen 7', only prompted, "):
        beside(table, runs_of(table, tmp_path))


def test_a_run_that_nobody_names(tiny_config: Path, finished_run: Path, tmp_path: Path) -> None:
    path = written(tmp_path, tiny_config, finished_run)
    path.write_text(path.read_text().replace("run: other", "run: another"))
    with pytest.raises(UserError, match="names run 'another'; runs has tiny, other"):
        load(path, TableConfig)


@pytest.fixture
def drafted_run(finished_run: Path, tmp_path: Path) -> Path:
    """A run of the search agent whose pilot drafted the right answer three times of four, and was right once."""
    run = of_the_search_agent(finished_run, tmp_path / "drafted")
    config = config_of_run(run)
    asked = {q.id: q for q in open_task(config.task, tmp_path / "data").questions("select", Reader.EVALUATION)}
    file = run / "stages/seed-0/pilot/evaluate-select/trajectories.parquet"
    gold = [(t, asked[t.question_id].answer) for t in store.read(file)]
    ends = [(gold[0][1], gold[0][1]), (gold[1][1], "wrong"), (gold[2][1], None), ("wrong", "wrong")]
    store.write(file, [drafting(t, *said) for (t, _), said in zip(gold, ends, strict=True)])
    return run


def test_before_the_agent_checks_itself(drafted_run: Path, tiny_config: Path, tmp_path: Path) -> None:
    """Aksitov et al. 2023, table 4, from the logs."""
    pilot = checked_answers(drafted_run, "pilot")
    assert (pilot.before.em, pilot.before.n, pilot.before.finished) == (0.75, 4, 1.0)
    assert (pilot.gain.difference, pilot.gain.questions) == (-0.5, 4)
    path = written(tmp_path, tiny_config, drafted_run)
    path.write_text(path.read_text().replace("row: pilot,", "row: pilot, answer: draft,"))
    line = beside(load(path, TableConfig).value, runs_of(load(path, TableConfig).value, tmp_path))[0]
    assert (line.ours, line.n) == ("75.0", 4)
    assert line.differs.startswith("tiny; the checks add -50.0 points [")
    assert line.differs.endswith(f"; weights {pilot.before.weights_digest[:8]}")


def test_what_failed_during_its_checks_counts_neither_before_nor_after(drafted_run: Path) -> None:
    file = drafted_run / "stages/seed-0/pilot/evaluate-select/trajectories.parquet"
    right, *others = store.read(file)
    store.write(file, [replace(right, answer=None, status=Status.TOOL_FAILURE), *others])
    pilot = checked_answers(drafted_run, "pilot")
    assert (pilot.before.masked, pilot.before.em, pilot.gain.questions) == (1, pytest.approx(2 / 3), 3)


def test_another_agent_drafts_nothing(drafted_run: Path, finished_run: Path) -> None:
    with pytest.raises(UserError, match="its agent, react, drafts no answers"):
        checked_answers(finished_run, "pilot")
    with pytest.raises(UserError, match="it has no trajectories of a row 'most frequent answer'"):
        checked_answers(drafted_run, "most frequent answer")


def test_a_prompting_methods_row_is_an_evaluation_of_the_untrained_model(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ReAct, table 1: nothing is trained for it."""
    path = tmp_path / "table.yaml"
    path.write_text(
        'paper: {title: A paper, arxiv: "1", table: Table 1, metric: "EM, %", n: "7"}\n'
        f"runs: [{{name: standard, config: {tiny_config}, folder: {tmp_path / 'runs' / 'tiny'}, agent: closed_book}}]\n"
        "rows: [{name: Standard, value: 28.7, run: standard, row: prompted}]\n"
    )
    assert main(["tables", str(path), "--show"]) == 0
    assert NOT_RUN in capsys.readouterr().out
    settings = ["agent.turns=3", "tools.results=2", "model.dtype=bfloat16", "seeds=[7]"]
    path.write_text(path.read_text().replace("agent: closed_book", "agent: closed_book, temperature: 0.7"))
    assert main(["tables", str(path), *(word for one in settings for word in ("--set", one))]) == 0
    file = tmp_path / "runs" / "tiny-closed_book-at-0.7.json"
    made = json.loads(file.read_text())
    inputs = made["inputs"]
    assert inputs["temperature"] == 0.7
    assert (inputs["agent"]["turns"], inputs["agent"]["turn_tokens"], inputs["tools"]["results"]) == (3, 40, 2)
    assert (inputs["environment"]["dtype"], inputs["seed"]) == ("bfloat16", 7)
    assert (made["inputs"]["agent"]["name"], made["split"], made["n"]) == ("closed_book", "select", 4)
    capsys.readouterr()
    assert main(["tables", str(path), "--show"]) == 2
    others = "model.dtype, agent.turns, tools.results, seeds.0"
    assert f"{file}: made with another config ({others})" in capsys.readouterr().err
    (line,) = beside(load(path, TableConfig).value, runs_of(load(path, TableConfig).value, tmp_path, settings))
    assert (line.paper, line.ours, line.n) == ("28.7", f"{100 * made['em']:.1f}", 4)
    assert sorted(file.parent.iterdir()) == [file]


def test_last_majority_and_any_of_an_evaluation_are_rows_of_their_own(tiny_config: Path, tmp_path: Path) -> None:
    path, folder = tmp_path / "table.yaml", tmp_path / "runs" / "tiny"
    answers = ("checked", "first", "majority", "any")
    path.write_text(
        'paper: {title: A paper, arxiv: "1", table: Table 1, metric: "EM, %"}\n'
        f"runs: [{{name: five, config: {tiny_config}, folder: {folder}, agent: rise_parallel}}]\n"
        "rows:\n"
        + "".join(f"  - {{name: {one}, value: 50, run: five, row: prompted, answer: {one}}}\n" for one in answers)
    )
    assert main(["tables", str(path)]) == 0
    file = folder.with_name("tiny-rise_parallel.json")
    made = json.loads(file.read_text())
    first, *others = made["records"]
    assert (len(others), first["trials"], made["em_any"]) == (3, 5, 0.0)
    file.write_text(json.dumps({**made, "em_any": 0.25, "records": [{**first, "em_any": 1.0}, *others]}))
    table = load(path, TableConfig).value
    lines = beside(table, runs_of(table, tmp_path))
    assert [(line.ours, line.n) for line in lines] == [("0.0", 4), ("0.0", 4), ("0.0", 4), ("25.0", 4)]
    none_of_4 = (0.0, pytest.approx(100 * (1 - 0.025 ** (1 / 4))))
    assert [line.interval for line in lines] == [*[none_of_4] * 3, (0.0, 75.0)]
    once = {name: None for name in made if name.startswith("em_") and name != "em_ci"}
    file.write_text(json.dumps({**made, **once}))
    with pytest.raises(UserError, match="'first': prompted attempts a question once; leave answer: first out"):
        beside(table, runs_of(table, tmp_path))


MENDED = """\
paper: {{title: A paper, arxiv: "1", table: Table 1, metric: "EM, %", n: "8"}}
runs:
  - {{name: mended, config: {config}, folder: {folder}, agent: self_refine}}
  - {{name: five, config: {config}, folder: {folder}, agent: rise_parallel}}
  - {{name: once, config: {config}, folder: {folder}, agent: cot, temperature: 0.5}}
rows:
  - {{name: mended, value: 50, run: mended, row: prompted, against: [majority of five, once]}}
  - {{name: first, value: 40, run: mended, row: prompted, answer: first}}
  - {{name: majority of five, run: five, row: prompted, answer: majority}}
  - {{name: once, run: once, row: prompted}}
  - {{name: covered, run: mended, row: prompted, metric: f1}}
"""


def judged(question: int, right: bool, majority: bool | None = None, sample: int = 0) -> Record:
    """A record of one attempt and ten tokens, or of five attempts, nine calls and ninety tokens."""
    once = Record(f"q{question}", sample, 0, "finished", "x", float(right), 0.5, True, None, 0, 10, False)
    if majority is None:
        return once
    return replace(once, model_tokens=90, trials=5, calls=9, em_first=0.0, em_majority=float(majority), em_any=1.0)


def evaluated(entry: OfTable, records: list[Record]) -> None:
    """Write what an evaluation would have written that came to these records."""
    made = row("model", records, task="gsm8k", split="report", weights_digest="")
    of_file = {"records": [to_json(one) for one in records], "notes": []}
    write_json(entry.file, {**to_json(made), **of_file, "config": as_plain(entry.decisive, decisive=True)})


@pytest.fixture
def mended(tmp_path: Path) -> Path:
    """A table's file: the first two of its evaluations have finished, the third has not.

    Mended is right on questions 0 to 6 of 8, the five attempts' majority on 6 and 7, their last on none.
    """
    path = tmp_path / "table.yaml"
    config = Path(__file__).parents[2] / "configs" / "gsm8k_small.yaml"
    path.write_text(MENDED.format(config=config, folder=tmp_path / "runs" / "gsm8k"))
    runs = runs_of(load(path, TableConfig).value, tmp_path)
    (tmp_path / "runs").mkdir()
    evaluated(runs["mended"], [judged(n, right=n < 7, majority=False) for n in range(8)])
    evaluated(runs["five"], [judged(n, right=False, majority=n > 5) for n in range(8)])
    return path


def test_a_row_less_its_control(mended: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """7/8 - 2/8; right alone are 6 and 1, so 2 (1 + 7) / 2^7 = 0.125. What has not finished is left out."""
    table = load(mended, TableConfig).value
    (line,) = controlled(table, runs_of(table, mended.parent))
    assert line.startswith("mended − majority of five, em: +62.5 points [")
    assert line.endswith("], 8 questions; right alone 6 : 1, McNemar's exact p 0.125")  # as in docs/runs.md
    assert main(["tables", str(mended), "--show"]) == 0
    assert "right alone 6 : 1" in " ".join(capsys.readouterr().out.split())


def test_what_an_answer_took_and_no_empty_column(mended: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = load(mended, TableConfig).value
    runs = runs_of(table, mended.parent)
    assert [(line.calls, line.tokens) for line in beside(table, runs)] == [
        (9.0, 90.0),
        (None, None),  # the first of its attempts took fewer
        (9.0, 90.0),
        (None, None),
        (9.0, 90.0),
    ]
    assert main(["tables", str(mended), "--show"]) == 0
    assert {"calls", "tokens"} <= set(capsys.readouterr().out.split())
    evaluated(runs["once"], [judged(n, right=False) for n in range(8)])
    for name in ("mended", "five"):
        runs[name].file.unlink()
    assert [(line.calls, line.tokens) for line in beside(table, runs)][3] == (None, 10.0)
    assert main(["tables", str(mended), "--show"]) == 0
    shown = capsys.readouterr().out.splitlines()[1].split()
    assert "tokens" in shown
    assert "calls" not in shown


def test_f1_is_shown_as_such(mended: Path) -> None:
    table = load(mended, TableConfig).value
    *_, covered = beside(table, runs_of(table, mended.parent))
    assert (covered.ours, covered.n, covered.interval) == ("F1 50.0", 8, (50.0, 50.0))
    against = mended.read_text().replace("metric: f1}", "metric: f1, against: [covered too]}")
    mended.write_text(f"{against}  - {{name: covered too, run: five, row: prompted, metric: f1}}\n")
    table = load(mended, TableConfig).value
    *_, line = controlled(table, runs_of(table, mended.parent))
    assert line == "covered − covered too, f1: +0.0 points [+0.0, +0.0], 8 questions"


def test_samples_of_a_question_are_no_tosses_of_their_own(mended: Path) -> None:
    table = load(mended, TableConfig).value
    runs = runs_of(table, mended.parent)
    evaluated(runs["mended"], [judged(n, right=n < 7, majority=False, sample=s) for n in range(8) for s in (0, 1)])
    (line,) = controlled(table, runs)
    assert line.endswith("], 8 questions")


def test_rows_that_were_asked_other_questions(mended: Path) -> None:
    table = load(mended, TableConfig).value
    runs = runs_of(table, mended.parent)
    evaluated(runs["five"], [judged(n, right=True, majority=True) for n in (8, 9)])
    with pytest.raises(UserError, match="'mended' is against 'majority of five', and no question was asked of both"):
        controlled(table, runs)


def test_another_temperature_is_another_evaluation(mended: Path) -> None:
    runs = runs_of(load(mended, TableConfig).value, mended.parent)
    assert runs["once"].file.name == "gsm8k-cot-at-0.5.json"
    assert (runs["once"].player.temperature, runs["five"].player.temperature) == (0.5, None)
    evaluated(runs["once"], [judged(0, right=True)])
    mended.write_text(mended.read_text().replace("temperature: 0.5", "temperature: 0.50001"))
    assert not runs_of(load(mended, TableConfig).value, mended.parent)["once"].file.is_file()


@pytest.mark.parametrize(
    ("change", "to", "why"),
    [
        ("against: [majority of five, once]", "against: [mended]", "is against 'mended', which is no other row"),
        ("against: [majority of five, once]", "against: [nobody]", "is against 'nobody', which is no other row"),
        ("against: [majority of five, once]", "against: [once, once]", "expected every entry once"),
        ("name: first", "name: once", "expected different names"),
        (
            "run: once, row: prompted}",
            "value: 30}",
            "'mended' is against 'once'; both need a row of ours, and no draft",
        ),
        ("run: once, row: prompted}", "run: once, row: prompted, metric: f1}", "'once'; both need the same metric"),
        ("metric: f1", "metric: f1, answer: any", "'covered' wants f1 of answer any, of which EM is known alone"),
        (", agent: cot", "", "is an evaluation's; name its agent"),
        ("temperature: 0.5", "temperature: -1", "expected at least 0"),
    ],
)
def test_what_a_table_cannot_compare(mended: Path, change: str, to: str, why: str) -> None:
    assert change in mended.read_text()
    mended.write_text(mended.read_text().replace(change, to))
    with pytest.raises(UserError, match=why):
        load(mended, TableConfig)
