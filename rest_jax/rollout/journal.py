"""The journal: what a rollout must not do twice.

It keeps the replies of tools and the finished trajectories. After a crash the finished ones are there; the others
begin again at their question, sample the same tokens (a token is a function of its key) and get the same replies.
It also notes which jobs were begun, so that one can count what a crash costs.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from rest_jax.core.appended import Appended
from rest_jax.core.canonical import digest
from rest_jax.core.effects import ToolErrorKind, ToolFault, ToolReply
from rest_jax.core.errors import UserError
from rest_jax.core.files import part_of, parts_of
from rest_jax.core.schema import from_row, to_row
from rest_jax.core.trajectory import SCHEMA_VERSION, Trajectory
from rest_jax.distributed.group import Group


class ToolKey(NamedTuple):
    """Names a tool call within a job: its place among the job's tool calls, and what was asked."""

    ordinal: int
    digest: str
    """sha256 of tool and arguments: a reply is reused only for the very same question."""

    @staticmethod
    def of(ordinal: int, tool: str, arguments: Mapping[str, Any]) -> ToolKey:
        return ToolKey(ordinal, digest([tool, arguments]))


class Journal:
    """An open journal. Records are handed to the system at once and are durable after `commit`."""

    def __init__(self, path: Path, beside: Sequence[Path] = ()) -> None:
        """Open or create the journal at `path`; a last line that a crash tore is cut off. `beside` are journals of
        other processes on the same jobs: what they hold is read too, and they stay as they are.

        Raises UserError when another line is damaged, or when the schema version is another.
        """
        self.path = path
        self.finished: dict[str, Trajectory] = {}
        """Trajectories by job key that were finished when the journal was opened; what is added is on the disk alone,
        for a rollout that goes on for days must not fill the memory."""
        self.replies: defaultdict[str, dict[ToolKey, ToolReply]] = defaultdict(dict)
        """Tool replies by job key that unfinished jobs had then."""
        head = {"kind": "journal", "schema_version": SCHEMA_VERSION}
        mend = "delete the file to sample its stage again"
        for other in beside:
            Appended(other, head, self._take, mend=mend, writable=False).close()
        self._file = Appended(path, head, self._take, mend=mend)
        for job in self.finished:  # by one process, where another one had begun it
            self.replies.pop(job, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add_begun(self, job: str) -> None:
        """Note that an attempt at a job begins."""
        self._file.add({"kind": "begun", "job": job})

    def add_reply(self, job: str, key: ToolKey, reply: ToolReply) -> None:
        """Record a tool's reply, before the agent gets it."""
        self._file.add({"kind": "reply", "job": job, "key": key, "reply": asdict(reply)})

    def add_trajectory(self, job: str, trajectory: Trajectory) -> None:
        """Record a finished trajectory; its replies are no longer needed."""
        self._file.add({"kind": "trajectory", "job": job, "row": to_row(trajectory)})

    def commit(self) -> None:
        """Return when everything recorded so far is on the disk."""
        self._file.commit()

    def close(self) -> None:
        self._file.close()

    def _take(self, place: int, record: Mapping[str, Any]) -> None:
        match record["kind"]:
            case "begun":
                pass
            case "reply":
                self.replies[record["job"]][ToolKey(*record["key"])] = _reply(record["reply"])
            case "trajectory":
                self.finished[record["job"]] = from_row(record["row"])
                self.replies.pop(record["job"], None)
            case kind:
                raise ValueError(f"unknown record {kind!r}")


@contextmanager
def open_journal(path: Path, group: Group) -> Iterator[Journal]:
    """The journal of one of a group's processes: it writes its own part, having read all parts there are, by whichever
    processes they were begun. None of the group writes before all have read. Raises as `Journal` does, and UserError
    when not all read the same."""
    own = part_of(path, group.index)
    with Journal(own, [other for other in parts_of(path) if other != own]) as journal:
        found = group.shared(len(journal.finished))
        if len(set(found)) > 1:
            raise UserError(
                f"{path.parent}: its processes find {found} finished trajectories there, in their order; see that all "
                f"have the same folder, and repeat the command"
            )
        yield journal


def progress(path: Path) -> tuple[int, int]:
    """How many jobs a journal, or the parts of several processes together, has begun, and how many trajectories it has
    finished, while others write it."""
    begun, finished = set(), 0
    for each in parts_of(path):
        with each.open("rb") as file:
            for line in file:
                if line.startswith(b'{"kind": "begun"') and line.endswith(b"\n"):
                    begun.add(json.loads(line)["job"])
                finished += line.startswith(b'{"kind": "trajectory"') and line.endswith(b"\n")
    return len(begun), finished


def _reply(row: Mapping[str, Any]) -> ToolReply:
    fault = row["fault"]
    if fault is not None:
        fault = ToolFault(ToolErrorKind(fault["kind"]), fault["message"])
    return ToolReply(row["content"], row["data"], fault, row["tool_version"])
