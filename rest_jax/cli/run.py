"""`rest-jax run CONFIG`."""

from __future__ import annotations

import argparse
from pathlib import Path

from rest_jax.cli.config import add_closed_book_option, add_override_option
from rest_jax.cli.numbers import number
from rest_jax.config.limits import Seed
from rest_jax.config.loader import load
from rest_jax.config.settings import RestConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="YAML file")
    add_run_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="check the settings and print the plan, nothing more")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Options of every command that works on a run."""
    parser.add_argument("--run-dir", metavar="DIR", type=Path, help="the run's folder (default: runs/NAME)")
    parser.add_argument("--seed", metavar="S", type=number(Seed), help="one seed instead of the config's")
    parser.add_argument("--offline", action="store_true", help="never wait for a network")
    add_override_option(parser)
    add_closed_book_option(parser)


def loaded_run(options: argparse.Namespace):
    """The config of these options, and the run's folder."""
    overrides = [*options.overrides, *([f"seeds=[{options.seed}]"] if options.seed is not None else [])]
    loaded = load(options.config, RestConfig, overrides)
    return loaded, options.run_dir or Path("runs") / loaded.value.name


def execute(options: argparse.Namespace) -> int:
    loaded, run_dir = loaded_run(options)
    from rich.console import Console

    from rest_jax.distributed.processes import launched
    from rest_jax.recipes.run import REPORT, dry_run, run
    from rest_jax.reporting.table import results
    from rest_jax.reporting.terminal import Terminal

    if options.dry_run:
        print("\n".join(dry_run(loaded.value, offline=options.offline)))
        return 0
    with Terminal() as terminal:
        summary = run(loaded, run_dir, offline=options.offline, emit=terminal)
    if launched().index > 0:
        return 0  # the first tells for all
    Console(highlight=False).print(results(summary))
    print(f"\nreport: {run_dir / REPORT}")
    return 0
