"""Weights in safetensors files under Hugging Face's names, to and from the decoder's stacked parameters.

Both ways stream: one tensor is on the host at a time, or one stacked leaf where that is what is wanted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
from safetensors import SafetensorError, safe_open

from rest_jax.core.errors import UserError
from rest_jax.models import safetensors_stream
from rest_jax.models.config import ModelConfig
from rest_jax.models.decoder import Params, abstract_params

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_FLOATS = ("float32", "float16", "bfloat16")
"""What weights may be stored as; anything else is quantised, or no weight."""


@dataclass(frozen=True)
class _Source:
    """Where a leaf comes from: a tensor name (`{}` is the layer), and whether it is stored [out, in]."""

    name: str
    transposed: bool = False

    @property
    def stacked(self) -> bool:
        """Whether there is one for every layer."""
        return "{}" in self.name

    def names(self, layers: int) -> list[str]:
        return [self.name.format(index) for index in range(layers)] if self.stacked else [self.name]


_EMBED, _HEAD = _Source("model.embed_tokens.weight"), _Source("lm_head.weight", transposed=True)


def _sources(config: ModelConfig) -> dict[str, _Source]:
    """Where each of the parameters' leaves comes from, by its path."""
    layer, attention, mlp = "model.layers.{}", "model.layers.{}.self_attn", "model.layers.{}.mlp"
    # Where there are post-norms, what others call so (it stands before the feed-forward) is one of them.
    before_feedforward = "pre_feedforward_layernorm" if config.post_norms else "post_attention_layernorm"
    sources = {
        "embed": _EMBED,
        "blocks/attention/norm/scale": _Source(f"{layer}.input_layernorm.weight"),
        "blocks/attention/query/kernel": _Source(f"{attention}.q_proj.weight", transposed=True),
        "blocks/attention/query/bias": _Source(f"{attention}.q_proj.bias"),
        "blocks/attention/query_norm/scale": _Source(f"{attention}.q_norm.weight"),
        "blocks/attention/key/kernel": _Source(f"{attention}.k_proj.weight", transposed=True),
        "blocks/attention/key/bias": _Source(f"{attention}.k_proj.bias"),
        "blocks/attention/key_norm/scale": _Source(f"{attention}.k_norm.weight"),
        "blocks/attention/value/kernel": _Source(f"{attention}.v_proj.weight", transposed=True),
        "blocks/attention/value/bias": _Source(f"{attention}.v_proj.bias"),
        "blocks/attention/output/kernel": _Source(f"{attention}.o_proj.weight", transposed=True),
        "blocks/attention/post_norm/scale": _Source(f"{layer}.post_attention_layernorm.weight"),
        "blocks/feedforward/norm/scale": _Source(f"{layer}.{before_feedforward}.weight"),
        "blocks/feedforward/gate/kernel": _Source(f"{mlp}.gate_proj.weight", transposed=True),
        "blocks/feedforward/up/kernel": _Source(f"{mlp}.up_proj.weight", transposed=True),
        "blocks/feedforward/down/kernel": _Source(f"{mlp}.down_proj.weight", transposed=True),
        "blocks/feedforward/post_norm/scale": _Source(f"{layer}.post_feedforward_layernorm.weight"),
        "norm": _Source("model.norm.weight"),
        "head": _HEAD,
    }
    leaves = jax.tree_util.tree_leaves_with_path(abstract_params(config))
    return {path: sources[path] for path in (_joined(path) for path, _ in leaves)}


@dataclass(frozen=True)
class Stored:
    """One leaf of the parameters, still on disk. Read, it is f32 on the host, and its file is mapped no longer than
    that."""

    shape: tuple[int, ...]
    parts: tuple[tuple[str, Path], ...]
    """The tensors that it consists of, each with its file: one for every layer, or a single one."""
    stacked: bool
    transposed: bool
    """The tensors are stored [out, in]."""
    dtype: ClassVar[np.dtype] = np.dtype(np.float32)

    @property
    def part_shape(self) -> tuple[int, ...]:
        return self.shape[1:] if self.stacked else self.shape

    def part(self, index: int, *, by_rows: bool = False) -> np.ndarray:
        """One of its tensors, as [in, out], or `by_rows` as [out, in]: that of a layer, or 0 for all of a leaf that is
        not stacked. UserError when it is of another shape, or no float."""
        name, file = self.parts[index]
        with safe_open(file, framework="np") as opened:
            tensor = opened.get_tensor(name)
        stored = _stored_shape(self.part_shape, self.transposed)
        if tensor.shape != stored or tensor.dtype.name not in _FLOATS:
            raise UserError(
                f"{file.parent}: {name} is {tensor.dtype.name} {list(tensor.shape)}, config.json asks for a float "
                f"tensor {list(stored)}; config.json and weights must belong together"
            )
        return np.ascontiguousarray(tensor.T if self.transposed is not by_rows else tensor, self.dtype)

    def whole(self, dtype: Any) -> np.ndarray:
        """All of it in a dtype, its layers side by side."""
        if not self.stacked:
            return self.part(0).astype(dtype, copy=False)
        host = np.empty(self.shape, dtype)
        for index in range(len(self.parts)):
            host[index] = self.part(index)
        return host


