"""A trajectory does not depend on its neighbours: the same ids and the same log-prob bits, in float32.

Sessions of three turns each: an observation is appended after every reply, so that rows are parked, extended and moved
to a wider cache while others decode.
"""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from sampling_toys import SETTINGS, finish, prompt, request, tiny_model

from rest_jax.config.settings import EngineSettings
from rest_jax.core.effects import Candidate, Sampling
from rest_jax.models.checkpoint import Model
from rest_jax.sampling.engine import Engine

WATCHED = (0, 1, 2)
SAMPLINGS = (Sampling(1.0), Sampling(0.0), Sampling(0.8, top_k=20), Sampling(1.0, top_p=0.9), Sampling(1.3))


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


def trajectories(
    model: Model, sessions: Iterable[int], *, settings: EngineSettings = SETTINGS, seed: int = 0
) -> dict[int, list[Candidate]]:
    """Three turns of every session, 6 rows; tool replies arrive in an order that `seed` decides."""
    engine = Engine(model, settings)
    waiting, said, contexts = list(sessions), {}, {}
    ready: list[int] = []
    while waiting or contexts or ready:
        while waiting and len(contexts) + len(ready) < engine.sessions:
            session = waiting.pop(0)
            said[session], contexts[session] = [], prompt(session, 15 + session)
            ready.append(session)
        if seed:
            ready.sort(key=lambda session: (session * 7919 + seed * 104729) % 101)
        # A slow tool: every other session that is ready waits a round, if there is anything else to do.
        now, ready = (ready[::2], ready[1::2]) if seed and engine.busy else (ready, [])
        for session in now:
            turn = len(said[session])
            engine.submit(
                request(
                    100 * session + turn,
                    contexts[session],
                    session=session,
                    max_tokens=9 + session % 5,
                    stop=("\n",) if session % 2 else (),
                    sampling=SAMPLINGS[session % len(SAMPLINGS)],
                )
            )
        for id, reply in engine.step():
            session = id // 100
            said[session].append(reply)
            contexts[session] = (*contexts[session], *reply.ids, *prompt(1000 + session, 6 + session % 9))
            if len(said[session]) == 3:
                engine.release(session)
                del contexts[session]
            else:
                ready.append(session)
    return said


@pytest.fixture(scope="module")
def expected(model: Model) -> dict[int, list[Candidate]]:
    return trajectories(model, range(6))


def assert_same(model: Model, expected: dict[int, list[Candidate]], got: dict[int, list[Candidate]]) -> None:
    for session in WATCHED:
        assert len(expected[session]) == 3
        assert got[session] == expected[session]


def test_slots_permuted_and_requests_in_another_order(model, expected):
    got = trajectories(model, (5, 2, 0, 4, 1, 3))
    assert got == expected


@pytest.mark.parametrize("block", [1, 8, 16])
def test_another_block_size(model, block):
    wide = replace(SETTINGS, widths=(128,))
    assert trajectories(model, range(6), settings=replace(wide, block=block)) == trajectories(
        model, range(6), settings=wide
    )


def test_batch_mates_replaced(model, expected):
    assert_same(model, expected, trajectories(model, (20, 1, 21, 2, 22, 0)))


def test_alone(model, expected):
    for session in WATCHED:
        assert trajectories(model, [session])[session] == expected[session]


@pytest.mark.parametrize("seed", [1, 2])
def test_tool_replies_in_another_order_and_more_sessions_than_rows(model, expected, seed):
    assert_same(model, expected, trajectories(model, (7, 0, 8, 9, 1, 10, 11, 12, 2), seed=seed))


def test_candidates_copy_their_row(model):
    """Two of three candidates decode on a copied row: they equal what each says alone in a session."""
    together = Engine(model, SETTINGS, rows_per_session=3)
    ids = prompt(3, 40)
    requests = [request(candidate, ids, session=9, candidate=candidate) for candidate in range(3)]
    for one in requests:
        together.submit(one)
    replies = finish(together)
    assert together.stats.prefilled == len(ids) - 1
    assert len({reply.ids for reply in replies.values()}) == 3
    for one in requests:
        alone = Engine(model, SETTINGS)
        alone.submit(one)
        assert finish(alone) == {one.id: replies[one.id]}
