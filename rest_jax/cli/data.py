"""`rest-jax data export|import|stats|head`."""

from __future__ import annotations

import argparse
from pathlib import Path

from rest_jax.cli.numbers import number
from rest_jax.cli.paths import refuse_unwritable
from rest_jax.config.limits import Positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    export = actions.add_parser("export", help="conversations as Parquet, or prompts and completions as JSONL")
    _add_source(export)
    export.add_argument("out", metavar="OUT", type=Path, help="file to write")
    export.add_argument(
        "--format",
        choices=("messages", "sft"),
        default="messages",
        help="messages: Parquet of messages and tools (default); sft: JSONL of prompt and completion, one a call",
    )
    export.add_argument("--above", metavar="T", type=float, help="only what has a reward greater than this")
    export.add_argument("--same-prompt", action="store_true", help="sft: keep the worked examples in the prompts")
    export.set_defaults(act=_export)
    taken = actions.add_parser("import", help="others' conversations as demonstrations (task.demonstrations)")
    taken.add_argument("file", metavar="FILE", type=Path, help="Parquet or JSONL with a column `messages`")
    taken.add_argument("out", metavar="OUT", type=Path, help="JSONL to write")
    taken.set_defaults(act=_import)
    stats = actions.add_parser("stats", help="how many, of what, how they ended")
    _add_source(stats)
    stats.set_defaults(act=_stats)
    head = actions.add_parser("head", help="the first conversations, as text")
    _add_source(head)
    head.add_argument("-n", metavar="N", type=number(Positive), default=3, help="(default: 3)")
    head.set_defaults(act=_head)


def execute(options: argparse.Namespace) -> int:
    options.act(options)
    return 0


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="RUN_OR_FILE", type=Path, help="a run's folder, or a trajectories.parquet")
    parser.add_argument("--stage", metavar="NAME", help="a stage of the run, as seed-0/gen-1/grow (default: all Grows)")


def _export(options: argparse.Namespace) -> None:
    refuse_unwritable(options.out)
    from rest_jax.recipes import data
    from rest_jax.tasks.licences import licence_line

    entries = data.above(data.stored(options.source, options.stage), options.above)
    if options.format == "messages":
        licences = data.export_messages(entries, options.out)
    else:
        licences = data.export_completions(entries, options.out, bare=not options.same_prompt)
    print(f"{options.out}: {len(entries)} trajectories\n{licence_line(licences)}")


def _import(options: argparse.Namespace) -> None:
    refuse_unwritable(options.out)
    from rest_jax.core.text import printable
    from rest_jax.recipes.data import import_conversations
    from rest_jax.tasks.licences import licence_line

    kept, dropped, licences = import_conversations(options.file, options.out)
    print(f"{options.out}: {kept} demonstrations, {dropped.total()} conversations dropped")
    for why, count in dropped.most_common():
        print(printable(f"  {count}: {why}"))
    print(printable(licence_line(licences)))


def _stats(options: argparse.Namespace) -> None:
    from rest_jax.core.text import printable
    from rest_jax.recipes import data
    from rest_jax.tasks.licences import licence_line

    entries = data.stored(options.source, options.stage)
    print(printable("\n".join([*data.stats(entries), licence_line(data.licences_of(entries))])))


def _head(options: argparse.Namespace) -> None:
    from rest_jax.core.text import printable
    from rest_jax.recipes import data

    for line in data.head(data.stored(options.source, options.stage), options.n):
        print(printable(line))