def stored_params(folder: Path, config: ModelConfig) -> Params:
    """The parameters of a folder's safetensors (one file, or sharded with an index), each leaf a `Stored`.

    UserError for corrupt files and for tensors that are missing or unexpected.
    """
    files = _files(folder)
    sources = _sources(config)
    _refuse_other_names(folder, config, sources, set(files))
    _refuse_untied_head(folder, config, files)

    def leaf(path: Any, wanted: jax.ShapeDtypeStruct) -> Stored:
        source = sources[_joined(path)]
        parts = tuple((name, files[name]) for name in source.names(config.layers))
        return Stored(wanted.shape, parts, source.stacked, source.transposed)

    return jax.tree_util.tree_map_with_path(leaf, abstract_params(config))


def read_params(
    folder: Path, config: ModelConfig, dtype: np.dtype, shardings: Mapping[str, Any] | None = None
) -> Params:
    """The parameters of a folder's safetensors, placed leaf by leaf. UserError as of `stored_params`, and for tensors
    of another shape."""
    stored = stored_params(folder, config)
    places = jax.tree.map(lambda _: None, stored) if shardings is None else dict(shardings)
    return jax.tree.map(lambda leaf, where: jax.device_put(leaf.whole(dtype), where), stored, places)


def write_params(config: ModelConfig, params: Params, file: Path) -> None:
    """Writes one safetensors file with Hugging Face's names and layouts, in the parameters' own dtype."""
    sources = _sources(config)
    leaves = [(sources[_joined(path)], leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]
    layout = [
        (name, np.dtype(leaf.dtype), _stored_shape(leaf.shape[source.stacked :], source.transposed))
        for source, leaf in leaves
        for name in source.names(config.layers)
    ]
    safetensors_stream.write(
        file, layout, (tensor for source, leaf in leaves for tensor in _unstack(source, np.asarray(leaf)))
    )


def _files(folder: Path) -> dict[str, Path]:
    """Each tensor's name with the file that holds it; every file has been looked at."""
    index = folder / INDEX
    if index.is_file():
        try:
            paths = sorted({folder / name for name in json.loads(index.read_text())["weight_map"].values()})
        except (ValueError, KeyError, AttributeError) as error:
            raise UserError(f"{index}: not a safetensors index; fetch the model again") from error
    else:
        paths = [folder / SINGLE]
    files: dict[str, Path] = {}
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: missing; give a folder that holds {SINGLE}, or {INDEX} and all of its shards")
        try:
            with safe_open(path, framework="np") as opened:
                files |= dict.fromkeys(opened.keys(), path)
        except SafetensorError as error:
            raise UserError(f"{path}: corrupt safetensors ({error}); fetch the model again") from error
    return files


def _refuse_other_names(folder: Path, config: ModelConfig, sources: Mapping[str, _Source], found: set[str]) -> None:
    expected = {name for source in sources.values() for name in source.names(config.layers)}
    if missing := sorted(expected - found):
        raise UserError(
            f"{folder}: {_some(missing)} missing from the weights; config.json and weights must belong together"
        )
    ignored = {name for name in found if name.endswith(".rotary_emb.inv_freq")}
    if config.tied:
        ignored.add(_HEAD.name)
    if unexpected := sorted(found - expected - ignored):
        raise UserError(
            f"{folder}: {_some(unexpected)} unknown to a {config.family} of this config; "
            f"config.json and weights must belong together"
        )


def _refuse_untied_head(folder: Path, config: ModelConfig, files: Mapping[str, Path]) -> None:
    """Some publishers store a tied head beside the embedding; that is harmless only while the two are one."""
    if not config.tied or _HEAD.name not in files:
        return
    shape = (config.vocab, config.width)
    head, embed = (Stored(shape, ((name, files[name]),), False, False) for name in (_HEAD.name, _EMBED.name))
    if not np.array_equal(head.part(0), embed.part(0)):
        raise UserError(
            f"{folder}: {_HEAD.name} is not the embedding; set tie_word_embeddings to false in its config.json"
        )


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more tensors"


def _stored_shape(part: tuple[int, ...], transposed: bool) -> tuple[int, ...]:
    return part[::-1] if transposed else part


def _unstack(source: _Source, leaf: np.ndarray) -> Iterator[np.ndarray]:
    """Views of a leaf's tensors, laid out as the file stores them."""
    for one in leaf if source.stacked else [leaf]:
        yield one.T if source.transposed else one


def _joined(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
