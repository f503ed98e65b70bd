"""What the engine does with a request: endings, budgets, parked rows, scores, new weights."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampling_toys import CODEC, CONFIG, EOS, SETTINGS, finish, prompt, request, run, tiny_model

from rest_jax.core.effects import Candidate, Finish, Sampling
from rest_jax.core.errors import UserError
from rest_jax.core.policy import ScoreRequest
from rest_jax.models import decoder
from rest_jax.models.checkpoint import Model
from rest_jax.sampling.engine import Engine
from rest_jax.sampling.state import cache_bytes_per_token


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


@pytest.fixture
def engine(model: Model) -> Engine:
    return Engine(model, SETTINGS)


@jax.jit
def _logprobs(params: decoder.Params, ids_t: jax.Array) -> jax.Array:
    positions_1t = jnp.arange(ids_t.shape[0])[None]
    x_1td = decoder.hidden_states(CONFIG, params, ids_t[None], positions_1t, jnp.ones_like(positions_1t))
    return jax.nn.log_softmax(decoder.logits(CONFIG, params, decoder.final_norm(CONFIG, params, x_1td))[0])


def reference_logprobs(model: Model, ids: tuple[int, ...], length: int = 128) -> np.ndarray:
    """[T, V] by the training forward pass, without any cache; padded so that it compiles once."""
    padded = np.pad(np.asarray(ids, np.int32), (0, length - len(ids)))
    return np.asarray(_logprobs(model.params, padded))[: len(ids)]


def test_greedy_replies_and_log_probs_are_the_models(model, engine):
    for session, length in ((0, 1), (1, 33), (2, 50)):
        ids = prompt(session, length)
        reply = run(engine, request(session, ids, sampling=Sampling(temperature=0)))[session]
        logprobs_tv = reference_logprobs(model, (*ids, *reply.ids))[length - 1 : -1]
        assert reply.ids == tuple(logprobs_tv.argmax(-1).tolist())
        np.testing.assert_allclose(reply.logprobs, logprobs_tv.max(-1), rtol=1e-5, atol=1e-4)


def test_a_parked_row_is_extended_and_moves_to_a_wider_cache(model, engine):
    ids = prompt(0, 40)
    turns = 0
    while len(ids) < 110:
        prefilled = engine.stats.prefilled
        reply = run(engine, request(turns, ids, session=0, max_tokens=8, sampling=Sampling(0.7)))[turns]
        if turns:
            assert engine.stats.prefilled - prefilled == 1 + 9
        logprobs_tv = reference_logprobs(model, (*ids, *reply.ids))[len(ids) - 1 : -1]
        np.testing.assert_allclose(
            reply.logprobs, logprobs_tv[np.arange(len(reply.ids)), reply.ids], rtol=1e-5, atol=1e-4
        )
        ids, turns = (*ids, *reply.ids, *prompt(turns, 10)), turns + 1
    assert turns >= 4


def test_a_new_transcript_in_the_same_session_starts_from_scratch(model):
    first, second = request(0, prompt(0, 40), session=0), request(1, prompt(1, 45), session=0)
    engine = Engine(model, SETTINGS)
    run(engine, first)
    after = run(engine, second)
    assert after == run(Engine(model, SETTINGS), second)


def speaking(model: Model, token: int, over: int = EOS) -> Model:
    """The model, but whatever it would say as `over` it says as `token`: their head columns swapped."""
    head = model.params["head"]
    head = head.at[:, token].set(head[:, over]).at[:, over].set(head[:, token])
    return replace(model, params={**model.params, "head": head})


def greedy(model: Model, ids: tuple[int, ...], **kwargs) -> Candidate:
    return run(Engine(model, SETTINGS), request(0, ids, sampling=Sampling(temperature=0), **kwargs))[0]


def test_endings(model):
    ids = prompt(4, 20)
    plain = greedy(model, ids, max_tokens=20)
    assert plain.finish is Finish.LENGTH
    assert len(plain.ids) == 20
    fifth = plain.ids[4]
    first_use = plain.ids.index(fifth)

    ended = greedy(speaking(model, EOS, over=fifth), ids, max_tokens=20)
    assert ended.finish is Finish.EOS
    assert ended.ids == (*plain.ids[:first_use], EOS)
    assert ended.text == CODEC.decode(plain.ids[:first_use])

    token = CODEC.encode_untrusted("]\n")[0]
    stopped = greedy(speaking(model, token, over=fifth), ids, max_tokens=20, stop=("\n",))
    assert stopped.finish is Finish.STOP
    assert stopped.ids == (*plain.ids[:first_use], token)
    assert stopped.text == CODEC.decode(plain.ids[:first_use]) + "]"
    assert stopped.overhang == "\n"
    assert len(stopped.logprobs) == len(stopped.ids)


def test_a_context_without_room_is_an_ending_not_an_error(engine):
    short = request(0, prompt(0, 10))
    full = request(1, prompt(1, 128))
    almost = request(2, prompt(2, 125), max_tokens=12)
    exact = request(3, prompt(3, 125), max_tokens=3)
    replies = run(engine, short, full, almost, exact)
    assert replies[1] == Candidate((), (), "", Finish.CONTEXT)
    assert (len(replies[2].ids), replies[2].finish) == (3, Finish.CONTEXT)
    assert (len(replies[3].ids), replies[3].finish) == (3, Finish.LENGTH)
    assert (len(replies[0].ids), replies[0].finish) == (12, Finish.LENGTH)


def test_nan_ends_its_own_row_and_poisons_nobody(model):
    """Token 255's embedding is NaN: the row that reads it ends, its neighbours and successors do not notice."""
    embed = model.params["embed"].at[255].set(jnp.nan)
    broken = replace(model, params={**model.params, "embed": embed})
    healthy = [request(session, prompt(session, 20 + session)) for session in (1, 2)]
    expected = run(Engine(broken, SETTINGS), *healthy)
    assert {reply.finish for reply in expected.values()} == {Finish.LENGTH}

    engine = Engine(broken, SETTINGS)
    sick = request(0, (*prompt(0, 20), 255, *prompt(0, 3)))
    replies = run(engine, sick, *healthy)
    assert replies.pop(0) == Candidate((), (), "", Finish.NONFINITE)
    assert replies == expected
    for session in (0, 1, 2):
        engine.release(session)
    assert run(engine, *healthy) == expected


