"""The benchmarks from end to end, on a tiny model: every row is there, and the systems did the same work."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from benchmarks import decode, prefilled, probes, questions, rollout, train

MOST_CALLS = {
    "react": 3,
    "self_refine": 9,
    "critic": 13,
    "reflexion": 19,
    "reflexion_self": 23,
    "resample": 15,
    "rise": 5,
}
"""Of one question with three turns: what docs/methods.md says."""
TINY_DECODE = ["--model", "tiny", "--batches", "2", "--contexts", "96", "--repeats", "2", "--dtype", "float32"]


def run_decode(tmp_path: Path, python: str) -> dict:
    assert decode.main(["--json", str(tmp_path / "out.json"), "--torch", python, *TINY_DECODE]) == 0
    return json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))


def test_decode_without_torch_measures_ours_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = run_decode(tmp_path, shutil.which("false") or "false")
    assert [(row["engine"], row["batch"], row["context"], row["dtype"]) for row in told["rows"]] == [
        ("rest_jax", batch, 96, "float32") for batch in (2,)
    ]
    for row in told["rows"]:
        # So short a reply's rates may be lost in the noise; its time is not.
        assert {"prefill_tok_s", "decode_tok_s", "roofline"} <= row.keys()
        assert 0 < row["total_s_least"] <= row["total_s"] <= row["total_s_most"]
    assert {"cpu", "cores", "jax", "commit", "date", "command"} <= told["about"].keys()
    (note,) = told["notes"]
    assert "no rows of Hugging Face" in note
    assert "rest_jax" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.multiprocess
def test_decode_beside_torch_checks_its_tokens_first(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the extra `reference` is not installed")
    told = run_decode(tmp_path, sys.executable)
    assert told["notes"][0].startswith("checked first: 256 of 256 greedy tokens")
    assert {row["engine"] for row in told["rows"]} >= {"rest_jax", "hf-dynamic", "hf-static"}
    assert told["about"]["hf"]["threads"] == told["about"]["cores"]


def test_decode_refuses_a_context_without_a_prompt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert decode.main(["--json", str(tmp_path / "out.json"), "--model", "tiny", "--contexts", "64"]) == 2
    assert "leaves no prompt" in capsys.readouterr().err


def run_train(tmp_path: Path, python: str) -> dict:
    small = "--model tiny --rows 2 --length 96 --repeats 2"
    assert train.main(["--json", str(tmp_path / "out.json"), "--torch", python, *small.split()]) == 0
    return json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))


def test_train_without_torch_measures_ours_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = run_train(tmp_path, shutil.which("false") or "false")
    rows = {row["engine"]: row for row in told["rows"]}
    assert rows.keys() == train.VARIANTS.keys()
    examples, tokens, learned = (rows["rest_jax"][key] for key in ("examples", "tokens", "learned"))
    assert (rows["rest_jax"]["rows"], rows["rest_jax"]["length"]) == (2, 96)
    assert rows["padded"]["rows"] == examples > 2
    for row in rows.values():
        assert 0 < learned < tokens <= row["rows"] * row["length"]
        assert row["useful_tok_s"] / row["tok_s"] == pytest.approx(learned / tokens)
        assert 0 < row["seconds_least"] <= row["seconds"] <= row["seconds_most"]
        assert (row["mfu"] is None) if row["engine"] == "lora" else row["mfu"] > 0
    assert {"cpu", "cores", "jax", "commit", "date", "command"} <= told["about"].keys()
    checked, absent = told["notes"]
    assert checked.startswith("checked first: the loss")
    assert "no rows of Hugging Face" in absent
    assert "rest_jax" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.multiprocess
def test_train_beside_torch_has_its_loss_and_gradient(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the extra `reference` is not installed")
    told = run_train(tmp_path, sys.executable)
    assert {row["engine"] for row in told["rows"]} == {*train.VARIANTS, "hf-padded", "hf-packed"}
    assert "of all 7 agrees" in told["notes"][0]
    assert told["about"]["hf"]["threads"] == told["about"]["cores"]


def test_train_refuses_rows_that_hold_no_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--json", str(tmp_path / "out.json"), "--model", "tiny", "--length", "8"]) == 2
    assert "8 tokens hold no example" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.multiprocess
def test_the_ladder_does_the_same_work_on_every_step(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    small = "--shape tiny --rows 2 --resident 4 --turns 3 --turn-tokens 8 --rounds 1 --repeats 1 --dtype float32"
    assert rollout.main(["--json", str(out), *small.split()]) == 0
    told = json.loads(out.read_text(encoding="utf-8"))
    rows = {(row["system"], row["latency_turns"]): row for row in told["rows"]}
    assert rows.keys() == {(name, latency) for name in ("S0", "S1", "S2", "S3", "S4") for latency in (0, 0.3, 1, 3)}
    assert {name: row["trajectories"] for (name, _), row in rows.items()} == {
        "S0": 1,
        "S1": 2,
        "S2": 2,
        "S3": 4,
        "S4": 4,
    }
    amplified = {name: row["prefill_amplification"] for (name, _), row in rows.items()}
    # One trajectory shares nothing with itself: kept, each token is computed once; anew, the first ones in each turn.
    assert amplified["S0"] > 2
    assert amplified["S1"] > amplified["S2"] >= 1
    assert amplified["S3"] > amplified["S4"] == pytest.approx(1, abs=0.05)
    for (_, latency), row in rows.items():
        assert row["hiding_efficiency"] == 1 or latency > 0
        assert row["turn_s"] == rows["S0", 0]["turn_s"]
        assert row["latency_s"] == pytest.approx(latency * row["turn_s"])
        assert 0 <= row["device_idle"] < 1
        assert 0 < row["outside_engine"] < 1
        assert row["device_s"] > 0
    assert "parked" in told["notes"][1]
    methods = {(row["method"], row["system"]): row for row in told["about"]["methods"]}
    names = [method.name for method in prefilled.counted()]
    assert methods.keys() == {(name, system) for name in names for system in ("S3", "S4")}
    for name in names:
        kept, shared = methods[name, "S3"], methods[name, "S4"]
        assert kept["finished"] == kept["trajectories"] == shared["finished"] == 4
        assert (kept["calls"], kept["unique"]) == (shared["calls"], shared["unique"])
        assert shared["prefill_amplification"] >= 1
    assert {name: methods[name, "S4"]["calls"] / 4 for name in MOST_CALLS} == MOST_CALLS
    assert methods["react", "S3"]["prefill_amplification"] > methods["react", "S4"]["prefill_amplification"]


@pytest.mark.slow
def test_every_probe_of_a_gpu_runs_tiny_and_what_does_not_run_here_is_said(tmp_path: Path) -> None:
    asked = [word for question in probes.QUESTIONS for word in ("--ask", question)]
    assert probes.main(["--json", str(tmp_path / "out.json"), "--flags", "default", "--dtype", "float32", *asked]) == 0
    told = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert {row["question"] for row in told["rows"]} == probes.QUESTIONS.keys()
    assert {"jax", "device", "commit", "bytes_per_s"} <= told["about"].keys()
    kernels = {row["what"]: row for row in told["rows"] if row["question"] == "attention" and row["filled"] == 0.5}
    assert kernels.keys() == {"xla", "pallas split", "pallas paged"}
    assert all(row["difference"] < 1e-5 for row in kernels.values())
    assert any("cudnn does not run here" in note for note in told["notes"])


@pytest.mark.multiprocess
def test_xla_itself_says_which_command_buffers_are_its_default(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert questions.main(["--json", str(out), "--ask", "defaults"]) == 0
    told = json.loads(out.read_text(encoding="utf-8"))
    (row,) = told["rows"]
    assert row["what"].startswith(f"jaxlib {version('jaxlib')}: ")
    assert {"CUBLAS", "CUDNN", "FUSION"} <= set(row["what"].partition(": ")[2].split(", "))
    assert not told["notes"]


@pytest.mark.slow
@pytest.mark.multiprocess
def test_the_questions_are_asked_under_all_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert questions.main(["--json", str(tmp_path / "out.json"), "--quick"]) == 0
    told = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    asked = {(row["question"], row["flags"]) for row in told["rows"]}
    assert asked == {(questions.DEFAULTS, "default")} | {
        (question, flags) for question, under in questions.ASKED.items() for flags in under
    }
    assert "cuBLAS" in capsys.readouterr().out
    refused = questions.measured("default", ["gemm"], ["--no-such-option"])
    assert refused["rows"] == []
    assert "unrecognized arguments: --no-such-option" in refused["notes"][0]
