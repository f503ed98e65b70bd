"""`rest-jax preflight CONFIG`."""

from __future__ import annotations

import argparse

from rest_jax.cli.numbers import number
from rest_jax.cli.run import add_run_options, loaded_run
from rest_jax.config.limits import Positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="YAML file")
    add_run_options(parser)
    parser.add_argument("--questions", metavar="N", type=number(Positive), default=8, help="train questions to try (8)")
    parser.add_argument("--samples", metavar="K", type=number(Positive), default=4, help="samples of each (4)")


def execute(options: argparse.Namespace) -> int:
    loaded, run_dir = loaded_run(options)
    from rest_jax.recipes.preflight import estimate
    from rest_jax.reporting.terminal import Terminal

    with Terminal() as emit:
        result = estimate(
            loaded.value,
            run_dir,
            questions=options.questions,
            samples=options.samples,
            offline=options.offline,
            emit=emit,
        )
    print("\n".join(result.lines()))
    return 0
