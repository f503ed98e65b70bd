"""What the compiler made: nothing new after warm-up, and no copy of the cache in the decode block."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampling_toys import CONFIG, SETTINGS, prompt, request, run, tiny_model

from rest_jax.core.effects import Sampling
from rest_jax.distributed.mesh import make_mesh
from rest_jax.sampling import state, steps
from rest_jax.sampling.engine import Engine
from rest_jax.sampling.layout import layout
from rest_jax.sampling.programs import Program, compile_all
from rest_jax.sampling.weights import shapes

WIDTH = 96
ALONE = layout(CONFIG, make_mesh()).abstract
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


@pytest.mark.parametrize(
    ("park", "chunk", "tensor"),
    [("device", 16, 1), ("host", 48, 1), pytest.param("device", 32, 2, marks=pytest.mark.slow)],
)
def test_nothing_compiles_after_its_programs_are(compilations, park, chunk, tensor):
    if park not in MEMORIES:
        pytest.skip("this backend has no pinned host memory")
    # A width and a chunk that no other test has, so that nothing is compiled already.
    settings = replace(SETTINGS, widths=(WIDTH, 2 * WIDTH), chunk=chunk, resident=2 * SETTINGS.rows, park=park)
    engine = Engine(tiny_model(), replace(settings, tensor=tensor))
    stops = [(), ("\n",), ("\nObservation", "x")]
    compile_all(engine.programs(stops))
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


@pytest.mark.parametrize("tensor", [1, 2])
def test_nothing_compiles_after_the_programs_of_shared_beginnings_are(compilations, tensor):
    settings = replace(SETTINGS, widths=(WIDTH,), chunk=24, shared=WIDTH, tensor=tensor)
    engine = Engine(tiny_model(), settings)
    told = []
    programs = engine.programs(sharing=True)
    compile_all(programs, lambda done, total, name: told.append((done, total, name)))
    assert [done for done, _, _ in told] == list(range(1, len(programs) + 1))
    assert {name for _, _, name in told} == {program.name for program in programs}
    compilations.clear()
    begin = prompt(100, 45)
    engine.share([begin])
    run(engine, *(request(id, (*begin, *prompt(id, 10 + 9 * id))) for id in range(4)))
    assert compilations == []


@pytest.mark.parametrize("fault", ["a program fails", "the user interrupts"])
def test_what_has_not_begun_to_compile_when_it_ends_early_never_does(fault):
    begun = []

    def program(number: int) -> Program:
        def lower():
            begun.append(number)
            if fault == "a program fails" and number == 3:
                raise RuntimeError(fault)
            return jax.jit(lambda x: x * number).lower(1.0)

        return Program(f"{number}", lower)

    def interrupted(*_: object) -> None:
        if fault == "the user interrupts":
            raise KeyboardInterrupt(fault)

    with pytest.raises((RuntimeError, KeyboardInterrupt), match=fault):
        compile_all([program(number) for number in range(200)], interrupted)
    assert len(begun) < 200


@pytest.mark.parametrize(("steps_per_block", "tensor"), [(1, 1), (8, 1), (8, 2), (8, 4)])
def test_the_decode_block_copies_no_cache(steps_per_block, tensor):
    rows = 4
    over = layout(CONFIG, make_mesh(tensor=tensor))
    weights = shapes(CONFIG, jnp.dtype("float32"), over)
    cache = state.zeros(state.cache_shapes(CONFIG, rows, WIDTH, jnp.float32, over.cache))
    table = jax.ShapeDtypeStruct((64, CONFIG.vocab), np.uint16, sharding=over.whole)
    idle = jax.device_put(state.idle_rows(rows), over.whole)
    lowered = steps.decode_block.lower(CONFIG, over.abstract, weights, cache, idle, table, steps_per_block)
    compiled = lowered.compile()
    assert copies_of(compiled.as_text(), cache) == []
    # Devices exchange sums of activations and the rows' logits: never weights, keys or values.
    gathered = re.findall(r"= (\w+\[[\d,]+\])\S* all-(?:gather|to-all)", compiled.as_text())
    assert gathered == ([] if tensor == 1 else [f"f32[{rows},{CONFIG.vocab}]"])
    memory = compiled.memory_analysis()
    assert memory.alias_size_in_bytes >= sum(part(leaf).nbytes for leaf in jax.tree.leaves(cache))


@pytest.mark.parametrize(("tensor", "kv_heads"), [(1, 2), (1, 1), (2, 2)])
def test_two_parts_of_attention_copy_no_keys_and_values(tensor, kv_heads):
    config = replace(CONFIG, kv_heads=kv_heads)
    over = layout(config, make_mesh(tensor=tensor))
    weights = shapes(config, jnp.dtype("float32"), over)
    cache = state.zeros(state.cache_shapes(config, 4, WIDTH, jnp.float32, over.cache))
    shared = state.zeros(state.shared_shapes(config, 3 * WIDTH, jnp.float32, over.shared))
    table = jax.ShapeDtypeStruct((64, config.vocab), np.uint16, sharding=over.whole)
    idle = jax.device_put(state.idle_rows(4), over.whole)
    lowered = steps.decode_block.lower(config, over.abstract, weights, cache, idle, table, 8, shared)
    decoding = lowered.compile().as_text()
    assert copies_of(decoding, cache) == copies_of(decoding, shared) == []


def test_extending_copies_no_cache():
    params = shapes(CONFIG, jnp.dtype("float32"), layout(CONFIG, make_mesh()))
    cache = state.zeros(state.cache_shapes(CONFIG, 4, WIDTH, jnp.float32))
    index, ids = jax.ShapeDtypeStruct((2,), np.int32), jax.ShapeDtypeStruct((2, 16), np.int32)
    compiled = steps.extend.lower(CONFIG, ALONE, params, cache, index, index, ids).compile()
    assert copies_of(compiled.as_text(), cache) == []

    keeping = jax.jit(steps.extend.__wrapped__, static_argnums=(0, 1))
    kept = keeping.lower(CONFIG, ALONE, params, cache, index, index, ids).compile()
    assert len(copies_of(kept.as_text(), cache)) == len(jax.tree.leaves(cache))


def part(leaf: jax.Array) -> jax.Array:
    """What one device holds of an array."""
    return leaf.addressable_shards[0].data


def copies_of(hlo: str, cache: state.Cache | state.Shared) -> list[str]:
    """The lines of a compiled program that copy a buffer of the cache's shapes on one device."""
    shapes = {",".join(map(str, part(leaf).shape)) for leaf in jax.tree.leaves(cache)}
    pattern = re.compile(r"= \w+\[(" + "|".join(shapes) + r")\]\S* copy\(")
    return [line.strip() for line in hlo.splitlines() if pattern.search(line)]
