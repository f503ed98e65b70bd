"""`rest-jax tables CONFIG`."""

from __future__ import annotations

import argparse
from pathlib import Path

from rest_jax.cli.config import add_closed_book_option, add_override_option
from rest_jax.config.loader import load
from rest_jax.config.tables import TableConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", type=Path, help="a file of configs/paper")
    parser.add_argument("--show", action="store_true", help="run nothing: print what finished runs hold")
    parser.add_argument("--offline", action="store_true", help="never wait for a network")
    add_override_option(parser)
    add_closed_book_option(parser)


def execute(options: argparse.Namespace) -> int:
    table = load(options.config, TableConfig).value
    from rich.console import Console

    from rest_jax.recipes.tables import beside, controlled, footnotes, run_missing, runs_of
    from rest_jax.reporting.paper import paper_table
    from rest_jax.reporting.terminal import Terminal

    runs = runs_of(table, options.config.parent, options.overrides)
    if not options.show:
        with Terminal() as emit:
            run_missing(runs, offline=options.offline, emit=emit)
    paper = table.paper
    section = f", section {paper.section}" if paper.section else ""
    title = f"{paper.title} (arXiv {paper.arxiv}), {paper.table}{section}"
    remark = [paper.remark] if paper.remark else []
    notes = [f"paper: {paper.metric}; n: {paper.n}", *remark, *footnotes(table, runs)]
    Console(highlight=False).print(paper_table(title, beside(table, runs), controlled(table, runs), notes))
    return 0
