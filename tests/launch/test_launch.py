"""What `rest-jax launch render` writes: strict settings in, files out that their own checkers take, and that do what
they say wherever that can be tried here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from rest_jax.cli.main import main
from rest_jax.core.errors import UserError
from rest_jax.launch.render import TARGETS, rendered, write

ROOT = Path(__file__).parents[2]
HOSTILE = "configs/it's $(touch owned) `touch owned` $SEED $(SEED).yaml"
"""A path that no shell and no cluster may read as anything else."""
CHANGED = [f"runs.config={json.dumps(HOSTILE)}", "runs.seeds=2"]


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


def bash(script: Path, *words: str, cwd: Path, path: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs a rendered script where the programs in `path` come first."""
    env = {**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}", **environ}
    return subprocess.run(["bash", str(script), *words], cwd=cwd, env=env, capture_output=True, text=True)


def said(file: Path) -> list[list[str]]:
    """The calls that a `recorder` wrote, each as its words, in any order."""
    return sorted(line.split("\x1f") for line in file.read_text().splitlines())


def recorder(path: Path, into: Path) -> None:
    """A program that notes the words that it was given."""
    program(path, f"""(IFS=$'\\x1f'; echo "$*" >>'{into}')""")


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> str:
    return request.param


def test_what_is_committed_is_what_the_defaults_say() -> None:
    expected = {path: text for name in TARGETS for path, text in rendered(name).items()}
    committed = {
        file.relative_to(ROOT / "launch").as_posix() for file in (ROOT / "launch").rglob("*") if file.is_file()
    }
    assert committed == set(expected)
    for path, text in expected.items():
        file = ROOT / "launch" / path
        assert file.read_text(encoding="utf-8") == text, f"{path}: `rest-jax launch render` writes another one"
        assert os.access(file, os.X_OK) is text.startswith("#!")


def test_every_file_names_its_page_and_what_it_never_did(target: str) -> None:
    for path, text in rendered(target).items():
        page = next(word for word in text.split() if word.startswith("docs/launch/")).rstrip(".")
        assert (ROOT / page).is_file()
        assert ("ntested" in text) is (path != "local_multiprocess.sh")


def test_files_are_written_and_never_over_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["launch", "render", "slurm", "--out", str(tmp_path)]
    assert main(command) == 0
    file = tmp_path / "slurm/seeds.sbatch"
    assert capsys.readouterr().out == f"{file}\n"
    assert main(command) == 0
    file.write_text("mine")
    capsys.readouterr()
    assert main([*command, "--set", "gpus=0"]) == 2
    assert "seeds.sbatch: holds something else; remove it, or give another --out" in capsys.readouterr().err
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("target", "override", "why"),
    [
        ("slurm", "gpu=1", "unknown key 'gpu'; did you mean 'gpus'?"),
        ("slurm", "gpus=-1", "gpus: expected at least 0, got -1"),
        ("slurm", "options=[qos=long]", "options: expected --NAME or --NAME=VALUE, got 'qos=long'"),
        ("slurm", 'options=["--qos=a\\nrm -r x"]', "options: expected one line of text"),
        ("slurm", 'environment="a\\nb"', "environment: expected one line of text"),
        ("slurm", "runs.seeds=0", "runs.seeds: expected at least 1, got 0"),
        ("slurm", "runs.name=Rest_jax", "runs.name: expected up to 40 of a-z, 0-9 and -, from a letter on"),
        ("slurm", "runs.settings=[engine.rows]", "runs.settings: expected KEY=VALUE, got 'engine.rows'"),
        ("slurm", f"runs.config={ROOT}/pyproject.toml", "pyproject.toml"),
        ("gke_tpu", "node.topology=4x4", "node.topology: expected one of 1x1, 2x2, 2x4, 2x2x1"),
        ("gke_tpu", "node.topology=2x2x1", "2x2x1 is no host of tpu-v6e-slice; v4 and v5p have 2x2x1, others not"),
        ("gke_gpu", "runs.folder=runs/mine", "folder runs/mine goes with its pod; the volume that stays is mounted at"),
        ("gke_gpu", 'adapter.serve=["--corpus=a\\n"]', "adapter.serve: expected one line of text"),
        ("tpu_vm", "accelerator=v6e-16", "accelerator: expected one of v4-8, v5litepod-1"),
        ("tpu_vm", "runs.folder=/runs", "folder /runs is not relative"),
    ],
)
def test_settings_are_strict(target: str, override: str, why: str) -> None:
    with pytest.raises(UserError) as refused:
        rendered(target, [override])
    assert why in str(refused.value)


