"""One sampler over several devices: the same tokens as on one, and trajectories that do not depend on their
neighbours."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest
from sampling_toys import CONFIG, SETTINGS, prompt, request, run, tiny_model
from test_engine_bits import play

from rest_jax.config.settings import EngineSettings
from rest_jax.core.effects import Candidate, Sampling
from rest_jax.core.errors import UserError
from rest_jax.core.policy import ScoreRequest
from rest_jax.distributed.mesh import make_mesh
from rest_jax.models.checkpoint import Model
from rest_jax.models.decoder import init
from rest_jax.sampling.engine import Engine
from rest_jax.sampling.replicas import Replicas

ONE_WIDTH = replace(SETTINGS, widths=(128,))
HEAD = prompt(100, 40)


def with_kv_heads(kv_heads: int) -> Model:
    config = replace(CONFIG, kv_heads=kv_heads)
    params = jax.tree.map(lambda leaf: leaf * 5, init(config, jax.random.key(0)))
    return replace(tiny_model(), config=config, params=params)


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


@pytest.fixture(scope="module")
def expected(model: Model) -> dict[int, list[Candidate]]:
    """Trajectories of one sampler on two devices that does nothing else meanwhile."""
    return play(Engine(model, replace(ONE_WIDTH, tensor=2)), range(9))


def greedy(id: int, ids: tuple[int, ...], session: int):
    return request(id, ids, session=session, sampling=Sampling(temperature=0))


def two_turns(engine: Engine) -> dict[int, Candidate]:
    """Greedy replies, the replies to what follows them, and the scores of given continuations."""
    contexts = {session: prompt(session, 20 + 5 * session) for session in range(4)}
    first = run(engine, *(greedy(session, ids, session) for session, ids in contexts.items()))
    contexts = {session: (*ids, *first[session].ids, *prompt(50, 4)) for session, ids in contexts.items()}
    second = run(engine, *(greedy(10 + session, ids, session) for session, ids in contexts.items()))
    scores = (ScoreRequest(20 + session, session, ids, prompt(60, 6)) for session, ids in contexts.items())
    return first | second | run(engine, *scores)


def assert_close(one: dict[int, Candidate], other: dict[int, Candidate]) -> None:
    """The same tokens; log-probs as near as sums in another order are."""
    assert one.keys() == other.keys()
    for id, reply in one.items():
        assert reply.ids == other[id].ids
        np.testing.assert_allclose(reply.logprobs, other[id].logprobs, atol=1e-4)


@pytest.mark.parametrize("kv_heads", [pytest.param(4, marks=pytest.mark.slow), 2])
def test_several_devices_say_what_one_says(kv_heads):
    model = with_kv_heads(kv_heads)
    alone = two_turns(Engine(model, ONE_WIDTH))
    for tensor in (2, 4):
        assert_close(two_turns(Engine(model, replace(ONE_WIDTH, tensor=tensor))), alone)


def test_a_mesh_with_other_axes_computes_the_same(model):
    assert_close(two_turns(Engine(model, ONE_WIDTH, mesh=make_mesh(2, 2, 2))), two_turns(Engine(model, ONE_WIDTH)))


@pytest.mark.parametrize("changed", [{"block": 7}, {"resident": 18}, {"replicas": 3}])
def test_trajectories_do_not_depend_on_their_neighbours(model, expected, changed):
    policy = Replicas(model, replace(ONE_WIDTH, tensor=2, **changed))
    played = play(policy, range(24), seed=2)
    assert {session: played[session] for session in expected} == expected
    if "resident" in changed:
        assert policy.engines[0].stats.unparks > 0


def test_other_weights_and_shared_beginnings(model, expected):
    engine, other = Engine(model, replace(ONE_WIDTH, tensor=2, shared=64)), tiny_model(1)
    alone = Engine(model, replace(ONE_WIDTH, shared=64))
    asked = [greedy(id, (*HEAD, *prompt(id, 10)), id) for id in range(3)]
    for one in (engine, alone):
        one.share([HEAD])
    assert_close(run(engine, *asked), run(alone, *asked))
    assert engine.stats.prefilled == len(HEAD) + 3 * 9
    engine.load(other.params, other.weights_digest)
    assert_close(run(engine, *asked), run(Engine(other, ONE_WIDTH), *asked))
    for id in range(3):
        engine.release(id)
    engine.load(model.params, model.weights_digest)
    assert play(engine, range(9)) == expected


def test_uneven_sizes_are_refused_with_those_that_would_do(model):
    with pytest.raises(UserError, match=r"tensor = 3 does not divide 4 heads, .* one of 1, 2, 4$"):
        Engine(model, replace(SETTINGS, tensor=3))


def test_each_engine_has_devices_of_its_own(model):
    settings = EngineSettings(rows=1, widths=(32,), chunk=32, replicas=99, tensor=4)
    engines = Replicas(model, settings).engines
    assert [engine.devices for engine in engines] == [4, 4]
    with pytest.raises(UserError, match=r"engine.tensor is 16, but only 8 devices are here; set it to 8 or less"):
        Replicas(model, replace(settings, tensor=16))
