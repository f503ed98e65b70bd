"""Weights as sampling reads them, placed one tensor at a time: nothing of them stands in memory twice."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from rest_jax.models import decoder
from rest_jax.models.config import ModelConfig
from rest_jax.models.tensors import Stored
from rest_jax.sampling.layout import Layout

View = dict[str, Any]
"""embed [V, D], layers (a tuple of each layer's own: slices taken inside the loop would be taken every step), norm [D],
and, where the config is not tied, head [V, D]. Kernels lie as [out, in] (`models.products`)."""


def head_vd(weights: View) -> jax.Array:
    """The output matrix [V, D]: the model's own, or else the embedding."""
    return weights.get("head", weights["embed"])


def shapes(config: ModelConfig, dtype: Any, layout: Layout) -> View:
    """The weights' shapes in a dtype, with where they lie. UserError, with the sizes that would do, where the mesh
    divides heads, hidden units or vocabulary unevenly."""
    stacked, places = decoder.abstract_params(config), layout.parameters(config)

    def shape(leaf: jax.ShapeDtypeStruct, place: NamedSharding, axes: slice = slice(None)) -> jax.ShapeDtypeStruct:
        divided = NamedSharding(place.mesh, PartitionSpec(*tuple(place.spec)[axes]))
        return jax.ShapeDtypeStruct(leaf.shape[axes], dtype, sharding=divided)

    def shape_of_layer(path: Any, leaf: jax.ShapeDtypeStruct, place: NamedSharding) -> jax.ShapeDtypeStruct:
        return shape(leaf, place, slice(None, 0, -1) if _is_kernel(path) else slice(1, None))

    view: View = {
        "embed": shape(stacked["embed"], places["embed"]),
        "layers": (jax.tree_util.tree_map_with_path(shape_of_layer, stacked["blocks"], places["blocks"]),)
        * config.layers,
        "norm": shape(stacked["norm"], places["norm"]),
    }
    return view if config.tied else view | {"head": shape(stacked["head"], places["head"], slice(None, None, -1))}


def placed(params: decoder.Params | View, wanted: View) -> View:
    """Parameters (of which leaves may still be on disk), or what another sampler has of them, cast and laid out as
    `wanted` (`shapes`) says."""
    if "layers" in params:
        return jax.device_put(params, jax.tree.map(lambda leaf: leaf.sharding, wanted))

    def put(leaf: Any, to: jax.ShapeDtypeStruct, *, by_rows: bool = False) -> jax.Array:
        found = leaf.part(0, by_rows=by_rows) if isinstance(leaf, Stored) else leaf.T if by_rows else leaf
        return jax.device_put(found.astype(to.dtype, copy=False), to.sharding)

    def put_layer(index: int, path: Any, leaf: Any, to: jax.ShapeDtypeStruct) -> jax.Array:
        by_rows = _is_kernel(path)
        found = leaf.part(index, by_rows=by_rows) if isinstance(leaf, Stored) else _part(leaf, index, by_rows)
        return put(found, to)

    view: View = {
        "embed": put(params["embed"], wanted["embed"]),
        "layers": tuple(
            jax.tree_util.tree_map_with_path(partial(put_layer, index), params["blocks"], layer)
            for index, layer in enumerate(wanted["layers"])
        ),
        "norm": put(params["norm"], wanted["norm"]),
    }
    return view | {"head": put(params["head"], wanted["head"], by_rows=True)} if "head" in wanted else view


def _is_kernel(path: Any) -> bool:
    return path[-1].key == "kernel"


def nbytes(shapes: Any) -> int:
    """Bytes of arrays of these shapes on each device."""
    leaves = jax.tree.leaves(shapes)
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


@partial(jax.jit, static_argnums=2)
def _part(leaf: jax.Array, index: jax.Array, by_rows: bool) -> jax.Array:
    """One layer of a stacked leaf: a program for each leaf, called for each layer; one of all slices takes seconds to
    compile."""
    return leaf[index].T if by_rows else leaf[index]
