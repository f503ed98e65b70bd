"""Small tokenizers of each kind, as model folders: Llama-3-like, Qwen-like, Llama-2-like (JSON) and sentencepiece."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TEXT = [
    "The quick brown fox jumps over the lazy dog; the dog sleeps on, and on.",
    "Thought: I need to search. Action: Search[Ada Lovelace]\nObservation: Ada Lovelace (1815–1852) wrote notes.",
    "Action: Lookup[notes]\nAction: Finish[London]\nsystem user assistant header tool call end of text start",
    "Größe, naïveté, 東京 and 👍 are words too.",
] * 4

LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
LLAMA3_CONTROL = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
    *(f"<|reserved_special_token_{index}|>" for index in range(249)),
)
LLAMA3_TEMPLATE = (
    "{{- bos_token }}{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{- message['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
QWEN_CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>")
QWEN_PLAIN_ADDED = ("<tool_call>", "</tool_call>", "<think>", "</think>", "<|fim_prefix|>")
"""Added tokens with special=False, which `skip special tokens` flags do not cover."""
GEMMA_CONTROL = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
GEMMA_RUNS = ("\n", "\n\n", "\n\n\n", "▁▁", "▁▁▁", "▁▁▁▁")
"""User-defined tokens of Gemma, of which BPE joins those of spaces."""
SENTENCEPIECE_CONTROL = ("[INST]", "[/INST]", "☃")
SENTENCEPIECE_USER_DEFINED = ("<tool>", "</tool>", "  ", "<0xZZ>", "☂")


def llama3_like(folder: Path) -> Path:
    """Byte-level BPE with 256 control tokens, in which `]` and a line's end are one token, as in Llama 3."""
    split = pre_tokenizers.Split(Regex(LLAMA3_WORDS), "isolated")
    words = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer = _byte_level(words, None)
    tokenizer.add_special_tokens(list(LLAMA3_CONTROL))
    file = json.loads(tokenizer.to_str())
    file["model"]["ignore_merges"] = True
    begin = {"SpecialToken": {"id": LLAMA3_CONTROL[0], "type_id": 0}}
    file["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [begin, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            LLAMA3_CONTROL[0]: {
                "id": LLAMA3_CONTROL[0],
                "ids": [tokenizer.token_to_id(LLAMA3_CONTROL[0])],
                "tokens": [LLAMA3_CONTROL[0]],
            }
        },
    }
    eos = [tokenizer.token_to_id(name) for name in ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")]
    settings = {"bos_token": LLAMA3_CONTROL[0], "eos_token": "<|eot_id|>", "chat_template": LLAMA3_TEMPLATE}
    return _folder(folder, file, settings, eos)


def qwen_like(folder: Path) -> Path:
    """Byte-level BPE with NFC, control tokens, and added tokens that are not flagged special."""
    tokenizer = _byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.NFC())
    tokenizer.add_special_tokens(list(QWEN_CONTROL))
    tokenizer.add_tokens(list(QWEN_PLAIN_ADDED))
    settings = {"eos_token": {"content": "<|im_end|>"}, "add_bos_token": False}
    return _folder(folder, json.loads(tokenizer.to_str()), settings, tokenizer.token_to_id("<|im_end|>"))


def llama2_like(folder: Path) -> Path:
    """BPE with byte fallback as transformers converts sentencepiece models: control tokens stand in the vocabulary."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    file = json.loads(tokenizer.to_str())
    file["added_tokens"] = file["added_tokens"][:3]
    return _folder(folder, file, {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True}, None)


def gemma_like(folder: Path) -> Path:
    """BPE with byte fallback and no dummy space, runs of newlines and spaces as added tokens that are not special, and
    one token more than the model has embeddings: Gemma 3's <image_soft_token>."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = [*GEMMA_CONTROL, *GEMMA_RUNS, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.add_special_tokens(["<image_soft_token>"])
    file = json.loads(tokenizer.to_str())
    named = {*GEMMA_CONTROL, *GEMMA_RUNS, "<image_soft_token>"}
    file["added_tokens"] = [
        token | {"special": token["content"] not in GEMMA_RUNS}
        for token in file["added_tokens"]
        if token["content"] in named
    ]
    runs = [run for run in GEMMA_RUNS if run[0] == "▁"]
    pairs = [[run[:at], run[at:]] for run in runs for at in range(1, len(run))]
    file["model"]["merges"] = [*pairs, *file["model"]["merges"]]
    settings = {"bos_token": "<bos>", "eos_token": "<eos>", "add_bos_token": True}
    eos = [tokenizer.token_to_id(name) for name in ("<eos>", "<end_of_turn>")]
    return _folder(folder, file, settings, eos)


def sentencepiece_like(folder: Path, kind: str) -> Path:
    """A bare tokenizer.model with byte fallback, control and user-defined pieces; `kind` is bpe or unigram."""
    folder.mkdir()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(TEXT),
        model_prefix=str(folder / "tokenizer"),
        model_type=kind,
        vocab_size=400,
        byte_fallback=True,
        control_symbols=list(SENTENCEPIECE_CONTROL),
        user_defined_symbols=list(SENTENCEPIECE_USER_DEFINED),
        normalization_rule_name="identity",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "generation_config.json").write_text('{"eos_token_id": 2}')
    return folder


def _byte_level(words: pre_tokenizers.PreTokenizer, normalizer: normalizers.Normalizer | None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = words
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def _folder(folder: Path, file: dict[str, Any], settings: dict[str, Any], eos: Any) -> Path:
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(file), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    if eos is not None:
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": eos}), encoding="utf-8")
    return folder
