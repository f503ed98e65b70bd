"""What the compiler made: nothing new after warm-up, and no copy of the cache in the decode block."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampling_toys import CONFIG, SETTINGS, prompt, request, run, tiny_model

from rest_jax.core.effects import Sampling
from rest_jax.sampling import state, steps
from rest_jax.sampling.engine import Engine

WIDTH = 96
MEMORIES = {"device"} | {memory.kind.removeprefix("pinned_") for memory in jax.devices()[0].addressable_memories()}


@pytest.fixture
def compilations():
    """A list that grows by one with every program that is compiled."""
    seen: list[str] = []

    def listen(event: str, duration: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize(("park", "chunk"), [("device", 16), ("host", 48)])
def test_nothing_compiles_after_warm_up(compilations, park, chunk):
    if park not in MEMORIES:
        pytest.skip("this backend has no pinned host memory")
    # A width and a chunk that no other test has, so that nothing is compiled already.
    settings = replace(SETTINGS, widths=(WIDTH, 2 * WIDTH), chunk=chunk, resident=2 * SETTINGS.rows, park=park)
    engine = Engine(tiny_model(), settings, rows_per_session=2)
    stops = [(), ("\n",), ("\nObservation", "x")]
    engine.warm_up(stops=stops)
    assert compilations
    compilations.clear()

    samplings = [Sampling(1.0), Sampling(0), Sampling(0.5, top_k=3), Sampling(1.2, top_p=0.5)]
    for turn, (stop, sampling) in enumerate(zip([*stops, ()], samplings, strict=True)):
        for session in (0, 1):
            ids = prompt(session, 30 + 40 * turn + session)
            run(
                engine,
                *(
                    request(candidate, ids, session=session, candidate=candidate, stop=stop, sampling=sampling)
                    for candidate in range(2)
                ),
            )
    engine.release(0)
    engine.release(7)
    engine.release(1)
    transcripts = {}
    for session in range(engine.sessions):
        ids = prompt(session, 150)
        two = (request(candidate, ids, session=session, candidate=candidate) for candidate in range(2))
        transcripts[session] = (*ids, *run(engine, *two)[0].ids)
    for session, ids in transcripts.items():
        run(engine, request(0, (*ids, 65), session=session))
    assert engine.stats.unparks > 0
    assert compilations == []


@pytest.mark.parametrize("steps_per_block", [1, 8])
def test_the_decode_block_copies_no_cache(steps_per_block):
    rows = 4
    params = jax.eval_shape(lambda: steps.view(CONFIG, tiny_model().params, jnp.dtype("float32")))
    cache = jax.eval_shape(lambda: state.empty_cache(CONFIG, rows, WIDTH, jnp.float32))
    table = jax.ShapeDtypeStruct((64, CONFIG.vocab), np.uint16)
    idle = jax.eval_shape(lambda: state.idle_rows(rows))
    compiled = steps.decode_block.lower(CONFIG, params, cache, idle, table, steps_per_block).compile()
    assert copies_of(compiled.as_text(), cache) == []
    memory = compiled.memory_analysis()
    cache_bytes = sum(leaf.size * 4 for leaf in jax.tree.leaves(cache))
    assert memory.alias_size_in_bytes >= cache_bytes


def test_two_parts_of_attention_copy_no_keys_and_values():
    params = jax.eval_shape(lambda: steps.view(CONFIG, tiny_model().params, jnp.dtype("float32")))
    cache = jax.eval_shape(lambda: state.empty_cache(CONFIG, 4, WIDTH, jnp.float32))
    shared = jax.eval_shape(lambda: state.empty_shared(CONFIG, 3 * WIDTH, jnp.float32))
    table = jax.ShapeDtypeStruct((64, CONFIG.vocab), np.uint16)
    idle = jax.eval_shape(lambda: state.idle_rows(4))
    decoding = steps.decode_block.lower(CONFIG, params, cache, idle, table, 8, shared).compile().as_text()
    assert copies_of(decoding, cache) == copies_of(decoding, shared) == []


def test_extending_copies_no_cache():
    params = jax.eval_shape(lambda: steps.view(CONFIG, tiny_model().params, jnp.dtype("float32")))
    cache = jax.eval_shape(lambda: state.empty_cache(CONFIG, 4, WIDTH, jnp.float32))
    index, ids = jax.ShapeDtypeStruct((2,), np.int32), jax.ShapeDtypeStruct((2, 16), np.int32)
    compiled = steps.extend.lower(CONFIG, params, cache, index, index, ids).compile()
    assert copies_of(compiled.as_text(), cache) == []

    keeping = jax.jit(steps.extend.__wrapped__, static_argnums=0).lower(CONFIG, params, cache, index, index, ids)
    assert len(copies_of(keeping.compile().as_text(), cache)) == len(jax.tree.leaves(cache))


def copies_of(hlo: str, cache: state.Cache | state.Shared) -> list[str]:
    """The lines of a compiled program that copy a buffer of the cache's shapes."""
    shapes = {",".join(map(str, leaf.shape)) for leaf in jax.tree.leaves(cache)}
    pattern = re.compile(r"= \w+\[(" + "|".join(shapes) + r")\]\S* copy\(")
    return [line.strip() for line in hlo.splitlines() if pattern.search(line)]
