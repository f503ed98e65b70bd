"""Writes safetensors one tensor at a time, so that a model never stands in memory twice."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

_KIND = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""numpy's dtype names, as safetensors writes them."""


def write(file: Path, layout: Iterable[tuple[str, np.dtype, tuple[int, ...]]], tensors: Iterable[np.ndarray]) -> None:
    """Writes the tensors, which come in the order of `layout` (name, dtype, shape), to a new file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    entries = list(layout)
    for name, dtype, shape in entries:
        end = offset + dtype.itemsize * int(np.prod(shape))
        header[name] = {"dtype": _KIND[dtype.name], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(head)) + head)
        for (name, dtype, shape), tensor in zip(entries, tensors, strict=True):
            if tensor.shape != shape or tensor.dtype != dtype:
                raise ValueError(f"{name}: {tensor.dtype} {tensor.shape} is not the promised {dtype} {shape}")
            out.write(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data)
