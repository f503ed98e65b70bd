"""GGUF files: tensors and settings as llama.cpp means them, the tokenizer rebuilt, broken files told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gguf as gguf_package
import numpy as np
import pytest
import tokenizers_for_tests as make
from gguf.quants import dequantize, quantize
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from tokenizers import Tokenizer as FastTokenizer

from rest_jax.core.errors import UserError
from rest_jax.models import catalog, checkpoint, gguf, tokenizer
from rest_jax.models.config import Llama3Rope
from rest_jax.models.rope import inverse_frequencies

LAYERS, WIDTH, HIDDEN, HEADS, KV_HEADS, HEAD = 2, 64, 96, 4, 2, 16
SHAPES = {
    "token_embd.weight": (600, WIDTH),
    "output_norm.weight": (WIDTH,),
    **{
        f"blk.{layer}.{part}.weight": shape
        for layer in range(LAYERS)
        for part, shape in {
            "attn_norm": (WIDTH,),
            "attn_q": (HEADS * HEAD, WIDTH),
            "attn_k": (KV_HEADS * HEAD, WIDTH),
            "attn_v": (KV_HEADS * HEAD, WIDTH),
            "attn_output": (WIDTH, HEADS * HEAD),
            "ffn_norm": (WIDTH,),
            "ffn_gate": (HIDDEN, WIDTH),
            "ffn_up": (HIDDEN, WIDTH),
            "ffn_down": (WIDTH, HIDDEN),
        }.items()
    },
}


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("gguf"))


def write_small(
    where: Path, add: Callable[[gguf_package.GGUFWriter], None] = lambda writer: None, words: str = "smollm"
) -> Path:
    """A small Llama as llama.cpp writes it: Q8_0 embedding, Q4_1 matrices, F32 norms, byte-level BPE; and what `add`
    adds."""
    folder = make.qwen_like(where / "tokenizer")
    file = json.loads((folder / "tokenizer.json").read_text())
    tokens = [token for token, _ in sorted(file["model"]["vocab"].items(), key=lambda pair: pair[1])]
    types = [gguf_package.TokenType.NORMAL] * len(tokens)
    for added in file["added_tokens"]:
        tokens.append(added["content"])
        types.append(gguf_package.TokenType.CONTROL if added["special"] else gguf_package.TokenType.USER_DEFINED)
    path = folder.parent / "small.gguf"
    writer = gguf_package.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(words)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in file["model"]["merges"]])
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    random = np.random.default_rng(0)
    for name, shape in SHAPES.items():
        rows = len(tokens) if name == "token_embd.weight" else shape[0]
        tensor = random.standard_normal((rows, *shape[1:])).astype(np.float32)
        kind = gguf_package.GGMLQuantizationType.F32
        if name == "token_embd.weight":
            kind = gguf_package.GGMLQuantizationType.Q8_0
        elif len(shape) == 2:
            kind = gguf_package.GGMLQuantizationType.Q4_1
        writer.add_tensor(name, quantize(tensor, kind), raw_dtype=kind)
    add(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_settings_are_those_of_a_config_json(small: Path) -> None:
    model = gguf.read(small)
    assert model.quantisation == ("F32", "Q4_1", "Q8_0")
    wanted = {
        "model_type": "llama",
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD,
        "intermediate_size": HIDDEN,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        "tie_word_embeddings": True,
    }
    assert {key: model.config[key] for key in wanted} == wanted
    assert model.config["eos_token_id"] == model.generation_config["eos_token_id"]


def llama3_factors(factor: float) -> np.ndarray:
    """`rope_freqs.weight` as llama.cpp's converter computes it for Llama 3.1 (theta 10,000 here)."""
    factors = []
    for frequency in 1.0 / 10_000.0 ** (np.arange(0, HEAD, 2) / HEAD):
        wavelength = 2 * np.pi / frequency
        smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0)
        if wavelength < 8192 / 4.0:
            factors.append(1.0)
        elif wavelength > 8192 / 1.0:
            factors.append(factor)
        else:
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return np.asarray(factors, np.float32)


def test_llama_3s_rope_scaling_comes_back_from_its_factors(tmp_path: Path) -> None:
    factors = llama3_factors(32.0)
    assert 1.0 < sorted(factors)[len(factors) - 2] < 32.0, "some wavelength lies in the blended band"
    path = write_small(tmp_path, lambda writer: writer.add_tensor("rope_freqs.weight", factors))
    config = checkpoint.load(gguf.convert(path, tmp_path / "small")).config
    assert config.rope_scaling == Llama3Rope(32.0, 1.0, 4.0, 8192)
    plain = inverse_frequencies(replace(config, rope_scaling=None))
    np.testing.assert_allclose(inverse_frequencies(config), plain / factors, rtol=1e-5)


