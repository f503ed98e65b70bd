"""Demonstrations by other authors, from a file that `rest-jax data import` wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rest_jax.core.canonical import digest
from rest_jax.core.demonstration import Demonstration, Turn
from rest_jax.core.jsonl import read_rows
from rest_jax.core.trajectory import Question
from rest_jax.tasks.leaks import held_out
from rest_jax.tasks.task import Task

SOURCE = "imported"
"""What `pilot.source` calls them."""
SHAPE = '{"question", "turns": [{"thought", "action": "search|lookup|finish", "argument"}, …]}, the last one a finish'
ACTIONS = ("search", "lookup", "finish")


def row_of(demonstration: Demonstration) -> dict[str, Any]:
    """A demonstration as a line of the file, without observations: tools are asked again."""
    turns = [{"thought": t.thought, "action": t.action, "argument": t.argument} for t in demonstration.turns]
    return {"question": demonstration.question.text, "turns": turns}


def read_imported(path: Path) -> tuple[Demonstration, ...]:
    """The demonstrations of a file of `SHAPE`, each named by the sha256 of what it says; one that comes twice counts
    once. Its last turn's answer is the question's. Raises UserError, with file and line, for a malformed one."""
    found = {one.question.id: one for one in read_rows(path, _demonstration, "demonstration", SHAPE)}
    return tuple(found.values())


def with_imported(task: Task, path: Path) -> Task:
    """The task with a source `imported`: the file's demonstrations, without those that ask a held-out question."""
    read, kept_back = read_imported(path), held_out(task)
    kept = tuple(one for one in read if not kept_back.leak(one.question))
    notes = {SOURCE: {"demonstrations": len(kept), "dropped_held_out": len(read) - len(kept)}}
    return replace(task, sources={**task.sources, SOURCE: kept}, notes={**task.notes, **notes})


def demonstration(question: str, turns: Sequence[Turn], source: str = SOURCE) -> Demonstration:
    """A demonstration by another author, named by the sha256 of what it says. Raises ValueError for one that is not
    turns with arguments, of which the last one and no other finishes."""
    finishes = [turn.action == "finish" for turn in turns]
    if not finishes or not finishes[-1] or any(finishes[:-1]):
        raise ValueError("the last turn, and no other, has to be a finish")
    if not question.strip() or not all(turn.argument.strip() for turn in turns):
        raise ValueError("a question or an argument is empty")
    said = digest([question, *([turn.thought, turn.action, turn.argument] for turn in turns)])
    return Demonstration(Question(f"{source}-{said[:16]}", question, turns[-1].argument), tuple(turns))


def _demonstration(row: dict[str, Any]) -> Demonstration:
    turns = row.get("turns")
    if not isinstance(row.get("question"), str) or not isinstance(turns, list):
        raise ValueError('"question" or "turns" is missing')
    return demonstration(row["question"], [_turn(turn) for turn in turns])


def _turn(turn: Any) -> Turn:
    named = isinstance(turn, dict) and all(isinstance(turn.get(key), str) for key in ("thought", "action", "argument"))
    if not named or turn["action"] not in ACTIONS:
        raise ValueError(f"a turn is no thought, action ({', '.join(ACTIONS)}) and argument")
    return Turn(turn["thought"], turn["action"], turn["argument"])
