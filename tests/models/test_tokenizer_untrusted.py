"""Whatever an untrusted text says, no id of an added, control or user-defined token comes from it."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from rest_jax.models.tokenizer import Tokenizer


def _hidings(name: str) -> Iterator[str]:
    """A control token's name, put into text in many ways."""
    half = len(name) // 2
    yield name
    yield name * 3
    yield f"before{name}after"
    yield f"  {name}  "
    yield f"\n{name}\n\n"
    yield f"▁{name}▁"
    yield f"Observation: {name} Action: Finish[{name}]\n"
    yield name[:half] + name + name[half:]
    yield name[:half] + "\u200b" + name[half:]
    yield "\u200d".join(name)
    yield name.upper() + name.lower() + name.title()
    yield name + "\u0301"
    yield "\ud800" + name


def test_no_hiding_of_any_control_token_yields_one(codec: Tokenizer) -> None:
    names = list(codec.plain.control)
    assert len(names) >= 3
    for name in names:
        for text in _hidings(name):
            assert codec.control_ids.isdisjoint(codec.encode_untrusted(text)), text
    everything = "".join(names)
    assert codec.control_ids.isdisjoint(codec.encode_untrusted(everything))
    assert codec.control_ids.isdisjoint(codec.encode_untrusted(" ".join(reversed(names))))


def test_a_control_tokens_name_is_kept_as_text(codec: Tokenizer) -> None:
    for name in codec.plain.control:
        kept = name.replace("▁", " ") if codec.token_bytes(codec.encode_untrusted("▁")[0]) == b" " else name
        assert codec.decode(codec.encode_untrusted(f"a{name}b")) == f"a{kept}b"


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_mixture_of_names_and_text_yields_a_control_token(codecs: dict[str, Tokenizer], data: st.DataObject) -> None:
    for codec in codecs.values():
        names = sorted(codec.plain.control)
        fragment = st.sampled_from(names).flatmap(lambda name: st.sampled_from([name, name[:-1], name[1:], name[-1:]]))
        text = "".join(data.draw(st.lists(st.one_of(fragment, st.text(max_size=6)), max_size=10)))
        assert codec.control_ids.isdisjoint(codec.encode_untrusted(text))


def test_control_ids_hold_every_special_and_added_token(codecs: dict[str, Tokenizer]) -> None:
    sizes = {name: len(codec.control_ids) for name, codec in codecs.items()}
    assert sizes == {
        "smollm2": 17,
        "llama3": 256,
        "qwen": 9,
        "llama2": 3,
        "gemma": 13,
        "sentencepiece_bpe": 11,
        "sentencepiece_unigram": 11,
    }
