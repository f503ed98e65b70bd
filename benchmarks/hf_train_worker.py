"""Hugging Face transformers' training step on torch, in a process of its own: `benchmarks.train` speaks to it.

A line of JSON in, {"engine", "ids": [[…]], "labels": [[…]], "mask": [[…]] or "positions": [[…]], "rate", "clip",
"update"}; a line out, {"seconds", "loss", "grad_norm", "peak_bytes"} or {"error"}. Torch is used as transformers'
Trainer does it: sdpa attention, AdamW as one fused kernel. It imports nothing that needs jax.
"""

from __future__ import annotations

import time
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM

from benchmarks.hf_worker import serve
from benchmarks.memory import forget_peak, peak_bytes


class Trainer:
    """One model, and its optimizer."""

    def __init__(self, folder: str, dtype: str) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype), attn_implementation="sdpa", local_files_only=True
        )
        self._model = model.to(self._device).train()
        self._optimizer = torch.optim.AdamW(
            model.parameters(), betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0, fused=True
        )

    def described(self) -> dict[str, Any]:
        return {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "device": torch.cuda.get_device_name() if self._device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            "engines": {
                "hf-padded": "a row for each example, padded to the longest; sdpa, fused AdamW, not compiled",
                "hf-packed": "the same packed rows as ours, told apart by their positions; else as hf-padded",
            },
        }

    def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        """One step; without `update` its loss and gradient norm only."""
        batch = {name: self._tensor(order[name]) for name in ("ids", "labels", "mask", "positions") if name in order}
        forget_peak()
        self._wait()
        began = time.perf_counter()
        out = self._model(
            input_ids=batch["ids"],
            attention_mask=batch.get("mask"),
            position_ids=batch.get("positions"),
            labels=batch["labels"],
            use_cache=False,  # a cache would hide from it that rows are packed
        )
        out.loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), order["clip"])
        if order["update"]:
            for group in self._optimizer.param_groups:
                group["lr"] = order["rate"]
            self._optimizer.step()
        self._optimizer.zero_grad()
        loss, grad_norm = out.loss.item(), norm.item()
        self._wait()
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "loss": loss, "grad_norm": grad_norm, "peak_bytes": self._peak_bytes()}

    def _tensor(self, rows: list[list[int]]) -> torch.Tensor:
        return torch.tensor(rows, device=self._device)

    def _peak_bytes(self) -> int | None:
        return peak_bytes() if self._device.type == "cpu" else None

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()


if __name__ == "__main__":
    serve(Trainer)
