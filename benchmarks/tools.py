"""The tool adapter and its search: how fast calls go through, and how often BM25 finds what a question is about.

    python -m benchmarks.tools --json OUT [--data FOLDER] [--repeats 5]

    single    1,000 requests of one call each at one time, to a tool of 20 ms, in a process of its own; 128 connections
    client    the same 1,000 calls through the run's own client, which lets calls of one millisecond travel together
    batch     one request of 4,000 calls to a tool that does nothing
    cached    one request of 4,000 searches whose answers are in the cache, to the adapter as a run starts it
    bm25      HotpotQA's paragraphs searched with the question itself: milliseconds of a search in one thread, and the
              mean share of a question's gold titles among its five best passages

Beside the seconds of the clock stand the processor's own, of this process and of the adapter's: on a machine that is
busy with other things they say more.

Without FOLDER (that holds hotpotqa/, default $REST_JAX_DATA) there are no rows of bm25.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.adapter import adapter
from benchmarks.measure import Spread, circumstances, interleaved, publish, show
from benchmarks.plain_tools import WAIT_S
from rest_jax.config.settings import ToolsSettings
from rest_jax.tools import protocol
from rest_jax.tools.client import ToolClient
from rest_jax.tools.process import Address
from rest_jax.tools.process import adapter as run_adapter
from rest_jax.tools.protocol import Batch, Call
from rest_jax.tools.search.corpus import Passage, corpus_of, read_corpus
from rest_jax.tools.search.index import IndexSettings
from rest_jax.tools.search.search import Searcher

CALLS = 1_000
CONNECTIONS = 128
BATCH = 4_000
TOP = 5
SETTINGS = ToolsSettings(timeout_s=600, retries=0)
JSON_HEADERS = {"Content-Type": "application/json"}
CALL_COLUMNS = {
    "what": "what",
    "calls": "calls",
    "s": "seconds",
    "least": "seconds_least",
    "most": "seconds_most",
    "cpu s": "cpu_s",
    "adapter's cpu s": "adapter_cpu_s",
}
BM25_COLUMNS = {
    "questions": "questions",
    "n": "n",
    "gold in top 5": "gold_in_top",
    "p50 ms": "p50_ms",
    "p95 ms": "p95_ms",
}


def body(tool: str, first: int, count: int) -> bytes:
    """A batch of calls with as many different queries."""
    calls = [Call(id, tool, {"query": f"question number {id}"}, f"e{id}") for id in range(first, first + count)]
    return protocol.dump_batch(Batch(tuple(calls), deadline_s=60))


async def post(session: aiohttp.ClientSession, url: str, request: bytes) -> list[dict[str, Any]]:
    async with session.post(f"{url}/v1/call", data=request, raise_for_status=True) as response:
        return (await response.json())["results"]


async def at_once(at: Address, requests: Sequence[bytes], wanted: int, cache: str = "bypass") -> float:
    """Seconds until the last of these requests is answered, each result well and with this cache status."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    headers = {**JSON_HEADERS, **({"Authorization": f"Bearer {at.token}"} if at.token else {})}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        began = time.perf_counter()
        answers = await asyncio.gather(*(post(session, at.url, request) for request in requests))
        seconds = time.perf_counter() - began
    results = [result for answer in answers for result in answer]
    if len(results) != wanted or not all(result["ok"] and result["cache"] == cache for result in results):
        raise RuntimeError(f"{len(results)} of {wanted} calls were answered, or not well")
    return seconds


def by_client(client: ToolClient) -> float:
    """Seconds until the run's own client has the last reply."""
    began = time.perf_counter()
    for id in range(CALLS):
        client.submit(id, "wait", {"query": f"question number {id}"}, f"e{id}")
    replies = []
    while client.in_flight:
        replies += client.poll(None)
    seconds = time.perf_counter() - began
    if len(replies) != CALLS or not all(reply.ok for _, reply in replies):
        raise RuntimeError(f"{len(replies)} of {CALLS} calls were answered, or not well")
    return seconds


def cpu_s(pid: int) -> float:
    """Processor seconds that a process has used, as Linux tells them."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def caching_adapter() -> Iterator[tuple[Address, int]]:
    """A run's own adapter over a hundred passages, with an empty cache: its address and process."""
    with tempfile.TemporaryDirectory(prefix="rest_jax-") as scratch:
        folder = Path(scratch)
        passages = [{"title": f"Passage {n}", "text": f"This answers question number {n}."} for n in range(100)]
        (folder / "corpus.jsonl").write_text("".join(f"{json.dumps(passage)}\n" for passage in passages))
        (folder / "tools.yaml").write_text(
            f"tools: [{{kind: corpus}}]\nservice: {{cache: {{path: {json.dumps(str(folder / 'cache.sqlite'))}}}}}\n"
        )
        settings = ToolsSettings(config=str(folder / "tools.yaml"), timeout_s=600)
        with (
            run_adapter(settings, folder / "corpus.jsonl", log=folder / "tools.log") as at,
            ToolClient(at.url, settings, at.token) as client,
        ):
            yield at, client.check()["pid"]


