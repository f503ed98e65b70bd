"""A run's folder: stages done once, parts kept, other runs refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rest_jax.config.loader import loaded
from rest_jax.config.plain import FREE
from rest_jax.core.errors import UserError
from rest_jax.core.events import Event, Listener, silent, warning
from rest_jax.core.files import PART
from rest_jax.distributed.group import Group
from rest_jax.recipes.stages import CLOCK, MANIFEST, RUN, WARNINGS, finished_stages, open_run, read_environment
from tests.threads import in_threads


@dataclass(frozen=True)
class Part:
    steps: int = 3


@dataclass(frozen=True)
class Config:
    name: str = "d"
    parts: tuple[Part, ...] = (Part(), Part(4))
    workers: int = field(default=1, metadata=FREE)


def opened(
    path: Path, config: Any = Config(), *, jax: str = "0.10", emit: Listener = silent, group: Group | None = None
):
    return open_run(path, loaded(config), {"jax": jax}, emit, group)


class Counted:
    def __init__(self, results: Mapping[str, Any]) -> None:
        self.results, self.calls = results, 0

    def __call__(self, folder: Path) -> Mapping[str, Any]:
        self.calls += 1
        (folder / "part").write_text("kept")
        return self.results


def test_a_finished_stage_is_not_done_again(tmp_path: Path) -> None:
    work = Counted({"em": 0.5})
    for _ in range(2):
        with opened(tmp_path / "run") as run:
            done = run.stage("seed-0/pilot", {"a": 1}, work)
            assert (done.results, done.folder.name) == ({"em": 0.5}, "pilot")
    assert work.calls == 1
    assert [done.name for done in finished_stages(tmp_path / "run")] == ["seed-0/pilot"]


def test_a_stage_that_failed_keeps_its_parts_and_goes_on(tmp_path: Path) -> None:
    def fails(folder: Path) -> Mapping[str, Any]:
        (folder / "part").write_text("kept")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), opened(tmp_path / "run") as run:
        run.stage("grow", {"a": 1}, fails)
    assert finished_stages(tmp_path / "run") == []
    with opened(tmp_path / "run") as run:
        run.stage("grow", {"a": 1}, lambda folder: {"part": (folder / "part").read_text()})
    assert finished_stages(tmp_path / "run")[0].results == {"part": "kept"}


def test_a_stage_took_as_long_as_all_its_attempts(tmp_path: Path) -> None:
    def fails(folder: Path) -> Mapping[str, Any]:
        raise KeyboardInterrupt

    clock = tmp_path / "run" / "stages" / "grow" / CLOCK
    for attempt in range(2):
        with pytest.raises(KeyboardInterrupt), opened(tmp_path / "run") as run:
            run.stage("grow", {}, fails)
        told = json.loads(clock.read_text())
        assert 100 * attempt <= told["before"] < 100 * attempt + 50
        clock.write_text(json.dumps({**told, "begun": told["begun"] - 100}))
    with opened(tmp_path / "run") as run:
        assert 200 <= run.stage("grow", {}, lambda folder: {}).seconds < 250
    assert 200 <= finished_stages(tmp_path / "run")[0].seconds < 250
    assert not clock.exists()


def test_a_manifest_says_by_which_config_and_environment_it_was_made(tmp_path: Path) -> None:
    for jax in ("0.10", "0.12"):
        with opened(tmp_path / "run", jax=jax) as run:
            run.stage(f"with-{jax}", {}, lambda folder: {})
    manifests = [json.loads((done.folder / MANIFEST).read_text()) for done in finished_stages(tmp_path / "run")]
    assert [manifest["environment"] for manifest in manifests] == [{"jax": "0.10"}, {"jax": "0.12"}]
    assert {manifest["config_digest"] for manifest in manifests} == {loaded(Config()).digest}


@pytest.mark.parametrize("finished", [True, False])
def test_a_stage_of_other_inputs_is_refused_and_named(tmp_path: Path, finished: bool) -> None:
    def work(folder: Path) -> Mapping[str, Any]:
        if not finished:
            raise KeyboardInterrupt
        return {}

    with opened(tmp_path / "run") as run:
        with contextlib.suppress(KeyboardInterrupt):
            run.stage("grow", {"seed": 0, "n": (1, 2)}, work)
        with pytest.raises(UserError, match=r"grow: made from another seed; remove this folder, or start"):
            run.stage("grow", {"seed": 1, "n": [1, 2]}, work)


def test_a_config_that_was_refused_before_its_first_stage_may_be_mended(tmp_path: Path) -> None:
    with contextlib.suppress(UserError), opened(tmp_path / "run"):
        raise UserError("engine.resident is too large")
    with opened(tmp_path / "run", Config("e")):
        pass
    identity = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (identity["config_digest"], identity["config"]["name"]) == (loaded(Config("e")).digest, "e")


def test_a_folder_of_another_config_or_schema_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path / "run") as run:
        run.stage("grow", {}, lambda folder: {})
    with opened(tmp_path / "run", Config(workers=2)):
        pass
    other = Config(parts=(Part(), Part(5)))
    with (
        pytest.raises(UserError, match=r"made with another config \(parts\.1\.steps\); give"),
        opened(tmp_path / "run", other),
    ):
        pass
    marker = tmp_path / "run" / "run.json"
    identity = json.loads(marker.read_text())
    marker.write_text(json.dumps({key: identity[key] for key in identity if key != "config"}))  # as it once was
    with opened(tmp_path / "run"):
        pass
    with pytest.raises(UserError, match="or by an older rest_jax"), opened(tmp_path / "run", other):
        pass
    marker.write_text(json.dumps({**identity, "schema_version": 99}))
    with pytest.raises(UserError, match="schema version 99"), opened(tmp_path / "run"):
        pass


@dataclass(frozen=True)
class LaterPart(Part):
    rate: float = 0.5


@dataclass(frozen=True)
class Later:
    """What `Config` has become in a later version."""

    name: str = "d"
    parts: tuple[LaterPart, ...] = (LaterPart(), LaterPart(4))
    extra: LaterPart | None = None
    workers: int = field(default=1, metadata=FREE)


def test_a_setting_that_is_newer_than_the_folder_counts_as_its_default(tmp_path: Path) -> None:
    work = Counted({})
    with opened(tmp_path / "run") as run:
        run.stage("grow", {"parts": Config().parts, "who": {"part": Part()}}, work)
    with opened(tmp_path / "run", Later()) as run:
        run.stage("grow", {"parts": Later().parts, "who": {"part": LaterPart()}}, work)
        with pytest.raises(UserError, match="grow: made from another who; remove this folder"):
            run.stage("grow", {"parts": Later().parts, "who": {"part": LaterPart(rate=1.0)}}, work)
    assert work.calls == 1
    for other, name in [
        (Later(extra=LaterPart()), "extra"),
        (Later(parts=(LaterPart(), LaterPart(4, 1.0))), "parts.1.rate"),
    ]:
        with pytest.raises(UserError, match=rf"another config \({name}\)"), opened(tmp_path / "run", other):
            pass


@dataclass(frozen=True)
class Louder:
    """`Config` with another default, and a setting less."""

    name: str = "D"


def test_a_default_that_has_changed_is_another_config(tmp_path: Path) -> None:
    with opened(tmp_path / "run") as run:
        run.stage("grow", {}, Counted({}))
    with pytest.raises(UserError, match=r"another config \(name, parts\)"), opened(tmp_path / "run", Louder()):
        pass


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match=r"holds other files \(thesis.tex …\)"), opened(tmp_path):
        pass
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != ".lock") == ["thesis.tex"]


def test_what_a_kill_left_half_written_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / f"run.json.1{PART}").write_text("{")
    torn = tmp_path / "run" / "stages" / "improve" / "model" / f"model.safetensors.2{PART}"
    with opened(tmp_path / "run") as run:
        torn.parent.mkdir(parents=True)
        torn.write_text("half")
        run.stage("improve", {}, lambda folder: {})
    assert not torn.exists()


def test_warnings_are_kept_once_each_and_outlive_their_process(tmp_path: Path) -> None:
    heard: list[Event] = []
    for _ in range(2):
        with opened(tmp_path / "run", emit=heard.append) as run:
            warning(run.emit, "little to learn")
            warning(run.emit, "little to learn")
    with opened(tmp_path / "run") as run:
        assert run.warnings == ["little to learn"]
    assert len(heard) == 4


def test_going_on_in_another_environment_is_worth_a_warning(tmp_path: Path) -> None:
    with opened(tmp_path / "run") as run:
        assert run.warnings == []
    with opened(tmp_path / "run", jax="0.12") as run:
        assert run.warnings == [
            "this run began with jax 0.10, now 0.12: what is left may get other bits than it would have"
        ]
    assert read_environment(tmp_path / "run") == {"jax": "0.10"}


def test_one_process_at_a_time(tmp_path: Path) -> None:
    refused = pytest.raises(UserError, match="another process works in this folder")
    with opened(tmp_path / "run"), refused, opened(tmp_path / "run"):
        pass


def test_what_is_no_run_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a run folder \(no run.json\)"):
        finished_stages(tmp_path)


def test_a_damaged_manifest_names_itself(tmp_path: Path) -> None:
    with opened(tmp_path / "run") as run:
        done = run.stage("grow", {}, lambda folder: {})
    (done.folder / MANIFEST).write_text('{"schema')
    with pytest.raises(UserError, match="not valid JSON; remove the folder"):
        finished_stages(tmp_path / "run")


def test_a_group_works_together_and_the_first_alone_writes(tmp_path: Path) -> None:
    """Twice: what is done is found done by all."""
    events: list[list[Event]] = [[], []]
    worked: list[int] = []

    def play(group: Group) -> list[Any]:
        with opened(tmp_path / "run", emit=events[group.index].append, group=group) as run:

            def work(folder: Path) -> Mapping[str, Any]:
                worked.append(group.index)
                (folder / "part").write_text(f"of {group.index}")
                warning(run.emit, "of all")
                warning(run.emit, f"of {group.index}")
                return {"em": group.index, "all": group.shared(group.index)}

            return [run.stage(name, {"a": 1}, work) for name in ("grow", "evaluate")]

    for _ in range(2):
        (first, other) = in_threads(2, play)
        assert first == other
        assert [done.results for done in first] == [{"em": 0, "all": [0, 1]}] * 2
    assert sorted(worked) == [0, 0, 1, 1]
    assert first == finished_stages(tmp_path / "run")
    assert [(done.folder / "part").read_text() for done in first] == ["of 0"] * 2
    assert json.loads((tmp_path / "run" / WARNINGS).read_text()) == ["of all", "of 0", "of 1"]
    assert events[1] == []


def test_unlike_processes_are_no_group(tmp_path: Path) -> None:
    def play(group: Group, *, steps: int = 3, jax: str = "0.10") -> None:
        with opened(tmp_path / "run", Config(parts=(Part(steps),)), jax=jax, group=group):
            pass

    with pytest.raises(UserError, match=r"run: process 1 has another jax than process 0; start them alike"):
        in_threads(2, lambda group: play(group, jax="0.10" if group.first else "0.12"))
    with pytest.raises(UserError, match="process 1 has another config"):
        in_threads(2, lambda group: play(group, steps=3 if group.first else 4))
    assert not (tmp_path / "run").exists()


def test_a_folder_that_only_the_first_one_sees_is_none_for_all(tmp_path: Path) -> None:
    def play(group: Group) -> None:
        with opened(tmp_path / f"host-{group.index}", group=group):
            group.shared()

    with pytest.raises(UserError, match=r"host-1: process 1 finds no run there; give all processes one shared folder"):
        in_threads(2, play)
    assert (tmp_path / "host-0" / RUN).is_file()
