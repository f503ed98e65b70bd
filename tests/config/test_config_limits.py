"""Values that have the right type and still will not do."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from rest_jax.config.limits import checked
from rest_jax.config.loader import load, loaded
from rest_jax.config.settings import EngineSettings, GrowSettings, ImproveSettings, RestConfig
from rest_jax.core.errors import UserError


def refusal(tmp_path: Path, text: str, *overrides: str) -> str:
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load(path, RestConfig, overrides)
    return str(caught.value).removeprefix(f"{tmp_path}/")


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("engine: {chunk: 0}", "1:17: engine.chunk: expected at least 1, got 0"),
        (
            "engine: {rows: 8, resident: 4}",
            "1:29: engine.resident: 4 leaves some of the 8 rows empty; choose 8 or more",
        ),
        ("engine: {widths: []}", "1:18: engine.widths: expected 1 or more entries, got []"),
        ("engine: {chunk: 8, widths: [16, 0]}", "1:33: engine.widths.1: expected at least 1, got 0"),
        (
            "engine:\n  widths: [100]\n  chunk: 64",
            "2:11: engine.widths: 100 is not a multiple of chunk (64); choose multiples of it",
        ),
        (
            "pilot: {improve: {rows: 6, accumulate: 2, mesh: {fsdp: 2}}}",
            "1:25: pilot.improve.rows: 6 do not divide over accumulate x mesh.data x mesh.fsdp = 4; "
            "set it to a multiple of 4",
        ),
        (
            "pilot: {improve: {lora: {targets: [query, head]}}}",
            "1:43: pilot.improve.lora.targets.1: expected one of query, key, value, output, gate, up, down, got 'head'",
        ),
        ("pilot: {improve: {lora: {rank: 0}}}", "1:32: pilot.improve.lora.rank: expected at least 1, got 0"),
        ("pilot: {improve: {mesh: {tensor: 0}}}", "1:34: pilot.improve.mesh.tensor: expected at least 1, got 0"),
        ("seeds: []", "1:8: seeds: expected 1 or more entries, got []"),
        ("seeds: [0, 0]", "1:8: seeds: expected every entry once, got [0, 0]"),
        ("seeds: [-1]", "1:9: seeds.0: expected at least 0, got -1"),
        ("generations: []", "1:14: generations: expected 1 or more entries, got []"),
        ("evaluate: {final: 0}", "1:19: evaluate.final: expected at least 1, got 0"),
        (
            "evaluate: {controls: [gold, gold]}",
            "1:22: evaluate.controls: expected every entry once, got ['gold', 'gold']",
        ),
        ("pilot: {demonstrations: -1}", "1:25: pilot.demonstrations: expected at least 0, got -1"),
        (
            "generations: [{grow: {temperature: -0.1}}]",
            "1:36: generations.0.grow.temperature: expected at least 0, got -0.1",
        ),
        ("generations: [{grow: {top_p: 0}}]", "1:30: generations.0.grow.top_p: expected more than 0, got 0.0"),
        ("tools: {b: 1.5}", "1:12: tools.b: expected at most 1, got 1.5"),
        (
            "tools: {config: t.yaml, k1: 2}",
            "1:29: tools.k1: is the corpus entry's own affair in t.yaml; write it there",
        ),
        (
            "tools: {config: t.yaml, url: 'http://a'}",
            "1:17: tools.config: the adapter at tools.url is started by others; leave one of the two out",
        ),
        (
            "tools: {url: 'http://me:secret@a'}",
            "1:14: tools.url: holds a name or a password, which would be logged; write a alone, keys go elsewhere",
        ),
        (
            "tools: {url: nonsense}",
            "1:14: tools.url: expected an address such as https://example.org/search, got 'nonsense'",
        ),
        (
            "pilot: {improve: {thresholds: [0.5, 1]}}",
            "1:37: pilot.improve.thresholds.1: expected less than 1, got 1.0",
        ),
        (
            "pilot: {improve: {thresholds: [0.8, 0.5]}}",
            "1:31: pilot.improve.thresholds: expected rising numbers, got [0.8, 0.5]",
        ),
        (
            "pilot: {improve: {thresholds: [-1], filter: percentile}}",
            "1:31: pilot.improve.thresholds: -1 is no fraction, as filter percentile needs; start at 0",
        ),
        (
            "pilot: {improve: {per_question: 0}}",
            "1:33: pilot.improve.per_question: expected at least 1, got 0",
        ),
        (
            "name: x\npilot: {improve: {steps: 3}}",  # the default of warmup is what does not fit
            "2:18: pilot.improve.warmup: 3 of 3 steps leave none at the full learning rate; lower it",
        ),
    ],
)
def test_what_will_not_do_is_told_where_it_stands(tmp_path: Path, written: str, told: str) -> None:
    assert refusal(tmp_path, written) == f"c.yaml:{told}"


def test_what_an_override_spoils_is_told_of_the_override(tmp_path: Path) -> None:
    told = "--set seeds.1=5: seeds: expected every entry once, got [5, 5]"
    assert refusal(tmp_path, "seeds: [5, 1]", "name=x", "seeds.1=5") == told
    told = "--set engine.rows=-1: engine.rows: expected at least 1, got -1"
    assert refusal(tmp_path, "engine: {rows: 0}", "engine.rows=0", "engine.rows=-1", "engine.block=2") == told


def test_overrides_may_pass_through_what_would_not_do(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("engine: {chunk: 64, widths: [64]}", encoding="utf-8")
    overrides = ["engine.chunk=40", "engine.widths=[80]", "seeds=[1, 2]", "seeds.0=2", "seeds.1=1"]
    config = load(path, RestConfig, overrides).value
    assert (config.engine.chunk, config.engine.widths, config.seeds) == (40, (80,), (2, 1))


def test_what_is_allowed_at_the_edge() -> None:
    edge = ImproveSettings(thresholds=(-1.0, 0.0), per_question=None, steps=1, warmup=0, weight_decay=0.0)
    assert checked(edge) is edge
    assert checked(GrowSettings(temperature=0.0, top_k=0, top_p=1.0), "grow").temperature == 0


def test_settings_made_in_python_are_held_to_the_same() -> None:
    with pytest.raises(UserError, match=r"^engine\.rows: expected at least 1, got 0$"):
        checked(EngineSettings(rows=0), "engine")
    with pytest.raises(UserError, match=r"^grow\.temperature: expected a finite number, got inf$"):
        checked(GrowSettings(temperature=math.inf), "grow")
    with pytest.raises(UserError, match=r"^grow\.temperature: expected at least 0, got nan$"):
        checked(GrowSettings(temperature=math.nan), "grow")
    with pytest.raises(UserError, match=r"^engine\.block: expected at least 1, got 0$"):
        loaded(replace(RestConfig(), engine=EngineSettings(block=0)))