def test_a_row_released_while_its_block_meets_a_nan_poisons_nobody(model):
    broken = replace(model, params={**model.params, "embed": model.params["embed"].at[255].set(jnp.nan)})
    settings = replace(SETTINGS, rows=1, extend_rows=1, widths=(64,))
    healthy = request(1, prompt(1, 20))
    engine = Engine(broken, settings)
    engine.submit(request(0, (*prompt(0, 40), 255, *prompt(0, 3))))
    engine.start()
    engine.release(0)
    assert engine.finish() == []
    assert run(engine, healthy) == run(Engine(model, settings), healthy)


def test_a_reply_without_a_number_tells_the_token_and_the_parameters(model):
    ids = prompt(0, 20)
    plain = run(Engine(model, SETTINGS), request(0, ids, sampling=Sampling(0.0)))[0]
    fatal = plain.ids[-2]
    first = plain.ids.index(fatal)
    assert fatal not in ids

    def reply_with(**changed: jax.Array) -> Candidate:
        broken = replace(model, params={**model.params, **changed})
        return run(Engine(broken, SETTINGS), request(0, ids, sampling=Sampling(0.0)))[0]

    reply = reply_with(embed=model.params["embed"].at[fatal].set(jnp.nan))
    assert (reply.ids, reply.finish) == (plain.ids[: first + 1], Finish.NONFINITE)
    assert reply.why == f"no finite number for token {first + 2} of the reply: not finite in the weights are embed"
    overflown = reply_with(norm=jnp.full_like(model.params["norm"], 3e38))
    assert overflown.why == (
        "no finite number for token 1 of the reply: it overflowed in float32, for all parameters are finite"
    )
    assert plain.why == ""


def test_what_is_not_finite_in_new_weights_is_looked_for_anew(model):
    blocks = jax.tree.map(lambda leaf: leaf, model.params["blocks"])
    blocks["feedforward"]["down"]["kernel"] = blocks["feedforward"]["down"]["kernel"].at[1, 0, 0].set(jnp.inf)
    one = request(0, prompt(0, 20))
    engine = Engine(replace(model, params={**model.params, "norm": model.params["norm"] * jnp.nan}), SETTINGS)
    assert run(engine, one)[0].why.endswith("token 1 of the reply: not finite in the weights are norm")
    engine.load({**model.params, "blocks": blocks}, "other")
    assert run(engine, one)[0].why.endswith("in the weights are layers/1/feedforward/down/kernel")
    engine.load(model.params, "whole")
    assert run(engine, one)[0].finish is not Finish.NONFINITE


def test_nan_of_the_last_token_does_not_come_back_while_its_row_is_free(model):
    embed = model.params["embed"].at[255].set(jnp.nan)
    broken = replace(model, params={**model.params, "embed": embed})
    settings = replace(SETTINGS, widths=(64,))
    engine = Engine(broken, settings)
    replies = run(engine, request(0, (*prompt(0, 40), 255)), request(1, prompt(1, 20)))
    assert (replies[0].finish, replies[1].finish) == (Finish.NONFINITE, Finish.LENGTH)
    engine.release(0)
    short = request(2, prompt(2, 20))
    assert run(engine, short) == run(Engine(model, settings), short)