def test_settings_of_the_runs_are_checked_where_their_configuration_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match="unknown key 'row' in engine; did you mean 'rows'"):
        rendered("slurm", ["runs.settings=[engine.row=4]"])
    assert "--set=engine.rows=4" in rendered("slurm", ["runs.settings=[engine.rows=4]"])["slurm/seeds.sbatch"]


@pytest.mark.parametrize(
    ("target", "overrides", "replicas"),
    [
        ("slurm", ["gpus=4"], 4),
        ("gke_tpu", ["node.topology=2x4"], 8),
        ("gke_tpu", ["node.accelerator=tpu-v4-podslice", "node.topology=2x2x1"], 4),
        ("gke_gpu", ["node.gpus=2"], 2),
        ("tpu_vm", ["accelerator=v5p-8"], 4),
    ],
)
def test_each_device_of_a_run_has_a_sampler(target: str, overrides: list[str], replicas: int) -> None:
    text = next(iter(rendered(target, overrides).values()))
    assert f"--set=engine.replicas={replicas}" in text
    assert "engine.replicas" not in next(iter(rendered(target).values()))


def test_shells_take_what_is_written(target: str, tmp_path: Path) -> None:
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for overrides in ([], CHANGED, ["gpus=true"] if target == "local_multiprocess" else []):
        changed = [one.replace('"configs', '"/runs/configs') if target.startswith("gke") else one for one in overrides]
        for file in write(rendered(target, changed), tmp_path / str(len(overrides))):
            if file.read_text().startswith("#!"):
                subprocess.run(["bash", "-n", str(file)], check=True)
                if shellcheck is not None:
                    subprocess.run([shellcheck, "--shell=bash", "--severity=warning", str(file)], check=True)


@pytest.mark.parametrize("target", ["gke_tpu", "gke_gpu"])
@pytest.mark.parametrize("overrides", [[], [*CHANGED, "cluster.queue=mine", "cluster.at_once=1"]])
def test_clusters_take_what_is_written(target: str, overrides: list[str]) -> None:
    models = pytest.importorskip("kubeflow_trainer_api.models", reason="needs the extra `test`")
    validate = pytest.importorskip("kubernetes_validate", reason="needs the extra `test`").validate
    jobset = manifest(target, overrides)
    read = models.JobsetV1alpha2JobSet.from_dict
    assert list(lost(jobset, read(jobset).to_dict())) == []
    misspelt = {**jobset, "spec": {**jobset["spec"], "sucessPolicy": {}}}
    assert list(lost(misspelt, read(misspelt).to_dict())) == [".spec.sucessPolicy"]
    for job in jobset["spec"]["replicatedJobs"]:
        named = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": job["name"]}}
        validate({**named, "spec": job["template"]["spec"]}, "1.37", strict=True)


def manifest(target: str, overrides: list[str]) -> dict[str, Any]:
    return yaml.safe_load(next(text for path, text in rendered(target, overrides).items() if path.endswith(".yaml")))


def lost(written: Any, read: Any, path: str = "") -> Iterator[str]:
    """Where a model, which takes unknown keys in silence, does not give back what it was given."""
    if isinstance(written, Mapping) and isinstance(read, Mapping):
        for key, value in written.items():
            yield from lost(value, read.get(key), f"{path}.{key}")
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for place, (mine, theirs) in enumerate(zip(written, read, strict=True)):
            yield from lost(mine, theirs, f"{path}.{place}")
    elif written != read:
        yield path


def test_what_needs_no_task_prepares_none() -> None:
    tools = manifest("gke_tpu", ["adapter.prepare=[]"])["spec"]["replicatedJobs"][0]
    assert "initContainers" not in tools["template"]["spec"]["template"]["spec"]


