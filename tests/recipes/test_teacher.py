"""A teacher behind an endpoint grows the first generation of a student with another tokenizer: whole runs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import pytest

import rest_jax
from rest_jax.cli.main import main
from rest_jax.config.policies import EndpointSettings, PoliciesSettings
from rest_jax.config.settings import (
    AgentSettings,
    EvaluateSettings,
    GenerationSettings,
    GrowSettings,
    RestConfig,
    TaskSettings,
)
from rest_jax.core.effects import Status
from rest_jax.core.errors import UserError
from rest_jax.models import tokenizer
from rest_jax.recipes.digest import run_digest
from rest_jax.recipes.players import model_of, models_of_run
from rest_jax.recipes.run import refuse_too_few
from rest_jax.recipes.verify import verify
from rest_jax.rollout import store
from rest_jax.tasks.registry import task as open_task
from tests.policies.completions_server import Served, serving, write_teacher
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
NOBODY = "http://127.0.0.1:9/v1"
CONFIG = """\
extends: {base}
policies: {{teacher: {{url: "{url}", model: teacher, {rest}}}}}
generations:
  - grow: {{questions: 3, samples: 2, policy: teacher}}
    improve: {{thresholds: [-1.0], include_seed: false, steps: 2, rows: 2, length: 320, warmup: 0, checkpoint_every: 1}}
