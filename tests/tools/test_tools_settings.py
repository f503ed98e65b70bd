"""tools.yaml: read strictly, each kind from its own module, opened in order and closed in reverse."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from rest_jax.config.limits import Positive
from rest_jax.core.effects import ToolReply
from rest_jax.core.errors import UserError
from rest_jax.tools import settings as tools_settings
from rest_jax.tools.registry import Tool
from rest_jax.tools.search.index import IndexSettings
from rest_jax.tools.search.local import CorpusSettings
from rest_jax.tools.settings import AdapterSettings, Family, open_tools, read_settings, with_corpus

happened: list[str] = []


@dataclass(frozen=True)
class NoteSettings:
    """For tests."""

    name: str
    times: Positive = 1


@asynccontextmanager
async def open_note(settings: NoteSettings) -> AsyncIterator[tuple[Tool, ...]]:
    async def run(arguments: object, episode: str) -> ToolReply:
        return ToolReply(settings.name)

    happened.append(f"open {settings.name}")
    try:
        yield (Tool(settings.name, "1", "For tests.", {}, run),)
    finally:
        happened.append(f"close {settings.name}")


@pytest.fixture(autouse=True)
def families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REST_JAX_CACHE", str(tmp_path / "cache"))
    (tmp_path / "half_installed.py").write_text("import not_installed_here\n")
    monkeypatch.syspath_prepend(tmp_path)
    happened.clear()
    here = {"note": Family(__name__, "NoteSettings", "open_note"), "half": Family("half_installed", "S", "o", "mcp")}
    monkeypatch.setattr(tools_settings, "FAMILIES", {"corpus": tools_settings.FAMILIES["corpus"], **here})


def written(folder: Path, text: str) -> Path:
    path = folder / "tools.yaml"
    path.write_text(text)
    return path


def test_entries_become_settings_of_their_kind(tmp_path: Path) -> None:
    text = """
tools:
  - kind: corpus
    path: a.jsonl
    index: {k1: 0.9, b: 0.4}
  - {kind: note, name: yes}
"""
    assert read_settings(written(tmp_path, text)) == AdapterSettings(
        (CorpusSettings("a.jsonl", index=IndexSettings(k1=0.9, b=0.4)), NoteSettings("yes"))
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "1:1: tools: expected 1 or more entries, got []"),
        ("tool: []", "1:1: unknown key 'tool'; did you mean 'tools'?"),
        ("tools: corpus", "1:8: tools: expected a list, each entry with its kind"),
        ("tools: [corpus]", "1:9: tools.0: expected settings with a kind; there is corpus, note, half"),
        ("tools: [{path: a}]", "1:9: tools.0: expected settings with a kind; there is corpus, note, half"),
        ("tools: [{kind: corups}]", "1:16: tools.0: unknown kind 'corups'; did you mean 'corpus'?"),
        ("tools:\n- kind: corpus\n  pth: a", "3:3: unknown key 'pth' in tools.0; did you mean 'path'?"),
        ("tools: [{kind: corpus, index: {b: 2}}]", "1:35: tools.0.index.b: expected at most 1, got 2.0"),
        ("tools: [{kind: note}]", "1:9: tools.0: key 'name' is missing; add it"),
        ("tools: [{kind: note, name: a, times: 0}]", "1:38: tools.0.times: expected at least 1, got 0"),
        (
            "tools: [{kind: half}]",
            "1:16: kind half: not_installed_here is not installed; pip install 'rest_jax[mcp]'",
        ),
    ],
)
def test_what_will_not_do_is_named_where_it_stands(tmp_path: Path, text: str, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UserError) as error:
        read_settings(path)
    assert str(error.value) == f"{path}:{says}"


def opened(settings: AdapterSettings) -> list[str]:
    async def names() -> list[str]:
        async with open_tools(settings) as tools:
            return [tool.name for tool in tools]

    return asyncio.run(names())


def test_tools_are_opened_in_order_and_closed_in_reverse() -> None:
    assert opened(AdapterSettings((NoteSettings("a"), NoteSettings("b")))) == ["a", "b"]
    assert happened == ["open a", "open b", "close b", "close a"]


def test_two_tools_of_one_name_are_refused_and_what_was_opened_is_closed() -> None:
    with pytest.raises(UserError, match="two tools are called 'a'; leave one of their entries out"):
        opened(AdapterSettings((NoteSettings("a"), NoteSettings("a"))))
    assert happened == ["open a", "open a", "close a", "close a"]


def test_an_entry_without_a_path_takes_the_corpus_of_the_command_line(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"title": "Oslo", "text": "A city."}\n')
    nameless = AdapterSettings((CorpusSettings(), NoteSettings("a"), CorpusSettings("own.jsonl")))
    filled = with_corpus(nameless, corpus).tools
    assert filled == (CorpusSettings(str(corpus)), NoteSettings("a"), CorpusSettings("own.jsonl"))
    assert opened(AdapterSettings(filled[:2])) == ["search", "lookup", "a"]
    with pytest.raises(UserError, match=r"a corpus without a path; write `path: FILE\.jsonl`"):
        opened(AdapterSettings((CorpusSettings(),)))


@pytest.mark.parametrize("family", tools_settings.FAMILIES.values(), ids=list(tools_settings.FAMILIES))
def test_every_kind_is_found_in_its_module(family: Family) -> None:
    if family.extra:
        pytest.importorskip(family.module, reason=f"needs the extra {family.extra}")
    module = __import__(family.module, fromlist=[family.settings])
    assert callable(getattr(module, family.opener))
    assert getattr(module, family.settings).__dataclass_params__.frozen
    assert getattr(module, family.settings).__module__.rpartition(".")[0] == family.module.rpartition(".")[0]
    assert family.module in sys.modules
