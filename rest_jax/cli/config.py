"""`rest-jax config show|validate|schema`."""

from __future__ import annotations

import argparse
import json

from rest_jax.config.loader import load, loaded
from rest_jax.config.overrides import overridden
from rest_jax.config.schema import json_schema
from rest_jax.config.settings import EngineSettings, RestConfig, SamplerConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="print every setting of a configuration, defaults included")
    show.add_argument("config", metavar="CONFIG", help="YAML file")
    validate = actions.add_parser("validate", help="say whether configurations are right")
    validate.add_argument("configs", metavar="CONFIG", nargs="+", help="YAML files")
    for action in (show, validate):
        add_override_option(action)
    actions.add_parser("schema", help="print the JSON Schema of a configuration, for editors")


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


def add_engine_option(parser: argparse.ArgumentParser) -> None:
    """`--set` for a command that has no configuration file: its sampler's settings."""
    add_override_option(parser, such_as="engine.rows=64")


def engine_of(options: argparse.Namespace) -> EngineSettings:
    """The sampler's settings of a command that has no configuration file. UserError as for a file's."""
    return loaded(overridden(SamplerConfig(), options.overrides)).value.engine


def execute(options: argparse.Namespace) -> int:
    match options.action:
        case "show":
            configuration = load(options.config, RestConfig, options.overrides)
            print(f"# digest: {configuration.digest}\n{configuration.text}", end="")
        case "validate":
            for path in options.configs:
                print(f"{path}: valid, digest {load(path, RestConfig, options.overrides).digest}")
        case "schema":
            print(json.dumps(json_schema(RestConfig), indent=2, ensure_ascii=False))
    return 0