evaluate: {{prompted: 2, pilot: 2, gate: 0, generations: 2, final: 2, split: select, floors: []}}
"""


@pytest.fixture(scope="module")
def teacher_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def one_server(teacher_model: Path) -> Iterator[Served]:
    with serving(teacher_model) as served:
        yield served


@pytest.fixture
def served(one_server: Served) -> Served:
    """A server that never gives one answer twice."""
    one_server.plan(forgetful=True)
    return one_server


def config(base: Path, folder: Path, url: str, rest: str = "") -> Path:
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(base=base, url=url, rest=rest), encoding="utf-8")
    return path


def grown(run: Path):
    return store.read(run / "stages" / "seed-0" / "gen-1" / "grow" / "trajectories.parquet")


def said(trajectory) -> list[str]:
    return [candidate.text for call in trajectory.calls for candidate in call.candidates]


def replies(run: Path) -> int:
    """How many replies a run has recorded; the file begins with a head."""
    file = run / "replies" / "teacher.jsonl"
    return len(file.read_bytes().splitlines()) - 1 if file.is_file() else 0


def test_a_teacher_grows_for_students_and_its_recorded_replies_make_the_same_run(
    tiny_config: Path,
    tiny_model: Path,
    teacher_model: Path,
    tmp_path: Path,
    served: Served,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The run's own model has another tokenizer than the teacher; a second student has the teacher's own weights."""
    before = len(served.asked())
    wanted = [
        f"students=[{{name: {teacher_model}}}]",
        "evaluate.teacher=2",
        "generations.0.improve.include_seed=true",
        "evaluate.controls=[random_samples]",
    ]
    path = config(tiny_config, tmp_path, served.url)
    look = ["preflight", str(path), "--run-dir", str(tmp_path / "run"), "--questions", "2", "--samples", "1"]
    assert main(look) == 0
    assert replies(tmp_path / "run") > 0, "a preflight's replies are the run's"
    summary = rest_jax.run(path, run_dir=tmp_path / "run", overrides=wanted)
    trajectories = grown(tmp_path / "run")
    assert len(trajectories) == 6
    for trajectory in trajectories:
        assert trajectory.tokenizer_digest == tokenizer.load(tiny_model).digest
        assert all(candidate.logprobs is None for call in trajectory.calls for candidate in call.candidates)
        assert trajectory.status is not Status.TOOL_FAILURE
    shown = sum(
        map(bool, json.loads((tmp_path / "run/stages/seed-0/demonstrations/rewards.json").read_text()).values())
    )
    improved = json.loads((tmp_path / "run/stages/seed-0/gen-1/improve-1/manifest.json").read_text())
    assert (improved["results"]["examples"], len(improved["results"]["losses"])) == (6 + shown, 2)
    student = json.loads((tmp_path / "run/stages/seed-0/student-model/manifest.json").read_text())
    assert student["inputs"]["mixture"] == improved["inputs"]["mixture"]
    assert (student["results"]["examples"], len(student["results"]["losses"])) == (6 + shown, 2)
    own = tokenizer.load(tmp_path / "run/stages/seed-0/student-model/model").digest
    assert own == tokenizer.load(teacher_model).digest
    assert [row["name"] for row in summary["rows"]] == [
        "prompted",
        "teacher",
        "pilot",
        "gen 1",
        "B random samples",
        "student model prompted",
        "student model",
    ]
    assert summary["rows"][-1]["weights_digest"] == student["results"]["weights_digest"]
    grow = json.loads((tmp_path / "run/stages/seed-0/gen-1/grow/manifest.json").read_text())
    assert grow["inputs"]["player"]["endpoint"]["model"] == "teacher"
    assert "url" not in grow["inputs"]["player"]["endpoint"]
    row = next(row for row in summary["rows"] if row["name"] == "gen 1")
    assert row["remark"] == "grown by the teacher"
    remarks = {row["name"]: row["remark"] for row in summary["rows"]}
    assert remarks["B random samples"] == "samples of the teacher"
    assert any(note.startswith("teacher: 'teacher' behind an endpoint") for note in summary["notes"])
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    spent = [line["teacher_completion_tokens"] for line in metrics if "teacher_completion_tokens" in line]
    assert len(spent) == 2
    assert min(spent) > 0
    measured = store.read(tmp_path / "run/stages/seed-0/teacher/evaluate-select/trajectories.parquet")
    assert len(measured) == 2
    assert replies(tmp_path / "run") == sum(len(said(one)) for one in (*trajectories, *measured))
    assert summary["rows"][1]["weights_digest"] == trajectories[0].weights_digest
    asked = len(served.asked())
    assert asked > before
    compared = {(comparison["a"], comparison["b"]) for comparison in summary["comparisons"]}
    assert {("gen 1", "teacher"), ("student model", "student model prompted")} <= compared
    kinds = ["student model prompted", "student model"]
    assert list(models_of_run(tmp_path / "run")) == ["prompted", "pilot", "gen 1", *kinds]
    assert model_of(str(tmp_path / "run")).endswith("gen-1/improve-1/model")
    assert main(["ask", str(tmp_path / "run"), "Who founded Vell?", "--compare", "student model"]) == 0
    assert "student model answers" in capsys.readouterr().out
    assert verify(tmp_path / "run").differences == ()

    again = tmp_path / "again"
    again.mkdir()
    replay = config(tiny_config, again, NOBODY, f"replay: {tmp_path / 'run' / 'replies' / 'teacher.jsonl'}")
    rest_jax.run(replay, run_dir=again / "run", overrides=wanted)
    assert run_digest(again / "run") == run_digest(tmp_path / "run")
    assert len(served.asked()) == asked


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.parametrize("exact", [False, True])
def test_a_killed_run_goes_on_with_the_replies_that_it_has(
    tiny_config: Path, teacher_model: Path, tmp_path: Path, served: Served, exact: bool
) -> None:
    """With `exact` the teacher's own tokens are known: its trajectories are of its tokenizer, with log-probs, and the
    student's tokens are made of their text."""
    known = f"tokenizer: {teacher_model}, " if exact else ""
    path = config(tiny_config, tmp_path, served.url, f"{known}concurrency: 4, timeout_s: 300")
    run = tmp_path / "run"
    probes = 1 if exact else 0  # each start asks for the ids of a text
    served.plan(*["fine"] * (3 + probes), *["slow"] * 100, forgetful=True)
    before = len(served.asked())
    command = [sys.executable, "-m", "rest_jax.cli.main", "run", str(path), "--run-dir", str(run)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    wait_until(lambda: replies(run) >= 3 or process.poll() is not None, "three replies are recorded", 600)
    assert process.poll() is None, "the run ended before it was to be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = replies(run)
    asked = len(served.asked())
    served.plan(forgetful=True)
    rest_jax.run(path, run_dir=run)
    made = sum(len(call.candidates) for one in grown(run) for call in one.calls)
    assert len(served.asked()) - asked == made - kept + probes, "a recorded reply was asked for again"
    assert asked - before <= kept + 4 + probes
    for trajectory in grown(run):
        if exact:
            assert trajectory.tokenizer_digest == tokenizer.load(teacher_model).digest
            assert all(candidate.logprobs for call in trajectory.calls for candidate in call.candidates)
    again = tmp_path / "again"
    again.mkdir()
    replay = config(tiny_config, again, NOBODY, f"{known}replay: {run / 'replies' / 'teacher.jsonl'}")
    rest_jax.run(replay, run_dir=again / "run")
    assert run_digest(again / "run") == run_digest(run)


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_run_whose_teacher_is_gone_stops_and_goes_on_elsewhere(
    tiny_config: Path, teacher_model: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with serving(teacher_model) as dying:
        dying.plan(*["fine"] * 3, *["exit"] * 4)
        with pytest.raises(UserError, match=r"out of reach .*; start it, or correct its url, then repeat the command"):
            rest_jax.run(config(tiny_config, tmp_path, dying.url, "retries: 0, concurrency: 1"), run_dir=run)
    kept = replies(run)
    assert kept > 0
    with serving(teacher_model) as other:
        rest_jax.run(config(tiny_config, tmp_path, other.url, "retries: 0, concurrency: 1"), run_dir=run)
        made = sum(len(call.candidates) for one in grown(run) for call in one.calls)
        assert len(other.asked()) == made - kept
    assert all(trajectory.status is not Status.TOOL_FAILURE for trajectory in grown(run))


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_real_teacher_grows_for_a_student_with_another_tokenizer(
    tiny_config: Path, tiny_model: Path, teacher_model: Path, smollm2: Path, tmp_path: Path
) -> None:
    """SmolLM2 behind the endpoint, prompted; the student has random weights and a Llama-3-like tokenizer. A second
    student, with a third tokenizer, learns from the same replies without asking anybody."""
    with serving(smollm2) as served:
        path = config(tiny_config, tmp_path, served.url)
        wanted = [
            f"model.name={teacher_model}",
            "engine.widths=[2048]",
            "agent.shots=1",
            "generations.0.improve.length=1024",
        ]
        rest_jax.run(path, run_dir=tmp_path / "run", overrides=wanted)
    trajectories = grown(tmp_path / "run")
    assert {trajectory.tokenizer_digest for trajectory in trajectories} == {tokenizer.load(teacher_model).digest}
    assert any(call.found for trajectory in trajectories for call in trajectory.tool_calls)
    assert any(len(trajectory.calls) > 1 for trajectory in trajectories)
    improved = json.loads((tmp_path / "run/stages/seed-0/gen-1/improve-1/manifest.json").read_text())
    assert improved["results"]["examples"] == len(trajectories)
    second = tmp_path / "second"
    second.mkdir()
    replay = config(tiny_config, second, NOBODY, f"replay: {tmp_path / 'run' / 'replies' / 'teacher.jsonl'}")
    rest_jax.run(replay, run_dir=second / "run", overrides=wanted[1:])
    assert [said(trajectory) for trajectory in grown(second / "run")] == [said(one) for one in trajectories]
    assert {one.tokenizer_digest for one in grown(second / "run")} == {tokenizer.load(tiny_model).digest}


def test_a_teacher_that_refuses_stops_the_run_with_one_line(
    tiny_config: Path, tmp_path: Path, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tiny_config, tmp_path, f"{served.url}/nothing")
    assert main(["run", str(path), "--run-dir", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "/v1/nothing answered 404" in said
    assert said.endswith("then repeat the command")


@pytest.mark.parametrize(
    ("policy", "measured", "candidates", "tokenizer", "refused"),
    [
        ("teacher", 0, 4, None, True),
        ("actor", 2, 4, None, True),  # a row of the teacher's chooses too
        ("actor", 0, 4, None, False),  # it does not act
        ("teacher", 2, 1, None, False),  # nothing is chosen: the paper's own way to grow by a hosted teacher
        ("teacher", 2, 4, "t", False),
    ],
)
def test_candidates_are_not_chosen_among_for_a_teacher_that_tells_no_logprobs(
    policy: Literal["actor", "teacher"], measured: int, candidates: int, tokenizer: str | None, refused: bool
) -> None:
    config = RestConfig(
        agent=AgentSettings("search_agent", candidates=candidates, temperature=0.5),
        generations=(GenerationSettings(GrowSettings(policy=policy)),),
        evaluate=EvaluateSettings(teacher=measured),
        policies=PoliciesSettings(EndpointSettings(NOBODY, "teacher", tokenizer=tokenizer)),
    )
    why = r"one of 4 replies is chosen by log-probs, and policies\.teacher answers in text alone; name its tokenizer"
    with pytest.raises(UserError, match=why) if refused else nullcontext():
        refuse_too_few(config, open_task(TaskSettings("atlas")))


def test_students_are_there_and_have_names_of_their_own(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for students, why in [
        ("[{name: a/x}, {name: b/x}]", "students: expected different names, got ['x', 'x']"),
        ("[{name: nowhere/x}]", "nowhere/x"),
    ]:
        wanted = ["run", str(tiny_config), "--run-dir", str(tmp_path / "run"), "--set", f"students={students}"]
        assert main([*wanted, "--dry-run"]) == 2
        assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    ("policies", "why"),
    [
        ("{}", "policies: no teacher, who is to act; say where it is"),
        (
            "{teacher: {url: 'http://a', model: m}}\nevaluate: {controls: [majority]}",
            "evaluate: control majority buys votes with the tokens that the loop sampled here, not a teacher's",
        ),
        ("{teacher: {url: 'ftp://a', model: m}}", "policies.teacher.url: expected an address"),
        ("{teacher: {url: 'http://[a', model: m}}", "policies.teacher.url: expected an address"),
        ("{teacher: {url: 'http://me:pw@a', model: m}}", "policies.teacher.url: holds a name or a password"),
        ("{teacher: {url: 'http://a?key=x', model: m}}", "policies.teacher.url: ends in a query"),
        (
            "{teacher: {url: 'http://a.example/v1', model: m, key_variable: A_KEY}}",
            "policies.teacher.url: would show the key in A_KEY to everybody on the way; write https://a.example",
        ),
        ("{teacher: {url: 'http://a'}}", "policies.teacher: key 'model' is missing"),
        (
            "{teacher: {url: 'http://a', model: m, style: chat, tokenizer: t}}",
            "teacher.tokenizer: needs style",
        ),
        ("{teacher: {url: 'http://a', model: m, context: 9}}", "policies.teacher.context: counts tokens"),
        ("{teacher: {url: 'http://a', model: m, key: k}}", "unknown key 'key' in policies.teacher; known: url"),
    ],
)
def test_settings_that_will_not_do_are_named(tiny_config: Path, tmp_path: Path, policies: str, why: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"extends: {tiny_config}\npolicies: {policies}\ngenerations: [{{grow: {{policy: teacher}}}}]\n")
    with pytest.raises(UserError, match=re.escape(why)):
        rest_jax.run(path, run_dir=tmp_path / "run")
