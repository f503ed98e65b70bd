"""`rest-jax tasks check|list`."""

from __future__ import annotations

import argparse
from pathlib import Path

from rest_jax.cli.numbers import number
from rest_jax.config.limits import Seed
from rest_jax.config.settings import TaskSettings
from rest_jax.tasks.check import check
from rest_jax.tasks.registry import NAMES, task


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    checked = actions.add_parser("check", help="gold answers through the task's own metric; exit code 1 if one fails")
    checked.add_argument("name", metavar="NAME", help="a name of `rest-jax tasks list`")
    checked.add_argument("--data", metavar="DIR", help="folder that holds the task's files")
    checked.add_argument("--task-seed", metavar="S", type=number(Seed), help="seed of a generated world (atlas)")
    checked.add_argument(
        "--corpus",
        metavar="FILE",
        type=Path,
        help="JSONL of {title, text} or {id, contents}: which answers can it support?",
    )
    actions.add_parser("list", help="the tasks that have a name here")


def execute(options: argparse.Namespace) -> int:
    if options.action == "check":
        result = check(task(TaskSettings(options.name, options.data, seed=options.task_seed)), options.corpus)
        print("\n".join(result.lines()))
        for question in result.failed:
            print(f"failed: {question}")
        return 0 if result.ok else 1
    width = max(map(len, NAMES))
    for name, about in NAMES.items():
        print(f"{name:{width}}  {about}")
    return 0
