"""What `rest-jax launch render` writes, run here: seeds side by side, and the commands of a JobSet's pods."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rest_jax.launch.render import rendered, write
from tests.processes import free_port
from tests.waiting import wait_until


@pytest.mark.slow
@pytest.mark.multiprocess
def test_seeds_side_by_side_end_in_one_table(tiny_config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "two runs"
    overrides = [f"runs.config={tiny_config}", "runs.seeds=2", f"runs.folder={json.dumps(str(folder))}"]
    (script,) = write(rendered("local_multiprocess", overrides), tmp_path)
    command = tmp_path / "bin/rest-jax"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m rest_jax.cli.main \"$@\"\n")
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "REST_JAX_PROCESSES": "1"}

    done = subprocess.run([script], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "seeds 0, 1" in done.stdout
    assert json.loads((folder / "summary.json").read_text())["rows"]
    assert "process 0 of 1 (REST_JAX_PROCESSES=1)" in (folder / "seed-0.log").read_text()

    (folder / "seed-1/run.json").unlink()  # what is left is no run's
    again = subprocess.run([script], env=env, capture_output=True, text=True)
    assert again.returncode == 123
    assert f"seed 1 failed: see {folder}/seed-1.log" in again.stderr


@pytest.mark.slow
@pytest.mark.multiprocess
def test_the_pods_of_a_jobset_do_what_they_are_told(tiny_config: Path, tmp_path: Path) -> None:
    """Each pod as a process of this machine, with its own arguments and variables, and /runs somewhere else."""
    jobset = rendered("gke_gpu", [f"runs.config={tiny_config}", "runs.seeds=1", "runs.name=mine"])["gke/gpu.yaml"]
    port = free_port()
    elsewhere = {"/runs": str(tmp_path), "mine-tools-0-0.mine": "127.0.0.1", "8765": str(port), "$(SEED)": "0"}
    here = jobset
    for there, instead in elsewhere.items():
        here = here.replace(there, instead)
    pods = {
        job["name"]: job["template"]["spec"]["template"]["spec"]
        for job in yaml.safe_load(here)["spec"]["replicatedJobs"]
    }

    def command(container: dict) -> tuple[list[str], dict[str, str]]:
        told = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
        secret = {"REST_JAX_TOOLS_TOKEN": "of the secret"} if "REST_JAX_TOOLS_TOKEN" in str(container["env"]) else {}
        return [sys.executable, "-m", "rest_jax.cli.main", *container["args"]], {**os.environ, **told, **secret}

    def done(container: dict) -> str:
        words, env = command(container)
        finished = subprocess.run(words, env=env, capture_output=True, text=True)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    done(pods["tools"]["initContainers"][0])
    words, env = command(pods["tools"]["containers"][0])
    tools = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port), "the adapter listens")
        done(pods["seeds"]["containers"][0])
    finally:
        tools.terminate()
        tools.wait()
    assert "seeds 0" in done(pods["table"]["containers"][0])
    assert (tmp_path / "quickstart/evidence.jsonl").is_file()


def listens(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0
