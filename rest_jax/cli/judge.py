"""`rest-jax judge RUN_OR_EVAL…`: the answers of finished runs and evaluations, compared by a judge."""

from __future__ import annotations

import argparse
from pathlib import Path

from rest_jax.cli.config import add_override_option
from rest_jax.cli.paths import refuse_unwritable
from rest_jax.config.loader import load
from rest_jax.config.settings import RestConfig
from rest_jax.core.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "targets", metavar="RUN_OR_EVAL", type=Path, nargs="+", help="runs' folders, and files that `eval` wrote"
    )
    parser.add_argument(
        "--config",
        metavar="CONFIG",
        type=Path,
        help="YAML file with policies.judge and judge.answers (default: the run's)",
    )
    parser.add_argument(
        "--labels", metavar="FILE", type=Path, help='what people say of rows: JSONL of {"row", "label"}'
    )
    parser.add_argument("--offline", action="store_true", help="never wait for a network")
    parser.add_argument(
        "--json", metavar="OUT", type=Path, required=True, help="file for the result; OUT.replies keeps what was said"
    )
    add_override_option(parser, such_as="judge.answers.repetitions=1")


def execute(options: argparse.Namespace) -> int:
    refuse_unwritable(options.json)
    settings = options.config or options.targets[0] / "config.yaml"
    if options.config is None and not settings.is_file():
        raise UserError(f"{options.targets[0]}: is no run that says who judges; give --config (docs/judges.md)")
    config = load(settings, RestConfig, options.overrides).value
    from rest_jax.core.files import write_json
    from rest_jax.recipes.auto_eval import as_json, auto_eval
    from rest_jax.reporting.sizes import sizes
    from rest_jax.reporting.terminal import Terminal

    replies = options.json.with_name(f"{options.json.name}.replies")
    with Terminal() as emit:
        found = auto_eval(options.targets, config, replies, labels=options.labels, offline=options.offline, emit=emit)
    write_json(options.json, as_json(found))
    print("\n".join(sizes(found.rows)))
    if (agreed := found.agreement) is not None:
        print(f"with {agreed.n} labels: Pearson {agreed.pearson:.2f}, Spearman {agreed.spearman:.2f}")
    return 0
