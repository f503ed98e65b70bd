"""Data in and out: finished runs for other trainers, and others' conversations as demonstrations."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rest_jax.agents.actions import Finish, Lookup, Search, parse_action, thought_and_action
from rest_jax.agents.endings import Malformed
from rest_jax.core.demonstration import Demonstration, Turn
from rest_jax.core.errors import UserError
from rest_jax.core.files import written_whole
from rest_jax.core.jsonl import read_rows
from rest_jax.core.trajectory import Trajectory
from rest_jax.recipes.feedback import as_learned
from rest_jax.recipes.loop import read_grown
from rest_jax.recipes.players import config_of_run
from rest_jax.recipes.stages import finished_stages
from rest_jax.recipes.workbench import TRAJECTORIES
from rest_jax.rollout import conversations, store
from rest_jax.tasks.files import write_jsonl
from rest_jax.tasks.imported import demonstration, row_of
from rest_jax.tasks.licences import licence

LICENCES_KEY = b"rest_jax.licences"
"""In a Parquet file's metadata: a JSON list."""
ASKED = {"search": "query", "lookup": "keyword"}
"""The argument that a turn writes, by tool."""
SHAPE = '{"messages": [{"role", "content"}, …]}'

_FUNCTION = pa.struct({"name": pa.string(), "arguments": pa.string()})
_TOOL_CALLS = pa.list_(pa.struct({"id": pa.string(), "type": pa.string(), "function": _FUNCTION}))
_MESSAGE = pa.struct(
    {
        "role": pa.string(),
        "content": pa.string(),
        "tool_calls": _TOOL_CALLS,
        "tool_call_id": pa.string(),
        "name": pa.string(),
    }
)
_ABOUT = {
    "id": pa.string(),
    "seed": pa.int64(),
    "generation": pa.int32(),
    "task": pa.string(),
    "split": pa.string(),
    "agent": pa.string(),
    "status": pa.string(),
    "answer": pa.string(),
    "reward": pa.float64(),
    "weights_digest": pa.string(),
    "licence": pa.string(),
}
MESSAGES = pa.schema({"messages": pa.list_(_MESSAGE), "tools": pa.string(), **_ABOUT})
"""A row per trajectory. `tools` is OpenAI's array as JSON text, as TRL reads it."""


@dataclass(frozen=True)
class Rewarded:
    """A stored trajectory, with its reward where one was given."""

    trajectory: Trajectory
    reward: float | None


def stored(path: Path, stage: str | None = None) -> list[Rewarded]:
    """The trajectories of a Parquet file, or of a run: of one stage, else of all its Grows, as the run learned from
    them.

    Only Grows are taken unasked, because whoever learns from what was played on select or report has seen what it will
    be measured on. Raises UserError where there are none.
    """
    if path.is_file():
        return [Rewarded(trajectory, None) for trajectory in store.read(path)]
    finished = finished_stages(path)
    stages = [done for done in finished if (done.folder / TRAJECTORIES).is_file()]
    chosen = [done for done in stages if (done.name == stage if stage else "grow" in done.inputs)]
    if not chosen:
        known = ", ".join(done.name for done in stages) or "none"
        raise UserError(
            f"{path}: no finished {f'stage {stage}' if stage else 'Grow'} with trajectories; it has {known}"
        )
    config = config_of_run(path)
    learned = [as_learned(read_grown(done), done, config, finished) for done in chosen]
    return [Rewarded(t, grown.rewards.get(t.id)) for grown in learned for t in grown.trajectories]


def above(entries: Sequence[Rewarded], threshold: float | None) -> list[Rewarded]:
    """Those whose reward is strictly greater; all of them where there is no threshold."""
    return [e for e in entries if threshold is None or (e.reward is not None and e.reward > threshold)]


def export_messages(entries: Sequence[Rewarded], path: Path) -> list[str]:
    """Write conversations as Parquet, with their licences in its metadata; returns these."""
    licences = _licences(entries)
    schema = MESSAGES.with_metadata({LICENCES_KEY: json.dumps(licences).encode()})
    offered = json.dumps(conversations.tools(entry.trajectory for entry in entries))
    rows = [{"messages": conversations.messages(e.trajectory), "tools": offered, **_about(e)} for e in entries]
    table = pa.Table.from_pylist(rows, schema=schema)
    with written_whole(path) as part:
        pq.write_table(table, part, compression="zstd")
    return licences


def export_completions(entries: Sequence[Rewarded], path: Path, *, bare: bool) -> list[str]:
    """Write JSONL of prompts and completions, one for each call, with each line's licence; returns them."""
    write_jsonl(
        path,
        ({**said, **_about(e)} for e in entries for said in conversations.completions(e.trajectory, bare=bare)),
    )
    return _licences(entries)


def import_conversations(source: Path, path: Path) -> tuple[int, Counter[str], list[str]]:
    """Write conversations as demonstrations (`tasks/imported.py`), with their licences on each line.

    Returns how many there are, why others were dropped and how often, and the licences that the source names.
    """
    rows, dropped, licences = [], Counter[str](), set()
    for row in read_conversations(source):
        try:
            named = row.get("licence")
            rows.append({**row_of(demonstration_of(row["messages"])), "licence": named})
            licences |= {str(named)} if named else set()
        except ValueError as error:
            dropped[str(error)] += 1
    if not rows:
        raise UserError(f"{source}: none of its {dropped.total()} conversations is a demonstration ({_first(dropped)})")
    write_jsonl(path, rows)
    return len(rows), dropped, sorted(licences) or ["unknown: the source names none; ask whoever made it"]


