"""What one trajectory is worth: the record from which every row and comparison is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rest_jax.agents.attempts import attempts, looks_back
from rest_jax.agents.registry import tries_again
from rest_jax.agents.search_agent.grammar import unquoted
from rest_jax.core.answers import Voice, majority, normalise
from rest_jax.core.effects import Status
from rest_jax.core.trajectory import Question, Trajectory
from rest_jax.core.transcript import Source
from rest_jax.tasks.metrics import Metric, is_conclusion


@dataclass(frozen=True)
class Record:
    """One trajectory, judged. `em`, `f1`, `grounded` are in [0, 1]; `grounded` may be None."""

    question_id: str
    sample: int
    seed: int
    status: str
    answer: str | None
    em: float
    f1: float
    well_formed: bool
    grounded: float | None
    """`em` where the answer stood in what a tool found and the model saw, else 0. None where the gold answer is yes, no
    or a label: that is concluded from passages and stands in none, so such a question says nothing about grounding."""
    searches: int
    model_tokens: int
    masked: bool
    """Infrastructure failed: counted, and left out of every mean."""
    trials: int | None = None
    """Attempts at the question. This and what follows: None where the method makes one and no more."""
    calls: int | None = None
    """Calls of a model, each of which waited for the one before."""
    em_first: float | None = None
    """EM of what the first attempt answered."""
    em_majority: float | None = None
    """EM of the answer that most attempts gave; of equals the one given first."""
    em_any: float | None = None
    """Whether any attempt was right: chosen by the gold answers, so no method's own result."""


OF_ATTEMPTS = ("trials", "calls", "em_first", "em_majority", "em_any")
"""The fields that tell of attempts."""


def record(
    trajectory: Trajectory, question: Question, score: Metric, voice: Voice = normalise, *, tried: bool = False
) -> Record:
    """Judge a trajectory by its task's own metric, and its attempts where it `tried` several times: one vote for those
    of one `voice`. What is not answered scores 0; what is masked does not count."""
    judged = score(trajectory.answer, question)
    of_attempts = _of_attempts(trajectory, question, score, voice) if tried else {}
    return Record(
        question_id=trajectory.question_id,
        sample=trajectory.sample,
        seed=trajectory.seed,
        status=trajectory.status.value,
        answer=trajectory.answer,
        em=judged.em,
        f1=judged.f1,
        well_formed=is_well_formed(trajectory),
        grounded=None if is_conclusion(question.answer) else judged.em * is_grounded(trajectory),
        searches=trajectory.searches,
        model_tokens=trajectory.model_tokens,
        masked=trajectory.status.is_masked,
        **of_attempts,
    )


def _of_attempts(trajectory: Trajectory, question: Question, score: Metric, voice: Voice) -> dict[str, Any]:
    answers = attempts(trajectory)
    vote = majority(answers, voice)
    right = [score(answer, question).em for answer in answers]
    return {
        "trials": len(answers),
        "calls": len(trajectory.calls),
        "em_first": right[0] if right else 0.0,
        "em_majority": 0.0 if vote is None else right[vote.first],
        "em_any": max([*right, score(trajectory.answer, question).em]),
    }


def is_well_formed(trajectory: Trajectory) -> bool:
    """Whether every turn held an action: it ended with an answer, or was still acting at the step limit."""
    return trajectory.status in (Status.FINISHED, Status.STEP_LIMIT)


def is_grounded(trajectory: Trajectory) -> bool:
    """Whether the answer stood, as whole normalised words, in an observation of this trajectory (not of its shots).

    An observation is what the model call after a tool call was shown, whether written plainly or as a literal. Where no
    tool found anything it does not count: it echoes the query ("Could not find Orr."), and a guess that was searched
    for would pass for one that was read.
    """
    if trajectory.answer is None:
        return False
    answer = normalise(trajectory.answer)
    shown_something = {call.after + 1 for call in trajectory.tool_calls if call.found}
    seen = (
        unquoted(segment.text)
        for call in trajectory.calls
        if call.index in shown_something
        for segment in call.segments
        if segment.source is Source.TOOL and not segment.shots
    )
    return bool(answer) and any(f" {answer} " in f" {normalise(text)} " for text in seen)


def judge(
    trajectories: Sequence[Trajectory],
    questions: Mapping[str, Question],
    score: Metric,
    voice: Voice = normalise,
) -> tuple[Record, ...]:
    """Records in the order (question, sample), so that equal trajectories give equal tables.

    Attempts are judged of methods that may make several, whether any of these trajectories did or not; a method that
    is not known here is taken for one of them where its trajectories look so.
    """
    ordered = sorted(trajectories, key=lambda t: (t.question_id, t.sample))
    tried = any(tries_again(trajectory.agent) or looks_back(trajectory) for trajectory in ordered)
    return tuple(
        record(trajectory, questions[trajectory.question_id], score, voice, tried=tried) for trajectory in ordered
    )
