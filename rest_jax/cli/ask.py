"""`rest-jax ask MODEL_OR_RUN "question"`."""

from __future__ import annotations

import argparse

STYLES = {
    "model": ("thinks", "cyan"),
    "tool": ("observes", "yellow"),
    "answer": ("answers", "bold green"),
    "source": ("cites", "magenta"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL_OR_RUN", help="a run's folder, a model's folder, or a model's name")
    parser.add_argument("question", help="the question")
    parser.add_argument("--compare", metavar="ROW", help="ask this row of the run too, such as pilot")
    parser.add_argument("--agent", metavar="NAME", help="play this agent instead of the run's or model's own")
    parser.add_argument("--corpus", metavar="FILE", help="search this corpus instead of the run's task's")
    parser.add_argument("--tools-url", metavar="URL", help="use the tool adapter there")
    parser.add_argument("--offline", action="store_true", help="never wait for a network")


def execute(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.text import Text

    from rest_jax.core.text import printable
    from rest_jax.recipes.ask import ask
    from rest_jax.reporting.stderr import to_stderr

    console = Console(highlight=False)

    def tell(who: str, kind: str, text: str) -> None:
        verb, style = STYLES[kind]
        console.print(Text.assemble((f"{who} {verb}  ".lstrip(), style), printable(text)), soft_wrap=True)

    ask(
        options.model,
        options.question,
        tell,
        compare=options.compare,
        method=options.agent,
        corpus=options.corpus,
        tools_url=options.tools_url,
        offline=options.offline,
        emit=to_stderr,
    )
    return 0
