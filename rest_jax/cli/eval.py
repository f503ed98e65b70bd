"""`rest-jax eval --model M --task T --json OUT`."""

from __future__ import annotations

import argparse
from pathlib import Path

from rest_jax.cli.config import add_override_option
from rest_jax.cli.numbers import number
from rest_jax.cli.paths import refuse_unwritable
from rest_jax.config.limits import Natural, NotNegative, Positive, Seed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="PATH_OR_NAME", required=True, help="a folder, a GGUF file, or a name")
    parser.add_argument("--task", metavar="NAME", help="a name of tasks list; or give --questions and --corpus")
    parser.add_argument("--data", metavar="DIR", help="folder that holds the task's files")
    parser.add_argument("--task-seed", metavar="S", type=number(Seed), help="seed of a generated world (atlas)")
    parser.add_argument(
        "--questions", metavar="FILE", type=Path, help='your own: JSONL of {"id", "question", "answer"}'
    )
    parser.add_argument(
        "--corpus", metavar="FILE", type=Path, help='what they search: JSONL of {"title", "text"} or {"id", "contents"}'
    )
    parser.add_argument("--split", choices=("select", "report"), default="report", help="(default: report)")
    parser.add_argument(
        "--agent",
        metavar="NAME",
        help="react, search_agent, cot_sc … (`rest-jax doctor` names all; default: the model's agent.json, else react)",
    )
    parser.add_argument("--prompt-style", choices=("base", "chat"), help="(default: the model's agent.json, else base)")
    parser.add_argument(
        "--shots",
        metavar="N",
        type=number(Natural),
        help="worked examples (default: agent.json, else 2, or as many as the task has)",
    )
    parser.add_argument("--samples", metavar="K", type=number(Positive), default=1, help="samples per question (1)")
    parser.add_argument(
        "--temperature", metavar="T", type=number(NotNegative), help="0: greedy (default: agent.json, else 0)"
    )
    parser.add_argument("--seed", metavar="S", type=number(Seed), default=0)
    parser.add_argument("--limit", metavar="N", type=number(Positive), help="the first N questions only")
    parser.add_argument(
        "--closed-book",
        action="store_true",
        help="permit a corpus that supports less than 90 %% of the answers: the row measures what the model remembers "
        "too, and says how much is supported (an agent without search is --agent closed_book)",
    )
    parser.add_argument("--tools-url", metavar="URL", help="use the tool adapter there")
    add_override_option(parser, such_as="agent.turns=10, engine.rows=64 or tools.config=tools.yaml")
    parser.add_argument("--offline", action="store_true", help="never wait for a network")
    parser.add_argument(
        "--json",
        metavar="OUT",
        type=Path,
        required=True,
        help="file for the row and the records; OUT.journal holds what is done until it is written",
    )


def execute(options: argparse.Namespace) -> int:
    refuse_unwritable(options.json)
    from rich.console import Console

    from rest_jax.core.files import write_json
    from rest_jax.recipes.evaluate import Wanted, evaluate_model
    from rest_jax.recipes.stages import discard
    from rest_jax.reporting.table import results
    from rest_jax.reporting.terminal import Terminal

    given = {name: value for name, value in vars(options).items() if name in Wanted.__dataclass_fields__}
    wanted = Wanted(**given)
    unfinished = options.json.with_name(f"{options.json.name}.journal")
    with Terminal() as emit:
        result = evaluate_model(wanted, unfinished, emit)
    write_json(options.json, result)
    discard(unfinished)
    Console(highlight=False).print(results({**result, "rows": [result]}))
    return 0
