"""`rest-jax pool RUN_OR_EVIDENCE … --evidence OUT --json OUT`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", metavar="RUN_OR_EVIDENCE", nargs="+", type=Path, help="a finished run's folder, or a file of --evidence"
    )
    parser.add_argument(
        "--evidence",
        metavar="OUT",
        type=Path,
        help="write what each trajectory was worth, to be pooled without the runs",
    )
    parser.add_argument("--json", metavar="OUT", type=Path, help="write what summary.json would hold")


def execute(options: argparse.Namespace) -> int:
    from rich.console import Console

    from rest_jax.core.files import write_json
    from rest_jax.recipes.pool import pooled, summary, write_evidence
    from rest_jax.reporting.table import results

    evidence = pooled(options.runs)
    found = summary(evidence)
    if options.evidence is not None:
        write_evidence(options.evidence, evidence)
    if options.json is not None:
        write_json(options.json, found)
    Console(highlight=False).print(results(found))
    return 0
