"""Products with kernels that lie as [out, in], whatever their rows, and as [in, out], with their gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rest_jax.models.products import by_columns, by_rows

X, KERNEL = jax.random.normal(jax.random.key(0), (3, 1, 64)), jax.random.normal(jax.random.key(1), (32, 64))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("wanted", [None, "float32"])
def test_one_row_is_what_it_is_among_others(dtype: str, wanted: str | None) -> None:
    x, kernel = X.astype(dtype), KERNEL.astype(dtype)
    product = jax.jit(lambda x: by_rows(x, kernel, preferred_element_type=wanted))
    among, alone = product(x), jnp.concatenate([product(row[None]) for row in x])
    assert (alone.dtype, alone.shape) == (among.dtype, among.shape) == (wanted or dtype, (3, 1, 32))
    exact = np.asarray(x, np.float64) @ np.asarray(kernel, np.float64).T
    tolerance = 1e-2 if among.dtype == jnp.bfloat16 else 1e-5
    for found in (among, alone):
        np.testing.assert_allclose(np.asarray(found, np.float64), exact, rtol=tolerance, atol=tolerance * 8)


@pytest.mark.parametrize("shape", [(64,), (1, 64), (2, 64)])
def test_a_row_keeps_its_shape(shape: tuple[int, ...]) -> None:
    assert by_rows(jnp.ones(shape, jnp.bfloat16), KERNEL.astype(jnp.bfloat16)).shape == (*shape[:-1], 32)


def test_on_a_cpu_two_rows_are_computed_where_one_bfloat16_row_is_asked_for() -> None:
    def rows(dtype: str) -> bool:
        return "tensor<2x32" in jax.jit(by_rows).lower(jnp.ones((1, 64), dtype), KERNEL.astype(dtype)).as_text()

    assert rows("bfloat16")
    assert not rows("float32")


@pytest.mark.parametrize("shape", [(64,), (3, 64), (2, 3, 64)])
def test_by_columns_has_the_product_and_the_gradients_of_dot_general(shape: tuple[int, ...]) -> None:
    x, kernel_df = jnp.sin(jnp.arange(np.prod(shape, dtype=int)).reshape(shape)), KERNEL.T

    def squares(x: jax.Array, kernel_df: jax.Array, product: Callable[..., jax.Array]) -> jax.Array:
        return jnp.sum(jnp.square(product(x, kernel_df, (((x.ndim - 1,), (0,)), ((), ())))))

    ours, known = (
        jax.value_and_grad(partial(squares, product=product), argnums=(0, 1))(x, kernel_df)
        for product in (by_columns, jax.lax.dot_general)
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-4), ours, known)


def test_by_columns_turns_nothing_round() -> None:
    def turned(product: Callable[..., jax.Array]) -> int:
        gradient = jax.grad(lambda kernel_df: jnp.sum(jnp.square(product(X, kernel_df, (((2,), (0,)), ((), ()))))))
        return str(jax.make_jaxpr(gradient)(KERNEL.T)).count("transpose[")

    assert turned(jax.lax.dot_general) == 1
    assert turned(by_columns) == 0
