"""`rest-jax status DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="DIR", type=Path, help="a run's folder")


def execute(options: argparse.Namespace) -> int:
    from rest_jax.recipes.status import status

    print("\n".join(status(options.run)))
    return 0
