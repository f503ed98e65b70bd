"""Which trajectories stay the same when something about the sampler changes: counts, not speed.

    JAX_NUM_CPU_DEVICES=8 python -m benchmarks.invariance --json OUT [--trajectories N]

The same trajectories of a tiny random model are sampled at temperature 1 (three turns, an observation after each) with
one thing changed at a time, and compared with those before the change. Some changes must alter nothing: then one
altered bit is a failed check, and the exit code 1. Others alter compiled shapes or the order of sums; how far is what
is measured here. A change that needs more devices than are here has no row, and a note says so.

    same_bits            the share of trajectories with the same tokens and the same bits of their log-probs
    same_tokens          the share with the same tokens
    logprob_difference   the largest difference between log-probs of one token after one context (nats)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.measure import circumstances, publish, show
from benchmarks.models import SHAPES, WordCodec, prompts
from rest_jax.config.settings import EngineSettings
from rest_jax.core.effects import Candidate, Sampling
from rest_jax.core.keys import KeyPath
from rest_jax.core.policy import Request
from rest_jax.models import decoder
from rest_jax.models.checkpoint import Model
from rest_jax.sampling.replicas import Replicas

TURNS, TURN_TOKENS, OBSERVATION, BEGINNING = 3, 16, 8, 40
"""Turns of a trajectory; tokens of a turn, of what is observed after it, and of what all trajectories begin with."""
ALTERS_NOTHING, MAY_ALTER = "nothing", "may"
BASE = EngineSettings(rows=16, widths=(256,), chunk=32)
CONFIG = replace(SHAPES["tiny"], heads=8, head_dim=8)
"""With heads for eight devices; its two key/value heads divide over two of them and are kept whole on more."""
COLUMNS = {
    "change": "change",
    "alters": "alters",
    "trajectories": "trajectories",
    "same bits": "same_bits",
    "same tokens": "same_tokens",
    "Δ log-prob": "logprob_difference",
}

Played = Mapping[int, Sequence[Candidate]]
"""By trajectory, the reply of each turn."""


@dataclass(frozen=True)
class Change:
    """One thing that is otherwise than in the trajectories compared with."""

    name: str
    alters: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    backwards: bool = False
    """The last trajectory begins first, so each has another row."""
    strangers: bool = False
    """As many other trajectories are sampled in between."""


CHANGES = (
    Change("slots: begun in reverse order", ALTERS_NOTHING, backwards=True),
    Change("batch mates: others in between", ALTERS_NOTHING, strangers=True),
    Change("block 8 → 5", ALTERS_NOTHING, {"block": 5}),
    Change("resident 16 → 64", ALTERS_NOTHING, {"resident": 64}),
    Change("replicas 1 → 3", ALTERS_NOTHING, {"replicas": 3}),
    Change("rows 16 → 32", MAY_ALTER, {"rows": 32}),
    Change("beginning shared, not in each row", MAY_ALTER, {"shared": BEGINNING}),
    *(Change(f"tensor 1 → {ways}", MAY_ALTER, {"tensor": ways}) for ways in (2, 4, 8)),
    Change("float32 → bfloat16", MAY_ALTER, dtype="bfloat16"),
)


def model() -> Model:
    """Random weights, large enough that the distribution of a next token is far from uniform."""
    params = jax.tree.map(lambda leaf: leaf * 5, decoder.init(CONFIG, jax.random.key(0)))
    return Model(CONFIG, params, WordCodec(CONFIG.vocab), "random-invariance", "invariance")


def sampled(change: Change, made: Model, count: int) -> Played:
    """The first `count` trajectories, sampled as the change says."""
    policy = Replicas(made, replace(BASE, **change.settings), dtype=jnp.dtype(change.dtype))
    (beginning,) = prompts((0,), 1, BEGINNING, CONFIG.vocab)
    policy.share([beginning])
    order = [*range(count)][:: -1 if change.backwards else 1]
    if change.strangers:
        order = [id for own in order for id in (own, count + own)]
    played = play(policy, order, beginning)
    return {id: played[id] for id in range(count)}


def play(policy: Replicas, order: Sequence[int], beginning: tuple[int, ...]) -> Played:
    """All trajectories, begun in this order, as many at once as the policy takes."""
    waiting = list(reversed(order))
    replies: dict[int, list[Candidate]] = {}
    contexts: dict[int, tuple[int, ...]] = {}

    def ask(id: int, more: tuple[int, ...]) -> None:
        contexts[id] = (*contexts.get(id, beginning), *more)
        key = KeyPath(0, 0, f"q{id}", 0, 0, len(replies[id]), 0)
        policy.submit(Request(id, id, contexts[id], key, TURN_TOKENS, stop=(), sampling=Sampling(temperature=1.0)))

    while waiting or contexts:
        while waiting and len(contexts) < policy.sessions:
            id = waiting.pop()
            replies[id] = []
            ask(id, observation(id, 0, 10 + id % 23))
        for id, reply in policy.step():
            replies[id].append(reply)
            if len(replies[id]) < TURNS:
                ask(id, (*reply.ids, *observation(id, len(replies[id]), OBSERVATION)))
            else:
                policy.release(id)
                del contexts[id]
    return replies


def observation(id: int, turn: int, length: int) -> tuple[int, ...]:
    """What a trajectory is told before a turn: always the same."""
    return prompts((1 + id, turn), 1, length, CONFIG.vocab)[0]


def compared(before: Played, after: Played) -> dict[str, float]:
    """How much of the one is in the other."""
    same_bits = [id for id, replies in before.items() if replies == after[id]]
    same_tokens = [id for id, replies in before.items() if _ids(replies) == _ids(after[id])]
    differences = (abs(a - b) for id, replies in before.items() for a, b in _alike(replies, after[id]))
    return {
        "trajectories": len(before),
        "same_bits": len(same_bits) / len(before),
        "same_tokens": len(same_tokens) / len(before),
        "logprob_difference": max(differences, default=0.0),
    }


def _ids(replies: Sequence[Candidate]) -> list[tuple[int, ...]]:
    return [reply.ids for reply in replies]


def _alike(before: Sequence[Candidate], after: Sequence[Candidate]) -> Iterator[tuple[float, float]]:
    """The log-probs of the tokens up to the first that differs: until there the contexts are the same."""
    for one, other in zip(before, after, strict=True):
        pairs = zip(one.ids, other.ids, one.logprobs or (), other.logprobs or (), strict=True)
        for id, other_id, logprob, other_logprob in pairs:
            if id != other_id:
                return
            yield logprob, other_logprob


def measure(count: int, changes: Sequence[Change] = CHANGES) -> tuple[list[dict[str, Any]], list[str]]:
    """A row for each change, and notes on those that cannot be made here."""
    made, devices = model(), len(jax.local_devices())
    before = sampled(Change("none", ALTERS_NOTHING), made, count)
    rows, notes = [], []
    for change in changes:
        needed = replace(BASE, **change.settings).devices
        if needed > devices:
            notes.append(f"{change.name}: needs {needed} devices, {devices} are here (on a CPU: JAX_NUM_CPU_DEVICES=8)")
            continue
        print(f"{change.name}: {count} trajectories", file=sys.stderr)
        rows.append({"change": change.name, "alters": change.alters, **compared(before, sampled(change, made, count))})
    return rows, notes


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--trajectories", type=int, default=500)
    options = parser.parse_args(arguments)
    about = {**circumstances("benchmarks.invariance", "float32"), "engine": asdict(BASE), "model": asdict(CONFIG)}
    rows, notes = measure(options.trajectories)
    publish(options.json, about, rows, notes)
    show(f"{options.trajectories} trajectories, {about['device']}, jax {about['jax']}", COLUMNS, rows, notes)
    broken = [row["change"] for row in rows if row["alters"] == ALTERS_NOTHING and row["same_bits"] < 1]
    if broken:
        print(f"failed: trajectories altered by {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