def test_the_pods_of_a_jobset_know_each_other() -> None:
    jobset = manifest("gke_tpu", [*CHANGED, "runs.name=mine", "cluster.queue=q"])
    jobs = {job["name"]: job for job in jobset["spec"]["replicatedJobs"]}
    assert list(jobs) == ["tools", "seeds", "table"]
    assert jobset["metadata"] == {"name": "mine", "labels": {"kueue.x-k8s.io/queue-name": "q"}}
    pods = {name: job["template"]["spec"]["template"]["spec"] for name, job in jobs.items()}
    (run,) = pods["seeds"]["containers"]
    assert run["args"][1] == HOSTILE.replace("$(", "$$(")
    assert run["args"][2:] == [
        "--seed=$(SEED)",
        "--run-dir=/runs/quickstart/seed-$(SEED)",
        "--set=tools.url=http://mine-tools-0-0.mine:8765",
    ]
    assert run["resources"]["limits"]["google.com/tpu"] == 1
    assert "google.com/tpu" not in json.dumps([pods["tools"], pods["table"]])
    (tools,), (table,) = pods["tools"]["containers"], pods["table"]["containers"]
    assert tools["args"] == [
        "tools",
        "serve",
        "--host=0.0.0.0",
        "--port=8765",
        "--corpus=/runs/cache/tasks/atlas-7.jsonl",
    ]
    assert table["args"][:3] == ["pool", "/runs/quickstart/seed-0", "/runs/quickstart/seed-1"]
    tokens = [[entry["name"] for entry in one["env"]].count("REST_JAX_TOOLS_TOKEN") for one in (tools, run, table)]
    assert tokens == [1, 1, 0]


def test_a_slurm_job_runs_its_own_seed(tmp_path: Path) -> None:
    (file,) = write(rendered("slurm", [*CHANGED, "environment=ready=1", "options=[--qos=long]"]), tmp_path / "launch")
    recorder(tmp_path / "bin/rest-jax", tmp_path / "calls")
    done = bash(file, cwd=tmp_path, path=tmp_path / "bin", SLURM_ARRAY_TASK_ID="1")
    assert done.returncode == 0, done.stderr
    assert said(tmp_path / "calls") == [["run", HOSTILE, "--seed", "1", "--run-dir", "runs/quickstart/seed-1"]]
    assert not (tmp_path / "owned").exists()
    head, _, body = file.read_text().partition("set -euo pipefail")
    assert "#SBATCH" not in body
    assert {"#SBATCH --array=0-1", "#SBATCH --qos=long", "#SBATCH --ntasks=1"} <= set(head.splitlines())


def test_a_tpu_vm_is_asked_for_what_its_seed_needs(tmp_path: Path) -> None:
    """No cloud is here: `gcloud` notes its words, and runs a VM's command in that VM's folder."""
    (file,) = write(rendered("tpu_vm", [*CHANGED, "spot=true"]), tmp_path / "launch")
    program(
        tmp_path / "bin/gcloud",
        f"""
        (IFS=$'\\x1f'; words=("$@"); echo "${{words[*]//$'\\n'/ }}" >>'{tmp_path}/calls')
        if [[ "$4" == ssh ]]; then cd '{tmp_path}'/"$5" && command="${{*: -1}}" && bash -c "${{command#--command=}}"; fi
        """,
    )
    for seed in (0, 1):
        recorder(tmp_path / f"rest-jax-{seed}/rest_jax/.venv/bin/rest-jax", tmp_path / f"seed-{seed}")
    for verb in ("create", "start", "status", "delete"):
        done = bash(file, verb, cwd=tmp_path, path=tmp_path / "bin")
        assert done.returncode == 0, done.stderr
    assert bash(file, "strat", cwd=tmp_path, path=tmp_path / "bin").returncode == 2
    for seed in (0, 1):
        folder = f"runs/quickstart/seed-{seed}"
        run = ["run", HOSTILE, "--seed", str(seed), "--run-dir", folder]
        assert run in said(tmp_path / f"seed-{seed}")
        assert ["status", folder] in said(tmp_path / f"seed-{seed}")
    created = [call for call in said(tmp_path / "calls") if call[2:4] == ["queued-resources", "create"]]
    assert [call[4] for call in created] == ["rest-jax-0", "rest-jax-1"]
    assert {"--accelerator-type=v6e-1", "--runtime-version=v2-alpha-tpuv6e", "--spot"} <= set(created[0])
    assert not list(tmp_path.rglob("owned"))
