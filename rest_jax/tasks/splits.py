"""Who may read which split, and the record of who did."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from rest_jax.core.errors import UserError


class Split(StrEnum):
    """Learn on train, choose on select, report on report."""

    TRAIN = "train"
    SELECT = "select"
    REPORT = "report"


class Reader(StrEnum):
    """For what purpose a split is read."""

    TRAINING = "training"
    SELECTION = "selection"
    """Choosing a checkpoint, a threshold, a temperature, or when to stop."""
    EVALUATION = "evaluation"


ALLOWED = {
    Reader.TRAINING: frozenset({Split.TRAIN}),
    Reader.SELECTION: frozenset({Split.TRAIN, Split.SELECT}),
    Reader.EVALUATION: frozenset(Split),
}


@dataclass(frozen=True)
class SplitRead:
    """One read of one split."""

    task: str
    split: Split
    reader: Reader
    questions: int


@dataclass
class SplitReads:
    """The reads so far, in order; a stage drains them into its manifest."""

    reads: list[SplitRead] = field(default_factory=list)

    def drain(self) -> tuple[SplitRead, ...]:
        """The reads since the last drain."""
        taken = tuple(self.reads)
        self.reads.clear()
        return taken


def parse_split(name: str) -> Split:
    try:
        return Split(name)
    except ValueError:
        raise UserError(f"split '{name}': there is none of this name; use one of {', '.join(Split)}") from None


def refuse_unless_allowed(split: Split, reader: Reader) -> None:
    """Raise UserError when this reader must not see this split."""
    if split in ALLOWED[reader]:
        return
    allowed = " or ".join(name for name in Split if name in ALLOWED[reader])
    raise UserError(
        f"split '{split}': {reader} may not read it, for what is chosen or learnt on it could not be reported; "
        f"read {allowed} instead"
    )
