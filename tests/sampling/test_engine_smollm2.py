"""The real model: a ReAct-like trajectory does not depend on its neighbours, and real stops fall inside tokens."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sampling_toys import finish

from rest_jax.config.settings import EngineSettings
from rest_jax.core.effects import Candidate, Finish, Sampling
from rest_jax.core.keys import KeyPath
from rest_jax.core.policy import Request
from rest_jax.models import checkpoint
from rest_jax.models.checkpoint import Model
from rest_jax.sampling.engine import Engine
from rest_jax.sampling.stops import STOPPED, StopTable, candidate

pytestmark = pytest.mark.slow

SETTINGS = EngineSettings(rows=4, block=8, widths=(128, 256), chunk=64)
PROMPTS = ("The capital of France is", "Question: Who wrote Hamlet?\nThought:", "1, 2, 3, 4,", "Once upon a time")


@pytest.fixture(scope="module")
def model(smollm2: Path) -> Model:
    return checkpoint.load(smollm2)


def two_turns(model: Model, order: list[int], settings: EngineSettings) -> dict[int, list[Candidate]]:
    """Each session says something, hears an observation that is extended onto its row, and says something more."""
    engine = Engine(model, settings)
    contexts = {session: model.codec.encode_trusted(PROMPTS[session % 4]) for session in order}
    said: dict[int, list[Candidate]] = {session: [] for session in order}
    for turn in range(2):
        for session in order:
            key = KeyPath(1, 0, f"q{session}", 0, 0, turn, 0)
            sampling = Sampling(0.8) if session % 2 else Sampling(0)
            engine.submit(Request(session, session, contexts[session], key, 24, ("\n",), sampling))
        for session, reply in finish(engine).items():
            said[session].append(reply)
            observation = model.codec.encode_untrusted(f"\nObservation: {'word ' * (20 + 15 * session)}\nThought:")
            contexts[session] = (*contexts[session], *reply.ids, *observation)
    return said


def test_trajectories_do_not_depend_on_neighbours(model):
    expected = two_turns(model, [0, 1, 2, 3], SETTINGS)
    assert two_turns(model, [2, 0, 3, 1], SETTINGS) == expected
    assert two_turns(model, [1], SETTINGS) == {1: expected[1]}
    got = two_turns(model, [4, 0, 5, 1], SETTINGS)
    assert {session: got[session] for session in (0, 1)} == {session: expected[session] for session in (0, 1)}
    for block in (1, 4, 16):
        assert two_turns(model, [0, 1, 2, 3], replace(SETTINGS, block=block)) == expected


def test_stops_in_the_real_vocabulary(model):
    """The table agrees with a search through the text, for every token of the vocabulary after a few openings."""
    codec, stops = model.codec, ("\n", "\nObservation", "Done.")
    table = StopTable(codec, model.config.vocab)
    root = table.root(stops)
    spelled = [codec.token_bytes(token) for token in range(model.config.vocab)]
    for opening in ("", "Do", "Done", "one"):
        state = root
        for token in codec.encode_untrusted(opening):
            state = int(table.rows[state, token])
        for token in np.random.default_rng(0).choice(model.config.vocab, 4000):
            completes = any(stop.encode() in opening.encode() + spelled[token] for stop in stops)
            assert (table.rows[state, token] == STOPPED) == completes


def test_a_turn_ends_at_the_line_and_goes_on_from_there(model):
    codec = model.codec
    ids = codec.encode_untrusted("Action: search[Hamlet]\nObservation: a play")
    reply = candidate(codec, ("\nObservation",), ids, None, Finish.LENGTH)
    assert reply.text == "Action: search[Hamlet]"
    assert "\nObservation".startswith(reply.overhang)
    rest = codec.encode_trusted("\nObservation: a play"[len(reply.overhang) :])
    assert codec.decode((*reply.ids, *rest)) == "Action: search[Hamlet]\nObservation: a play"


def test_a_shared_beginning_changes_no_greedy_token(model):
    shown = (
        "Question: Who wrote Hamlet?\nThought: I need Hamlet. Action: Search[Hamlet]\nObservation: Hamlet is a play.\n"
    )
    head = model.codec.encode_untrusted(shown * 3)
    sharing = Engine(model, replace(SETTINGS, shared=len(head)))
    sharing.share([head])
    replies = []
    for engine in (sharing, Engine(model, SETTINGS)):
        for session, text in enumerate(PROMPTS):
            key, ids = KeyPath(1, 0, "", 0, 0, 0, 0), (*head, *model.codec.encode_untrusted(text))
            engine.submit(Request(session, session, ids, key, 32, (), Sampling(0)))
        replies.append(finish(engine))
    for session, reply in replies[0].items():
        assert reply.ids == replies[1][session].ids
        np.testing.assert_allclose(reply.logprobs, replies[1][session].logprobs, atol=1e-4)
