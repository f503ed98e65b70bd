"""Weights in safetensors files under Hugging Face's names, to and from the decoder's stacked parameters.

Both ways stream: in, one stacked leaf is on the host at a time; out, one tensor.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    def names(self, layers: int) -> list[str]:
        return [self.name.format(index) for index in range(layers)] if "{}" in self.name else [self.name]


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


def read_params(
    folder: Path, config: ModelConfig, dtype: np.dtype, shardings: Mapping[str, Any] | None = None
) -> Params:
    """The parameters of a folder's safetensors (one file, or sharded with an index), placed leaf by leaf.

    UserError for corrupt files and for tensors that are missing, unexpected or of another shape.
    """
    with ExitStack() as stack:
        files = _open(folder, stack)
        sources = _sources(config)
        _refuse_other_names(folder, config, sources, set(files))
        _refuse_untied_head(folder, config, files)
        abstract = abstract_params(config, dtype)
        places = jax.tree.map(lambda _: None, abstract) if shardings is None else dict(shardings)

        def place(path: Any, wanted: jax.ShapeDtypeStruct, where: Any) -> jax.Array:
            return jax.device_put(_stack(folder, config, files, sources[_joined(path)], wanted), where)

        return jax.tree_util.tree_map_with_path(place, abstract, places)


def write_params(config: ModelConfig, params: Params, file: Path) -> None:
    """Writes one safetensors file with Hugging Face's names and layouts, in the parameters' own dtype."""
    sources = _sources(config)
    leaves = [(sources[_joined(path)], leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]
    layout = [
        (name, np.dtype(leaf.dtype), _stored_shape(source, leaf.shape))
        for source, leaf in leaves
        for name in source.names(config.layers)
    ]
    safetensors_stream.write(
        file, layout, (tensor for source, leaf in leaves for tensor in _unstack(source, np.asarray(leaf)))
    )


def _open(folder: Path, stack: ExitStack) -> dict[str, Any]:
    """Each tensor's name with the open file that holds it."""
    index = folder / INDEX
    if index.is_file():
        try:
            paths = sorted({folder / name for name in json.loads(index.read_text())["weight_map"].values()})
        except (ValueError, KeyError, AttributeError) as error:
            raise UserError(f"{index}: not a safetensors index; fetch the model again") from error
    else:
        paths = [folder / SINGLE]
    files: dict[str, Any] = {}
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: missing; give a folder that holds {SINGLE}, or {INDEX} and all of its shards")
        try:
            handle = stack.enter_context(safe_open(path, framework="np"))
        except SafetensorError as error:
            raise UserError(f"{path}: corrupt safetensors ({error}); fetch the model again") from error
        files |= dict.fromkeys(handle.keys(), handle)
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


def _refuse_untied_head(folder: Path, config: ModelConfig, files: Mapping[str, Any]) -> None:
    """Some publishers store a tied head beside the embedding; that is harmless only while the two are one."""
    if not config.tied or _HEAD.name not in files:
        return
    head, embed = (files[name].get_tensor(name) for name in (_HEAD.name, _EMBED.name))
    if not np.array_equal(head, embed):
        raise UserError(
            f"{folder}: {_HEAD.name} is not the embedding; set tie_word_embeddings to false in its config.json"
        )


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more tensors"


def _stack(
    folder: Path, config: ModelConfig, files: Mapping[str, Any], source: _Source, wanted: jax.ShapeDtypeStruct
) -> np.ndarray:
    """A leaf on the host, its layers side by side, each as [in, out]."""
    names = source.names(config.layers)
    host = np.empty(wanted.shape, wanted.dtype)
    stored = _stored_shape(source, wanted.shape)
    for name, row in zip(names, _unstack(source, host), strict=True):
        tensor = files[name].get_tensor(name)
        if tensor.shape != stored or tensor.dtype.name not in _FLOATS:
            raise UserError(
                f"{folder}: {name} is {tensor.dtype.name} {list(tensor.shape)}, config.json asks for a float tensor "
                f"{list(stored)}; config.json and weights must belong together"
            )
        row[...] = tensor
    return host


def _stored_shape(source: _Source, leaf: tuple[int, ...]) -> tuple[int, ...]:
    one = leaf[1:] if "{}" in source.name else leaf
    return one[::-1] if source.transposed else one


def _unstack(source: _Source, leaf: np.ndarray) -> Iterator[np.ndarray]:
    """Views of a leaf's tensors, laid out as the file stores them."""
    for one in leaf if "{}" in source.name else [leaf]:
        yield one.T if source.transposed else one


def _joined(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