def calls(repeats: int) -> list[dict[str, Any]]:
    """The rows of single, client and batch."""
    singles = [body("wait", id, 1) for id in range(CALLS)]
    batch = [body("nothing", 0, BATCH)]
    searches = [body("search", 0, BATCH)]
    with (
        adapter("benchmarks.plain_tools") as (url, _),
        ToolClient(url, SETTINGS) as client,
        caching_adapter() as (caching, caching_pid),
    ):
        plain, pid = Address(url, None), client.check()["pid"]
        asyncio.run(at_once(caching, searches, BATCH, "miss"))

        def timed(pid: int, work: Callable[[], float]) -> tuple[float, float, float]:
            own, there = time.process_time(), cpu_s(pid)
            seconds = work()
            return seconds, time.process_time() - own, cpu_s(pid) - there

        took = interleaved(
            {
                ("single", CALLS): lambda _: timed(pid, lambda: asyncio.run(at_once(plain, singles, CALLS))),
                ("client", CALLS): lambda _: timed(pid, lambda: by_client(client)),
                ("batch", BATCH): lambda _: timed(pid, lambda: asyncio.run(at_once(plain, batch, BATCH))),
                ("cached", BATCH): lambda _: timed(
                    caching_pid, lambda: asyncio.run(at_once(caching, searches, BATCH, "hit"))
                ),
            },
            repeats,
            "calls",
        )
    rows = []
    for (what, count), measured in took.items():
        seconds, own, there = zip(*measured, strict=True)
        spread = Spread.of(seconds)
        times = {
            "seconds": spread.median,
            "seconds_least": spread.least,
            "seconds_most": spread.most,
            "cpu_s": statistics.median(own),
            "adapter_cpu_s": statistics.median(there),
        }
        rows.append({"what": what, "calls": count, "repeats": repeats, **times})
    return rows


def questions(file: Path) -> list[tuple[str, list[str]]]:
    """Each question, and the titles of its gold paragraphs."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [(row["question"], row["supporting_titles"]) for row in rows]


def searched(searcher: Searcher, name: str, asked: Sequence[tuple[str, list[str]]]) -> dict[str, Any]:
    """A row of bm25."""
    shares, took = [], []
    for question, gold in asked:
        began = time.perf_counter()
        hits = searcher.search(question, TOP)
        took.append(1000 * (time.perf_counter() - began))
        found = {hit.passage.title for hit in hits}
        shares.append(sum(title in found for title in gold) / len(gold))
    percentiles = statistics.quantiles(took, n=20)
    return {
        "what": "bm25",
        "questions": name,
        "n": len(asked),
        "gold_in_top": statistics.mean(shares),
        "p50_ms": statistics.median(took),
        "p95_ms": percentiles[-1],
    }


def hotpotqa(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of bm25, and all that decides their ranks."""
    files = [folder / "hotpot_corpus.jsonl", folder / "hotpot_corpus_extra.jsonl"]
    passages: list[Passage] = [passage for file in files for passage in read_corpus(file).passages]
    searcher = Searcher(corpus_of(passages), IndexSettings())
    searcher.search("warm up", TOP)
    samples = {"dev sample": "hotpot_dev_sample.jsonl", "train sample": "hotpot_train_sample.jsonl"}
    rows = [searched(searcher, name, questions(folder / file)) for name, file in samples.items()]
    return rows, searcher.about


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=os.environ.get("REST_JAX_DATA"))
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    about = circumstances("benchmarks.tools", "float32")
    rows = calls(options.repeats)
    notes = [f"the tool of single and client takes {1000 * WAIT_S:g} ms; {CONNECTIONS} connections"]
    title = f"calls, {about['cores']} cores, load {about['load_before']}"
    show(title, CALL_COLUMNS, rows, notes)
    if options.data is None:
        notes.append("no rows of bm25: --data names no folder")
    else:
        found, index = hotpotqa(Path(options.data) / "hotpotqa")
        about["index"] = index
        told = ("passages", "stemmer", "k1", "b", "title_weight", "exact_title_first", "bm25s", "corpus")
        notes.append(", ".join(f"{name} {index[name]}" for name in told))
        show("bm25, the question as the query", BM25_COLUMNS, found, notes[1:])
        rows += found
    publish(options.json, about, rows, notes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
