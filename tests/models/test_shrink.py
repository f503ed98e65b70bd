"""Models of some of a parent's layers: their weights are the parent's, and they say what they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rest_jax.cli.main import main
from rest_jax.core.errors import UserError
from rest_jax.models import checkpoint
from rest_jax.models.config import ModelConfig
from rest_jax.models.shrink import config_with, evenly, shrink

FIVE = ModelConfig(49_152, 8, layers=5, heads=2, kv_heads=1, head_dim=4, hidden=16, max_positions=64, tied=True)


@pytest.fixture(scope="module")
def parent(smollm2: Path, tmp_path_factory: pytest.TempPathFactory, random_params) -> Path:
    folder = tmp_path_factory.mktemp("shrink") / "parent"
    checkpoint.save(FIVE, random_params(FIVE), folder, tokenizer_from=smollm2, agent={"name": "react", "shots": 0})
    return folder


@pytest.mark.parametrize(
    ("layers", "keep", "kept"),
    [(30, 4, (0, 9, 19, 29)), (6, 3, (0, 2, 5)), (5, 5, (0, 1, 2, 3, 4)), (5, 2, (0, 4)), (5, 1, (0,))],
)
def test_layers_that_are_kept_are_spread_from_the_first_to_the_last(
    layers: int, keep: int, kept: tuple[int, ...]
) -> None:
    assert evenly(layers, keep) == kept


def test_the_weights_are_the_parents(parent: Path, tmp_path: Path) -> None:
    said = shrink(parent, (0, 3), tmp_path / "small", name="parent")
    before, after = checkpoint.load(parent), checkpoint.load(tmp_path / "small")
    assert after.config == replace(FIVE, layers=2)
    assert after.codec.digest == before.codec.digest
    np.testing.assert_array_equal(after.params["embed"], before.params["embed"])
    for room in ("attention", "feedforward"):
        for part, leaves in after.params["blocks"][room].items():
            for leaf, weights in leaves.items():
                expected = np.asarray(before.params["blocks"][room][part][leaf])[[0, 3]]
                np.testing.assert_array_equal(np.asarray(weights), expected)
    assert said == f"layers 0, 3 of the 5 of parent (weights {before.weights_digest[:8]})"
    assert after.agent == {"name": "react", "shots": 0, "shrunk": said}


def test_what_was_shrunk_twice_says_both(parent: Path, tmp_path: Path) -> None:
    once = shrink(parent, (0, 2, 4), tmp_path / "three", name="parent")
    twice = shrink(tmp_path / "three", (0, 2), tmp_path / "two", name="three")
    assert twice.startswith("layers 0, 2 of the 3 of three (weights ")
    assert twice.endswith(f"), itself {once}")


def test_each_layer_keeps_its_window() -> None:
    gemma = replace(FIVE, windows=(4, None, 4, None, 4), family="gemma2")
    assert config_with(gemma, (0, 1, 3)).windows == (4, None, None)


def test_the_command(parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "shrink", str(parent), str(tmp_path / "a"), "--keep", "2"]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'a'}: layers 0, 4 of the 5 of parent ")
    assert main(["models", "shrink", str(parent), str(tmp_path / "b"), "--layers", "1,2"]) == 0
    assert checkpoint.config_of(tmp_path / "b").layers == 2
    for wrong, why in (("--keep=6", "keep 1 to 5"), ("--layers=3,1", "rising"), ("--layers=x", "whole numbers")):
        assert main(["models", "shrink", str(parent), str(tmp_path / "c"), wrong]) == 2
        assert why in capsys.readouterr().err
    with pytest.raises(UserError, match="holds the model that training started from"):
        shrink(parent, (0,), parent, name="parent")
