"""Models as folders in Hugging Face's layout: in with `load`, out with `save`; what goes out, transformers loads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from rest_jax.core.errors import UserError
from rest_jax.core.files import write_json, written_whole
from rest_jax.core.policy import TextCodec
from rest_jax.models import tokenizer
from rest_jax.models.config import ModelConfig
from rest_jax.models.decoder import Params
from rest_jax.models.digest import weights_digest
from rest_jax.models.tensors import SINGLE, read_params, stored_params, write_params

AGENT = "agent.json"
COPIED = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "generation_config.json",
)
"""Files that a trained model takes over, unchanged, from the model that it started from."""
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True, eq=False)
class Model:
    """A model that is ready to run."""

    config: ModelConfig
    params: Params
    codec: TextCodec
    """Its tokenizer; the ids that end a reply are `codec.eos_ids`."""
    weights_digest: str
    name: str
    agent: Mapping[str, Any] | None = None
    """The content of agent.json: the agent that the weights were trained to be; None for other models."""


def load(folder: Path, dtype: Any = jnp.float32, shardings: Mapping[str, Any] | None = None) -> Model:
    """A model from a folder with config.json, a tokenizer and *.safetensors.

    Weights are cast to `dtype` and placed leaf by leaf, by `shardings` (the parameters' tree of `jax.sharding`
    objects) or on the default device. UserError, one line, for whatever is missing, corrupt or not supported.
    """
    return _model(Path(folder), lambda folder, config: read_params(folder, config, jnp.dtype(dtype), shardings))


def on_disk(folder: Path) -> Model:
    """The same model in float32, but its weights stay on disk until somebody places them (each leaf a
    `tensors.Stored`): they are read once, tensor by tensor, for their digest. UserError as of `load`."""
    return _model(Path(folder), stored_params)


def config_of(folder: Path) -> ModelConfig:
    """What the model of a folder computes. UserError for a family or a setting that is not supported."""
    return ModelConfig.from_hf(read_json(Path(folder), "config.json"))


def save(
    config: ModelConfig, params: Params, folder: Path, *, tokenizer_from: Path, agent: Mapping[str, Any] | None = None
) -> None:
    """Writes a folder that `load` and transformers read: config.json, model.safetensors, tokenizer files, agent.json.

    The tokenizer and the generation settings are copied from `tokenizer_from`, the model that training started from.
    config.json comes last, so that a folder that has one is complete; files of an earlier save are replaced. Raises
    UserError when `folder` is `tokenizer_from`, which stays as it is, or cannot be written.
    """
    folder, source = Path(folder), Path(tokenizer_from)
    if folder.resolve() == source.resolve():
        raise UserError(f"{folder}: holds the model that training started from; write the new one to another folder")
    token_ids = {key: value for key, value in read_json(source, "config.json").items() if key in TOKEN_IDS}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").unlink(missing_ok=True)
        for name in COPIED:
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
        if agent is not None:
            write_json(folder / AGENT, dict(agent))
        with written_whole(folder / SINGLE) as part:
            write_params(config, params, part)
        dtype = np.dtype(params["embed"].dtype).name
        write_json(folder / "config.json", {**config.to_hf(), **token_ids, "dtype": dtype})
    except OSError as error:
        raise UserError(
            f"{folder}: cannot write the model ({error.strerror or error}); free some space or choose another folder"
        ) from error


def _model(folder: Path, read: Callable[[Path, ModelConfig], Params]) -> Model:
    config = config_of(folder)
    codec = tokenizer.load(folder).without_ids_from(config.vocab)
    agent = read_json(folder, AGENT) if (folder / AGENT).is_file() else None
    params = read(folder, config)
    return Model(config, params, codec, weights_digest(params), folder.name, agent)


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """One of a model folder's JSON files; UserError when the folder or the file is missing or broken."""
    file = folder / name
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such model folder; give a folder with config.json, or a name of `rest-jax models list`"
        )
    if not file.is_file():
        raise UserError(f"{file}: missing; give a folder with config.json, a tokenizer and *.safetensors")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: not valid JSON ({error}); fetch the model again") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: a JSON object is expected; fetch the model again")
    return content
