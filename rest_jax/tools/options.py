"""The options that say which tools a command is about."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rest_jax.core.errors import UserError

if TYPE_CHECKING:
    from rest_jax.tools.search.local import CorpusSettings
    from rest_jax.tools.settings import AdapterSettings


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """`--config`, `--corpus` and the settings that go with it."""
    parser.add_argument("--config", metavar="FILE", type=Path, help="YAML file: `tools:`, a list of kinds")
    add_corpus_options(parser)


def add_corpus_options(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """`--corpus` and how it is searched. Here too no default is a value: what was not given is the settings' own."""
    parser.add_argument(
        "--corpus", metavar="FILE", type=Path, required=required, help="JSONL of {title, text} or {id, contents}"
    )
    parser.add_argument("--results", type=int, help="passages that a search shows unless it says how many (1)")
    parser.add_argument("--k1", type=float, help="BM25 term saturation (1.5)")
    parser.add_argument("--b", type=float, help="BM25 length normalisation (0.75)")
    parser.add_argument("--title-weight", type=int, help="how many times a title counts beside its text (2)")
    parser.add_argument(
        "--exact-title-first", choices=("yes", "no"), help="a passage whose title is the query leads (yes)"
    )


def settings_of(options: argparse.Namespace) -> AdapterSettings:
    """What these options serve: the file of --config, or the corpus alone, which needs no cache: it answers as soon.

    Raises UserError for neither.
    """
    from rest_jax.tools.service.settings import ServiceSettings
    from rest_jax.tools.settings import AdapterSettings, read_settings, with_corpus

    if options.config is None:
        return AdapterSettings((corpus_settings_of(options),), ServiceSettings(cache=None))
    if given := _given(options):
        raise UserError(f"--{next(iter(given))} goes with --corpus alone; write it into {options.config}")
    settings = read_settings(options.config)
    return settings if options.corpus is None else with_corpus(settings, options.corpus)


def corpus_settings_of(options: argparse.Namespace) -> CorpusSettings:
    """The corpus of --corpus, as the options beside it say. Raises UserError for values that will not do."""
    from rest_jax.config.limits import checked
    from rest_jax.tools.search.index import IndexSettings
    from rest_jax.tools.search.local import CorpusSettings

    if options.corpus is None:
        raise UserError("nothing to serve; give --corpus FILE.jsonl or --config FILE.yaml")
    given = _given(options)
    shown = {"results": given.pop("results")} if "results" in given else {}
    index = IndexSettings(**{name.replace("-", "_"): value for name, value in given.items()})
    return checked(CorpusSettings(path=str(options.corpus), index=index, **shown))


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The options beside --corpus that were given, by their names on the command line."""
    exact = {"yes": True, "no": False, None: None}[options.exact_title_first]
    values = {
        "results": options.results,
        "k1": options.k1,
        "b": options.b,
        "title-weight": options.title_weight,
        "exact-title-first": exact,
    }
    return {name: value for name, value in values.items() if value is not None}
