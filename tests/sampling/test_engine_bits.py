"""A trajectory does not depend on its neighbours: the same ids and the same log-prob bits, in float32.

Sessions of three turns each: an observation is appended after every reply, so that rows are parked, extended and moved
to a wider cache while others decode.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from sampling_toys import SETTINGS, finish, prompt, request, run, tiny_model

from rest_jax.config.settings import EngineSettings
from rest_jax.core.effects import Candidate, Sampling
from rest_jax.models.checkpoint import Model
from rest_jax.sampling.engine import Engine
from rest_jax.sampling.replicas import Replicas

WATCHED = (0, 1, 2)
SAMPLINGS = (Sampling(1.0), Sampling(0.0), Sampling(0.8, top_k=20), Sampling(1.0, top_p=0.9), Sampling(1.3))


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


def trajectories(
    model: Model, sessions: Iterable[int], *, settings: EngineSettings = SETTINGS, seed: int = 0
) -> dict[int, list[Candidate]]:
    """Three turns of every session, 6 rows; tool replies arrive in an order that `seed` decides."""
    return play(Engine(model, settings), sessions, seed)


def play(
    engine: Engine | Replicas,
    sessions: Iterable[int],
    seed: int = 0,
    head: Callable[[int], tuple[int, ...]] = lambda session: (),
) -> dict[int, list[Candidate]]:
    """Three turns of every session, which begins with its `head`."""
    waiting, said, contexts = list(sessions), {}, {}
    ready: list[int] = []
    while waiting or contexts or ready:
        while waiting and len(contexts) + len(ready) < engine.sessions:
            session = waiting.pop(0)
            said[session], contexts[session] = [], (*head(session), *prompt(session, 15 + session))
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


@pytest.fixture(scope="module")
def many(model: Model) -> dict[int, list[Candidate]]:
    """24 trajectories of which no more are open at once than there are rows."""
    return trajectories(model, range(24))


@pytest.mark.parametrize(("times", "seed"), [(2, 0), (2, 1), (4, 0), (4, 2)])
def test_more_transcripts_than_rows(model, many, times, seed):
    engine = Engine(model, replace(SETTINGS, resident=times * SETTINGS.rows))
    assert engine.sessions == times * SETTINGS.rows
    assert play(engine, range(24), seed) == many
    assert engine.stats.parks >= engine.stats.unparks > 0


def test_nothing_is_parked_while_rows_suffice(model, expected):
    engine = Engine(model, replace(SETTINGS, widths=(128,), resident=4 * SETTINGS.rows))
    play(engine, range(6))
    assert (engine.stats.parks, engine.stats.unparks, engine.stats.copied_bytes) == (0, 0, 0)


def with_candidates(model: Model, resident: int, at_once: int, order: int = 1) -> tuple[dict[int, Candidate], Engine]:
    """Six sessions, `at_once` of them together, of two turns with three candidates each, the second turn on from one of
    the first. The last one's candidates need rows of different widths, if each is looked at by itself."""
    engine = Engine(model, replace(SETTINGS, resident=resident))
    replies: dict[int, Candidate] = {}
    waiting, turns = list(range(6))[::order], {}

    def ask(session: int, turn: int) -> None:
        turns[session] = turn
        ids = prompt(session, 20 + 7 * session)
        if turn:
            ids = (*ids, *replies[10 * session + session % 3].ids, *prompt(session, 5))
        for candidate in range(3):
            id = 10 * session + 5 * turn + candidate
            engine.submit(request(id, ids, session=session, max_tokens=8 + candidate, candidate=3 * turn + candidate))

    while waiting or turns:
        while waiting and len(turns) < at_once:
            ask(waiting.pop(0), 0)
        replies |= dict(engine.step())
        for session, turn in tuple(turns.items()):
            if all(10 * session + 5 * turn + candidate in replies for candidate in range(3)):
                if turn:
                    engine.release(session)
                    del turns[session]
                else:
                    ask(session, 1)
    return replies, engine


@pytest.mark.parametrize(("at_once", "order"), [(1, -1), (2, 1), (6, 1), (6, -1)])
def test_candidates_do_not_depend_on_the_rows_that_others_leave_them(model, at_once, order):
    expected, engine = with_candidates(model, SETTINGS.rows, 1)
    assert engine.stats.copies >= 6 * 2 * 2
    got, engine = with_candidates(model, SETTINGS.rows, at_once, order)
    assert got == expected
    assert engine.stats.parks == 0


def test_samples_of_one_prompt_copy_what_the_first_has_computed(model):
    """Of four sessions with one prompt three begin and go on with a copied row: they equal what each says alone."""
    together, ids = Engine(model, SETTINGS), prompt(3, 40)
    first = run(together, *(request(session, ids) for session in range(4)))
    assert together.stats.prefilled == len(ids) - 1
    again = [request(4 + session, (*ids, *first[session].ids, 65, 66), session=session) for session in range(4)]
    second = run(together, *again)
    assert len({reply.ids for reply in first.values()}) == 4
    for session in range(4):
        alone = Engine(model, SETTINGS)
        assert run(alone, request(session, ids)) == {session: first[session]}
        assert run(alone, again[session]) == {4 + session: second[4 + session]}


def test_more_candidates_than_rows_take_turns(model):
    narrow = Engine(model, SETTINGS)
    requests = [request(candidate, prompt(3, 40), session=9, candidate=candidate) for candidate in range(8)]
    replies = run(narrow, *requests)
    assert narrow.stats.prefilled == 39
    assert replies == {id: reply for one in requests for id, reply in run(Engine(model, SETTINGS), one).items()}


def test_candidates_copy_their_row(model):
    """Two of three candidates decode on a copied row at the same time: they equal what each says alone in a session."""
    together = Engine(model, SETTINGS)
    ids = prompt(3, 40)
    requests = [request(candidate, ids, session=9, candidate=candidate) for candidate in range(3)]
    for one in requests:
        together.submit(one)
    replies = finish(together)
    assert together.stats.prefilled == len(ids) - 1
    assert together.stats.blocks == 12 / SETTINGS.block
    assert len({reply.ids for reply in replies.values()}) == 3
    for one in requests:
        alone = Engine(model, SETTINGS)
        alone.submit(one)
        assert finish(alone) == {one.id: replies[one.id]}


@pytest.mark.parametrize("replicas", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_engines_side_by_side(model, many, replicas):
    together = Replicas(model, replace(SETTINGS, replicas=replicas))
    assert together.sessions == replicas * SETTINGS.rows
    assert play(together, range(24), seed=1) == many
    assert all(engine.stats.decoded > 0 for engine in together.engines)
    assert not together.busy
