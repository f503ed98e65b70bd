"""The store: trajectories in Parquet files, written whole or not at all, read back bit for bit."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rest_jax.core.errors import UserError
from rest_jax.core.files import part_of, written_whole
from rest_jax.core.schema import SCHEMA, VERSION_KEY, from_row, to_row
from rest_jax.core.trajectory import SCHEMA_VERSION, Trajectory
from rest_jax.distributed.group import Group


def write(path: Path, trajectories: Iterable[Trajectory]) -> None:
    """Write trajectories to one zstd Parquet file. The file appears complete under its name, or not at all."""
    table = pa.Table.from_pylist([to_row(trajectory) for trajectory in trajectories], schema=SCHEMA)
    with written_whole(path) as part:
        pq.write_table(table, part, compression="zstd")


def gather(path: Path, own: Iterable[Trajectory], group: Group) -> list[Trajectory]:
    """Write what all processes of a group made, each its `own`, to one file, by question and sample; returns it. Who
    dies in between leaves parts behind that are written anew. Raises as `read` does."""
    if not group.first:
        write(part_of(path, group.index), own)
        group.shared()
        group.shared()
        return read(path)
    group.shared()
    made = [*own, *(trajectory for index in range(1, group.count) for trajectory in read(part_of(path, index)))]
    made.sort(key=lambda trajectory: (trajectory.question_id, trajectory.sample))
    write(path, made)
    group.shared()
    return made


def read(path: Path) -> list[Trajectory]:
    """The trajectories of a file, in the order in which they were written.

    Raises UserError when the file is missing, truncated, foreign or of another schema version.
    """
    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; repeat the command that samples it") from None
    except pa.ArrowInvalid as error:
        raise _damaged(path) from error
    with file:
        version = (file.schema_arrow.metadata or {}).get(VERSION_KEY)
        if version is None:
            raise UserError(f"{path}: this Parquet file holds no trajectories of rest_jax; name another file")
        if version != str(SCHEMA_VERSION).encode():
            raise UserError(
                f"{path}: schema version {version.decode(errors='replace')}, this program reads {SCHEMA_VERSION}; "
                f"use the version of rest_jax that wrote it, or sample again in another run folder"
            )
        try:
            return [from_row(row) for row in file.read().to_pylist()]
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            raise _damaged(path) from error


def _damaged(path: Path) -> UserError:
    return UserError(f"{path}: truncated or damaged; delete it and repeat the command, which samples it again")
