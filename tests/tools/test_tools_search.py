"""Search and lookup: ranks, ties, exact titles, ReAct's semantics, the cache; and recall on real HotpotQA."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rest_jax.core.cache import cache_folder
from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.core.errors import UserError
from rest_jax.tools.registry import ToolFailure
from rest_jax.tools.search.corpus import Passage, corpus_of, read_corpus
from rest_jax.tools.search.index import IndexSettings, index_of, top
from rest_jax.tools.search.search import Searcher, search_tools
from rest_jax.tools.search.text import sentences, stems


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REST_JAX_CACHE", str(tmp_path / "cache"))


CORPUS = corpus_of(
    [
        Passage("Oslo", "Oslo is the capital of Norway. It lies on a fjord. Did King Harald found Oslo? He did."),
        Passage("Oslo Airport", "The airport of Oslo is at Gardermoen. Oslo, Oslo, Oslo."),
        Passage("It", "It is a novel by Stephen King."),
        Passage("Bergen", "Bergen is a city in Norway."),
    ]
)


def call(tool: str, searcher: Searcher | None = None, **arguments: object) -> ToolReply:
    tools = {tool.name: tool for tool in search_tools(searcher or Searcher(CORPUS, IndexSettings()), results=1)}
    return asyncio.run(tools[tool].run(arguments, ""))


def titles(reply: ToolReply) -> list[str]:
    return [result["title"] for result in reply.data["results"]]


def test_top_is_exact_at_the_cut():
    rng = np.random.default_rng(0)
    for _ in range(200):
        scores = rng.integers(0, 4, size=rng.integers(1, 30)).astype(np.float32)
        k = int(rng.integers(1, 40))
        expected = sorted(np.flatnonzero(scores > 0).tolist(), key=lambda id: (-scores[id], id))[:k]
        assert top(scores, k).tolist() == expected


def test_ties_at_the_cut_go_to_the_lower_id():
    twins = corpus_of([Passage(f"Twin {i:03}", "The same words stand here.") for i in range(50)])
    searcher = Searcher(twins, IndexSettings())
    for k in (1, 7, 49):
        hits = searcher.search("same words", k)
        assert len({hit.score for hit in hits}) == 1
        assert [hit.passage.title for hit in hits] == [f"Twin {i:03}" for i in range(k)]


def test_content_and_data():
    reply = call("search", query="fjord")
    assert reply.ok
    assert reply.content == f"Oslo: {CORPUS.passages[2].text}"
    assert reply.data["results"][0]["score"] > 0
    assert len(call("search", query="norway", k=5).content.splitlines()) == 2


def test_exact_title_leads_even_without_a_searchable_word():
    assert titles(call("search", query="  it "))[0] == "It"
    assert titles(call("search", query="oslo", k=3))[0] == "Oslo"
    ranked_only = Searcher(CORPUS, IndexSettings(exact_title_first=False))
    assert titles(call("search", ranked_only, query="it")) == []
    assert titles(call("search", ranked_only, query="oslo", k=3))[0] == "Oslo Airport"


def test_settings_change_scores():
    plain, titled = (Searcher(CORPUS, IndexSettings(title_weight=weight)) for weight in (0, 2))
    assert plain.search("airport", 1)[0].score < titled.search("airport", 1)[0].score
    assert plain.index.digest != titled.index.digest


def test_nothing_found_names_similar_titles():
    reply = call("search", query="Osla")
    assert reply.ok
    assert reply.content == "Could not find Osla. Similar: [Bergen, It, Oslo, Oslo Airport]."
    assert reply.data == {"results": []}


def test_lookup_walks_the_sentences():
    arguments = {"title": "OSLO", "keyword": "oslo"}
    assert call("lookup", **arguments).content == "(Result 1 / 2) Oslo is the capital of Norway."
    assert call("lookup", **arguments, index=1).content == "(Result 2 / 2) Did King Harald found Oslo?"
    assert call("lookup", **arguments, index=2) == ToolReply("No more results.", {"index": 2, "count": 2})
    with pytest.raises(ToolFailure, match="no passage has the title 'Rome'") as error:
        call("lookup", title="Rome", keyword="x")
    assert error.value.kind is ToolErrorKind.BAD_ARGUMENTS


def test_text():
    assert stems(["The Cities' running, Apollo 8 İstanbul"]) == [
        ["citi", "run", "apollo", "8", *stems(["İstanbul"])[0]]
    ]
    assert sentences('He said "No." Then 3.5 m!\nA line\n\nEnd') == ['He said "No."', "Then 3.5 m!", "A line", "End"]


def test_corpus_without_a_word_is_refused():
    with pytest.raises(UserError, match="no word that could be searched"):
        Searcher(corpus_of([Passage("The", "...")]), IndexSettings())


def test_cache_is_used_and_a_damaged_one_rebuilt(caplog: pytest.LogCaptureFixture):
    built = index_of(CORPUS, IndexSettings())
    (folder,) = (path for path in (cache_folder() / "indexes").iterdir() if path.is_dir())
    written = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    cached = index_of(CORPUS, IndexSettings())
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == written
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[:20])
    repaired = index_of(CORPUS, IndexSettings())
    assert "damaged index" in caplog.text
    for query in ("oslo", "king of norway", "nothing"):
        np.testing.assert_array_equal(built.scores(query), cached.scores(query), strict=True)
        np.testing.assert_array_equal(built.scores(query), repaired.scores(query), strict=True)


def test_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REST_JAX_CACHE", str(tmp_path / "file"))
    assert Searcher(CORPUS, IndexSettings()).search("fjord", 1)[0].passage.title == "Oslo"


def test_scores_do_not_depend_on_the_hash_seed(tmp_path: Path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"title": p.title, "text": p.text}) + "\n" for p in CORPUS.passages))
    script = """if True:
        import sys
        from pathlib import Path
        from rest_jax.tools.search.corpus import read_corpus
        from rest_jax.tools.search.index import IndexSettings
        from rest_jax.tools.search.search import Searcher
        hits = Searcher(read_corpus(Path(sys.argv[1])), IndexSettings()).search("the capital of Norway, King Harald", 4)
        assert not {"jax", "transformers", "torch"} & set(sys.modules), "a tool process must not load these"
        print([(hit.passage.title, hit.score.hex()) for hit in hits])
    """
    printed = set()
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "REST_JAX_CACHE": str(tmp_path / seed)}
        process = subprocess.run(
            [sys.executable, "-c", script, str(corpus)],
            env={**environment, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=True,
        )
        printed.add(process.stdout)
    assert len(printed) == 1
    assert "Oslo" in printed.pop()


def test_gold_titles_are_found_on_hotpotqa(data: Path):
    searcher = Searcher(read_corpus(data / "hotpotqa/hotpot_corpus.jsonl"), IndexSettings(exact_title_first=False))
    questions = (data / "hotpotqa/hotpot_dev_sample.jsonl").read_text().splitlines()
    gold = [title for question in questions for title in json.loads(question)["supporting_titles"]]
    found = [title in [hit.passage.title for hit in searcher.search(title, 5)] for title in gold]
    assert sum(found) / len(found) >= 0.95
