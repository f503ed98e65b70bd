"""`rest-jax models get|list`."""

from __future__ import annotations

import argparse

from rest_jax.models import catalog


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    get = actions.add_parser("get", help="fetch a model unless it is here; the last line printed is its folder")
    get.add_argument("name", metavar="NAME", help="a name of `rest-jax models list`")
    get.add_argument("--offline", action="store_true", help="never touch the network")
    actions.add_parser("list", help="the models that have a name here")


def execute(options: argparse.Namespace) -> int:
    if options.action == "get":
        print(catalog.get(options.name, offline=options.offline))
        return 0
    width = max(map(len, catalog.NAMES))
    for name, entry in catalog.ENTRIES.items():
        print(f"{name:{width}}  {entry.about}")
    return 0
