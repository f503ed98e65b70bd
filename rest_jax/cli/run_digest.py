"""`rest-jax run-digest DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="DIR", type=Path, help="a run's folder")


def execute(options: argparse.Namespace) -> int:
    from rest_jax.recipes.digest import run_digest

    print(run_digest(options.run))
    return 0
