"""Small random models (numpy draws them: compiling one shape of `jax.random.normal` takes seconds), and one tokenizer
of each kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers_for_tests as make

from rest_jax.models import decoder, tokenizer
from rest_jax.models.config import ModelConfig

TOKENIZERS = ("smollm2", "llama3", "qwen", "llama2", "gemma", "sentencepiece_bpe", "sentencepiece_unigram")


@pytest.fixture(scope="session")
def random_params() -> Callable[..., decoder.Params]:
    """`random_params(config, dtype)`: every leaf different from every other, norms near one."""

    def draw(config: ModelConfig, dtype: jnp.dtype = jnp.float32) -> decoder.Params:
        generator = np.random.default_rng(0)

        def leaf(path, wanted: jax.ShapeDtypeStruct) -> jax.Array:
            is_norm = "norm" in jax.tree_util.keystr(path)
            return jnp.asarray(generator.normal(float(is_norm), 0.1, wanted.shape).astype(dtype))

        return jax.tree_util.tree_map_with_path(leaf, decoder.abstract_params(config))

    return draw


@pytest.fixture(scope="session")
def codecs(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tokenizer.Tokenizer]:
    """A tokenizer of every supported kind, by name."""
    root = tmp_path_factory.mktemp("tokenizers")
    folders = (
        smollm2,
        make.llama3_like(root / "llama3"),
        make.qwen_like(root / "qwen"),
        make.llama2_like(root / "llama2"),
        make.gemma_like(root / "gemma"),
        make.sentencepiece_like(root / "bpe", "bpe"),
        make.sentencepiece_like(root / "unigram", "unigram"),
    )
    return {kind: tokenizer.load(folder) for kind, folder in zip(TOKENIZERS, folders, strict=True)}


@pytest.fixture(params=TOKENIZERS)
def codec(request: pytest.FixtureRequest, codecs: dict[str, tokenizer.Tokenizer]) -> tokenizer.Tokenizer:
    """Each kind in turn."""
    return codecs[request.param]
