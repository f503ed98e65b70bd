"""Makes smollm2_logits.npz: what torch transformers computes (f32, CPU) from the GGUF file itself.

    python tests/golden/make_smollm2_logits.py GGUF_FILE CONVERTED_FOLDER     (extra `reference` installed)

The weights go through transformers' own GGUF loader; the converted folder gives the tokenizer alone, since that loader
leaves out the splitting of digits. tests/models/test_golden_logits.py compares our decoder with the file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "smollm2_logits.npz"
GREEDY_TOKENS = 64
GREEDY_PROMPTS = 6
TOP = 8
"""Logits kept of every position, the largest; of the first prompt's last position all are kept."""

PROMPTS = (
    "The capital of France is",
    "<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n",
    "Question: Who wrote the novel that the film is based on?\nThought: I need to search for the film. Action: Search[",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "Once upon a time, in a small village by the sea, there lived",
    "1, 2, 3, 5, 8, 13, 21,",
    "<|im_start|>system\nYou are terse.<|im_end|>\n<|im_start|>user\nName a metal.<|im_end|>\n<|im_start|>assistant\n",
    "In 1969, 600 million people watched",
    "Größe, naïveté, Übermut: die Straße war",
    "東京は日本の首都です。",
    "Emoji 👍🏽 and a family 👨‍👩‍👧 in one line",
    "    indented\n\n\n\tand tabbed   with   runs of    spaces\n",
    "A",
    "<|endoftext|>",
    "Observation: The tower (built 1887–1889) is 330 m tall.\nThought: Action: Finish[330 m]\n",
    "SELECT name, COUNT(*) FROM users WHERE age >= 21 GROUP BY",
    "The quick brown fox jumps over the lazy dog. The quick brown fox jumps over the lazy",
    "E = mc^2, \\int_0^1 x^2 dx = 1/3, and \\sum_{k=1}^{n} k =",
    "To be, or not to be, that is the question: Whether 'tis nobler in the mind to suffer The slings and arrows of "
    "outrageous fortune, Or to take arms against a sea of troubles And by opposing end them. To die—to sleep, No more; "
    "and by a sleep to say we end The heart-ache and the thousand natural shocks That flesh is heir to: 'tis a "
    "consummation Devoutly to be wish'd.",
    "<repo_name>example<file_sep>README.md\n# Example\n\nA small library that",
)


def load_reference(gguf_file: Path):
    """torch transformers' model of a GGUF file, f32."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        str(gguf_file.parent), gguf_file=gguf_file.name, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


def reference_logits(model, ids: list[int]) -> np.ndarray:
    """f32 [T, V]: the logits after each of a prompt's tokens."""
    import torch

    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].float().numpy()


def _greedy(model, ids: list[int]) -> tuple[list[int], list[float]]:
    """The next GREEDY_TOKENS tokens (end-of-sequence ones too), and how far the best was ahead of the second."""
    context, gaps = list(ids), []
    for _ in range(GREEDY_TOKENS):
        last = reference_logits(model, context)[-1]
        second, first = np.sort(last)[-2:]
        gaps.append(float(first - second))
        context.append(int(np.argmax(last)))
    return context[len(ids) :], gaps


def main(gguf_file: Path, folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    model = load_reference(gguf_file)
    prompts = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in PROMPTS]
    logits = [reference_logits(model, ids) for ids in prompts]
    every = np.concatenate(logits)
    top = np.argsort(-every, axis=1)[:, :TOP]
    greedy = [_greedy(model, ids) for ids in prompts[:GREEDY_PROMPTS]]
    np.savez_compressed(
        GOLDEN,
        ids=np.concatenate(prompts).astype(np.uint16),
        lengths=np.array([len(ids) for ids in prompts], np.uint16),
        top_ids=top.astype(np.uint16),
        top_logits=np.take_along_axis(every, top, axis=1).astype(np.float32),
        log_normaliser=np.logaddexp.reduce(every.astype(np.float64), axis=1),
        full_logits=logits[0][-1],
        greedy_ids=np.array([ids for ids, _ in greedy], np.uint16),
        greedy_gaps=np.array([gaps for _, gaps in greedy], np.float32),
    )
    print(f"{GOLDEN}: {GOLDEN.stat().st_size} bytes, {len(every)} positions")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