@pytest.mark.parametrize(
    "add",
    [
        lambda writer: writer.add_tensor("rope_freqs.weight", np.ones(HEAD // 2, np.float32)),
        lambda writer: writer.add_rope_scaling_type(gguf_package.RopeScalingType.NONE),
        lambda writer: writer.add_rope_scaling_factor(1.0),
    ],
)
def test_rope_scaling_that_scales_nothing_is_none(tmp_path: Path, add: Callable) -> None:
    assert gguf.read(write_small(tmp_path, add)).config["rope_parameters"] == {
        "rope_type": "default",
        "rope_theta": 10_000.0,
    }


def yarn(writer: gguf_package.GGUFWriter) -> None:
    writer.add_rope_scaling_type(gguf_package.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(4.0)


@pytest.mark.parametrize(
    ("add", "named"),
    [
        (yarn, "yarn with factor 4"),
        (lambda writer: writer.add_rope_scaling_factor(4.0), "linear with factor 4"),
        (lambda writer: writer.add_float32("llama.rope.scale_linear", 2.0), "linear with factor 2"),
        (lambda writer: writer.add_tensor("rope_freqs.weight", llama3_factors(8.0)[::-1].copy()), "rope_freqs.weight"),
        (lambda writer: writer.add_tensor("rope_freqs.weight", llama3_factors(8.0)[3:].copy()), "rope_freqs.weight"),
    ],
)
def test_rope_scaling_that_would_be_computed_wrongly_is_refused(tmp_path: Path, add: Callable, named: str) -> None:
    with pytest.raises(UserError, match="take the model's Hugging Face folder") as caught:
        gguf.convert(write_small(tmp_path, add), tmp_path / "small")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "add", "opens"),
    [
        ("smollm", lambda writer: None, False),
        ("llama-bpe", lambda writer: None, True),
        ("llama-bpe", lambda writer: writer.add_add_bos_token(False), False),
        ("smollm", lambda writer: writer.add_add_bos_token(True), True),
    ],
)
def test_bos_opens_texts_as_in_llama_cpp(tmp_path: Path, words: str, add: Callable, opens: bool) -> None:
    """A Llama 3's file need not say it."""
    assert gguf.read(write_small(tmp_path, add, words)).tokenizer_config["add_bos_token"] is opens


def test_query_and_key_rows_come_back_from_llama_cpps_order(small: Path) -> None:
    model = gguf.read(small)
    for name, part, heads in (("q_proj", "attn_q", HEADS), ("k_proj", "attn_k", KV_HEADS)):
        stored = next(t for t in gguf_package.GGUFReader(small).tensors if t.name == f"blk.1.{part}.weight")
        permuted = dequantize(stored.data, stored.tensor_type)
        rows = model.tensor(f"model.layers.1.self_attn.{name}.weight")
        for head in range(heads):
            for pair in range(HEAD // 2):
                for half in (0, 1):
                    row = rows[head * HEAD + half * HEAD // 2 + pair]
                    np.testing.assert_array_equal(row, permuted[head * HEAD + 2 * pair + half])


def test_conversion_writes_what_the_checkpoint_loader_and_safetensors_read(small: Path, tmp_path: Path) -> None:
    folder = gguf.convert(small, tmp_path / "models" / "small", {"package": "none"})
    model = gguf.read(small)
    tensors = load_file(folder / "model.safetensors")
    assert tensors.keys() == model.stored.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, model.tensor(name))
    source = json.loads((folder / "source.json").read_text())
    assert source["weights"] == "dequantised F32 Q4_1 Q8_0 to F32"
    assert source["package"] == "none"
    loaded = checkpoint.load(folder)
    assert loaded.config.heads == HEADS
    assert sorted(path.name for path in folder.parent.iterdir()) == ["small"]


def test_a_conversion_replaces_a_folder_whole(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "left_over.txt").write_text("old")
    assert not (gguf.convert(small, folder) / "left_over.txt").exists()


def test_a_folder_that_cannot_be_written_is_told(small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written"):
        gguf.convert(small, tmp_path / "file" / "small")


def test_digits_stand_alone_and_control_tokens_are_control(small: Path, tmp_path: Path) -> None:
    codec = tokenizer.load(gguf.convert(small, tmp_path / "small"))
    assert [codec.token_bytes(token) for token in codec.encode_untrusted("1815")] == [b"1", b"8", b"1", b"5"]
    assert len(codec.encode_trusted("<|im_end|>")) == 1
    assert len(codec.silent_ids) == len(make.QWEN_CONTROL)
    assert len(codec.control_ids) == len(make.QWEN_CONTROL) + len(make.QWEN_PLAIN_ADDED)


def test_smollm2s_tokenizer_is_the_one_it_was_trained_with(smollm2: Path) -> None:
    """Ids that the hub's own tokenizer gives (digits one by one; a word's space belongs to the word)."""
    fast = FastTokenizer.from_file(str(smollm2 / "tokenizer.json"))
    assert fast.encode("Hello 2024").tokens == ["Hello", "Ġ", "2", "0", "2", "4"]
    assert fast.decode(fast.encode("in 1815,  twice\n").ids) == "in 1815,  twice\n"


@pytest.mark.parametrize("kept", [0, 3, 24, 4_000, 20_000, -1])
def test_a_truncated_file_is_told(small: Path, tmp_path: Path, kept: int) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(small.read_bytes()[:kept])
    with pytest.raises(UserError, match="no whole GGUF file") as caught:
        gguf.convert(broken, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.gguf"]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_corrupt_header_is_told_or_read_and_never_crashes(
    small: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(small.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 400))] = data.draw(st.integers(0, 255))
    broken = tmp_path_factory.getbasetemp() / "corrupt.gguf"
    broken.write_bytes(content)
    told = ""
    try:
        gguf.read(broken)
    except UserError as error:
        told = str(error)
    assert "\n" not in told


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        gguf.read(tmp_path / "none.gguf")


def test_a_gguf_file_is_a_model_by_its_path(small: Path, tmp_path: Path) -> None:
    folder = catalog.resolve(str(small), cache=tmp_path)
    assert folder.parent == tmp_path / "models"
    assert checkpoint.load(folder).config.layers == LAYERS
    made = (folder / "config.json").stat().st_mtime_ns
    assert catalog.resolve(str(small), offline=True, cache=tmp_path) == folder
    assert (folder / "config.json").stat().st_mtime_ns == made, "converted once"
    other = tmp_path / small.name
    other.write_bytes(small.read_bytes()[:-64])
    with pytest.raises(UserError, match="no whole GGUF file"):
        catalog.resolve(str(other), cache=tmp_path)
