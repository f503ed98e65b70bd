"""Weights as sampling reads them, placed one tensor at a time: nothing of them stands in memory twice."""

from __future__ import annotations

import math
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from rest_jax.models import decoder
from rest_jax.models.config import ModelConfig
from rest_jax.models.tensors import Stored
from rest_jax.sampling.layout import Layout

View = dict[str, Any]
"""embed [V, D], layers (a tuple of each layer's own: slices taken inside the loop would be taken every step), norm [D],
head [D, V], which is a copy where the config is tied: on CPU a transposed head is many times slower."""


def shapes(config: ModelConfig, dtype: Any, layout: Layout) -> View:
    """The weights' shapes in a dtype, with where they lie. UserError, with the sizes that would do, where the mesh
    divides heads, hidden units or vocabulary unevenly."""
    stacked, places = decoder.abstract_params(config), layout.parameters(config)

    def shape(leaf: jax.ShapeDtypeStruct, place: NamedSharding, axes: slice = slice(None)) -> jax.ShapeDtypeStruct:
        divided = NamedSharding(place.mesh, PartitionSpec(*tuple(place.spec)[axes]))
        return jax.ShapeDtypeStruct(leaf.shape[axes], dtype, sharding=divided)

    layer = jax.tree.map(lambda leaf, place: shape(leaf, place, slice(1, None)), stacked["blocks"], places["blocks"])
    tied = shape(stacked["embed"], places["embed"], slice(None, None, -1))
    return {
        "embed": shape(stacked["embed"], places["embed"]),
        "layers": (layer,) * config.layers,
        "norm": shape(stacked["norm"], places["norm"]),
        "head": tied if config.tied else shape(stacked["head"], places["head"]),
    }


def placed(params: decoder.Params | View, wanted: View) -> View:
    """Parameters (of which leaves may still be on disk), or what another sampler has of them, cast and laid out as
    `wanted` (`shapes`) says."""
    if "layers" in params:
        return jax.device_put(params, jax.tree.map(lambda leaf: leaf.sharding, wanted))

    def put(leaf: Any, to: jax.ShapeDtypeStruct) -> jax.Array:
        found = leaf.part(0) if isinstance(leaf, Stored) else leaf
        return jax.device_put(found.astype(to.dtype, copy=False), to.sharding)

    def put_layer(index: int, leaf: Any, to: jax.ShapeDtypeStruct) -> jax.Array:
        return put(leaf.part(index) if isinstance(leaf, Stored) else _row(leaf, index), to)

    embed = put(params["embed"], wanted["embed"])
    return {
        "embed": embed,
        "layers": tuple(
            jax.tree.map(lambda leaf, to, index=index: put_layer(index, leaf, to), params["blocks"], layer)
            for index, layer in enumerate(wanted["layers"])
        ),
        "norm": put(params["norm"], wanted["norm"]),
        "head": put(embed.T if params.get("head") is None else params["head"], wanted["head"]),
    }


def nbytes(shapes: Any) -> int:
    """Bytes of arrays of these shapes on each device."""
    leaves = jax.tree.leaves(shapes)
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


@jax.jit
def _row(leaf: jax.Array, index: jax.Array) -> jax.Array:
    """One layer of a stacked leaf: a program for each leaf, called for each layer; one of all slices takes seconds to
    compile."""
    return leaf[index]
