"""Every family computes what torch transformers does, packed and over a cache: committed figures always, torch itself
in the slow suite.

tests/golden/make_family_logits.py made the figures, from small random models.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rest_jax.distributed.mesh import make_mesh
from rest_jax.distributed.rules import batch_sharding, parameter_shardings
from rest_jax.models import decoder, tensors
from rest_jax.models.axes import axis_sizes, parameter_axes
from rest_jax.models.config import ModelConfig
from rest_jax.sampling import state, steps
from rest_jax.sampling.layout import layout
from rest_jax.sampling.weights import placed, shapes

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
import make_family_logits as script  # noqa: E402

TOLERANCE = 2e-5
"""The largest difference of two logits, f32, of logits up to about 10."""
NAMES = tuple(script.CONFIGS)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model's folder for each family: config.json as transformers writes it, weights under transformers' names."""
    root = tmp_path_factory.mktemp("families")
    for name, model in json.loads(script.MODELS.read_text()).items():
        folder = root / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(model["config"]))
        save_file(script.weights(model["tensors"]), folder / tensors.SINGLE)
    return {name: root / name for name in NAMES}


@pytest.fixture(scope="session")
def figures() -> dict[str, np.ndarray]:
    with np.load(script.LOGITS) as file:
        return dict(file)


def config_of(folder: Path) -> ModelConfig:
    return ModelConfig.from_hf(json.loads((folder / "config.json").read_text()))


def params_of(folder: Path) -> decoder.Params:
    return tensors.read_params(folder, config_of(folder), np.dtype(np.float32))


def batch() -> tuple[jax.Array, jax.Array, jax.Array]:
    ids_bt = jnp.asarray(script.ids(), jnp.int32)
    return ids_bt, jnp.broadcast_to(jnp.arange(script.LENGTH), ids_bt.shape), jnp.ones_like(ids_bt)


@partial(jax.jit, static_argnums=0)
def packed_logits(config: ModelConfig, params: decoder.Params, ids_bt, positions_bt, segments_bt) -> jax.Array:
    x_btd = decoder.hidden_states(config, params, ids_bt, positions_bt, segments_bt)
    return decoder.logits(config, params, decoder.final_norm(config, params, x_btd))


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_torchs(name: str, folders: dict[str, Path], figures: dict[str, np.ndarray]) -> None:
    ours = packed_logits(config_of(folders[name]), params_of(folders[name]), *batch())
    assert np.abs(np.asarray(ours) - figures[name]).max() <= TOLERANCE


@pytest.mark.parametrize("name", ["qwen2-windowed", "gemma2", "gemma3"])
def test_decoding_over_a_cache_computes_the_same(name: str, folders: dict[str, Path]) -> None:
    """The sampler's own programs: a chunk, then token by token, on one row; windows and thetas are constants there."""
    config, params = config_of(folders[name]), params_of(folders[name])
    ids_t = script.ids()[0].astype(np.int32)
    over = layout(config, make_mesh())
    weights, alone = placed(params, shapes(config, jnp.dtype("float32"), over)), over.abstract
    cache = state.zeros(state.cache_shapes(config, 1, 2 * script.LENGTH, jnp.float32))
    found, last = [], script.LENGTH - 1
    for start, end in [(0, 16), *((at, at + 1) for at in range(16, last))]:
        chunk = (np.int32(0), np.int32(start), ids_t[start:end], ids_t[start + 1 : end + 1])
        cache, logprobs_t = steps.score(config, alone, weights, cache, *chunk)
        found.extend(np.asarray(logprobs_t))
    logprobs_tv = jax.nn.log_softmax(packed_logits(config, params, *batch())[0], axis=-1)
    np.testing.assert_allclose(found, np.asarray(logprobs_tv)[np.arange(last), ids_t[1:]], atol=TOLERANCE)


OTHERWISE: dict[str, dict[str, Any]] = {
    "llama": {"rope_scaling": None},
    "mistral": {"windows": ()},
    "gemma2": {
        "attention_softcap": None,
        "logit_softcap": None,
        "query_scalar": None,
        "activation": "silu",
        "embed_scaled": False,
    },
    "gemma3": {"local_rope_theta": None, "windows": (5,) * 7},
}


@pytest.mark.parametrize(("name", "field"), [(name, field) for name, changed in OTHERWISE.items() for field in changed])
def test_the_figures_see_what_a_config_says(
    name: str, field: str, folders: dict[str, Path], figures: dict[str, np.ndarray]
) -> None:
    otherwise = replace(config_of(folders[name]), **{field: OTHERWISE[name][field]})
    ours = packed_logits(otherwise, params_of(folders[name]), *batch())
    assert np.abs(np.asarray(ours) - figures[name]).max() > 100 * TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_published_configs_are_those_that_transformers_writes(name: str, folders: dict[str, Path]) -> None:
    assert ModelConfig.from_hf(script.CONFIGS[name]) == config_of(folders[name])


