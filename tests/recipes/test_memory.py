"""What is said of memory, and what is refused before it is taken."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from tiny_runs import TINY

from rest_jax.cli.main import main
from rest_jax.config.improve import ImproveSettings, LoraSettings, MeshSettings
from rest_jax.config.settings import EngineSettings
from rest_jax.core.errors import UserError
from rest_jax.models.decoder import abstract_params, parameters
from rest_jax.recipes.memory import FROZEN_BYTES, TRAINED_BYTES, Available, Memory, memory
from rest_jax.sampling.footprint import Footprint

GIB = 2**30
ENGINE = EngineSettings(rows=64, resident=256, widths=(512, 1024))
EACH = Footprint(token=32768, weights=2 * GIB, caches=2 * GIB, parked=6 * GIB, working=GIB)
HELD = Memory(EACH, devices=1, loading=GIB, training=3 * GIB)


def device(gib: float, host: float = 99) -> Available:
    return Available(int(gib * GIB), int(host * GIB), shared=False)


def cpu(gib: float) -> Available:
    return Available(None, int(gib * GIB), shared=True)


def test_the_line_tells_parked_rows_only_when_there_can_be_any() -> None:
    none = HELD.line(replace(ENGINE, resident=None))
    assert "32.8 KB a token) and 1.0 GiB to work in, or in an Improve 3.0 GiB" in none
    assert "KB a token), parked rows up to 6.0 GiB (192, on the device) and 1.0 GiB to" in HELD.line(ENGINE)
    assert "memory: weights 2.0 GiB, and" in HELD.line(ENGINE)
    assert "memory on each of 8 devices: weights" in replace(HELD, devices=8).line(ENGINE)
    assert "(192, pinned in the host)" in HELD.line(replace(ENGINE, park="host"))
    assert "Improve" not in replace(HELD, training=0).line(ENGINE)
    written = replace(HELD, writing=2 * GIB).line(ENGINE)
    assert written.endswith("or in an Improve 3.0 GiB and its activations, and 2.0 GiB of the host for a checkpoint")


@pytest.mark.parametrize(
    ("available", "told"),
    [
        (device(10.9), r"11\.0 GiB in all, of 10\.9 GiB that the device has left; lower engine\.resident \(256\)"),
        (device(5), r"engine\.resident \(256\), or set engine\.park to host"),
        (device(4.9), r"5\.0 GiB in all, of 4\.9 GiB that the device has left; choose a smaller model"),
        (device(11, host=0.9), r"1\.0 GiB in all, of 922 MiB that the host has left; choose a smaller model"),
        (cpu(10.9), r"11\.0 GiB in all, of 10\.9 GiB that the host has left; lower engine\.resident \(256\)$"),
        (cpu(4.9), r"of 4\.9 GiB that the host has left; choose a smaller model"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_setting_to_turn(available: Available, told: str) -> None:
    with pytest.raises(UserError, match=told):
        HELD.refuse_more_than(available, ENGINE)


def test_rows_are_to_be_lowered_where_caches_alone_are_too_large() -> None:
    large = replace(HELD, each=replace(EACH, caches=9 * GIB))
    for available in (device(10), cpu(10)):
        with pytest.raises(UserError, match=r"; lower engine\.rows \(64\), engine\.resident or the widest .* \(1024\)"):
            large.refuse_more_than(available, ENGINE)


def test_rows_parked_on_the_host_count_there() -> None:
    on_host = replace(ENGINE, park="host")
    replace(HELD, devices=2).refuse_more_than(device(5, host=13), on_host)
    with pytest.raises(UserError, match=r"13\.0 GiB in all, of 12\.9 GiB that the host has left; .*park to device$"):
        replace(HELD, devices=2).refuse_more_than(device(5, host=12.9), on_host)


def test_the_devices_of_a_cpu_share_its_memory() -> None:
    two, settings = replace(HELD, devices=2, training=0), replace(ENGINE, resident=None, replicas=2)
    two = replace(two, each=replace(EACH, parked=0))
    two.refuse_more_than(cpu(10), settings)
    with pytest.raises(UserError, match=r"10\.0 GiB in all, of 9\.9 .* lower engine\.replicas \(2\), or lower engine"):
        two.refuse_more_than(cpu(9.9), settings)


def test_what_fits_is_not_refused_and_neither_is_what_nobody_knows() -> None:
    HELD.refuse_more_than(device(11), ENGINE)
    HELD.refuse_more_than(cpu(11), ENGINE)
    HELD.refuse_more_than(device(5, host=7), replace(ENGINE, park="host"))
    replace(HELD, training=8 * GIB).refuse_more_than(device(11), ENGINE)
    HELD.refuse_more_than(Available(None, None, shared=True), ENGINE)
    HELD.refuse_more_than(Available(None, 99 * GIB, shared=False), ENGINE)


def test_it_is_told_from_the_config_alone(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    settings = EngineSettings(rows=2, resident=5, chunk=32, widths=(96, 192), replicas=2)
    held = memory(tmp_path, settings, jnp.dtype("float32"), [ImproveSettings()])
    params = sum(leaf.size for leaf in jax.tree.leaves(abstract_params(TINY)))
    assert (held.training, held.writing) == (TRAINED_BYTES * params, 0)  # on a CPU nothing is copied first
    assert held.loading == 4 * 4 * TINY.vocab * TINY.width
    assert held.devices == 2
    assert held.each.weights == 4 * params
    half = memory(tmp_path, settings, jnp.dtype("bfloat16"))
    assert (2 * half.each.weights, half.training) == (held.each.weights, 0)


def test_each_device_of_a_mesh_holds_its_part_of_an_improve(tiny_model: Path) -> None:
    def training(*shape: int) -> tuple[int, int]:
        improve = ImproveSettings(rows=8, mesh=MeshSettings(*shape))
        held = memory(tiny_model, EngineSettings(), jnp.dtype("float32"), [improve])
        return held.training, held.training_devices

    whole, norms = TRAINED_BYTES * parameters(TINY), TRAINED_BYTES * TINY.width * (2 * TINY.layers + 1)
    assert training(4, 1, 1) == (whole, 4)
    assert training(2, 2, 2) == (norms + (whole - norms) // 4, 8)
    with pytest.raises(UserError, match=r"tensor = 4 does not divide 2 kv_heads .* one of 1, 2$"):
        training(1, 1, 4)
    with pytest.raises(UserError, match="needs 16 devices, 8 are here"):
        training(8, 2, 1)


def test_adapters_take_less_than_all_parameters(tiny_model: Path) -> None:
    improve = ImproveSettings(lora=LoraSettings(rank=2))
    held = memory(tiny_model, EngineSettings(), jnp.dtype("float32"), [improve])
    adapters = 2 * TINY.layers * (4 * TINY.width + 2 * (TINY.width + 16) + 3 * (TINY.width + TINY.hidden))
    assert held.training == TRAINED_BYTES * adapters + FROZEN_BYTES * parameters(TINY)


def test_a_checkpoint_that_is_written_counts_on_the_host() -> None:
    large = replace(HELD, writing=7 * GIB)
    for available in (device(11, host=7), cpu(12)):
        large.refuse_more_than(available, ENGINE)
    for available, told in ((device(11, host=6.9), r"7\.0 GiB in all, of 6"), (cpu(11.9), r"12\.0 GiB in all, of 11")):
        with pytest.raises(UserError, match=rf"{told}\.9 GiB that the host has left; choose a smaller model"):
            large.refuse_more_than(available, ENGINE)


def test_a_line_tells_the_devices_of_an_improve() -> None:
    assert "or in an Improve 3.0 GiB on each of 4 devices and its" in replace(HELD, training_devices=4).line(ENGINE)
    with pytest.raises(UserError, match=r"14\.0 GiB in all, of 13\.9 GiB that the host has left; choose a smaller"):
        replace(HELD, training_devices=4).refuse_more_than(cpu(13.9), ENGINE)


@pytest.mark.parametrize("command", ["generate", "eval"])
def test_rows_that_this_machine_cannot_hold_are_refused_before_weights_are_read(
    command: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder has no weights, and nobody gets as far as to miss them."""
    unread = shutil.copytree(tiny_model, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": "Say"}) + "\n")
    arguments = {
        "generate": ["--prompts", str(tmp_path / "p.jsonl"), "--max-tokens", "3"],
        "eval": ["--task", "atlas", "--limit", "1"],
    }[command]
    many = [*arguments, "--set", "engine.rows=100_000_000", "--json", str(tmp_path / "out")]
    assert main([command, "--model", str(unread), *many]) == 2
    said = capsys.readouterr().err
    assert "GiB that the host has left; lower engine.rows (100000000) or the widest of engine.widths (2048)" in said
    assert said.count("\n") == 1
