"""Students: told and refused at the start by their sizes, and in memory one at a time."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest

from rest_jax.cli.main import main
from rest_jax.config.settings import AgentSettings, EngineSettings, ModelSettings, RestConfig, ToolsSettings
from rest_jax.core.events import Event
from rest_jax.recipes import memory, students
from rest_jax.recipes.memory import Available
from rest_jax.recipes.workbench import Workbench, open_workbench
from rest_jax.tasks.task import Task


def test_one_that_is_too_large_is_refused_before_the_first_stage(
    tiny_config: Path,
    smollm2: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(memory, "available", lambda: Available(None, 2**30, shared=True))
    run = tmp_path / "run"
    assert main(["run", str(tiny_config), "--run-dir", str(run), "--set", f"students=[{{name: {smollm2}}}]"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"student {smollm2.name}: memory" in said
    assert "in an Improve 2.5 GiB" in said
    assert not (run / "stages").exists()


def test_a_students_sampler_goes_when_its_row_is_made(tiny_model: Path) -> None:
    heard: list[Event] = []
    engine, agent = EngineSettings(rows=2, block=4, chunk=32, widths=(768,)), AgentSettings(name="closed_book", shots=0)
    opened = open_workbench(
        Task("toy", None, {}),
        model=ModelSettings(str(tiny_model)),
        agent_settings=agent,
        engine=engine,
        tools=ToolsSettings(),
        emit=heard.append,
    )
    with opened as bench:
        config = RestConfig(agent=agent, engine=engine, students=(ModelSettings(str(tiny_model)),))
        ((label, seat),) = students.seated(config, bench, offline=True).items()
        told = [event.data["text"] for event in heard if event.kind == "notice"]
        assert [line for line in told if line.startswith(f"student {label}: memory: weights ")]
        student = seat()
        assert isinstance(student, Workbench)
        assert student.base == bench.base
        sampler = weakref.ref(student.engine)
        assert sampler() is not bench.engine
        del student
        assert sampler() is None
