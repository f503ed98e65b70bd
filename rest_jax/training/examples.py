"""Training examples: a trajectory as token sequences, with weights that say which tokens are learned.

Calls that continue one another in one growing transcript become one sequence; a call that opens a new transcript
opens a new one. Every reply is learned exactly once; prompts, questions, tool output and the candidates that were not
chosen are context (ReST meets ReAct, section 3.3; the loss mask of FireAct and ReST-EM).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from rest_jax.core.effects import Candidate, Finish, Role, Status
from rest_jax.core.policy import TextCodec
from rest_jax.core.trajectory import Call, Trajectory
from rest_jax.core.transcript import Segment, Source, segment_of


@dataclass(frozen=True, eq=False)
class Example:
    """One sequence to learn from."""

    ids: np.ndarray
    """int32 [T], the codec's BOS first."""
    weights: np.ndarray
    """f32 [T]: how much the loss counts this token; 0 for what is context."""
    logprobs: np.ndarray
    """f32 [T]: the author's untempered log-prob of this token, NaN where unknown."""
    trajectory_id: str
    off_context: bool
    """True when the sequence differs from what the policy saw while sampling (worked examples left out, text encoded
    anew), so that `logprobs` are not those of this context."""

    @property
    def learn(self) -> np.ndarray:
        """bool [T]: the loss counts this token."""
        return self.weights != 0


@dataclass(frozen=True)
class _Piece:
    ids: tuple[int, ...]
    weight: float = 0.0
    logprobs: tuple[float, ...] | None = None


def examples_of(
    trajectory: Trajectory,
    codec: TextCodec,
    *,
    prompt: Literal["same", "bare"],
    weight: Callable[[Call], float] = lambda call: 1.0,
) -> list[Example]:
    """The examples of one trajectory, in the order of their last call.

    Ids are the trajectory's own when `codec` is the tokenizer that made them (by digest); otherwise each segment's
    text is encoded once, as its author deserves to be trusted, and log-probs are unknown. `bare` leaves out worked
    examples (segments marked `shots`). Each token of a call's reply counts as much as the call's `weight`; a judge's
    calls are not learned. A sequence whose last reply was ended by a stop string, and a finished trajectory, end in an
    end-of-sequence token, which is learned whether it was sampled or not: of a stop string only the first token is
    kept, and what is not learned a model will not say.
    """
    native = trajectory.tokenizer_digest == codec.digest
    learned_calls: set[int] = set()
    found: list[Example] = []
    for call in reversed(trajectory.calls):
        if call.role is Role.JUDGE or call.index in learned_calls:
            continue
        path = _path(trajectory.calls, call)
        segments = [segment for link in path for segment in link.segments]
        dropped = prompt == "bare" and any(segment.shots for segment in segments)
        pieces = [_Piece(codec.bos_ids)]
        for link, spoken in _links(path):
            for segment in link.segments:
                if not (dropped and segment.shots):
                    pieces.append(_context(segment, codec, native))
            learned = spoken == link.chosen and link.role is not Role.JUDGE and link.index not in learned_calls
            if learned:
                learned_calls.add(link.index)
            pieces.append(_reply(link.candidates[spoken], codec, native, weight(link) if learned else 0.0))
        if _lacks_eos(trajectory, call):
            pieces.append(_Piece((codec.end_of_turn_id,), weight(call)))
        example = _joined(pieces, trajectory.id, off_context=dropped or not native)
        if example.learn[1:].any():
            found.append(example)
    return found[::-1]


def _path(calls: tuple[Call, ...], call: Call) -> list[Call]:
    """The calls whose replies this one's transcript holds, from the first to itself."""
    path = [call]
    while path[-1].parent is not None:
        path.append(calls[path[-1].parent])
    return path[::-1]


def _links(path: list[Call]) -> Iterator[tuple[Call, int]]:
    """Each call of a path with the candidate by which the path goes on; the last goes on by its chosen one."""
    for call, child in pairwise(path):
        yield call, child.parent_candidate
    yield path[-1], path[-1].chosen


def _context(segment: Segment, codec: TextCodec, native: bool) -> _Piece:
    if native and segment.ids is not None:
        return _Piece(segment.ids, logprobs=segment.logprobs)
    return _Piece(_encoded(segment, codec))


def _reply(candidate: Candidate, codec: TextCodec, native: bool, weight: float) -> _Piece:
    if native:
        return _Piece(candidate.ids, weight, candidate.logprobs)
    ids = _encoded(segment_of(candidate), codec)
    if candidate.finish is Finish.EOS:
        ids = (*ids, codec.end_of_turn_id)
    return _Piece(ids, weight)


def _encoded(segment: Segment, codec: TextCodec) -> tuple[int, ...]:
    trusted = segment.source is Source.PROMPT
    return codec.encode_trusted(segment.text) if trusted else codec.encode_untrusted(segment.text)


def _lacks_eos(trajectory: Trajectory, call: Call) -> bool:
    """True for a call that ends a sequence where its step was over, and says so by no end-of-sequence token."""
    finish = call.candidates[call.chosen].finish
    is_last = call.index == trajectory.calls[-1].index
    return finish is Finish.STOP and (not is_last or trajectory.status is Status.FINISHED)


def _joined(pieces: list[_Piece], trajectory_id: str, off_context: bool) -> Example:
    def column(values: Iterator[np.ndarray], dtype: type) -> np.ndarray:
        return np.concatenate(list(values)).astype(dtype)

    return Example(
        ids=column((np.array(piece.ids, np.int32) for piece in pieces), np.int32),
        weights=column((np.full(len(piece.ids), piece.weight) for piece in pieces), np.float32),
        logprobs=column((_logprobs(piece) for piece in pieces), np.float32),
        trajectory_id=trajectory_id,
        off_context=off_context,
    )


def _logprobs(piece: _Piece) -> np.ndarray:
    if piece.logprobs is None:
        return np.full(len(piece.ids), np.nan, np.float32)
    return np.array(piece.logprobs, np.float32)
