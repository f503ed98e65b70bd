"""Several processes: who says that there are others, and that they find each other."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

import pytest

from rest_jax.core.errors import UserError
from rest_jax.distributed.group import joined
from rest_jax.distributed.probe import probe
from rest_jax.distributed.processes import Launched, launched, start
from tests.processes import by_hand, free_port, together

ALONE = "process 0 of 1 (no launcher says that there are others)"
SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
SLICE = {"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "1"}
SLICES = {**SLICE, "MEGASCALE_NUM_SLICES": "2", "MEGASCALE_SLICE_ID": "1"}


def without(environ: Mapping[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in environ.items() if key != name}


@pytest.mark.parametrize(
    ("environ", "said", "method"),
    [
        ({}, ALONE, "deactivate"),
        (SLURM, "process 1 of 2 (Slurm: SLURM_NTASKS=2)", "slurm"),
        (
            without(SLURM, "SLURM_STEP_NODELIST"),
            "process 0 of 1 (no launcher says that there are others)",
            "deactivate",
        ),
        (OPEN_MPI, "process 3 of 4 (Open MPI: OMPI_COMM_WORLD_SIZE=4)", "ompi"),
        (SLICE, "process 1 of 2 (GKE: 1 x 2 TPU hosts by TPU_WORKER_HOSTNAMES)", "gketpu"),
        (SLICES, "process 3 of 4 (GKE: 2 x 2 TPU hosts by TPU_WORKER_HOSTNAMES)", "gketpu"),
        ({"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}, "process 0 of 1 (GKE: 1 x 1 TPU", "gketpu"),
        ({**SLURM, **by_hand(3, 2, 1234)}, "process 2 of 3 (REST_JAX_PROCESSES=3)", "deactivate"),
        ({**SLURM, "REST_JAX_PROCESSES": "1"}, "process 0 of 1 (REST_JAX_PROCESSES=1)", "deactivate"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "1"}, ALONE, "deactivate"),
    ],
)
def test_who_says_that_there_are_others(environ: dict[str, str], said: str, method: str) -> None:
    found = launched(environ)
    assert str(found).startswith(said)
    assert found.method == method


def test_jax_knows_the_detectors_by_these_names() -> None:
    from jax._src.clusters import ClusterEnv

    known = {detector.name for detector in ClusterEnv._cluster_types}
    assert {launched(environ).method for environ in (SLURM, OPEN_MPI, SLICE)} <= known


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"REST_JAX_PROCESSES": "two"}, "REST_JAX_PROCESSES='two' is no whole number from 1 on; correct it"),
        ({"REST_JAX_PROCESS": "0"}, "REST_JAX_PROCESS is set and REST_JAX_PROCESSES is not; set both, or none"),
        ({"REST_JAX_PROCESSES": "2"}, "REST_JAX_PROCESSES=2 and no REST_JAX_PROCESS; set it to its number, from 0"),
        (without(by_hand(2, 0, 1), "JAX_COORDINATOR_ADDRESS"), "and no JAX_COORDINATOR_ADDRESS; set it to HOST:PORT"),
        ({**by_hand(2, 0, 1), "JAX_COORDINATOR_ADDRESS": "here"}, "=here is no HOST:PORT; set it to that of process 0"),
        (by_hand(2, 2, 1), "REST_JAX_PROCESSES=2: there is no process 2 of 2; they count from 0"),
        ({**SLURM, "SLURM_NTASKS": ""}, "SLURM_NTASKS='' is no whole number from 1 on"),
        (without(SLICE, "TPU_WORKER_ID"), "TPU_WORKER_ID='' is no whole number from 0 on"),
    ],
)
def test_numbers_that_do_not_go_together(environ: dict[str, str], said: str) -> None:
    with pytest.raises(UserError) as refused:
        launched(environ)
    assert said in str(refused.value)


def test_one_process_starts_nothing() -> None:
    start(Launched(), within_s=1)
    with joined(Launched()) as group:
        assert (group.index, group.count) == (0, 1)


@pytest.mark.multiprocess
def test_two_processes_find_each_other() -> None:
    port = free_port()
    command = [sys.executable, "-m", "rest_jax.cli.main", "doctor", "--processes", "--json"]
    two_devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    environs = [{**by_hand(2, index, port), **two_devices} for index in range(2)]
    for index, (code, out) in enumerate(together([command] * 2, environs)):
        assert code == 0
        found = {finding["name"]: finding for finding in json.loads(out) if finding["section"] == "processes"}
        assert found["this"]["value"] == f"process {index} of 2 (REST_JAX_PROCESSES=2)"
        assert found["together"]["value"] == "devices of each: [2, 2]"
        assert found["together"]["mend"] == ""


@pytest.mark.multiprocess
def test_a_process_whose_others_do_not_come_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in by_hand(2, 1, free_port()).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as refused:
        probe(launched(), within_s=1)
    said = str(refused.value)
    assert said.startswith("process 1 of 2 (REST_JAX_PROCESSES=2): they do not come together within 1 s (DEADLINE")
    assert said.endswith("or set REST_JAX_PROCESSES, REST_JAX_PROCESS and JAX_COORDINATOR_ADDRESS=HOST:PORT in each")
    assert "\n" not in said


@pytest.mark.multiprocess
def test_a_run_is_refused_where_jax_is_several_processes_and_nobody_said_so() -> None:
    """As on a TPU slice of several hosts, of which no variable tells."""
    port = free_port()
    code = f"""
import sys, jax
from rest_jax.distributed.group import joined
from rest_jax.distributed.processes import Launched
jax.distributed.initialize("127.0.0.1:{port}", 2, int(sys.argv[1]))
try:
    with joined(Launched()):
        pass
except Exception as error:
    print(error)
"""
    for _, out in together([[sys.executable, "-c", code, str(index)] for index in range(2)], [{}] * 2):
        assert (
            "JAX has the devices of 2 processes here, of which no launcher told; say so with REST_JAX_PROCESSES" in out
        )
