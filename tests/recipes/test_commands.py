"""eval, ask, generate, preflight, report: on a tiny model, through the command line."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

import rest_jax
from rest_jax.cli.main import main
from rest_jax.config.improve import LoraSettings, MeshSettings
from rest_jax.core.effects import CallTool, Generate, Status, ToolReply, finished
from rest_jax.core.errors import UserError
from rest_jax.core.transcript import Transcript
from rest_jax.models import catalog
from rest_jax.recipes.ask import narrated


def write_lines(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def own(tmp_path: Path) -> tuple[Path, Path]:
    questions = [{"id": str(i), "question": f"Who lives in town {i}?", "answer": "Ada"} for i in range(2)]
    corpus = [{"title": f"Town {i}", "text": "Ada lives here."} for i in range(3)]
    return write_lines(tmp_path / "q.jsonl", questions), write_lines(tmp_path / "c.jsonl", corpus)


def test_eval_on_own_questions(
    tiny_model: Path, own: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions, corpus = own
    out = tmp_path / "out.json"
    arguments = ["eval", "--model", str(tiny_model), "--questions", str(questions), "--corpus", str(corpus)]
    assert main([*arguments, "--samples", "2", "--temperature", "1", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["n"] == 4
    assert len(result["records"]) == 4
    assert {record["question_id"] for record in result["records"]} == {"0", "1"}
    assert (result["inputs"]["temperature"], result["inputs"]["samples"]) == (1.0, 2)
    assert "local, split report, temperature 1, seed 0" in capsys.readouterr().out
    assert not (tmp_path / "out.json.journal").exists()


def test_eval_takes_the_samplers_settings(tiny_model: Path, own: tuple[Path, Path], tmp_path: Path) -> None:
    questions, corpus = own
    arguments = ["eval", "--model", str(tiny_model), "--questions", str(questions), "--corpus", str(corpus)]
    out = tmp_path / "out.json"
    assert main([*arguments, "--set", "engine.widths=[1024]", "--set", "engine.replicas=2", "--json", str(out)]) == 0
    told = json.loads(out.read_text())["inputs"]["engine"]
    assert told["widths"] == [1024]
    assert "replicas" not in told  # decides no bits


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("engine.rows=0", "engine.rows: expected at least 1, got 0"),
        ("rows=4", "--set rows=4: unknown key 'rows'"),
        ("engine.widths=[100]", "engine.widths: 100 is not a multiple of chunk (128)"),
    ],
)
def test_what_the_sampler_cannot_do_is_said(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, said: str
) -> None:
    prompts = write_lines(tmp_path / "p.jsonl", [{"prompt": "Say"}])
    arguments = ["generate", "--model", str(tiny_model), "--prompts", str(prompts), "--max-tokens", "2"]
    assert main([*arguments, "--set", override, "--json", str(tmp_path / "out.jsonl")]) == 2
    assert said in capsys.readouterr().err


def test_eval_names_a_malformed_line(
    tiny_model: Path, own: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions, corpus = own
    corpus.write_text(corpus.read_text() + "{broken\n")
    arguments = ["eval", "--model", str(tiny_model), "--questions", str(questions), "--corpus", str(corpus)]
    assert main([*arguments, "--json", str(tmp_path / "out.json")]) == 2
    error = capsys.readouterr().err
    assert "c.jsonl:4" in error
    assert error.count("\n") == 1


def test_generate_is_a_function_of_prompt_seed_and_place(tiny_model: Path, tmp_path: Path) -> None:
    prompts = write_lines(tmp_path / "p.jsonl", [{"prompt": f"Say {i}"} for i in range(3)])
    outs = [tmp_path / f"{i}.jsonl" for i in range(3)]
    arguments = ["generate", "--model", str(tiny_model), "--prompts", str(prompts), "--max-tokens", "5"]
    for out, seed in zip(outs, ("0", "0", "1"), strict=True):
        assert main([*arguments, "--temperature", "1", "--seed", seed, "--json", str(out)]) == 0
    rows = [[json.loads(line) for line in out.read_text().splitlines()] for out in outs]
    assert rows[0] == rows[1]
    assert rows[0] != rows[2]
    assert all(len(row["ids"]) == len(row["logprobs"]) and row["prompt"] for row in rows[0])
    assert {row["finish"] for row in rows[0]} <= {"length", "eos"}


def test_generate_says_what_cannot_be_continued(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["generate", "--model", str(tiny_model), "--max-tokens", "5", "--json", str(tmp_path / "out.jsonl")]
    long = write_lines(tmp_path / "long.jsonl", [*[{"prompt": "word " * 9000}] * 2, {"prompt": "Say"}])
    assert main([*arguments, "--prompts", str(long)]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["finish"] == "context" for row in rows] == [True, True, False]
    told = capsys.readouterr().err
    assert told.count("warning") == 1
    assert "has no room and ends as 'context': the model's context is 2048 tokens, whatever engine.widths say" in told
    empty = write_lines(tmp_path / "empty.jsonl", [{"prompt": "Say"}, {"prompt": ""}])
    assert main([*arguments, "--prompts", str(empty)]) == 2
    assert "prompt 2 is empty" in capsys.readouterr().err


def test_generate_draws_as_it_is_told(tiny_model: Path, tmp_path: Path) -> None:
    policy = rest_jax.Policy(str(tiny_model))
    prompts = [f"Say {i}" for i in range(3)]
    greedy = rest_jax.generate(policy, prompts, max_tokens=6)
    assert [said.prompt for said in greedy] == prompts
    assert all(len(said.ids) == len(said.logprobs) == 6 for said in greedy)
    free = rest_jax.generate(policy, prompts, max_tokens=6, temperature=5.0)
    assert [said.ids for said in free] != [said.ids for said in greedy]
    for filters in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}):
        assert rest_jax.generate(policy, prompts, max_tokens=6, temperature=5.0, **filters) == greedy
    whole = greedy[0].text
    assert len(whole) > 2
    (stopped,) = rest_jax.generate(policy, prompts[:1], max_tokens=6, stop=["no such text", whole[1:3]])
    assert stopped.finish == "stop"
    assert stopped.text == whole[: whole.index(whole[1:3])]
    assert stopped.ids == greedy[0].ids[: len(stopped.ids)]

    written = tmp_path / "out.jsonl"
    asked = write_lines(tmp_path / "p.jsonl", [{"prompt": prompt} for prompt in prompts])
    arguments = ["generate", "--model", str(tiny_model), "--prompts", str(asked), "--max-tokens", "6"]
    options = ["--temperature", "1", "--top-k", "9", "--top-p", "0.8", "--min-p", "0.1", "--stop", "a", "--stop", "e"]
    assert main([*arguments, *options, "--seed", "3", "--json", str(written)]) == 0
    drawn = {"temperature": 1.0, "top_k": 9, "top_p": 0.8, "min_p": 0.1, "stop": ["a", "e"], "seed": 3}
    told = rest_jax.generate(policy, prompts, max_tokens=6, **drawn)
    lines = [json.loads(line) for line in written.read_text().splitlines()]
    assert lines == json.loads(json.dumps([asdict(said) for said in told]))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"prompts": "Say"}, "prompts is one string; give a list"),
        ({"stop": "\n"}, "stop is one string; give a list"),
        ({"stop": [""]}, "a stop string is empty"),
        ({"max_tokens": 0}, "max_tokens: expected at least 1, got 0"),
        ({"top_p": 0.0}, "top_p: expected more than 0"),
        ({"min_p": 1.5}, "min_p: expected at most 1"),
        ({"top_k": -1}, "top_k: expected at least 0"),
    ],
)
def test_generate_refuses_what_will_not_do_before_a_model_is_loaded(wrong: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        rest_jax.generate(rest_jax.Policy("no such model"), **{"prompts": ["Say"], "max_tokens": 2} | wrong)


def test_ask_narrates_a_run(finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(finished_run, tmp_path / "copy")
    config = (copy / "config.yaml").read_text()
    assert "replicas: 1\n" in config
    (copy / "config.yaml").write_text(config.replace("replicas: 1\n", "replicas: 99\n"))
    assert main(["ask", str(copy), "Who founded Vell?", "--compare", "pilot"]) == 0
    out, err = capsys.readouterr()
    assert "engine.replicas" not in err  # one question needs one engine, and no warning of too few devices
    assert "last generation answers" in out
    assert "pilot answers" in out


def test_narration_changes_nothing() -> None:
    def agent():
        reply = yield Generate(Transcript(), step="act", max_tokens=3)
        result = yield CallTool("search", {"query": reply})
        return finished(result.content)

    told: list[tuple[str, str]] = []
    wrapped = narrated(agent(), lambda kind, text: told.append((kind, text)))
    assert next(wrapped).step == "act"
    assert wrapped.send("x").arguments == {"query": "x"}
    with pytest.raises(StopIteration) as stop:
        wrapped.send(ToolReply("found"))
    assert stop.value.value.status is Status.FINISHED
    assert told == [("tool", "found"), ("answer", "found")]


def test_preflight_says_when_there_is_nothing_to_keep(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "preflight",
        str(tiny_config),
        "--run-dir",
        str(tmp_path / "none"),
        "--questions",
        "2",
        "--samples",
        "2",
    ]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "pass@1 0.0 % [0.0, 84.2], pass@2 0.0 % [0.0, 84.2]" in out
    assert "gate not passed: pass@1 0.0 % of at least 15 %, pass@2 0.0 % of at least 2 x pass@1, 0.0 %" in out
    assert "nothing to keep from the prompted model" in out


def test_preflight_refuses_what_the_run_would_be_refused_for(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["preflight", str(tiny_config), "--run-dir", str(tmp_path / "none"), "--set"]
    for override, why in (
        ("agent.name=react_to_cot_sc", "no model is trained to be it"),
        ("evaluate.final=100000", "100000 questions of select wanted"),
    ):
        assert main([*wanted, override]) == 2
        assert why in capsys.readouterr().err


def test_preflight_calls_right_what_the_task_does_and_says_what_memory_it_takes(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def generous(trajectory, question):
        return 1.0

    rest_jax.register_reward("generous", generous)
    arguments = ["preflight", str(tiny_config), "--run-dir", str(tmp_path / "none"), "--set", "task.reward=generous"]
    assert main([*arguments, "--questions", "2", "--samples", "2"]) == 0
    out = capsys.readouterr().out
    assert "pass@1 0.0 % [0.0, 84.2], pass@2 0.0 % [0.0, 84.2]" in out
    assert "the reward has something to keep" in out
    # 8 rows x 768 tokens x 2 layers x (keys and values) x 2 heads x 8 x 4 bytes
    rows = "weights 6 MiB, and beside them caches 2 MiB (8 rows of each width, 0.256 KB a token) and "
    assert re.search(rf"{re.escape(rows)}\d+ MiB to work in, or in an Improve", out)


def test_report_is_written_again(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = finished_run / "report.html"
    before = page.read_text()
    page.unlink()
    assert main(["report", str(finished_run)]) == 0
    assert page.read_text() == before
    assert capsys.readouterr().out.strip() == str(page)


def test_a_run_is_reported_and_asked_without_its_reward(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(finished_run, tmp_path / "copy")
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace("reward: default", "reward: of_another_script"))
    assert main(["report", str(copy)]) == 0
    assert main(["ask", str(copy), "Who?"]) == 0
    assert "of_another_script" in (copy / "report.html").read_text()


def test_the_python_api(finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def searches(trajectory, question):
        return min(1.0, trajectory.searches / 2)

    rest_jax.register_reward("searches", searches)
    task = rest_jax.Task("atlas", reward="searches")
    policy = rest_jax.Policy(str(finished_run / "stages" / "seed-0" / "pilot" / "model"))
    grown = rest_jax.grow(policy, task, questions=2, samples=2, temperature=1.0)
    assert len(grown.trajectories) == len(grown.rewards) == 4
    alike = rest_jax.grow(policy, task, questions=1, samples=2, temperature=1.0, top_k=1)
    assert len({trajectory.calls[0].candidates[0].ids for trajectory in alike.trajectories}) == 1
    settings = {"steps": 1, "warmup": 0, "mesh": MeshSettings(fsdp=2), "lora": LoraSettings(rank=4)}
    better = rest_jax.improve(policy, grown, threshold=-1.0, folder=tmp_path / "better", **settings)
    assert "rest_jax: kept 4 of 4 trajectories" in capsys.readouterr().err
    row = rest_jax.evaluate(better, task, n=2, split="select")
    assert row.n == 2
    assert (tmp_path / "better" / "model" / "config.json").is_file()
    with pytest.raises(UserError, match=r"better: holds a model already; name another folder, or remove .*model"):
        rest_jax.improve(better, grown, threshold=-1.0, folder=tmp_path / "better")
    assert catalog.resolve(better.model) == tmp_path / "better" / "model"


@pytest.mark.parametrize("setting", [{"include_seed": False}, {"start": "base"}])
def test_improve_refuses_what_it_would_ignore(setting: dict) -> None:
    with pytest.raises(UserError, match=f"improve: {next(iter(setting))} is a setting of a whole run; leave it out"):
        rest_jax.improve(rest_jax.Policy("any"), rest_jax.Grown((), {}), threshold=0.5, **setting)


def test_improve_without_anything_to_learn_from_says_what_to_change(tiny_model: Path, tmp_path: Path) -> None:
    policy = rest_jax.Policy(str(tiny_model))
    with pytest.raises(UserError, match=r"no trajectory passes the threshold 0\.5, the best reward is 0; lower it, or"):
        rest_jax.improve(policy, rest_jax.Grown((), {}), threshold=0.5, folder=tmp_path)
