"""Schemas written by others: what is taken of them, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

MAX_SCHEMA_CHARS = 32_768
"""The longest schema that is taken, as JSON."""


def refusal(schema: Mapping[str, Any]) -> str:
    """Why a schema of others will not do; empty when it will.

    It must be JSON schema (draft 2020-12) of an object, not too long, and hold no reference out of itself: nothing is
    ever fetched.
    """
    long = len(json.dumps(schema))
    if long > MAX_SCHEMA_CHARS:
        return f"its schema has {long} characters, more than {MAX_SCHEMA_CHARS}"
    for reference in _references(schema):
        if not reference.startswith("#"):
            return f"its schema refers to {reference[:100]!r}, and nothing is fetched"
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"its schema is none ({error.message[:200]})"
    return "" if schema.get("type") == "object" else "its schema is not that of an object"


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            if key in ("$ref", "$dynamicRef", "$recursiveRef") and isinstance(part, str):
                yield part
            else:
                yield from _references(part)
    elif isinstance(value, list):
        for part in value:
            yield from _references(part)
