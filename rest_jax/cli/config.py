"""`rest-jax config show|validate|schema`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rest_jax.config.loader import load, loaded
from rest_jax.config.overrides import overridden
from rest_jax.config.schema import json_schema
from rest_jax.config.settings import EngineSettings, RestConfig, SamplerConfig
from rest_jax.config.source import read
from rest_jax.config.tables import TableConfig

KINDS = {"run": RestConfig, "table": TableConfig}
"""What a file may be the configuration of."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="print every setting of a configuration, defaults included")
    show.add_argument("config", metavar="CONFIG", type=Path, help="YAML file of a run, or of a paper's table")
    validate = actions.add_parser("validate", help="say whether configurations are right")
    validate.add_argument(
        "configs", metavar="CONFIG", type=Path, nargs="+", help="YAML files of runs, or of papers' tables"
    )
    for action in (show, validate):
        add_override_option(action)
    schema = actions.add_parser("schema", help="print the JSON Schema of a configuration, for editors")
    schema.add_argument("of", choices=KINDS, nargs="?", default="run", help="a run (default), or a paper's table")


def add_override_option(parser: argparse.ArgumentParser, such_as: str = "generations.0.grow.samples=8") -> None:
    """The one way to change a setting from the command line."""
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help=f"change one setting, such as {such_as} (repeatable)",
    )


def add_closed_book_option(parser: argparse.ArgumentParser) -> None:
    """`--closed-book` of a command that has a run's configuration: one of its settings."""
    parser.add_argument(
        "--closed-book",
        dest="overrides",
        action="append_const",
        const="evaluate.closed_book=true",
        help="permit a corpus that supports less than 90 %% of the answers",
    )


def add_engine_option(parser: argparse.ArgumentParser) -> None:
    """`--set` for a command that has no configuration file: its sampler's settings."""
    add_override_option(parser, such_as="engine.rows=64")


def engine_of(options: argparse.Namespace) -> EngineSettings:
    """The sampler's settings of a command that has no configuration file. UserError as for a file's."""
    return loaded(overridden(SamplerConfig(), options.overrides)).value.engine


def execute(options: argparse.Namespace) -> int:
    match options.action:
        case "show":
            configuration = load(options.config, KINDS[_kind(options.config)], options.overrides)
            print(f"# digest: {configuration.digest}\n{configuration.text}", end="")
        case "validate":
            for path in options.configs:
                print(f"{path}: valid, {_validated(path, options.overrides)}")
        case "schema":
            print(json.dumps(json_schema(KINDS[options.of]), indent=2, ensure_ascii=False))
    return 0


def _kind(path: Path) -> str:
    return "table" if "paper" in {key.value for key, _ in read(path).value} else "run"


def _validated(path: Path, overrides: Sequence[str]) -> str:
    """What there is to say of a configuration, or of a paper's table and the runs that it names, that is right."""
    if _kind(path) == "run":
        return f"digest {load(path, RestConfig, overrides).digest}"
    runs = load(path, TableConfig).value.runs
    for run in runs:
        load(path.parent / run.config, RestConfig, overrides)
    return f"a paper's table beside {', '.join(run.name for run in runs) or 'no run of ours'}"
