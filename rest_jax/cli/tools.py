"""`rest-jax tools serve`: the tool adapter, for other machines or other programs."""

from __future__ import annotations

import argparse

from rest_jax.tools.__main__ import add_serve_command, serve_until_stopped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_serve_command(parser.add_subparsers(dest="action", metavar="ACTION", required=True))


def execute(options: argparse.Namespace) -> int:
    serve_until_stopped(options)
    return 0
