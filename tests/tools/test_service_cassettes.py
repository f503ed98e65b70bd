"""Cassettes: what was recorded is answered again, by nothing but the folder."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from service_world import Backend, ask_for, down, full_disk

from rest_jax.core.canonical import digest_file
from rest_jax.core.effects import ToolErrorKind, ToolReply
from rest_jax.core.errors import UserError
from rest_jax.tools.protocol import CacheStatus
from rest_jax.tools.registry import ToolFailure
from rest_jax.tools.service.cache import open_cache
from rest_jax.tools.service.cassettes import (
    CALLS,
    MANIFEST,
    UNFINISHED,
    Recorder,
    read_cassette,
)
from rest_jax.tools.service.query import Query, Trouble, run_tool
from rest_jax.tools.service.service import Service
from rest_jax.tools.service.settings import CacheSettings
from rest_jax.tools.serving import replayed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cassette"


def replaying(path: Path) -> tuple[Service, dict]:
    """A service over a cassette, and its tools by name."""
    served = replayed(path)
    return served.service, {tool.name: tool for tool in served.tools}


async def test_what_was_recorded_is_replayed_without_the_tools(path: Path):
    backend = Backend(ToolFailure(ToolErrorKind.TOOL_ERROR, "no such page"))
    tools = [backend.tool(cost=0.1, deterministic=False), backend.tool(name="news", version="7")]
    with Recorder(path, tools) as recorder:
        service = Service(run_tool, [recorder])
        recorded = [(await service.answer(ask_for(tool, query))).reply for tool in tools for query in ("x", "ŷ\u2028")]
    again, known = replaying(path)
    answers = [
        await again.answer(ask_for(known[name], query)) for name in ("search", "news") for query in ("x", "ŷ\u2028")
    ]
    assert [answer.reply for answer in answers] == recorded
    assert answers[0].reply.fault.message == "no such page"
    assert {answer.cache for answer in answers} == {CacheStatus.REPLAY}
    assert [tool.version for tool in known.values()] == ["1", "7"]
    assert [tool.described() | {"cost": 0} for tool in known.values()] == [
        tool.described() | {"cost": 0} for tool in tools
    ]
    assert len(backend.calls) == 4


async def test_a_miss_is_loud(path: Path, caplog: pytest.LogCaptureFixture):
    with Recorder(path, [Backend().tool()]) as recorder:
        await Service(run_tool, [recorder]).answer(ask_for(Backend().tool()))
    service, tools = replaying(path)
    says = f'{path} holds no answer to search {{"query": "other"}}'
    with pytest.raises(ToolFailure, match="holds no answer") as miss:
        await service.answer(ask_for(tools["search"], "other"))
    assert (miss.value.kind, str(miss.value)) == (ToolErrorKind.REPLAY_MISS, says)
    assert [record.getMessage() for record in caplog.records] == [f"replay miss: {says}"]
    mend = "record it again as it is replayed: same questions, samples, seeds and model"
    assert service.trouble.text == f"{says}; {mend}"


async def test_while_it_is_recorded_a_call_has_one_answer_whatever_the_tool_says_next(path: Path):
    backend = Backend()
    tool = backend.tool(deterministic=False)
    first_in = asyncio.Event()

    async def slow_then_quick(arguments, episode):
        nth = len(backend.calls)
        reply = await backend(arguments, episode)
        if nth == 0:
            await first_in.wait()
        return reply

    odd = replace(tool, run=slow_then_quick)
    with Recorder(path, [odd]) as recorder:
        # Two services, so that no single flight makes the two calls one.
        slow = asyncio.create_task(Service(run_tool, [recorder]).answer(ask_for(odd)))
        while not backend.calls:
            await asyncio.sleep(0)
        quick = await Service(run_tool, [recorder]).answer(ask_for(odd))
        first_in.set()
        assert (await slow).reply == quick.reply == ToolReply("about x", {"n": 2})
        later = await Service(run_tool, [recorder]).answer(ask_for(odd))
        assert (later.reply, later.cache) == (quick.reply, CacheStatus.REPLAY)
    assert len(backend.calls) == 2


async def test_failures_of_the_infrastructure_are_not_recorded(path: Path):
    backend = Backend(down())
    with Recorder(path, [backend.tool()]) as recorder:
        service = Service(run_tool, [recorder])
        with pytest.raises(ToolFailure):
            await service.answer(ask_for(backend.tool()))
        assert (await service.answer(ask_for(backend.tool()))).reply.ok
    assert len(read_cassette(path).calls) == 1


async def test_what_the_cache_knows_is_recorded_too(path: Path, tmp_path: Path):
    backend = Backend()
    async with open_cache(CacheSettings(str(tmp_path / "tools.sqlite"))) as cache:
        await Service(run_tool, [cache]).answer(ask_for(backend.tool()))
        with Recorder(path, [backend.tool()]) as recorder:
            (answer,) = await Service(run_tool, [recorder, cache]).recall([ask_for(backend.tool())])
    assert answer.cache is CacheStatus.HIT
    service, tools = replaying(path)
    assert (await service.answer(ask_for(tools["search"]))).reply == answer.reply
    assert len(backend.calls) == 1


async def test_a_stateful_tool_answers_by_what_its_episode_has_asked(path: Path):
    """A counter for each episode: equal calls have different answers."""
    counts: dict[str, int] = {}

    async def count(arguments, episode):
        counts[episode] = counts.get(episode, 0) + 1
        return ToolReply(f"{episode}: {counts[episode]}")

    tool = replace(Backend().tool(stateful=True), run=count)
    asked = [("a", "x"), ("b", "x"), ("a", "x"), ("a", "y"), ("b", "y"), ("a", "x")]
    with Recorder(path, [tool]) as recorder:
        service = Service(run_tool, [recorder])
        recorded = [(await service.answer(ask_for(tool, query, episode))).reply for episode, query in asked]
    assert [reply.content for reply in recorded] == ["a: 1", "b: 1", "a: 2", "a: 3", "b: 2", "a: 4"]
    service, tools = replaying(path)
    order = sorted(range(6), key=lambda at: (asked[at][0] != "b", at))  # an episode's own order is what counts
    replayed = {at: (await service.answer(ask_for(tools["search"], asked[at][1], asked[at][0]))).reply for at in order}
    assert [replayed[at] for at in range(6)] == recorded
    for episode, query in (("c", "x"), ("a", "z")):
        with pytest.raises(ToolFailure, match="holds no answer"):
            await service.answer(ask_for(tools["search"], query, episode))


async def test_an_episode_that_lost_its_session_while_it_was_recorded_is_replayed_from_its_new_beginning(path: Path):
    said: list[str] = []

    async def loses_its_session_once(arguments, episode):
        said.append(arguments["query"])
        if len(said) == 3:
            raise down()
        return ToolReply(f"call {len(said)}")

    tool = replace(Backend().tool(stateful=True), run=loses_its_session_once)
    with Recorder(path, [tool]) as recorder:
        service = Service(run_tool, [recorder])
        for query in ("begin", "x"):
            await service.answer(ask_for(tool, query))
        with pytest.raises(ToolFailure):
            await service.answer(ask_for(tool, "y"))
        again = [(await service.answer(ask_for(tool, query))).reply.content for query in ("begin", "x", "y")]
    assert again == ["call 4", "call 5", "call 6"]
    service, tools = replaying(path)
    replayed = [await service.answer(ask_for(tools["search"], query)) for query in ("begin", "x", "y")]
    assert [answer.reply.content for answer in replayed] == again


async def test_an_episode_goes_on_after_its_recorder_was_killed_unless_it_begins_again(path: Path):
    """A server elsewhere keeps its state while the adapter is killed: what was asked of it before is not forgotten."""
    said: list[str] = []

    async def elsewhere(arguments, episode):
        said.append(episode)
        return ToolReply(f"call {len(said)}")

    tool = replace(Backend().tool(stateful=True), run=elsewhere)
    killed = Recorder(path, [tool])
    before = Service(run_tool, [killed])
    for episode in ("goes on", "goes on", "begins again"):
        await before.answer(ask_for(tool, "x", episode))
    killed._held.close()
    with Recorder(path, [tool]) as recorder:
        after = Service(run_tool, [recorder], histories=recorder.histories)
        await after.answer(ask_for(tool, "x", "goes on"))
        await after.answer(replace(ask_for(tool, "x", "begins again"), begins=True))
        await after.answer(ask_for(tool, "x", "begins again"))
    service, tools = replaying(path)
    asked = (*["goes on"] * 3, *["begins again"] * 2)
    replayed = [(await service.answer(ask_for(tools["search"], "x", episode))).reply.content for episode in asked]
    assert replayed == ["call 1", "call 2", "call 4", "call 5", "call 6"]


async def test_a_killed_recording_goes_on_where_it_was_torn(path: Path):
    backend = Backend()
    killed = Recorder(path, [backend.tool()])
    for query in ("x", "y"):
        await Service(run_tool, [killed]).answer(ask_for(backend.tool(), query))
    killed._held.close()
    with (path / UNFINISHED).open("ab") as file:
        file.write(b'{"key": "torn')
    with pytest.raises(UserError, match=r"not a finished cassette .*; record again with it to finish it"):
        read_cassette(path)
    with Recorder(path, [backend.tool()]) as recorder:
        service = Service(run_tool, [recorder])
        for query in ("x", "y", "z"):
            await service.answer(ask_for(backend.tool(), query))
    assert len(read_cassette(path).calls) == len(backend.calls) == 3
    assert not (path / UNFINISHED).exists()


async def test_a_disk_that_is_full_stops_the_run_and_spoils_nothing(path: Path):
    tool, trouble = Backend().tool(), Trouble()
    recorder = Recorder(path, [tool], trouble=trouble)
    service = Service(run_tool, [recorder])
    await service.answer(ask_for(tool, "first"))
    with full_disk(path / UNFINISHED, room=20):
        with pytest.raises(ToolFailure, match="could not be recorded") as failure:
            await service.answer(ask_for(tool, "second"))
        mend = r"could not be finished .* make room, then record with it again"
        with full_disk(path / "none"), pytest.raises(UserError, match=mend):
            recorder.close()
    assert (failure.value.kind, failure.value.retryable) == (ToolErrorKind.INFRA, False)
    assert trouble.text == f"{path}: an answer could not be recorded (File too large); make room"
    with Recorder(path, [tool]) as recorder:
        await Service(run_tool, [recorder]).answer(ask_for(tool, "third"))
    calls = read_cassette(path).calls.values()
    assert sorted(row["arguments"]["query"] for row in calls) == ["first", "third"]


def test_a_recording_that_cannot_go_on_is_one_line_for_the_user(path: Path):
    path.mkdir()
    (path / UNFINISHED).write_text("{}\n")
    with pytest.raises(UserError, match=r"cassette: cannot be recorded into .*; name another folder"):
        Recorder(path, [Backend().tool()])
    (path / UNFINISHED).unlink()
    with Recorder(path, [Backend().tool()]):
        pass


@pytest.mark.parametrize("step", ["calls written", "manifest written"])
async def test_a_recording_that_is_killed_while_it_is_finished_loses_nothing(path: Path, step: str):
    backend = Backend()
    with Recorder(path, [backend.tool()]) as recorder:
        await Service(run_tool, [recorder]).answer(ask_for(backend.tool(), "x"))
    manifest = (path / MANIFEST).read_bytes()
    recorder = Recorder(path, [backend.tool()])
    await Service(run_tool, [recorder]).answer(ask_for(backend.tool(), "y"))
    unfinished = (path / UNFINISHED).read_bytes()
    recorder.close()
    (path / UNFINISHED).write_bytes(unfinished)
    if step == "calls written":
        (path / MANIFEST).write_bytes(manifest)
    with Recorder(path, [backend.tool()]) as recorder:
        answers = await Service(run_tool, [recorder]).recall([ask_for(backend.tool(), query) for query in "xy"])
    assert [answer.reply.content for answer in answers] == ["about x", "about y"]
    assert len(read_cassette(path).calls) == 2


async def test_equal_recordings_are_equal_files_and_may_grow(tmp_path: Path):
    digests = []
    for folder, order in (("one", "xyz"), ("other", "zyx")):
        backend = Backend()
        tool = replace(backend.tool(), run=lambda arguments, episode: answered(arguments["query"]))
        for part in (order[:2], order[2:]):
            with Recorder(tmp_path / folder, [tool]) as recorder:
                for query in part:
                    await Service(run_tool, [recorder]).answer(ask_for(tool, query))
        assert len(read_cassette(tmp_path / folder).calls) == 3
        digests.append(digest_file(tmp_path / folder / CALLS))
    assert digests[0] == digests[1]


async def answered(text: str) -> ToolReply:
    return ToolReply(text)


async def test_secrets_are_taken_out_of_what_is_written(path: Path):
    tool = replace(Backend().tool(), run=lambda arguments, episode: answered("the key is s3cret"))
    with Recorder(path, [tool], clean=lambda text: text.replace("s3cret", "***")) as recorder:
        await Service(run_tool, [recorder]).answer(ask_for(tool, "s3cret?"))
        assert b"s3cret" not in (path / UNFINISHED).read_bytes()
    with pa.input_stream(path / CALLS, compression="zstd") as file:
        row = json.loads(file.read())
    assert (row["arguments"], row["content"]) == ({"query": "***?"}, "the key is ***")


def test_two_recordings_of_one_folder_and_of_other_tools_are_refused(path: Path):
    tool = Backend().tool()
    with Recorder(path, [tool]), pytest.raises(UserError, match="another process records here"):
        Recorder(path, [tool])
    with pytest.raises(UserError, match=r"recorded with other tools \(search 1; now search 2\); record into another"):
        Recorder(path, [Backend().tool(version="2")])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: (path / MANIFEST).unlink(), "not a finished cassette .*; check the path"),
        (lambda path: (path / MANIFEST).write_text("{}"), "a damaged cassette"),
        (lambda path: (path / MANIFEST).write_text('{"schema_version": 9}'), "of schema version 9"),
        (lambda path: (path / CALLS).write_bytes(b"other"), r"calls\.jsonl\.zst: not what manifest\.json says"),
        (lambda path: (path / CALLS).unlink(), "a damaged cassette"),
    ],
)
def test_a_cassette_that_is_not_whole_is_one_line_for_the_user(path: Path, damage, says: str):
    with Recorder(path, [Backend().tool()]):
        pass
    damage(path)
    with pytest.raises(UserError, match=says) as error:
        read_cassette(path)
    assert "\n" not in str(error.value)


async def test_arguments_without_a_canonical_form_are_never_recorded(path: Path):
    with Recorder(path, [Backend().tool()]) as recorder:
        await Service(run_tool, [recorder]).answer(Query(Backend().tool(), {"query": float("nan")}))
    assert read_cassette(path).calls == {}