def test_scores_are_the_models_log_probs_and_leave_the_transcript_as_it_was(model, engine):
    ids, continuation = prompt(0, 50), prompt(1, 40)
    opening = run(engine, request(0, ids, session=0, max_tokens=2))[0]
    context = (*ids, *opening.ids)
    engine.submit(ScoreRequest(1, 0, context, continuation))
    engine.submit(ScoreRequest(2, 0, context, continuation[:1]))
    engine.submit(ScoreRequest(3, 0, context, ()))
    scored = finish(engine)
    expected = reference_logprobs(model, (*context, *continuation))[len(context) - 1 : -1]
    assert scored[1].ids == continuation
    np.testing.assert_allclose(scored[1].logprobs, expected[np.arange(40), continuation], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(scored[2].logprobs, scored[1].logprobs[:1], rtol=1e-5, atol=1e-4)
    assert (scored[3].ids, scored[3].logprobs) == ((), ())

    prefilled = engine.stats.prefilled
    run(engine, request(4, (*context, 65, 66), session=0))
    assert engine.stats.prefilled - prefilled == 2


def test_a_score_without_room_is_an_ending(engine):
    engine.submit(ScoreRequest(1, 0, prompt(0, 100), prompt(1, 29)))
    assert finish(engine) == {1: Candidate((), (), "", Finish.CONTEXT)}


def test_a_score_without_a_number_tells_the_token_and_the_parameters(model):
    broken = replace(model, params={**model.params, "embed": model.params["embed"].at[255].set(jnp.nan)})
    engine, context = Engine(broken, SETTINGS), prompt(0, 20)
    engine.submit(ScoreRequest(1, 0, context, (65, 255)))
    engine.submit(ScoreRequest(2, 0, context, (65, 255, 66, 67)))
    scored = finish(engine)
    assert (scored[1].ids, scored[1].finish) == ((65, 255), Finish.LENGTH)
    assert (scored[2].ids, scored[2].finish) == ((), Finish.NONFINITE)
    # The NaN meets all tokens of its chunk: attention multiplies what is masked by zero.
    assert scored[2].why == "no finite number for token 1 of what is scored: not finite in the weights are embed"


def test_new_weights_make_what_is_cached_void(model):
    other = tiny_model(seed=1)
    one = request(0, prompt(0, 40))
    engine = Engine(model, SETTINGS)
    first = run(engine, one)
    engine.load(other.params, other.weights_digest)
    assert engine.weights_digest == "tiny-1"
    assert run(engine, one) == run(Engine(other, SETTINGS), one) != first


CROWD = range(1, SETTINGS.rows + 1)
"""Sessions that take all rows."""


def parked(model: Model, one, **kwargs) -> tuple[Engine, Candidate]:
    """An engine in which a session has had its turn and is parked since, and what it said."""
    engine = Engine(model, replace(SETTINGS, resident=2 * SETTINGS.rows, **kwargs))
    reply = run(engine, one)[one.id]
    run(engine, *(request(100 + session, prompt(session, 20), session=session) for session in CROWD))
    return engine, reply


def go_on(one, reply: Candidate):
    return request(50, (*one.ids, *reply.ids, 65, 66), session=one.session)


def test_a_parked_transcript_is_copied_back_and_extended_by_what_is_new(model):
    one = request(0, prompt(0, 30))
    engine, reply = parked(model, one)
    row = 64 * cache_bytes_per_token(CONFIG, jnp.float32)
    assert (engine.stats.parks, engine.stats.unparks, engine.stats.copied_bytes) == (1, 0, row)
    before = engine.stats.prefilled
    again = run(engine, go_on(one, reply))
    assert engine.stats.prefilled - before == 1 + 1
    assert (engine.stats.parks, engine.stats.unparks, engine.stats.copied_bytes) == (2, 1, 3 * row)
    kept = Engine(model, SETTINGS)
    run(kept, one)
    assert again == run(kept, go_on(one, reply))
    assert engine.stats.copy_seconds == 0


def test_copies_are_timed_on_demand(model):
    engine = Engine(model, replace(SETTINGS, resident=2 * SETTINGS.rows), time_copies=True)
    replies = [run(engine, request(id, prompt(id, 40)))[id] for id in range(SETTINGS.rows + 1)]
    assert engine.stats.parks == 1
    assert 0 < engine.stats.copy_seconds < engine.stats.seconds
    assert replies[0] == run(Engine(model, SETTINGS), request(0, prompt(0, 40)))[0]


def test_a_parked_session_that_is_released_makes_room(model):
    one = request(0, prompt(0, 40))
    engine, _ = parked(model, one)
    for session in range(20, 20 + engine.sessions - len(CROWD) - 1):
        engine.submit(request(session, prompt(session, 20)))
    with pytest.raises(ValueError, match="sessions are open"):
        engine.submit(request(99, prompt(0, 5)))
    engine.release(0)
    last = request(99, prompt(0, 5))
    engine.submit(last)
    assert finish(engine)[99] == run(Engine(model, SETTINGS), last)[99]


def test_new_weights_make_what_is_parked_void(model):
    other = tiny_model(seed=1)
    one = request(0, prompt(0, 40))
    engine, reply = parked(model, one)
    engine.load(other.params, other.weights_digest)
    assert run(engine, go_on(one, reply)) == run(Engine(other, SETTINGS), go_on(one, reply))
    assert engine.stats.unparks == 0


def test_a_poisoned_row_is_given_away_and_not_parked(model):
    embed = model.params["embed"].at[255].set(jnp.nan)
    broken = replace(model, params={**model.params, "embed": embed})
    sick = request(0, (*prompt(0, 20), 255, *prompt(0, 3)))
    engine, reply = parked(broken, sick)
    assert reply.finish is Finish.NONFINITE
    assert engine.stats.parks == 0
    # The crowd is parked in turn by other sessions, and goes on as if nothing had been.
    asked = {session: request(100 + session, prompt(session, 20), session=session) for session in CROWD}
    alone = Engine(broken, SETTINGS)
    said = run(alone, *asked.values())
    run(engine, sick, *(request(session, prompt(session, 30)) for session in range(20, 25)))
    assert engine.stats.parks > 0
    for session in CROWD:
        turn = go_on(asked[session], said[100 + session])
        assert run(engine, turn) == run(alone, turn)


def test_rows_are_parked_on_the_host_where_the_backend_has_such_memory(model):
    kinds = {memory.kind for memory in jax.devices()[0].addressable_memories()}
    one = request(0, prompt(0, 30))
    if "pinned_host" in kinds:
        engine, reply = parked(model, one, park="host")
        assert run(engine, go_on(one, reply)) == run(parked(model, one)[0], go_on(one, reply))
        assert engine.stats.unparks == 1
    else:
        with pytest.raises(UserError, match="no pinned host memory"):
            parked(model, one, park="host")


def test_weights_cannot_change_under_a_running_request(model, engine):
    engine.submit(request(0, prompt(0, 5)))
    with pytest.raises(ValueError, match="unfinished"):
        engine.load(model.params, "other")


def test_a_released_request_ends_nowhere_and_frees_its_row(model, engine):
    kept = request(1, prompt(1, 20))
    engine.submit(request(0, prompt(0, 20), max_tokens=40))
    engine.submit(kept)
    engine.step()
    engine.release(0)
    assert finish(engine) == run(Engine(model, SETTINGS), kept)
    assert not engine.busy
    assert engine.step() == []


def test_stats_count_work(engine):
    run(engine, request(0, prompt(0, 20), max_tokens=6))
    stats = engine.stats
    assert (stats.prefilled, stats.decoded, stats.blocks, stats.row_steps) == (19, 6, 2, 2 * 4 * 6)
    assert stats.seconds > 0


def test_settings_that_cannot_work_name_their_mend(model):
    with pytest.raises(UserError, match="100 is not a multiple"):
        Engine(model, replace(SETTINGS, widths=(64, 100)))
    with pytest.raises(UserError, match=r"engine.resident: 5 leaves some of the 6 rows empty"):
        Engine(model, replace(SETTINGS, resident=5))


def test_an_empty_context_is_a_mistake_of_the_caller(engine):
    with pytest.raises(ValueError, match="empty"):
        engine.submit(request(0, ()))


def test_freed_rows_are_made_anew(model):
    engine, one = Engine(model, SETTINGS), request(0, prompt(0, 20))
    first = run(engine, one)
    engine.free()
    assert run(engine, go_on(one, first[0])) == run(Engine(model, SETTINGS), go_on(one, first[0]))
    engine.submit(one)
    with pytest.raises(ValueError, match="rows cannot be freed while requests are unfinished"):
        engine.free()


def test_memory_that_is_exhausted_is_told_with_its_mend(model):
    engine = Engine(model, replace(SETTINGS, rows=1 << 10, widths=(1 << 30,)))
    engine.submit(request(0, prompt(0, 20)))
    with pytest.raises(UserError, match=r"no memory left \(RESOURCE_EXHAUSTED.*\); lower engine.rows \(1024\) or the"):
        engine.step()
    engine.release(0)
    roomy = Engine(model, replace(SETTINGS, shared=1 << 45))
    with pytest.raises(UserError, match="no memory left"):
        roomy.share([prompt(0, 40)])
    roomy.share(())
    one = request(0, prompt(0, 45))
    assert run(roomy, one) == run(Engine(model, SETTINGS), one)
