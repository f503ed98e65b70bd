"""Secrets: read from the environment by name, and taken out of whatever is shown or kept."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from urllib.parse import quote

from rest_jax.core.errors import UserError

HIDDEN = "[secret]"
"""What stands in a secret's place."""

LEAST_CHARS = 8
"""A shorter value cannot be told from ordinary text, so it is refused."""


def secret(variable: str) -> str:
    """The value of an environment variable, without the white space around it.

    Raises UserError when it is missing, or no value that a header can hold.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        raise UserError(f"the environment variable {variable} is not set; set it to the key, or name another one")
    if len(value) < LEAST_CHARS or not value.isascii() or not value.isprintable():
        raise UserError(f"{variable} holds no key: {LEAST_CHARS} or more printable ASCII characters are expected")
    return value


def redacted(text: str, secrets: Sequence[str]) -> str:
    """The text without the secrets, as they are and as a URL or JSON spells them.

    To be called before the text is cut: what is left of a secret that was cut in two could not be recognised.
    """
    for value in secrets:
        for spelled in {value, quote(value, safe=""), json.dumps(value)[1:-1]}:
            text = text.replace(spelled, HIDDEN)
    return text
