"""A product with a kernel that lies as [out, in], whatever its rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rest_jax.models.products import by_rows

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