@pytest.mark.parametrize("name", NAMES)
def test_what_goes_out_has_the_familys_names_and_bits(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    tensors.write_params(config_of(folders[name]), params_of(folders[name]), tmp_path / tensors.SINGLE)
    ours, theirs = load_file(tmp_path / tensors.SINGLE), load_file(folders[name] / tensors.SINGLE)
    assert ours.keys() == theirs.keys()
    for tensor, values in theirs.items():
        np.testing.assert_array_equal(ours[tensor], values)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_named_axes(name: str, folders: dict[str, Path]) -> None:
    config = config_of(folders[name])
    axes = jax.tree.map(len, parameter_axes(config), is_leaf=lambda node: isinstance(node, tuple))
    assert axes == jax.tree.map(lambda leaf: leaf.ndim, decoder.abstract_params(config))


@pytest.mark.parametrize("name", ["qwen2-windowed", "gemma3"])
def test_every_parameter_of_every_layer_learns(name: str, folders: dict[str, Path]) -> None:
    config, params = config_of(folders[name]), params_of(folders[name])

    def loss(params: decoder.Params) -> jax.Array:
        return jax.nn.logsumexp(packed_logits(config, params, *batch()), axis=-1).sum()

    grads = jax.jit(jax.grad(loss))(params)
    for path, grad in jax.tree_util.tree_leaves_with_path(grads["blocks"]):
        assert np.isfinite(grad).all(), path
        assert (np.asarray(grad).reshape(config.layers, -1) != 0).any(axis=1).all(), path


@pytest.mark.parametrize("name", ["qwen2-windowed", "gemma3"])
def test_eight_devices_compute_the_same(name: str, folders: dict[str, Path]) -> None:
    config, params = config_of(folders[name]), params_of(folders[name])
    mesh = make_mesh(1, 2, 2)
    divided = jax.device_put(params, parameter_shardings(mesh, parameter_axes(config), axis_sizes(config)))
    together = packed_logits(config, divided, *jax.device_put(batch(), batch_sharding(mesh)))
    np.testing.assert_allclose(together, packed_logits(config, params, *batch()), atol=TOLERANCE)


def test_gemmas_embedding_is_scaled_in_the_weights_dtype() -> None:
    """√48 is 6.928…, and 6.9375 in bfloat16."""
    config = ModelConfig.from_hf(script.CONFIGS["gemma3"])
    ones = {"embed": jnp.ones((96, 48), jnp.bfloat16)}
    x_btd = decoder.embed(config, ones, jnp.zeros((1, 1), jnp.int32))
    assert x_btd.dtype == jnp.bfloat16
    assert set(np.asarray(x_btd, np.float32).ravel()) == {6.9375}


def test_gemmas_norms_are_rounded_once() -> None:
    """x (1 + w) is computed in f32; Llama's order, x rounded and then multiplied, gives other bfloat16 numbers."""
    config = replace(ModelConfig.from_hf(script.CONFIGS["gemma3"]), norm_eps=1e-6)
    x, w = np.random.default_rng(0).normal(size=(2, 64)).astype(jnp.bfloat16)
    x_f32 = x.astype(np.float32)
    normed = x_f32 / np.sqrt(np.mean(x_f32**2) + 1e-6)
    once, twice = normed * (1 + w.astype(np.float32)), normed.astype(jnp.bfloat16) * (1 + w)
    ours = np.asarray(decoder.final_norm(config, {"norm": jnp.asarray(w)}, jnp.asarray(x)))
    np.testing.assert_array_equal(ours, once.astype(jnp.bfloat16))
    assert (ours != twice).any()


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_torch_running_here(name: str, folders: dict[str, Path]) -> None:
    pytest.importorskip("torch", reason="the extra `reference` is not installed")
    model, _ = script.reference(script.CONFIGS[name])
    ours = packed_logits(config_of(folders[name]), params_of(folders[name]), *batch())
    assert np.abs(np.asarray(ours) - script.logits(model)).max() <= TOLERANCE


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.parametrize("name", NAMES)
def test_torch_reads_what_goes_out(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the extra `reference` is not installed")
    from transformers import AutoModelForCausalLM

    config, params = config_of(folders[name]), params_of(folders[name])
    tensors.write_params(config, params, tmp_path / tensors.SINGLE)
    (tmp_path / "config.json").write_text(json.dumps(config.to_hf()))
    model = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    ours = packed_logits(config, params, *batch())
    assert np.abs(np.asarray(ours) - script.logits(model)).max() <= TOLERANCE
