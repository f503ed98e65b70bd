"""LoRA: adapters alone are trained and kept, and what comes out are plain weights."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_world import CONFIG, random_examples

from rest_jax.config.improve import ImproveSettings, LoraSettings, MeshSettings
from rest_jax.core.events import silent
from rest_jax.models import attention, decoder
from rest_jax.training.fit import fit
from rest_jax.training.layout import mesh_of
from rest_jax.training.lora import initial_adapters, merged
from rest_jax.training.optimizer import optimizer
from rest_jax.training.packing import batch_of
from rest_jax.training.step import abstract_state, state_shardings

LORA = LoraSettings(rank=3, alpha=6, targets=("query", "output", "down"))
TARGETS = [("attention", "query"), ("attention", "output"), ("feedforward", "down")]
SETTINGS = ImproveSettings(
    steps=9, rows=2, length=24, learning_rate=1e-1, warmup=1, checkpoint_every=2, weight_decay=0.1, lora=LORA
)
EXAMPLES = random_examples(5)


@pytest.fixture(scope="module")
def params():
    """Large enough for logits that differ: the head is no target, and stays."""
    made = decoder.init(CONFIG, jax.random.key(0))
    return jax.tree.map(lambda leaf: leaf * 5 if leaf.ndim > 1 else leaf, made)


@pytest.fixture(scope="module")
def whole(params, tmp_path_factory):
    return run(params, tmp_path_factory.mktemp("fit"))


def run(params, folder, settings=SETTINGS, emit=silent):
    return fit(CONFIG, params, EXAMPLES, settings, start="w", seed=3, folder=folder, emit=emit)


def leaves(tree):
    flat = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in flat}


def drawn(seed):
    """Adapters of which neither half is zero."""
    adapters = initial_adapters(CONFIG, LORA, jax.random.key(seed))
    return jax.tree.map(lambda leaf: 0.1 * jax.random.normal(jax.random.key(seed), leaf.shape), adapters)


def test_adapters_are_of_the_targets_alone_and_change_nothing_at_first(params):
    adapters = initial_adapters(CONFIG, LORA, jax.random.key(1))
    assert leaves(adapters).keys() == {f"blocks/{part}/{name}/{half}" for part, name in TARGETS for half in "ab"}
    before, after = leaves(params), leaves(merged(params, adapters, LORA))
    assert all(np.array_equal(after[path], before[path]) for path in before)
    assert np.std(leaves(adapters)["blocks/feedforward/down/a"]) == pytest.approx(CONFIG.hidden**-0.5, rel=0.2)


def hidden_with_adapters_apart(params, adapters, batch):
    """Hidden states where each target computes x W + alpha / rank (x A) B, with the layer's matrices as they are."""
    packed_causal = attention.backend(CONFIG.attention).packed_causal

    def attend(q_btnh, k_btkh, v_btkh, spec):
        return packed_causal(q_btnh, k_btkh, v_btkh, spec, batch.segments_bt)

    def product(x, kernel, dimensions, **options):
        y = jax.lax.dot_general(x, kernel, dimensions, **options)
        for part, name in TARGETS:
            for index, own in enumerate(params["blocks"][part][name]["kernel"]):
                if np.array_equal(kernel, own):
                    a_ir, b_ro = (adapters["blocks"][part][name][half][index] for half in "ab")
                    return y + LORA.alpha / LORA.rank * ((x @ a_ir) @ b_ro)
        return y

    x_btd = decoder.embed(CONFIG, params, batch.ids_bt)
    for index in range(CONFIG.layers):
        kind, own = decoder.layer_kind(CONFIG, index), decoder.layer(params, index)
        x_btd = decoder.apply_block(CONFIG, kind, own, x_btd, batch.positions_bt, attend, product)
    return x_btd


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=3, deadline=None)
def test_merged_weights_have_the_logits_of_adapters_apart(params, seed):
    adapters, batch = drawn(seed), batch_of(EXAMPLES, ((0, 1), (2,)), 48)
    after = merged(params, adapters, LORA)
    together = decoder.hidden_states(CONFIG, after, batch.ids_bt, batch.positions_bt, batch.segments_bt)
    apart = hidden_with_adapters_apart(params, adapters, batch)
    before = decoder.hidden_states(CONFIG, params, batch.ids_bt, batch.positions_bt, batch.segments_bt)
    ours, theirs, old = (
        decoder.logits(CONFIG, params, decoder.final_norm(CONFIG, params, x)) for x in (together, apart, before)
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    assert np.abs(ours - old).max() > 1e-2


def test_it_learns_and_what_is_no_target_stays(whole, params):
    assert np.mean(whole.losses[-3:]) < np.mean(whole.losses[:3]) - 0.1
    before, after = leaves(params), leaves(whole.params)
    assert after.keys() == before.keys()
    changed = {path for path in before if not np.array_equal(after[path], before[path])}
    assert changed == {f"blocks/{part}/{name}/kernel" for part, name in TARGETS}
    for path in changed:
        for delta_io in after[path] - before[path]:
            assert np.linalg.matrix_rank(delta_io, tol=1e-5) == LORA.rank


def test_a_checkpoint_holds_adapters_and_their_moments_alone():
    made, mesh = optimizer(SETTINGS), mesh_of(SETTINGS.mesh)
    state = abstract_state(CONFIG, made, state_shardings(CONFIG, made, mesh, LORA), LORA)
    adapters = sum(leaf.size for leaf in leaves(drawn(0)).values())
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 3 * adapters + 1


class Stop(Exception):
    pass


def test_a_stopped_fit_goes_on_in_the_same_bits(whole, params, tmp_path):
    def stop(event):
        if event.kind == "metrics" and event.data["step"] == 3:
            raise Stop

    with pytest.raises(Stop):
        run(params, tmp_path, emit=stop)
    again = run(params, tmp_path)
    assert again.losses == whole.losses
    expected = leaves(whole.params)
    assert all(np.array_equal(leaf, expected[path]) for path, leaf in leaves(again.params).items())


def test_a_mesh_learns_the_same(whole, params, tmp_path):
    divided = run(params, tmp_path, replace(SETTINGS, mesh=MeshSettings(fsdp=2, tensor=2)))
    # Adam at this rate magnifies last digits from step to step.
    np.testing.assert_allclose(divided.losses[:4], whole.losses[:4], rtol=1e-4)
    kernel = divided.params["blocks"]["feedforward"]["down"]["kernel"]
    assert kernel.addressable_shards[0].data.size * 4 == kernel.size
