"""Stop strings: an exact automaton over bytes, lifted to whole tokens, so that a row freezes on the device.

A reply ends where a stop string first *completes*, read byte by byte, so neither token borders nor the number of
tokens decoded at once matter. Of stops that complete at the same byte the longest counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rest_jax.core.effects import Candidate, Finish
from rest_jax.core.policy import TextCodec

STOPPED, ENDED, UNSTOPPABLE = 0, 1, 2
"""Table rows shared by all stop sets: a stop completed; an end-of-sequence token came; no stop strings to look for."""

_GROWTH = 64
"""Tables grow by this many rows at a time: only growth changes a shape, so only growth recompiles."""


@dataclass(frozen=True)
class Automaton:
    """Aho and Corasick's automaton (1975) over bytes. State 0 is the root."""

    moves: np.ndarray
    """int32 [states, 256]: the next state."""
    matched: np.ndarray
    """int32 [states]: bytes of the longest stop that ends in this state; 0 when none does."""


def automaton(stops: Iterable[str]) -> Automaton:
    """The automaton of these stop strings; ValueError when one is empty."""
    children: list[dict[int, int]] = [{}]
    matched = [0]
    for stop in sorted(set(stops)):
        if not stop:
            raise ValueError("a stop string is empty: every reply would end before it begins")
        state = 0
        for byte in stop.encode():
            if byte not in children[state]:
                children[state][byte] = len(children)
                children.append({})
                matched.append(0)
            state = children[state][byte]
        matched[state] = len(stop.encode())

    moves = np.zeros((len(children), 256), np.int32)
    fallback = [0] * len(children)
    queue = deque([0])
    while queue:
        state = queue.popleft()
        if state:
            moves[state] = moves[fallback[state]]
            matched[state] = max(matched[state], matched[fallback[state]])
        for byte, child in children[state].items():
            fallback[child] = int(moves[state, byte])
            moves[state, byte] = child
            queue.append(child)
    return Automaton(moves, np.asarray(matched, np.int32))


class StopTable:
    """All stop sets seen so far as one table, `rows` [states, V] uint16: state × token → state.

    A set's automaton occupies consecutive rows; a request begins in its set's root row. The first rows are shared:
    STOPPED and ENDED (both final) and UNSTOPPABLE (the root of the empty set). `rows` is replaced, never changed, when
    a set is added.
    """

    def __init__(self, codec: TextCodec, vocab: int):
        self._spelling = _Spelling(codec, vocab)
        self._eos = sorted(codec.eos_ids)
        self._roots: dict[frozenset[str], int] = {frozenset(): UNSTOPPABLE}
        self._used = UNSTOPPABLE + 1
        self.rows = np.zeros((_GROWTH, vocab), np.uint16)
        self.rows[ENDED] = ENDED
        self.rows[UNSTOPPABLE] = UNSTOPPABLE
        self.rows[UNSTOPPABLE, self._eos] = ENDED

    def root(self, stops: Iterable[str]) -> int:
        """The row in which a reply with these stops begins; a new set is added to the table."""
        key = frozenset(stops)
        if key not in self._roots:
            self._roots[key] = self._add(automaton(key))
        return self._roots[key]

    def _add(self, stops: Automaton) -> int:
        first, count = self._used, len(stops.moves)
        capacity = -(-(first + count) // _GROWTH) * _GROWTH
        if capacity > np.iinfo(np.uint16).max:
            raise ValueError(f"more than {np.iinfo(np.uint16).max} bytes of stop strings in one run")
        rows = np.zeros((capacity, self.rows.shape[1]), np.uint16)
        rows[: len(self.rows)] = self.rows
        rows[first : first + count] = self._spelling.lift(stops, first)
        rows[first : first + count, self._eos] = ENDED
        self.rows = rows
        self._used += count
        return first


class _Spelling:
    """The bytes of every token as a matrix, longest token first, so that those with a j-th byte are a prefix."""

    def __init__(self, codec: TextCodec, vocab: int):
        spelled = [codec.token_bytes(token) for token in range(vocab)]
        lengths = np.asarray([len(spelling) for spelling in spelled])
        self._order = np.argsort(-lengths, kind="stable")
        self._reaching = [int((lengths > j).sum()) for j in range(int(lengths.max(initial=0)))]
        padded = b"".join(spelled[token].ljust(len(self._reaching), b"\0") for token in self._order)
        self._bytes = np.frombuffer(padded, np.uint8).reshape(vocab, len(self._reaching))

    def lift(self, stops: Automaton, first: int) -> np.ndarray:
        """uint16 [states, V]: the state after a whole token, offset by `first`; STOPPED once a stop has completed."""
        accepting = len(stops.moves)
        byte_moves = np.where(stops.matched[stops.moves] > 0, accepting, stops.moves).astype(np.uint16)
        byte_moves = np.vstack([byte_moves, np.full(256, accepting, np.uint16)])
        states = np.repeat(np.arange(accepting, dtype=np.uint16)[:, None], len(self._order), axis=1)
        for j, reaching in enumerate(self._reaching):
            states[:, :reaching] = byte_moves[states[:, :reaching], self._bytes[None, :reaching, j]]
        lifted = np.empty_like(states)
        lifted[:, self._order] = np.where(states == accepting, STOPPED, states + first)
        return lifted


def candidate(
    codec: TextCodec,
    stops: Sequence[str],
    ids: Sequence[int],
    logprobs: Sequence[float] | None,
    finish: Finish,
) -> Candidate:
    """The candidate that these sampled ids make. `finish` holds unless a stop string completes in them.

    Kept are the tokens up to and including the one in which the stop begins (and those that complete a character of
    it, where a character is split over tokens). Their text ends before the stop; what they hold of it, and of
    anything after it in the same token, is the overhang.
    """
    spelled = [b"" if token in codec.eos_ids else codec.token_bytes(token) for token in ids]
    ends = np.cumsum([len(spelling) for spelling in spelled])
    content = b"".join(spelled)
    floats = None if logprobs is None else tuple(float(logprob) for logprob in logprobs)
    begin = _first_stop(stops, content)
    if begin is None:
        return Candidate(tuple(ids), floats, content.decode("utf-8", "replace"), finish)
    kept = int(np.searchsorted(ends, begin, side="right")) + 1
    while kept < len(ids) and not _is_text(content[begin : ends[kept - 1]]):
        kept += 1
    return Candidate(
        ids=tuple(ids[:kept]),
        logprobs=floats and floats[:kept],
        text=content[:begin].decode("utf-8", "replace"),
        finish=Finish.STOP,
        overhang=content[begin : ends[kept - 1]].decode("utf-8", "replace"),
    )


def _first_stop(stops: Sequence[str], content: bytes) -> int | None:
    """Where the stop string begins that completes first in these bytes."""
    if not stops:
        return None
    searcher, state = automaton(stops), 0
    for position, byte in enumerate(content):
        state = searcher.moves[state, byte]
        if searcher.matched[state]:
            return position + 1 - int(searcher.matched[state])
    return None


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
