"""How an endpoint is spoken to, without one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers

from rest_jax.config.policies import EndpointSettings
from rest_jax.core.effects import Finish
from rest_jax.models import tokenizer
from rest_jax.models.tokenizer import Tokenizer
from rest_jax.policies.dialect import PROBE, Dialect, made_by
from rest_jax.policies.wire import Answer
from tests.models.tokenizers_for_tests import gemma_like, llama2_like, llama3_like, qwen_like
from tests.policies.completions_server import MODEL
from tests.policies.endpoint_table import NOBODY, QUESTION, request


def test_a_reply_of_text_ends_as_the_players_turns_do(teacher_codec: Tokenizer):
    """Most endpoints do not tell a stop string from an end."""
    settings, said, end = EndpointSettings(NOBODY, MODEL), "A town", teacher_codec.end_of_turn_id
    ids = teacher_codec.encode_untrusted(said)
    line = teacher_codec.encode_untrusted("\n")
    for stop, ending, finish in [(("\n",), line, Finish.STOP), ((), (end,), Finish.EOS)]:
        asked = request(teacher_codec, max_tokens=99, stop=stop)
        reply = Dialect(settings, teacher_codec).candidate(asked, Answer(said, "stop"))
        assert (reply.ids, reply.text, reply.finish) == ((*ids, *ending), said, finish)
    cut = Dialect(settings, teacher_codec).candidate(request(teacher_codec, max_tokens=99), Answer(said, "length"))
    assert (cut.ids, cut.finish) == (ids, Finish.LENGTH)


def test_a_reply_of_tokens_ends_at_its_first_end(teacher_codec: Tokenizer):
    """A server that knows fewer ends than the player goes on after one."""
    dialect = Dialect(EndpointSettings(NOBODY, MODEL), teacher_codec, exact=True)
    said, end = teacher_codec.encode_untrusted("A town."), teacher_codec.end_of_turn_id
    ids = (*said, end, *said)
    reply = dialect.candidate(request(teacher_codec, max_tokens=99), Answer("", "stop", ids, (-0.5,) * len(ids)))
    assert (reply.ids, reply.text, reply.finish) == ((*said, end), "A town.", Finish.EOS)
    assert reply.logprobs == (-0.5,) * len(reply.ids)


def test_a_tokenizer_is_told_from_another_by_the_ids_that_servers_make(tmp_path: Path):
    makers = (llama3_like, qwen_like, llama2_like, gemma_like)
    folders = [make(tmp_path / make.__name__) for make in makers]
    codecs = [tokenizer.load(folder) for folder in folders]
    for folder, codec in zip(folders, codecs, strict=True):
        theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).encode(PROBE).ids
        shown = theirs if tuple(theirs[: len(codec.bos_ids)]) == codec.bos_ids else [*codec.bos_ids, *theirs]
        assert [made_by(one, shown) for one in codecs] == [one is codec for one in codecs], folder.name


@pytest.mark.parametrize(("make", "end"), [(llama3_like, "<|eot_id|>"), (qwen_like, "<|im_end|>")])
def test_a_tokenizer_is_told_from_one_with_another_end(tmp_path: Path, make: Callable[[Path], Path], end: str):
    codec, other = tokenizer.load(make(tmp_path / "chat")), make(tmp_path / "base")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        file = other / name
        file.write_text(file.read_text(encoding="utf-8").replace(end, "<|reserved|>"), encoding="utf-8")
    base = tokenizer.load(other)
    assert base.encode_untrusted(QUESTION) == codec.encode_untrusted(QUESTION)
    shown = [codec.bos_ids + codec.encode_trusted(PROBE), base.bos_ids + base.encode_trusted(PROBE)]
    assert [[made_by(one, ids) for ids in shown] for one in (codec, base)] == [[True, False], [False, True]]
