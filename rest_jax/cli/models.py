"""`rest-jax models get|list|shrink`."""

from __future__ import annotations

import argparse
from pathlib import Path

from rest_jax.cli.numbers import number
from rest_jax.config.limits import Positive
from rest_jax.models import catalog


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    get = actions.add_parser("get", help="fetch a model unless it is here; the last line printed is its folder")
    get.add_argument("name", metavar="NAME", help="a name of `rest-jax models list`")
    actions.add_parser("list", help="the models that have a name here")
    shrink = actions.add_parser("shrink", help="a smaller model of some of a model's layers, to be trained")
    shrink.add_argument("parent", metavar="PATH_OR_NAME", help="a folder, a GGUF file, or a name")
    shrink.add_argument("out", metavar="OUT", type=Path, help="the new model's folder")
    which = shrink.add_mutually_exclusive_group(required=True)
    which.add_argument("--keep", metavar="N", type=number(Positive), help="so many layers, evenly spaced")
    which.add_argument("--layers", metavar="I,J,…", type=_places, help="these layers, counted from 0")
    for action in (get, shrink):
        action.add_argument("--offline", action="store_true", help="never touch the network")


def execute(options: argparse.Namespace) -> int:
    match options.action:
        case "get":
            print(catalog.get(options.name, offline=options.offline))
        case "list":
            width = max(map(len, catalog.NAMES))
            for name, entry in catalog.ENTRIES.items():
                print(f"{name:{width}}  {entry.about}")
        case "shrink":
            _shrink(options)
    return 0


def _shrink(options: argparse.Namespace) -> None:
    parent = catalog.resolve(options.parent, offline=options.offline)
    from rest_jax.models.checkpoint import config_of
    from rest_jax.models.shrink import evenly, shrink

    layers = options.layers or evenly(config_of(parent).layers, options.keep)
    print(f"{options.out}: {shrink(parent, layers, options.out, name=Path(options.parent).name)}")


def _places(text: str) -> tuple[int, ...]:
    if not all(place.isdecimal() for place in text.split(",")):
        raise argparse.ArgumentTypeError(f"expected whole numbers with commas between them, got '{text}'")
    return tuple(map(int, text.split(",")))
