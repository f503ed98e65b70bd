"""`rest-jax generate --model M --prompts FILE --max-tokens N --json OUT`."""

from __future__ import annotations

import argparse
from pathlib import Path

from rest_jax.cli.config import add_engine_option, engine_of
from rest_jax.cli.numbers import number
from rest_jax.cli.paths import refuse_unwritable
from rest_jax.config.limits import NotNegative, Positive, Seed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="PATH_OR_NAME", required=True, help="a folder, a GGUF file, or a name")
    parser.add_argument("--prompts", metavar="FILE", type=Path, required=True, help='JSONL of {"prompt"}')
    parser.add_argument("--max-tokens", metavar="N", type=number(Positive), required=True, help="the most per prompt")
    parser.add_argument("--temperature", metavar="T", type=number(NotNegative), default=0.0, help="0: greedy (default)")
    parser.add_argument("--seed", metavar="S", type=number(Seed), default=0)
    add_engine_option(parser)
    parser.add_argument("--offline", action="store_true", help="never wait for a network")
    parser.add_argument("--json", metavar="OUT", type=Path, required=True, help="JSONL to write")


def execute(options: argparse.Namespace) -> int:
    refuse_unwritable(options.json)
    from rest_jax.recipes.generate import generate_file
    from rest_jax.reporting.stderr import to_stderr

    generate_file(
        options.model,
        options.prompts,
        options.json,
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        seed=options.seed,
        offline=options.offline,
        engine=engine_of(options),
        emit=to_stderr,
    )
    return 0
