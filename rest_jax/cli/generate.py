"""`rest-jax generate --model M --prompts FILE --max-tokens N --json OUT`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from rest_jax.cli.config import add_engine_option, engine_of
from rest_jax.cli.numbers import number
from rest_jax.cli.paths import refuse_unwritable
from rest_jax.config.limits import Natural, NotNegative, Positive, Seed, Share, ShareAboveZero


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="PATH_OR_NAME", required=True, help="a folder, a GGUF file, or a name")
    parser.add_argument("--prompts", metavar="FILE", type=Path, required=True, help='JSONL of {"prompt"}')
    parser.add_argument("--max-tokens", metavar="N", type=number(Positive), required=True, help="the most per prompt")
    parser.add_argument("--temperature", metavar="T", type=number(NotNegative), default=0.0, help="0: greedy (default)")
    parser.add_argument("--top-k", metavar="K", type=number(Natural), default=0, help="the K likeliest tokens; 0: all")
    parser.add_argument(
        "--top-p", metavar="P", type=number(ShareAboveZero), default=1.0, help="the fewest tokens of this probability"
    )
    parser.add_argument(
        "--min-p", metavar="P", type=number(Share), default=0.0, help="tokens this likely beside the likeliest; 0: all"
    )
    parser.add_argument(
        "--stop", metavar="TEXT", action="append", default=[], help="what ends a completion (repeatable)"
    )
    parser.add_argument("--seed", metavar="S", type=number(Seed), default=0)
    add_engine_option(parser)
    parser.add_argument("--offline", action="store_true", help="never wait for a network")
    parser.add_argument("--json", metavar="OUT", type=Path, required=True, help="JSONL to write")


def execute(options: argparse.Namespace) -> int:
    refuse_unwritable(options.json)
    from rest_jax.api import Policy, generate
    from rest_jax.tasks.files import read_jsonl, write_jsonl

    prompts = [row["prompt"] for row in read_jsonl(options.prompts, {"prompt": str}, "prompt")]
    completions = generate(
        Policy(options.model, engine=engine_of(options)),
        prompts,
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        stop=options.stop,
        seed=options.seed,
        offline=options.offline,
    )
    write_jsonl(options.json, map(asdict, completions))
    return 0
