"""Model folders: what goes out comes back bit for bit, transformers reads it, and every fault is one line."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from rest_jax.core.errors import UserError
from rest_jax.distributed.mesh import make_mesh
from rest_jax.distributed.rules import parameter_shardings
from rest_jax.models import checkpoint, decoder
from rest_jax.models.axes import axis_sizes, parameter_axes
from rest_jax.models.config import ModelConfig
from rest_jax.models.digest import weights_digest

TIED = ModelConfig(260, 32, layers=3, heads=4, kv_heads=2, head_dim=8, hidden=48, max_positions=64, tied=True)
UNTIED = ModelConfig(260, 32, layers=2, heads=4, kv_heads=2, head_dim=8, hidden=48, max_positions=64)
AGENT = {"agent": "react", "style": "base"}


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """A folder with a byte-level tokenizer: what a model in training started from."""
    folder = tmp_path_factory.mktemp("start")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({symbol: index for index, symbol in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>"}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 256}))
    (folder / "config.json").write_text(json.dumps({**TIED.to_hf(), "eos_token_id": 256, "bos_token_id": 256}))
    return folder


@pytest.fixture
def saved(start, tmp_path, random_params) -> Path:
    folder = tmp_path / "model"
    checkpoint.save(TIED, random_params(TIED), folder, tokenizer_from=start, agent=AGENT)
    return folder


def _assert_same(one: decoder.Params, other: decoder.Params) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a).view(np.uint8), np.asarray(b).view(np.uint8))


@pytest.mark.parametrize("config", [TIED, UNTIED], ids=["tied", "untied"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_import_of_export_is_bit_equal(config, dtype, start, tmp_path, random_params) -> None:
    params = random_params(config, dtype)
    checkpoint.save(config, params, tmp_path / "out", tokenizer_from=start)
    model = checkpoint.load(tmp_path / "out", dtype)
    _assert_same(model.params, params)
    assert model.config == config
    assert model.weights_digest == weights_digest(params)
    assert model.name == "out"
    assert model.agent is None


def test_loads_straight_onto_a_mesh(saved) -> None:
    shardings = parameter_shardings(make_mesh(2, 2, 2), parameter_axes(TIED), axis_sizes(TIED))
    alone, divided = checkpoint.load(saved), checkpoint.load(saved, shardings=shardings)
    assert jax.tree.map(lambda leaf: leaf.sharding, divided.params) == shardings
    _assert_same(divided.params, alone.params)
    assert divided.weights_digest == alone.weights_digest


def test_a_place_that_cannot_be_written_is_one_line(saved, start) -> None:
    with pytest.raises(UserError, match="cannot write the model"):
        checkpoint.save(TIED, {}, saved / "config.json" / "model", tokenizer_from=start)


def test_saving_twice_gives_the_same_file(saved, start, random_params) -> None:
    before = (saved / "model.safetensors").read_bytes()
    checkpoint.save(TIED, random_params(TIED), saved, tokenizer_from=start, agent=AGENT)
    assert (saved / "model.safetensors").read_bytes() == before
    assert not list(saved.glob("*.partial"))


def test_the_file_has_hugging_face_names_and_layouts(saved, random_params) -> None:
    tensors = load_file(saved / "model.safetensors")
    params = random_params(TIED)
    assert len(tensors) == 2 + 9 * TIED.layers
    assert "lm_head.weight" not in tensors
    np.testing.assert_array_equal(
        tensors["model.layers.2.mlp.down_proj.weight"], params["blocks"]["feedforward"]["down"]["kernel"][2].T
    )
    np.testing.assert_array_equal(tensors["model.embed_tokens.weight"], params["embed"])


def test_the_folder_is_complete_and_transformers_reads_it(saved) -> None:
    from transformers import AutoConfig, AutoTokenizer

    theirs = AutoConfig.from_pretrained(saved)
    assert (theirs.model_type, theirs.eos_token_id, theirs.num_key_value_heads) == ("llama", 256, 2)
    assert AutoTokenizer.from_pretrained(saved).encode("ab<|end|>")[-1] == 256
    model = checkpoint.load(saved)
    assert model.agent == AGENT
    assert model.codec.eos_ids == {256}


def test_reads_sharded_weights_and_old_buffers(saved) -> None:
    whole = checkpoint.load(saved)
    tensors = load_file(saved / "model.safetensors")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[:10], "model-00002-of-00002.safetensors": names[10:]}
    for shard, part in shards.items():
        save_file({name: tensors[name] for name in part}, saved / shard)
    (saved / "model.safetensors").unlink()
    index = {"weight_map": {name: shard for shard, part in shards.items() for name in part}}
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    _assert_same(checkpoint.load(saved).params, whole.params)

    (saved / "model-00002-of-00002.safetensors").unlink()
    _refused(saved, "00002-of-00002")


def test_a_digest_names_weights_not_containers(random_params) -> None:
    params = random_params(TIED)
    host = jax.tree.map(np.asarray, params)
    assert weights_digest(host) == weights_digest(params)
    assert weights_digest(dict(reversed(host.items()))) == weights_digest(params)
    changed = {**host, "norm": host["norm"].copy()}
    changed["norm"][0] = np.nextafter(changed["norm"][0], 2)
    assert weights_digest(changed) != weights_digest(params)
    assert weights_digest({**host, "norm": host["norm"].reshape(2, -1)}) != weights_digest(params)
    assert weights_digest(jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)) != weights_digest(params)


def _refused(folder: Path, named: str) -> None:
    with pytest.raises(UserError) as caught:
        checkpoint.load(folder)
    assert named in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_is_never_saved_over_the_one_it_started_from(saved, random_params) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    with pytest.raises(UserError, match="holds the model that training started from; write the new one to another"):
        checkpoint.save(TIED, random_params(TIED), saved / ".." / saved.name, tokenizer_from=saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_refuses_weights_of_another_model(saved) -> None:
    file = saved / "model.safetensors"
    tensors = load_file(file)
    name = "model.layers.1.self_attn.q_proj.weight"
    save_file({key: value for key, value in tensors.items() if key != name}, file)
    _refused(saved, name)
    save_file({**tensors, "model.layers.0.self_attn.q_proj.bias": np.ones(32, np.float32)}, file)
    _refused(saved, "q_proj.bias")
    save_file({**tensors, name: np.ones((32, 31), np.float32)}, file)
    _refused(saved, "[32, 31]")
    save_file({**tensors, name: np.ones((32, 32), np.int8)}, file)
    _refused(saved, "int8")


def test_refuses_a_head_that_a_tied_config_would_drop(saved) -> None:
    file = saved / "model.safetensors"
    tensors = load_file(file)
    save_file({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"]}, file)
    checkpoint.load(saved)
    save_file({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"] + 1}, file)
    _refused(saved, "tie_word_embeddings")


@pytest.mark.parametrize("keep", [5, -100])
def test_refuses_corrupt_safetensors(saved, keep) -> None:
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    _refused(saved, "corrupt")


def test_refuses_what_is_missing_or_broken(saved, tmp_path) -> None:
    _refused(tmp_path / "nowhere", "no such model folder")
    (saved / "model.safetensors").unlink()
    _refused(saved, "model.safetensors")
    (saved / "config.json").write_text("{")
    _refused(saved, "not valid JSON")
    (saved / "config.json").unlink()
    _refused(saved, "config.json: missing")


def test_refuses_a_tokenizer_with_more_ids_than_the_model(saved) -> None:
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "vocab_size": 100}))
    _refused(saved, "257 ids")
