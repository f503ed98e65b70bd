"""Hugging Face transformers on torch, in a process of its own: `benchmarks.hf` starts it and speaks to it.

A line of JSON in, {"engine", "ids": [[…]], "tokens", "context", "gaps"}; a line out, {"seconds", "ids": [[…]], "gaps"}
or {"error"}. The first line out says what runs here. It imports nothing of ours, so any Python with torch will do.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, GenerationConfig

CACHES = {"hf-dynamic": None, "hf-static": "static"}
CONTINUOUS = "hf-continuous"
PAGE = 256
BATCH_TOKENS = 8192
"""Tokens of one step of continuous batching, at most; transformers' own default."""


class Worker:
    """One model and the ways to generate with it."""

    def __init__(self, folder: str, dtype: str) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype), attn_implementation="sdpa", local_files_only=True
        )
        self._model = model.to(self._device).eval()
        # No token ends a reply: every one is as long as was asked for.
        self._model.config.eos_token_id = None
        self._model.generation_config = GenerationConfig(pad_token_id=0)
        self._cell = (0, 0)
        self._pooled = False

    def described(self) -> dict[str, Any]:
        compiled = ", compiled" if self._device.type == "cuda" else ", not compiled"
        return {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "device": torch.cuda.get_device_name() if self._device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            "engines": {
                "hf-dynamic": "generate, dynamic cache, sdpa",
                "hf-static": f"generate, static cache{compiled}, sdpa",
                CONTINUOUS: f"generate_batch (continuous batching), pages of {PAGE} tokens, sdpa",
            },
        }

    def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        """The replies to prompts of one length, and the seconds that they took."""
        self._enter((len(order["ids"]), order["context"]))
        if order["engine"] == CONTINUOUS:
            return self._continuous(order["ids"], order["tokens"], order["context"])
        return self._generate(CACHES[order["engine"]], order["ids"], order["tokens"], gaps=order["gaps"])

    def _enter(self, cell: tuple[int, int]) -> None:
        """Another batch or context begins with nothing of the last one: pages, compiled graphs, cached memory."""
        if cell == self._cell:
            return
        self._cell = cell
        if self._pooled:
            self._model.destroy_cached_continuous_batching_manager()
            self._pooled = False
        if self._device.type == "cuda":
            torch._dynamo.reset()
            torch.cuda.empty_cache()

    def _generate(self, cache: str | None, prompts: list[list[int]], tokens: int, *, gaps: bool) -> dict[str, Any]:
        ids_bt = torch.tensor(prompts, device=self._device)
        self._wait()
        began = time.perf_counter()
        out = self._model.generate(
            ids_bt,
            attention_mask=torch.ones_like(ids_bt),
            max_new_tokens=tokens,
            do_sample=False,
            cache_implementation=cache,
            return_dict_in_generate=True,
            output_logits=gaps,
        )
        self._wait()
        seconds = time.perf_counter() - began
        answer = {"seconds": seconds, "ids": out.sequences[:, ids_bt.shape[1] :].tolist()}
        if gaps:
            best_bt2 = torch.stack(out.logits, dim=1).topk(2).values
            answer["gaps"] = (best_bt2[..., 0] - best_bt2[..., 1]).tolist()
        return answer

    def _continuous(self, prompts: list[list[int]], tokens: int, context: int) -> dict[str, Any]:
        """The manager and its pages are kept as long as batch and context stay: making them is no part of the time."""
        from transformers import ContinuousBatchingConfig

        self._pooled = True
        pages = len(prompts) * (-(-context // PAGE) + 1)
        config = ContinuousBatchingConfig(
            page_size=PAGE,
            num_blocks=pages,
            max_batch_tokens=min(BATCH_TOKENS, len(prompts) * context),
            allow_block_sharing=False,
        )
        self._wait()
        began = time.perf_counter()
        out = self._model.generate_batch(
            prompts,
            generation_config=GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0),
            continuous_batching_config=config,
            max_new_tokens=tokens,
            persistent_manager=True,
        )
        self._wait()
        seconds = time.perf_counter() - began
        failed = [reply.error for reply in out.values() if reply.error]
        if failed or len(out) < len(prompts):
            raise RuntimeError(failed[0] if failed else f"{len(out)} of {len(prompts)} replies")
        return {"seconds": seconds, "ids": [list(reply.generated_tokens) for reply in out.values()]}

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()


def serve(make: Callable[[str, str], Any]) -> None:
    """Answer line by line with what `make` makes of a folder and a dtype; what it says of itself comes first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    # What the libraries print goes to stderr: this is the only thing that speaks on the real standard output.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    torch.set_num_threads(options.threads)
    worker = make(options.folder, options.dtype)
    print(json.dumps(worker.described()), file=answers, flush=True)
    for line in sys.stdin:
        try:
            answer = worker.answer(json.loads(line))
        except Exception as error:  # an engine that does not run here leaves the others their rows
            answer = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve(Worker)
