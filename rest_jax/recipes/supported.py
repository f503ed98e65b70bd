"""The corpus rule: rows of a corpus that supports too few of the answers would measure what a model remembers."""

from __future__ import annotations

from collections.abc import Sequence

from rest_jax.agents.registry import agent
from rest_jax.config.settings import ToolsSettings
from rest_jax.core.errors import UserError
from rest_jax.core.trajectory import Question
from rest_jax.tasks.support import LEAST, Support, support
from rest_jax.tasks.task import Task
from rest_jax.tools.search.corpus import read_corpus


def supported(
    task: Task, asked: Sequence[Question], methods: Sequence[str], tools: ToolsSettings, *, closed_book: bool
) -> Support | None:
    """What the task's corpus supports of these questions; None where none of the methods searches it, and where
    a recording answers in its place.

    Raises UserError when it is less than `LEAST` and nobody said that this is meant.
    """
    if task.corpus_file is None or tools.config is not None or tools.mode == "replay":
        return None
    if not any(agent(name).tools for name in methods):
        return None
    found = support(asked, read_corpus(task.corpus_file).passages)
    if not (found.suffices or closed_book):
        raise UserError(
            f"{task.corpus_file}: {found}, less than {100 * LEAST:.0f} %, so a row would measure what the model "
            f"remembers; give another corpus, or --closed-book to measure it all the same"
        )
    return found
