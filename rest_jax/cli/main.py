"""`rest-jax`: finds the command, imports its module alone, and turns errors into one line for people.

Plain argparse and a module per command, because `rest-jax --help` must answer at once: the table below holds all that
it prints, and jax or a tokenizer is imported only by the command that needs it.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from rest_jax import __version__
from rest_jax.core.errors import UserError
from rest_jax.core.huge_pages import start_in_huge_pages
from rest_jax.core.termination import Terminated, terminable
from rest_jax.core.text import printable


@dataclass(frozen=True)
class Command:
    """A row of `--help`. The module offers `add_arguments(parser)` and `execute(options) -> int`, the exit code."""

    name: str
    module: str
    about: str
    resumes: bool = False
    """Whether the same command again goes on where this one stopped."""
    trains: bool = False
    """Whether it trains a model, for which the process starts in huge pages."""


COMMANDS = (
    Command("run", "run", "a whole run: prompted, pilot, generation 1, generation 2", resumes=True, trains=True),
    Command("preflight", "preflight", "in two minutes: is a run worth its hours?", trains=True),
    Command("eval", "eval", "measure a model as an agent", resumes=True),
    Command("ask", "ask", "ask one question and watch the agent"),
    Command("generate", "generate", "continue prompts, with ids and log-probs"),
    Command("status", "status", "where a run stands, and how its tools do"),
    Command("report", "report", "write a run's report.html again"),
    Command("run-digest", "run_digest", "one sha256 over a run's trajectories and weights"),
    Command("verify", "verify", "score a finished run's trajectories anew and compare all that it claims"),
    Command("pool", "pool", "runs of one configuration in several seeds, pooled in one table"),
    Command("what-if", "what_if", "what other thresholds or rewards would have kept, from the logs alone"),
    Command("data", "data", "export, import and look at trajectories and conversations"),
    Command(
        "judge", "judge", "have a judge compare a run's or an evaluation's answers with the gold ones", resumes=True
    ),
    Command(
        "tables",
        "tables",
        "a paper's table beside our runs; runs what is missing (--show: nothing)",
        resumes=True,
        trains=True,
    ),
    Command("config", "config", "show, validate or describe a configuration"),
    Command("models", "models", "get and list models"),
    Command("tasks", "tasks", "list tasks and check them"),
    Command("tools", "tools", "serve tools, call one, or look at an index"),
    Command("launch", "launch", "scripts and manifests that start runs elsewhere, a seed each"),
    Command("doctor", "doctor", "what this machine has, what is missing, and how to get it"),
)

INTERRUPTED = 130
BROKEN_PIPE = 141
TERMINATED = 143
USER_ERROR = 2

FULL = (errno.ENOSPC, errno.EDQUOT)
BARRED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
"""The system does not let a file or folder be made there."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (2: something that the user can mend, said in one line on stderr)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    wanted = _wanted(given)
    if arguments is None and any(command.trains for command in COMMANDS if command.name == wanted):
        start_in_huge_pages()
    options = argparse.Namespace()
    try:
        with terminable():
            _parser(given).parse_args(given, options)
            code = options.execute(options)
            sys.stdout.flush()
        return code
    except UserError as error:
        return _say(f"error: {' '.join(str(error).split())}", USER_ERROR)
    except KeyboardInterrupt as ending:
        word, code = ("terminated", TERMINATED) if isinstance(ending, Terminated) else ("interrupted", INTERRUPTED)
        kept = f": {ending}" if str(ending) else ""
        goes_on = "; the same command goes on where this one stopped" if getattr(options, "resumes", False) else ""
        return _say(f"{word}{kept}{goes_on}", code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at exit must not fail again
        return BROKEN_PIPE
    except OSError as error:
        place = error.filename or getattr(options, "run_dir", None) or Path.cwd()
        if error.errno in FULL:
            return _say(f"error: no space left for {place}; free some and repeat the command", USER_ERROR)
        if error.errno in BARRED:
            return _say(f"error: {place}: {error.strerror}; name a place that you may write to", USER_ERROR)
        raise


def _say(line: str, code: int) -> int:
    # An error quotes what others wrote: a server's names, a file's lines, a model's words.
    print(f"rest-jax: {printable(line)}", file=sys.stderr)
    return code


def _wanted(given: Sequence[str]) -> str | None:
    """The command's name, as far as it was given."""
    return next((word for word in given if not word.startswith("-")), None)


def _parser(given: Sequence[str]) -> Parser:
    parser = Parser("rest-jax", description="Turn a prompted language model into a small, self-improved agent.")
    parser.add_argument("--version", action="version", version=f"rest_jax {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    wanted = _wanted(given)
    names = [command.name for command in COMMANDS]
    if wanted is not None and wanted not in names:
        near = get_close_matches(wanted, names, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "see rest-jax --help"
        raise UserError(f"there is no command '{wanted}'; {hint}")
    for command in COMMANDS:
        subparser = commands.add_parser(command.name, help=command.about, description=command.about)
        if command.name == wanted:
            module = import_module(f"rest_jax.cli.{command.module}")
            module.add_arguments(subparser)
            subparser.set_defaults(execute=module.execute, resumes=command.resumes)
    return parser


if __name__ == "__main__":
    sys.exit(main())
