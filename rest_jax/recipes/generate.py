"""Continue prompts with a model, tokens and log-probs included: no agent, no tools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rest_jax.config.settings import EngineSettings
from rest_jax.core.cache import cache_folder
from rest_jax.core.effects import Candidate, Sampling
from rest_jax.core.errors import UserError
from rest_jax.core.events import Listener, silent
from rest_jax.core.keys import KeyPath
from rest_jax.core.policy import Policy, Request, replies
from rest_jax.distributed.compilation import keep_compiled
from rest_jax.distributed.cpu import divide_cpu
from rest_jax.models import catalog, checkpoint
from rest_jax.models.dtypes import compute_dtype
from rest_jax.recipes.memory import memory, refuse_too_large
from rest_jax.sampling.replicas import Replicas
from rest_jax.tasks.files import read_jsonl, write_jsonl


@dataclass(frozen=True)
class Continued:
    prompt: str
    candidate: Candidate


def generate_file(
    model: str,
    prompts: Path,
    out: Path,
    *,
    max_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    offline: bool = False,
    engine: EngineSettings | None = None,
    emit: Listener = silent,
) -> None:
    """Continue the prompts of a JSONL file (`{"prompt"}`) and write lines of what they are and what came after.

    A line is `{"prompt", "ids", "text", "logprobs", "finish"}`.
    `finish` says why a reply ended (`effects.Finish`): `context` is a prompt that left it no room. `out` appears when
    all are done. Raises UserError for a missing model, for rows that the device will not hold and, with its number, for
    a malformed line or an empty prompt.
    """
    engine = engine or EngineSettings()
    keep_compiled(cache_folder() / "compiled")
    divide_cpu(engine.devices)
    rows = list(read_jsonl(prompts, {"prompt": str}, "prompt"))
    loaded = checkpoint.load(catalog.resolve(model, offline=offline))
    policy = Replicas(loaded, engine, dtype=compute_dtype("auto"), emit=emit)
    refuse_too_large(memory(policy), engine)
    texts = [row["prompt"] for row in rows]
    if "" in texts and not policy.codec.bos_ids:
        raise UserError(f"{prompts}: prompt {texts.index('') + 1} is empty, and this model has no token to begin with")
    done = generate(policy, texts, max_tokens=max_tokens, sampling=Sampling(temperature), seed=seed)
    write_jsonl(
        out,
        (
            {
                "prompt": entry.prompt,
                "ids": entry.candidate.ids,
                "text": entry.candidate.text,
                "logprobs": entry.candidate.logprobs,
                "finish": entry.candidate.finish,
            }
            for entry in done
        ),
    )


def generate(
    policy: Policy, prompts: Sequence[str], *, max_tokens: int, sampling: Sampling, seed: int
) -> Iterator[Continued]:
    """One continuation per prompt, in order. Prompts are trusted: control tokens in them are control tokens.

    What is drawn for a prompt depends on its text and place, not on the prompts around it.
    """

    def request(place: int) -> Request:
        ids = (*policy.codec.bos_ids, *policy.codec.encode_trusted(prompts[place]))
        return Request(place, place, ids, KeyPath(seed, 0, prompts[place], place, 0, 0, 0), max_tokens, (), sampling)

    done: dict[int, Candidate] = {}
    given = 0
    for place, candidate in replies(policy, map(request, range(len(prompts)))):
        done[place] = candidate
        while given in done:
            yield Continued(prompts[given], done.pop(given))
            given += 1
