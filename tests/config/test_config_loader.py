"""Strict YAML: what is read, and what every kind of bad input is told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rest_jax.config.loader import load, loaded
from rest_jax.config.settings import GrowSettings, RestConfig
from rest_jax.core.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs"


def read(tmp_path: Path, text: str, kind: type = RestConfig, overrides: tuple[str, ...] = ()):
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, kind, overrides)


def refusal(tmp_path: Path, text: str, kind: type = RestConfig, overrides: tuple[str, ...] = ()) -> str:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text, kind, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{tmp_path}/")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("pilot: {improve: {learning_rate: 1e-5}}", 1e-5),
        ("pilot: {improve: {learning_rate: 1E-05}}", 1e-5),
        ("pilot: {improve: {learning_rate: .5}}", 0.5),
        ("pilot: {improve: {learning_rate: 1}}", 1.0),
    ],
)
def test_numbers_are_read_as_people_write_them(tmp_path: Path, written: str, meant: float) -> None:
    rate = read(tmp_path, written).value.pilot.improve.learning_rate
    assert rate == meant
    assert type(rate) is float


@pytest.mark.parametrize("word", ["no", "off", "yes", "1e-5", "010", "1:30", "true", "2026-01-01"])
def test_text_is_kept_as_written(tmp_path: Path, word: str) -> None:
    assert read(tmp_path, f"name: {word}").value.name == word


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, "# nothing yet\n").value == RestConfig()


def test_null_is_none_where_none_is_allowed(tmp_path: Path) -> None:
    assert read(tmp_path, "pilot: {improve: {per_question: null}}").value.pilot.improve.per_question is None


def test_lists_of_settings_become_tuples(tmp_path: Path) -> None:
    generations = read(tmp_path, "generations:\n- grow: {samples: 2}\n").value.generations
    assert [generation.grow for generation in generations] == [GrowSettings(samples=2)]


def test_the_resolved_text_reads_back_as_the_same_configuration(tmp_path: Path) -> None:
    first = read(tmp_path, "name: 'no'\nseeds: [3, 1]\nevaluate: {controls: [majority]}\ntask: {data: '1e-5'}\n")
    assert read(tmp_path, first.text) == first
    assert loaded(first.value) == first


def test_the_digest_names_the_settings_and_not_their_spelling(tmp_path: Path) -> None:
    one = read(tmp_path, "generations: [{grow: {temperature: 0.80}}]\nname: a")
    other = read(tmp_path, "name: 'a'\ngenerations:\n- grow:\n    temperature: 8e-1\n")
    assert one.digest == other.digest
    assert one.digest != read(tmp_path, "name: b").digest


def test_settings_that_change_no_bits_are_not_in_the_digest(tmp_path: Path) -> None:
    one = read(tmp_path, "name: a")
    for free in ("block: 4", "resident: 99", "park: host", "replicas: 2"):
        other = read(tmp_path, f"name: a\nengine: {{{free}}}")
        assert other.digest == one.digest
        assert other.text != one.text
    assert read(tmp_path, "name: a\nengine: {rows: 4}").digest != one.digest


BAD = [  # what is told may end in …: the rest is a list, or PyYAML's wording
    ("nmae: x", "c.yaml:1:1: unknown key 'nmae'; did you mean 'name'?"),
    (
        "name: x\ngenerations:\n  - grow:\n      temprature: 1",
        "c.yaml:4:7: unknown key 'temprature' in generations.0.grow; did you mean 'temperature'?",
    ),
    ("task: {zzz: 1}", "c.yaml:1:8: unknown key 'zzz' in task; known: name, data, reward, demonstrations, seed"),
    (
        "engine:\n  rows: many",
        "c.yaml:2:9: engine.rows: expected a whole number (such as 8), got 'many'",
    ),
    ("engine: {rows: 8.0}", "c.yaml:1:16: engine.rows: expected a whole number (such as 8), got '8.0'"),
    ("engine: {rows: 010}", "c.yaml:1:16: engine.rows: expected a whole number (such as 8), got '010'"),
    (
        "engine: {rows: '8'}",
        "c.yaml:1:16: engine.rows: expected a whole number (such as 8), got the quoted text '8'; remove the quotes",
    ),
    ("engine: {rows: }", "c.yaml:1:15: engine.rows: expected a whole number (such as 8), got nothing (null)"),
    (
        "tools: {k1: .nan}",
        "c.yaml:1:13: tools.k1: expected a finite number (such as 0.5 or 1e-5), got '.nan'",
    ),
    (
        "tools: {k1: 1e999}",
        "c.yaml:1:13: tools.k1: expected a finite number (such as 0.5 or 1e-5), got '1e999'",
    ),
    (
        "pilot: {improve: {include_seed: no}}",
        "c.yaml:1:33: pilot.improve.include_seed: expected true or false, got 'no'; write false without quotes",
    ),
    (
        "pilot: {improve: {include_seed: Yes}}",
        "c.yaml:1:33: pilot.improve.include_seed: expected true or false, got 'Yes'; write true without quotes",
    ),
    (
        "pilot: {improve: {include_seed: 'true'}}",
        "c.yaml:1:33: pilot.improve.include_seed: expected true or false, got the quoted text 'true'; "
        "write true without quotes",
    ),
    ("name: null", "c.yaml:1:7: name: expected text, got nothing (null); write '' for empty text"),
    ("name: [a]", "c.yaml:1:7: name: expected text, got a list"),
    (
        "model: {dtype: float16}",
        "c.yaml:1:16: model.dtype: expected one of auto, float32, bfloat16, got 'float16'",
    ),
    ("engine: {widths: 256}", "c.yaml:1:18: engine.widths: expected a list, got '256'; write [256]"),
    (
        "evaluate: {controls: [majority, luck]}",
        "c.yaml:1:33: evaluate.controls.1: expected one of more_pilot, random_samples, majority, gold, "
        "more_gen_1, low_perplexity, best_of, single_sample, data_1x, data_2x, got 'luck'",
    ),
    ("task: atlas", "c.yaml:1:7: task: expected settings as `key: value`, got 'atlas'"),
    ("pilot:", "c.yaml:1:7: pilot: expected settings as `key: value`, got nothing (null)"),
    ("- name", "c.yaml:1:1: expected settings, each as `key: value` on a line of its own"),
    ("name: a\nseeds: [1]\nname: b", "c.yaml:3:1: key 'name' stands here and on line 1; remove one of them"),
    ("<<: {name: a}", "c.yaml:1:1: unknown key '<<'; known: …"),
    ("? [a]\n: b", "c.yaml:1:3: a key must be a plain word"),
    (
        "name: !!python/object/apply:os.system [ls]",
        "c.yaml:1:7: the tag tag:yaml.org,2002:python/object/apply:os.system is not allowed; write a plain value",
    ),
    ("generations: &a [*a]", "c.yaml:1:14: an anchor (&) that contains itself; write the part out"),
    (
        "name: [a",
        "c.yaml:1:9: not YAML: expected ',' or ']', but got '<stream end>'; check indentation, quotes and brackets…",
    ),
    ("task:\n\tname: a", "c.yaml:2:1: not YAML: found character '\\t' that cannot start any token; check…"),
    ("name: a\x07", "c.yaml: not YAML: unacceptable character #x0007: special characters are not allowed…"),
    ("name: a\n---\nname: b", "c.yaml:2:1: not YAML: but found another document; check…"),
]


@pytest.mark.parametrize(("written", "told"), BAD)
def test_bad_input_is_told_where_it_stands_and_how_to_mend_it(tmp_path: Path, written: str, told: str) -> None:
    message = refusal(tmp_path, written)
    assert message.startswith(told[:-1]) if told.endswith("…") else message == told


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "smoke.yaml").write_text("", encoding="utf-8")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    for name, told in [
        ("smkoe.yaml", f"there is no such file; did you mean {tmp_path}/smoke.yaml?"),
        ("latin.yaml", "byte 9 is not UTF-8; save the file as UTF-8"),
        ("", "cannot be read (Is a directory); give a readable YAML file"),
    ]:
        with pytest.raises(UserError) as caught:
            load(tmp_path / name, RestConfig)
        assert str(caught.value) == f"{tmp_path / name}: {told}"


def test_extends_merges_mappings_and_replaces_lists(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "base.yaml").write_text("name: base\nseeds: [1, 2]\nengine: {rows: 4, block: 2}\n")
    (tmp_path / "middle.yaml").write_text("extends: far/base.yaml\nengine: {block: 4}\n")
    config = read(tmp_path, "extends: middle.yaml\nseeds: [7]\nengine: {chunk: 32}\n").value
    assert (config.name, config.seeds) == ("base", (7,))
    assert (config.engine.rows, config.engine.block, config.engine.chunk) == (4, 4, 32)


def test_an_error_in_an_extended_file_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("name: a\nengine:\n  rows: x\n")
    told = "base.yaml:3:9: engine.rows: expected a whole number (such as 8), got 'x'"
    assert refusal(tmp_path, "extends: base.yaml\nengine: {block: 4}") == told


def test_extends_that_leads_nowhere_or_in_a_circle(tmp_path: Path) -> None:
    assert refusal(tmp_path, "name: a\nextends: [b]") == (
        "c.yaml:2:10: extends: expected the path of one file, such as extends: base.yaml"
    )
    assert refusal(tmp_path, "extends: cc.yaml") == (
        f"c.yaml:1:10: extends: there is no file {tmp_path}/cc.yaml; did you mean {tmp_path}/c.yaml?"
    )
    (tmp_path / "d.yaml").write_text("extends: ./c.yaml\n")
    assert refusal(tmp_path, "extends: d.yaml") == (
        f"d.yaml:1:10: extends goes in a circle: {tmp_path}/c.yaml → {tmp_path}/d.yaml → {tmp_path}/c.yaml; "
        "remove one of them"
    )


def test_overrides_reach_into_lists_and_touch_nothing_else(tmp_path: Path) -> None:
    overrides = ("generations.0.grow.samples=9", "engine.widths=[128, 384]", "seeds.0=5", "name=no")
    config = read(tmp_path, "generations: [&g {grow: {samples: 2}}, *g]", overrides=overrides).value
    assert [generation.grow.samples for generation in config.generations] == [9, 2]
    expected = read(tmp_path, "generations: [{grow: {samples: 9}}, {grow: {samples: 2}}]").value
    expected = replace(expected, engine=replace(expected.engine, widths=(128, 384)), seeds=(5,), name="no")
    assert config == expected


def test_the_last_override_wins(tmp_path: Path) -> None:
    assert read(tmp_path, "", overrides=("name=a", "name=b")).value.name == "b"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("name", "expected KEY=VALUE, such as --set generations.0.grow.samples=8"),
        ("=3", "expected KEY=VALUE, such as --set generations.0.grow.samples=8"),
        (
            "generations.0.grow.smaples=8",
            "unknown key 'smaples' in generations.0.grow; did you mean 'samples'?",
        ),
        ("generations.2.grow.samples=8", "generations has no entry '2'; its entries count from 0 to 1"),
        ("generations.x=1", "generations has no entry 'x'; its entries count from 0 to 1"),
        ("engine.rows=many", "engine.rows: expected a whole number (such as 8), got 'many'"),
        ("engine.rows=", "engine.rows: expected a whole number (such as 8), got nothing (null)"),
        (
            "pilot.improve.include_seed=no",
            "pilot.improve.include_seed: expected true or false, got 'no'; write false without quotes",
        ),
        ("pilot=3", "pilot is a group of settings; name one of demonstrations, source, improve"),
        ("name.first=a", "name is one value and has no part 'first'; set name itself"),
        ("task.data=@x", "'@x' is not YAML; put it in quotes"),
    ],
)
def test_bad_overrides_name_themselves_and_their_part(tmp_path: Path, override: str, told: str) -> None:
    assert refusal(tmp_path, "", overrides=(override,)) == f"--set {override}: {told}"


@dataclass(frozen=True)
class Demanding:
    """Settings with a key that has no default."""

    rows: int


def test_a_key_without_a_default_must_be_there(tmp_path: Path) -> None:
    assert refusal(tmp_path, "{}", Demanding) == "c.yaml:1:1: the file: key 'rows' is missing; add it"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_project_s_own_configurations_are_right(path: Path) -> None:
    assert load(path, RestConfig).value.generations
