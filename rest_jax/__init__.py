"""Turn a prompted language model into a small, self-improved agent that reasons, searches and answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rest_jax.api import (
        Completion,
        Grown,
        Policy,
        Row,
        Task,
        evaluate,
        generate,
        grow,
        improve,
        register_method,
        register_reward,
        run,
    )

__version__ = "0.1.0"
__all__ = [
    "Completion",
    "Grown",
    "Policy",
    "Row",
    "Task",
    "evaluate",
    "generate",
    "grow",
    "improve",
    "register_method",
    "register_reward",
    "run",
]


def __getattr__(name: str) -> Any:
    # The public names come with jax and the tokenizers; `import rest_jax` and `rest-jax --help` must not wait for them.
    if name in __all__:
        from rest_jax import api

        return getattr(api, name)
    raise AttributeError(f"module 'rest_jax' has no attribute {name!r}")
