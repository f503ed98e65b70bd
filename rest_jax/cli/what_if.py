"""`rest-jax what-if RUN --threshold T … --reward NAME --samples N … --draft`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args, get_type_hints

from rest_jax.cli.numbers import number
from rest_jax.config.improve import ImproveSettings
from rest_jax.config.limits import Positive

FILTERS = get_args(get_type_hints(ImproveSettings)["filter"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, help="a run's folder")
    parser.add_argument(
        "--threshold", metavar="T", type=float, action="append", default=[], help="again for more (default: the run's)"
    )
    parser.add_argument("--reward", metavar="NAME", help="score the logged trajectories by this reward instead")
    parser.add_argument("--filter", choices=FILTERS, help="(default: the run's)")
    parser.add_argument(
        "--per-question", metavar="N", type=number(Positive), help="the most kept of one question (default: the run's)"
    )
    parser.add_argument(
        "--samples",
        metavar="N",
        type=number(Positive),
        action="append",
        default=[],
        help="as if so many samples of each question had been taken; again for more (default: all)",
    )
    parser.add_argument(
        "--draft", action="store_true", help="score the search agent's drafts, as if it did not check its answers"
    )


def execute(options: argparse.Namespace) -> int:
    from rest_jax.recipes.what_if import Wish, what_if
    from rest_jax.reporting.sizes import sizes

    wish = Wish(
        tuple(options.threshold),
        options.reward,
        options.filter,
        options.per_question,
        tuple(options.samples),
        options.draft,
    )
    print("\n".join(sizes(what_if(options.run, wish))))
    return 0
