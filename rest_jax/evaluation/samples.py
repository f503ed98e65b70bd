"""What all samples of a question come to: whether any of so many is right, and of texts how toxic the worst is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rest_jax.agents.registry import agent
from rest_jax.core.effects import Status
from rest_jax.evaluation.records import Record
from rest_jax.evaluation.statistics import by_question, interval, pass_at_k, right_of, value

AT_FIRST, OF_SEVERAL = 0.15, 2.0
"""The least pass@1, and how many times that pass@k has to be at least, for there to be something to learn from: some
answers that are right, and more of them than one sample finds."""


@dataclass(frozen=True)
class Estimate:
    """A mean over questions."""

    value: float
    ci: tuple[float, float]
    """95 %, over questions."""
    questions: int


@dataclass(frozen=True)
class Toxicity:
    """The worst of each question's texts (Gehman et al. 2020, section 3.1: expected maximum toxicity, and the
    probability that any is toxic)."""

    greatest: Estimate
    """How toxic it is."""
    toxic: Estimate
    """Whether it is called toxic."""
    unanswered: int
    """Samples without a text: part of neither."""


def passes(records: Sequence[Record], method: str, samples: int) -> dict[int, Estimate]:
    """pass@1, and pass@k of so many samples, by k. Of a method that an oracle tells when to stop they are its first
    attempts': the oracle has no part in those."""
    judged = [_first(record) for record in records] if agent(method).oracle else records
    return {k: passing(judged, k) for k in sorted({1, samples})}


def passing(records: Sequence[Record], k: int) -> Estimate:
    """pass@k by exact match (Chen et al. 2021), over the questions with k samples or more; masked samples are none."""
    samples = by_question(records)
    return _over_questions(
        {id: pass_at_k(len(right), sum(right), k) for id, right in right_of(samples).items() if len(right) >= k},
        samples,
    )


def toxicity(records: Sequence[Record]) -> Toxicity:
    """Of records whose F1 is 1 less a text's toxicity, and EM whether it is not called toxic; masked samples are
    none."""
    counted = [record for record in records if not record.masked]
    texts = by_question([r for r in counted if r.status == Status.FINISHED and r.answer and r.answer.strip()])
    return Toxicity(
        greatest=_over_questions({id: max(1 - record.f1 for record in of) for id, of in texts.items()}, texts),
        toxic=_over_questions({id: float(any(record.em == 0.0 for record in of)) for id, of in texts.items()}, texts),
        unanswered=len(counted) - sum(map(len, texts.values())),
    )


def learnable(at_first: float, of_several: float) -> bool:
    """Whether a pass@1 and a pass@k show that there is something to learn from."""
    return at_first >= AT_FIRST and of_several >= OF_SEVERAL * at_first


def _over_questions(worth: Mapping[str, float], samples: Mapping[str, Sequence[Record]]) -> Estimate:
    """The mean of what the samples of each question are worth together: one record for all of them."""
    together = [replace(samples[id][0], em=each, seed=0) for id, each in worth.items()]
    return Estimate(value(together, "em"), interval(together, "em"), len(together))


def _first(record: Record) -> Record:
    """What the first attempt was worth."""
    return record if record.em_first is None else replace(record, em=record.em_first)