def read_conversations(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet or JSONL file with a column `messages`. Raises UserError for any other."""
    if path.suffix != ".parquet":
        yield from read_rows(path, _with_messages, "conversation", SHAPE)
        return
    try:
        rows = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read ({error}); name a Parquet or JSONL file of {SHAPE}") from error
    try:
        yield from map(_with_messages, rows)
    except ValueError as error:
        raise UserError(f"{path}: {error}; a row is {SHAPE}") from error


def demonstration_of(messages: Sequence[Mapping[str, Any]]) -> Demonstration:
    """A conversation as a demonstration: the first user message asks, each assistant message is a turn.

    A turn's action is what its text says as ReAct does, else its one tool call (search or lookup); a last message
    without either is the answer. Raises ValueError for what is none.
    """
    asked = next((str(m.get("content") or "") for m in messages if m.get("role") == "user"), "")
    said = [m for m in messages if m.get("role") == "assistant"]
    return demonstration(asked, [_turn(message, last=message is said[-1]) for message in said])


def stats(entries: Sequence[Rewarded]) -> list[str]:
    """What a person asks first of a file of trajectories, in lines."""
    trajectories = [entry.trajectory for entry in entries]
    rewards = [entry.reward for entry in entries if entry.reward is not None]
    n = len(trajectories)

    def counted(values: Iterator[Any]) -> str:
        return ", ".join(f"{value} {count}" for value, count in sorted(Counter(map(str, values)).items()))

    lines = [
        f"{n} trajectories of {len({t.question_id for t in trajectories})} questions",
        f"task: {counted(t.task for t in trajectories)}; split: {counted(t.split for t in trajectories)}",
        f"status: {counted(t.status.value for t in trajectories)}",
        f"generation: {counted(t.generation for t in trajectories)}; seed: {counted(t.seed for t in trajectories)}",
        f"texts of tools that look like control tokens: {sum(map(conversations.hostile_texts, trajectories))}",
    ]
    if n:
        searches, tokens = sum(t.searches for t in trajectories), sum(t.model_tokens for t in trajectories)
        lines.append(f"a trajectory: {searches / n:.2f} searches, {tokens / n:.1f} sampled tokens")
    if rewards:
        lines.append(f"mean reward {sum(rewards) / len(rewards):.3f} over {len(rewards)}")
    return lines


def head(entries: Sequence[Rewarded], n: int) -> Iterator[str]:
    """The first n conversations, a line for each message: its words, or its calls where it has none."""
    for entry in islice(entries, n):
        told = "not rewarded" if entry.reward is None else f"reward {entry.reward:.3g}"
        yield f"── {entry.trajectory.id}, {entry.trajectory.status.value}, {told}"
        for message in conversations.messages(entry.trajectory):
            calls = (call["function"] for call in message["tool_calls"] or ())
            said = message["content"] or ", ".join(f"{call['name']} {call['arguments']}" for call in calls)
            yield f"{message['role']}: {said}"


def licences_of(entries: Sequence[Rewarded]) -> list[str]:
    """The licences of what they quote."""
    return _licences(entries)


def _licences(entries: Sequence[Rewarded]) -> list[str]:
    return sorted({licence(entry.trajectory.task) for entry in entries})


def _about(entry: Rewarded) -> dict[str, Any]:
    t = entry.trajectory
    return {
        "id": t.id,
        "seed": t.seed,
        "generation": t.generation,
        "task": t.task,
        "split": t.split,
        "agent": t.agent,
        "status": t.status.value,
        "answer": t.answer,
        "reward": entry.reward,
        "weights_digest": t.weights_digest,
        "licence": licence(t.task),
    }


def _with_messages(row: dict[str, Any]) -> dict[str, Any]:
    said = row.get("messages")
    if not isinstance(said, list) or not all(isinstance(message, dict) for message in said):
        raise ValueError("messages: not a list of messages")
    return row


def _turn(message: Mapping[str, Any], *, last: bool) -> Turn:
    content = str(message.get("content") or "")
    thought = thought_and_action(content)[0].removeprefix("Thought:").strip()
    match parse_action(content):
        case Search(query):
            return Turn(thought, "search", query)
        case Lookup(keyword):
            return Turn(thought, "lookup", keyword)
        case Finish(answer):
            return Turn(thought, "finish", answer)
        case Malformed(why):
            if message.get("tool_calls"):
                return _called(message["tool_calls"], content.strip())
            if not last:
                raise ValueError(why)
    return Turn("", "finish", content.strip())


def _called(calls: Any, thought: str) -> Turn:
    try:
        (call,) = calls
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        argument = (json.loads(arguments) if isinstance(arguments, str) else arguments)[ASKED[name]]
    except (TypeError, KeyError, ValueError, RecursionError):
        raise ValueError("a tool call that is not one search or lookup") from None
    if not isinstance(argument, str):
        raise ValueError("a tool call whose argument is no text")
    return Turn(thought, name, argument)


def _first(dropped: Counter[str]) -> str:
    return dropped.most_common(1)[0][0] if dropped else "it is empty"
