"""`rest-jax config show|validate|schema`."""

from __future__ import annotations

import argparse
import json

from rest_jax.config.loader import load
from rest_jax.config.schema import json_schema
from rest_jax.config.settings import RestConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="print every setting of a configuration, defaults included")
    show.add_argument("config", metavar="CONFIG", help="YAML file")
    validate = actions.add_parser("validate", help="say whether configurations are right")
    validate.add_argument("configs", metavar="CONFIG", nargs="+", help="YAML files")
    for action in (show, validate):
        add_override_option(action)
    actions.add_parser("schema", help="print the JSON Schema of a configuration, for editors")


def add_override_option(parser: argparse.ArgumentParser) -> None:
    """The one way to change a setting from the command line."""
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change one setting, such as generations.0.grow.samples=8 (repeatable)",
    )


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
