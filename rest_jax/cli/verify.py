"""`rest-jax verify RUN`."""

from __future__ import annotations

import argparse
from pathlib import Path

DIFFERS = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, help="a finished run's folder")
    parser.add_argument("--digest", metavar="SHA256", help="what `rest-jax run-digest` should print of it")


def execute(options: argparse.Namespace) -> int:
    from rest_jax.core.text import printable
    from rest_jax.recipes.verify import verify

    verified = verify(options.run)
    differences = list(verified.differences)
    if options.digest not in (None, verified.digest):
        differences.append(f"run digest: {verified.digest}, not {options.digest}")
    for line in differences:
        print(printable(f"differs: {line}"))
    told = f"{verified.stages} stages, {verified.trajectories} trajectories, run digest {verified.digest}"
    print(f"{told}: {f'{len(differences)} differences' if differences else 'all as stored'}")
    return DIFFERS if differences else 0
