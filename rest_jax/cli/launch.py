"""`rest-jax launch render TARGET`."""

from __future__ import annotations

import argparse
from pathlib import Path

from rest_jax.cli.config import add_override_option
from rest_jax.launch.render import TARGETS, rendered, write


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    render = actions.add_parser("render", help="write what starts runs there, as its settings say")
    render.add_argument("target", metavar="TARGET", choices=TARGETS, help=f"one of {', '.join(TARGETS)}")
    add_override_option(render, such_as="runs.config=configs/smoke.yaml")
    render.add_argument("--out", metavar="DIR", type=Path, default=Path("launch"), help="where files go (launch)")


def execute(options: argparse.Namespace) -> int:
    for path in write(rendered(options.target, options.overrides), options.out):
        print(path)
    return 0
