"""Beginnings computed and kept once: the same tokens as without them, a fraction of the prefill, and trajectories that
do not depend on their neighbours."""

from dataclasses import replace

import numpy as np
import pytest
from sampling_toys import CONFIG, SETTINGS, finish, prompt, request, run, tiny_model
from test_engine_bits import play

from rest_jax.config.settings import EngineSettings
from rest_jax.core.effects import Candidate, Finish, Sampling
from rest_jax.core.errors import UserError
from rest_jax.core.policy import ScoreRequest
from rest_jax.models.checkpoint import Model
from rest_jax.models.decoder import init
from rest_jax.sampling.beginnings import NO_BEGINNING, Beginning, beginning_of, laid_out
from rest_jax.sampling.engine import Engine
from rest_jax.sampling.replicas import Replicas

ONE, OTHER = prompt(100, 45), prompt(101, 30)
SHARING = replace(SETTINGS, shared=80)


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


def sharing(model: Model, settings: EngineSettings = SHARING, **kwargs) -> Engine:
    engine = Engine(model, settings, **kwargs)
    engine.share([ONE, OTHER])
    return engine


def greedy(id: int, ids: tuple[int, ...], **kwargs):
    return request(id, ids, sampling=Sampling(temperature=0), **kwargs)


def asked() -> list:
    """Requests with the one beginning, the other, and none."""
    heads = (ONE, OTHER, ())
    return [greedy(id, (*heads[id % 3], *prompt(id, 10 + id))) for id in range(6)]


def assert_close(one: dict[int, Candidate], other: dict[int, Candidate]) -> None:
    """The same tokens; log-probs as near as sums in another order are."""
    assert one.keys() == other.keys()
    for id, reply in one.items():
        assert reply.ids == other[id].ids
        np.testing.assert_allclose(reply.logprobs, other[id].logprobs, atol=1e-4)


def test_the_same_tokens_as_in_the_row_itself(model):
    engine = sharing(model)
    first = run(engine, *asked())
    assert_close(first, run(Engine(model, SETTINGS), *asked()))
    # A second turn: what the first left in the row goes on after the beginning.
    again = [
        greedy(10 + one.id, (*one.ids, *first[one.id].ids, *prompt(50 + one.id, 5)), session=one.session)
        for one in asked()
    ]
    expected = Engine(model, SETTINGS)
    run(expected, *asked())
    assert_close(run(engine, *again), run(expected, *again))


@pytest.mark.slow
@pytest.mark.parametrize("family", [{"windows": (24, None)}, {"attention_softcap": 5.0}])
def test_what_families_do_to_attention_is_done_to_both_parts(family):
    import jax

    config = replace(CONFIG, **family)
    params = jax.tree.map(lambda leaf: leaf * 5, init(config, jax.random.key(0)))
    model = replace(tiny_model(), config=config, params=params)
    assert_close(run(sharing(model), *asked()), run(Engine(model, SETTINGS), *asked()))


def test_only_what_follows_is_prefilled(model):
    engine = sharing(model)
    assert engine.stats.prefilled == len(ONE) + len(OTHER)
    run(engine, *asked())
    assert engine.stats.prefilled == len(ONE) + len(OTHER) + sum(10 + id - 1 for id in range(6))
    # Nor is that, where it is another sample's prompt, behind the same beginning.
    before = engine.stats.prefilled
    for session in (0, 1):
        engine.release(session)
    run(engine, greedy(10, asked()[0].ids), greedy(20, (*OTHER, *prompt(0, 10))))
    assert engine.stats.prefilled == before + 10 - 1


def test_a_row_holds_more_by_what_it_does_not_hold(model):
    long = greedy(0, (*ONE, *prompt(0, 100)), max_tokens=20)
    assert run(Engine(model, SETTINGS), long)[0].finish is Finish.CONTEXT
    engine = sharing(model)
    assert len(run(engine, long)[0].ids) == 20
    bare = greedy(1, prompt(1, 127), max_tokens=20)
    assert len(run(engine, bare)[1].ids) == 1
    assert run(engine, greedy(2, prompt(1, 128)))[2].finish is Finish.CONTEXT


def headed(session: int) -> tuple[int, ...]:
    return (ONE, OTHER, ())[session % 3]


@pytest.mark.parametrize("changed", [{"block": 7}, {"resident": 18}, {"replicas": 3}])
def test_trajectories_do_not_depend_on_their_neighbours(model, changed):
    wide = replace(SHARING, widths=(128,))

    def played(settings: EngineSettings, seed: int):
        policy = Replicas(model, settings)
        policy.share([ONE, OTHER])
        return play(policy, range(20), seed, headed)

    assert played(replace(wide, **changed), seed=2) == played(wide, seed=0)


def test_scores_after_a_beginning(model):
    ids, said = (*ONE, *prompt(3, 20)), prompt(4, 12)
    wanted = ScoreRequest(0, 0, ids, said)
    (mine,), (theirs,) = run(sharing(model), wanted).values(), run(Engine(model, SETTINGS), wanted).values()
    np.testing.assert_allclose(mine.logprobs, theirs.logprobs, atol=1e-4)


def test_other_weights_and_other_beginnings_take_the_place_of_those_before(model):
    engine, other = sharing(model), tiny_model(1)
    one = greedy(0, (*ONE, *prompt(0, 10)))
    first = run(engine, one)
    engine.load(other.params, other.weights_digest)
    assert run(engine, one) == run(Engine(other, SHARING), one)
    engine.load(model.params, model.weights_digest)
    engine.share([ONE, OTHER])
    assert run(engine, one) == first
    engine.submit(greedy(1, ONE))
    with pytest.raises(ValueError, match="unfinished"):
        engine.share([OTHER])
    finish(engine)


def test_no_room_is_said_with_the_number_to_set(model):
    with pytest.raises(UserError, match=r"engine.shared is 60, but .* have 75 tokens; set it to 75 or more, or to 0"):
        sharing(model, replace(SETTINGS, shared=60))
    assert run(sharing(model, SETTINGS), *asked()) == run(Engine(model, SETTINGS), *asked())


def test_the_longest_beginning_that_leaves_something():
    placed = laid_out([ONE, ONE[:10], OTHER], 100)
    assert placed == (Beginning(ONE, 0), Beginning(ONE[:10], 45), Beginning(OTHER, 55))
    assert beginning_of((*ONE, 1), placed) == placed[0]
    assert beginning_of(ONE, placed) == placed[1]
    assert beginning_of((*OTHER, 1), placed) == placed[2]
    assert beginning_of((7, *ONE), placed) == NO_BEGINNING
