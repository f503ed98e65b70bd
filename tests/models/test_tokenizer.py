"""Ordinary text round-trips; what files say about BOS, EOS and chat turns is read; broken files are told plainly."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import tokenizers_for_tests as make
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as FastTokenizer

from rest_jax.core.chat import ChatFormat
from rest_jax.core.errors import UserError
from rest_jax.models import tokenizer

ORDINARY = (
    "",
    " ",
    "Paris",
    " Paris",
    "  two  spaces  ",
    "tabs\tand\r\nlines\n\n\nend\n",
    "Größe, naïveté, 東京, עברית, \u200bzero\u00a0width\u200d",
    "👍🏽 👨‍👩‍👧 𝕏",
    "1234567890 3.14159",
    "Action: Search[Ada Lovelace]\nObservation: ",
)


def test_ordinary_text_round_trips(codec: tokenizer.Tokenizer) -> None:
    for text in ORDINARY:
        for ids in (codec.encode_trusted(text), codec.encode_untrusted(text)):
            assert codec.decode(ids) == text
            assert b"".join(map(codec.token_bytes, ids)) == text.encode()


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_round_trips_but_for_what_a_vocabulary_lacks(
    codecs: dict[str, tokenizer.Tokenizer], text: str
) -> None:
    for name, codec in codecs.items():
        read = unicodedata.normalize("NFC", text) if name == "qwen" else text
        if name.startswith(("llama2", "gemma", "sentencepiece")):
            read = read.replace("▁", " ")
        writable = "".join(c if set(c.encode()) <= codec.plain.byte_ids.keys() else "\ufffd" for c in read)
        assert codec.decode(codec.encode_untrusted(text)) == writable


def test_no_segment_gets_a_dummy_space(codecs: dict[str, tokenizer.Tokenizer]) -> None:
    for codec in codecs.values():
        there, here = codec.encode_trusted(" the"), codec.encode_trusted("the")
        assert there != here
        assert codec.decode(there + here) == " thethe"
        assert not set(codec.bos_ids) & set(there)


def test_trusted_text_names_control_tokens(codecs: dict[str, tokenizer.Tokenizer]) -> None:
    for codec in codecs.values():
        assert codec.plain.control
        for name, id_ in codec.plain.control.items():
            assert codec.encode_trusted(f"the{name}dog") == (
                *codec.encode_trusted("the"),
                id_,
                *codec.encode_trusted("dog"),
            )
            text = "" if id_ in codec.silent_ids else name.replace("▁", " ")
            assert codec.decode([id_]) == text
            assert codec.token_bytes(id_) == text.encode()


def test_user_defined_tokens_stand_for_their_text_and_control_tokens_for_none(
    codecs: dict[str, tokenizer.Tokenizer],
) -> None:
    qwen, bpe = codecs["qwen"], codecs["sentencepiece_bpe"]
    assert (
        qwen.decode(qwen.encode_trusted("<|im_start|><tool_call>{}</tool_call><|im_end|>"))
        == "<tool_call>{}</tool_call>"
    )
    assert bpe.decode(bpe.encode_trusted("<s>[INST]<tool>  ☂☃</s>")) == "<tool>  ☂"
    assert len(bpe.encode_trusted("<s>[INST]<tool>  ☂☃</s>")) == 7
    assert qwen.control_ids.isdisjoint(qwen.encode_untrusted("<tool_call>"))


def test_trusted_ids_are_those_of_the_tokenizers_package(smollm2: Path) -> None:
    fast = FastTokenizer.from_file(str(smollm2 / "tokenizer.json"))
    codec = tokenizer.load(smollm2)
    for text in (
        *ORDINARY,
        "<|im_start|>user\nin 1984: 12345<|im_end|>\n",
        "a<|endoftext|><repo_name>b <empty_output>",
    ):
        assert list(codec.encode_trusted(text)) == fast.encode(text, add_special_tokens=False).ids


def test_gemmas_runs_of_spaces_and_newlines_are_tokens_of_trusted_text_alone(
    codecs: dict[str, tokenizer.Tokenizer],
) -> None:
    codec = codecs["gemma"]
    fast = FastTokenizer.from_file(str(codec.folder / "tokenizer.json"))
    for text in (*ORDINARY, "a  b   c    d\n\ne\n\n\n\n  f", "<start_of_turn>user\nthe  dog<end_of_turn>\n"):
        assert list(codec.encode_trusted(text)) == fast.encode(text, add_special_tokens=False).ids
        assert codec.decode(codec.encode_untrusted(text)) == text
    runs = {codec.plain.control[run] for run in make.GEMMA_RUNS}
    assert runs & set(codec.encode_trusted("a  b\n\nc"))
    assert not runs & set(codec.encode_untrusted("a  b\n\nc"))


def test_a_control_token_without_an_embedding_is_none(codecs: dict[str, tokenizer.Tokenizer]) -> None:
    whole = codecs["gemma"]
    soft = whole.plain.control["<image_soft_token>"]
    assert soft == whole.vocab_size - 1
    codec = whole.without_ids_from(soft)
    assert codec.vocab_size == soft
    assert codec.control_ids == whole.control_ids - {soft}
    assert codec.decode(codec.encode_trusted("<bos>a<image_soft_token>")) == "a<image_soft_token>"
    assert codec.digest == whole.digest
    with pytest.raises(UserError, match="the model's own tokenizer"):
        whole.without_ids_from(soft - 1)


def test_a_bracket_and_a_lines_end_are_one_token_of_a_llama3(codecs: dict[str, tokenizer.Tokenizer]) -> None:
    codec = codecs["llama3"]
    ids = codec.encode_untrusted("Action: Search[Ada Lovelace]\n")
    assert codec.token_bytes(ids[-1]) == b"]\n"


def test_characters_that_a_vocabulary_lacks_are_marked(smollm2: Path) -> None:
    codec = tokenizer.load(smollm2)
    assert codec.decode(codec.encode_untrusted("a\x04b\U00040000c\ud800d")) == "a\ufffdb\ufffdc\ufffdd"
    assert codec.decode(codec.encode_untrusted("\ud83d\udc4d")) == "👍"


def test_bytes_that_are_no_text(codecs: dict[str, tokenizer.Tokenizer]) -> None:
    for codec in codecs.values():
        assert codec.decode(codec.encode_trusted("🦉")[:1]) == "\ufffd"
        assert codec.token_bytes(codec.vocab_size + 7) == b""


def test_opening_and_ending_ids(codecs: dict[str, tokenizer.Tokenizer]) -> None:
    names = {name: {id_: text for text, id_ in codec.plain.control.items()} for name, codec in codecs.items()}
    opening = {name: [names[name][id_] for id_ in codec.bos_ids] for name, codec in codecs.items()}
    ending = {name: {names[name][id_] for id_ in codec.eos_ids} for name, codec in codecs.items()}
    assert opening == {
        "smollm2": [],
        "llama3": ["<|begin_of_text|>"],
        "qwen": [],
        "llama2": ["<s>"],
        "gemma": ["<bos>"],
        "sentencepiece_bpe": ["<s>"],
        "sentencepiece_unigram": ["<s>"],
    }
    assert ending == {
        "smollm2": {"<|im_end|>"},
        "llama3": {"<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"},
        "qwen": {"<|im_end|>"},
        "llama2": {"</s>"},
        "gemma": {"<eos>", "<end_of_turn>"},
        "sentencepiece_bpe": {"</s>"},
        "sentencepiece_unigram": {"</s>"},
    }


def test_the_models_own_turns_end_as_its_chat_template_says(
    codecs: dict[str, tokenizer.Tokenizer], tmp_path: Path
) -> None:
    """Llama 3 names three end-of-sequence tokens; the lowest, <|end_of_text|>, is not how it ends a turn."""
    llama = codecs["llama3"]
    ends = {name: llama.plain.control[name] for name in ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")}
    assert min(ends.values()) == ends["<|end_of_text|>"]
    folder = shutil.copytree(llama.folder, tmp_path / "copy")
    settings = json.loads((folder / "tokenizer_config.json").read_text())

    def end_of_turn(template: str, eos: str) -> int:
        changed = settings | {"chat_template": template, "eos_token": eos}
        (folder / "tokenizer_config.json").write_text(json.dumps(changed))
        return tokenizer.load(folder).end_of_turn_id

    own = settings["chat_template"]
    assert end_of_turn(own, "<|eom_id|>") == ends["<|eot_id|>"]
    assert end_of_turn(TURNS, "<|eom_id|>") == ends["<|eom_id|>"], "a template that cannot be used says nothing"
    assert end_of_turn("", "<|eom_id|>") == ends["<|eom_id|>"]
    assert end_of_turn("", "<|reserved_special_token_0|>") == ends["<|end_of_text|>"]


def test_smollm2_ends_its_turns_with_its_only_end(smollm2: Path) -> None:
    codec = tokenizer.load(smollm2)
    assert codec.eos_ids == {codec.end_of_turn_id}


def test_the_digest_follows_what_decides_ids(codecs: dict[str, tokenizer.Tokenizer], tmp_path: Path) -> None:
    assert len({codec.digest for codec in codecs.values()}) == len(codecs)
    folder = shutil.copytree(codecs["qwen"].folder, tmp_path / "copy")
    file = json.loads((folder / "tokenizer.json").read_text())
    file["decoder"], file["model"]["merges"] = None, [" ".join(pair) for pair in file["model"]["merges"]]
    (folder / "tokenizer.json").write_text(json.dumps(file))
    assert tokenizer.load(folder).digest == codecs["qwen"].digest
    file["model"]["merges"].pop()
    (folder / "tokenizer.json").write_text(json.dumps(file))
    assert tokenizer.load(folder).digest != codecs["qwen"].digest


def test_added_tokens_of_the_settings_count_too(codecs: dict[str, tokenizer.Tokenizer], tmp_path: Path) -> None:
    folder = shutil.copytree(codecs["qwen"].folder, tmp_path / "copy")
    new = codecs["qwen"].vocab_size
    added = {"added_tokens_decoder": {str(new): {"content": "<|late|>"}}}
    (folder / "tokenizer_config.json").write_text(json.dumps(added))
    codec = tokenizer.load(folder)
    assert codec.vocab_size == new + 1
    assert codec.encode_trusted("<|late|>") == (new,)
    assert new not in codec.encode_untrusted("<|late|>")


def test_smollm2_chat_turns_leave_out_the_default_system_message(smollm2: Path) -> None:
    assert tokenizer.load(smollm2).chat == ChatFormat(
        begin="",
        system=("<|im_start|>system\n", "<|im_end|>\n"),
        user=("<|im_start|>user\n", "<|im_end|>\n"),
        assistant=("<|im_start|>assistant\n", "<|im_end|>\n"),
    )


def test_llama3_chat_turns_leave_bos_to_the_codec(codecs: dict[str, tokenizer.Tokenizer]) -> None:
    assert codecs["llama3"].chat == ChatFormat(
        begin="",
        system=("<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"),
        user=("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"),
        assistant=("<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"),
    )
    assert codecs["qwen"].chat is None


TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (TURNS.replace("{{ m.content }}", "{% if loop.last %}{{ m.content }}{% endif %}"), "leaves out or repeats"),
        (TURNS.replace("<{{ m.role }}>", "<{{ m.role }}{{ loop.index }}>", 1), "depends on its place"),
        (
            "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if not loop.last %}|{% endif %}{% endfor %}",
            "append",
        ),
        (TURNS, "generation prompt"),
        ("{% if messages[0].role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}", "no system turns"),
        ("{{ messages.__class__.__mro__ }}", "SecurityError"),
        ("{% for %}", "TemplateSyntaxError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
    ],
)
def test_chat_templates_that_are_not_append_only_are_refused(
    codecs: dict[str, tokenizer.Tokenizer], tmp_path: Path, template: str, why: str
) -> None:
    folder = shutil.copytree(codecs["qwen"].folder, tmp_path / "copy")
    (folder / "chat_template.jinja").write_text(template)
    codec = tokenizer.load(folder)
    with pytest.raises(UserError, match=why) as caught:
        _ = codec.chat
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("tokenizer.json", None, "no tokenizer.json nor tokenizer.model"),
        ("tokenizer.json", "{", "no usable tokenizer"),
        ("tokenizer.json", '{"model": {"type": "WordPiece", "vocab": {}}}', "WordPiece"),
        ("tokenizer.json", '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}', "byte fallback"),
        ("tokenizer_config.json", "[]", "not a JSON object"),
        ("generation_config.json", "nonsense", "cannot be read"),
        ("generation_config.json", '{"eos_token_id": 99999}', "eos_token_id"),
    ],
)
def test_broken_folders_are_told_in_one_line(
    codecs: dict[str, tokenizer.Tokenizer], tmp_path: Path, file: str, content: str | None, why: str
) -> None:
    folder = shutil.copytree(codecs["qwen"].folder, tmp_path / "copy")
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(UserError, match=why) as caught:
        tokenizer.load(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_in_which_nothing_ends_a_reply_is_refused(
    codecs: dict[str, tokenizer.Tokenizer], tmp_path: Path
) -> None:
    folder = shutil.copytree(codecs["qwen"].folder, tmp_path / "copy")
    (folder / "generation_config.json").unlink()
    assert tokenizer.load(folder).eos_ids == codecs["qwen"].eos_ids
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(UserError, match="end-of-sequence"):
        tokenizer.load(folder)


def test_a_broken_sentencepiece_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\xff" * 64)
    with pytest.raises(UserError, match="no sentencepiece model"):
        tokenizer.load(tmp_path)


def test_loading_needs_neither_torch_nor_transformers_nor_jax(codecs: dict[str, tokenizer.Tokenizer]) -> None:
    script = (
        "import sys; from pathlib import Path; from rest_jax.models import tokenizer; "
        f"tokenizer.load(Path({str(codecs['llama3'].folder)!r})); "
        "print([name for name in ('torch', 'transformers', 'jax') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
