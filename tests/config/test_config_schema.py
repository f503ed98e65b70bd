"""The JSON Schema that editors use: it says what the loader does."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from rest_jax.cli.main import main
from rest_jax.config.loader import load
from rest_jax.config.schema import field_docs, json_schema
from rest_jax.config.settings import GrowSettings, ImproveSettings, RestConfig

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json_schema(RestConfig)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_it_accepts_every_configuration(path: Path, validator) -> None:
    validator.validate(yaml.safe_load(load(path, RestConfig).text))


def test_it_accepts_every_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema", "table"]) == 0
    schema = json.loads(capsys.readouterr().out)
    for path in sorted((CONFIGS / "paper").glob("*.yaml")):
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)
    with pytest.raises(jsonschema.ValidationError, match="'seeds' was unexpected"):
        jsonschema.validate({**yaml.safe_load(path.read_text()), "seeds": [0]}, schema)


@pytest.mark.parametrize(
    "wrong",
    [
        {"nmae": "x"},
        {"engine": {"rows": "8"}},
        {"engine": {"widths": 256}},
        {"model": {"dtype": "float16"}},
        {"name": None},
        {"generations": [{"grow": {"smaples": 1}}]},
        {"generations": []},
        {"engine": {"chunk": 0}},
        {"tools": {"b": 1.5}},
        {"seeds": [0, 0]},
        {"pilot": {"improve": {"thresholds": [1.0], "per_question": None}}},
        {"pilot": {"improve": {"per_question": 0}}},
    ],
)
def test_it_refuses_what_the_loader_refuses(wrong: dict, validator) -> None:
    assert not validator.is_valid(wrong)


def test_every_setting_is_explained_by_the_sentence_under_it() -> None:
    schema = json_schema(RestConfig)
    grow = schema["$defs"]["GrowSettings"]["properties"]["samples"]
    assert grow == {
        "type": "integer",
        "minimum": 1,
        "description": "Trajectories per question, of each method.",
        "default": GrowSettings().samples,
    }
    assert field_docs(ImproveSettings)["filter"].endswith("maximum (ReST, appendix A.7).")
    assert "\n" not in field_docs(ImproveSettings)["filter"]
    for name, definition in schema["$defs"].items():
        for key, property in definition["properties"].items():
            assert "description" in property or "$ref" in property, f"{name}.{key} has no sentence under it"
