"""The adapter as a process: it starts, survives kill -9, and never outlives its run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rest_jax.config.settings import ToolsSettings
from rest_jax.core.effects import ToolReply
from rest_jax.core.errors import UserError
from rest_jax.tools import process, watch
from rest_jax.tools.client import ToolClient
from rest_jax.tools.metrics import LATENCY
from rest_jax.tools.process import adapter
from rest_jax.tools.redact import TOKEN_VARIABLE
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
SETTINGS = ToolsSettings(results=2, k1=1.2, timeout_s=60)
ACCELERATORS = ("jaxlib", "libcuda", "libtpu")
"""What is mapped into a process that uses one."""
GONE_S = 5.0
"""An adapter does not outlive a run that got `kill -9` for longer."""


HANGS_AT_ITS_SECOND_IMPORT = """if True:
    import os
    from pathlib import Path
    imports = Path(__file__).with_name("imports")
    with imports.open("a") as file:
        print(os.getpid(), file=file)
    if len(imports.read_text().split()) == 2:
        import re
        re.match("(a+)+$", "a" * 99 + "b")  # holds the interpreter's lock
    def one() -> int:
        return 1
"""


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REST_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    rows = [{"title": f"Town {i}", "text": f"Town {i} lies by river {i % 7}. It is old."} for i in range(100)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_gone(pid: int) -> None:
    wait_until(lambda: is_gone(pid), f"process {pid} is gone", GONE_S)


def answered(folder: Path) -> float:
    """Searches that the run has noted."""
    record = watch.read(folder)
    assert record is not None
    counted = {"tool": "search"}
    return sum(
        sample.value for sample in record.samples if (sample.name, sample.labels) == (f"{LATENCY}_count", counted)
    )


def functions(folder: Path, source: str, names: str) -> ToolsSettings:
    """Settings of an adapter that serves functions of a module with this source."""
    (folder / "mine.py").write_text(source)
    (folder / "tools.yaml").write_text(
        f"tools: [{{kind: functions, functions: [{names}]}}]\nservice: {{cache: null}}\n"
    )
    return ToolsSettings(config=str(folder / "tools.yaml"), timeout_s=60)


def ask(client: ToolClient, ids: range) -> dict[int, ToolReply]:
    for id in ids:
        client.submit(id, "search", {"query": f"town {id % 100}"}, "e")
    replies: dict[int, ToolReply] = {}
    while client.in_flight:
        replies.update(client.poll(None))
    return replies


def serve(corpus: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rest_jax.tools", "serve", f"--corpus={corpus}", *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_a_run(script: str, *arguments: str, folder: Path) -> None:
    """A run that prints its adapter's pid, and would go on, gets `kill -9`: the adapter ends with it."""
    run = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    with run.stdout as printed:
        pid = int(printed.readline())
    assert not is_gone(pid)
    run.kill()
    run.wait()
    wait_until_gone(pid)


def test_adapter_lives_as_long_as_its_block(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH")
    monkeypatch.syspath_prepend(ROOT)
    with (
        adapter(SETTINGS, corpus, log=tmp_path / "run" / "tools.log") as (url, token),
        ToolClient(url, SETTINGS, token) as client,
    ):
        replies = ask(client, range(100))
        health = client.check()
        mapped = Path(f"/proc/{health['pid']}/maps").read_text()
    assert all(reply.data["results"][0]["title"] == f"Town {id}" for id, reply in replies.items())
    assert all(len(reply.data["results"]) == 2 for reply in replies.values())
    about = health["about"]["search"]
    assert (about["passages"], about["k1"], about["b"], about["stemmer"]) == (100, 1.2, 0.75, "english")
    assert not [word for word in ACCELERATORS if word in mapped]
    assert is_gone(health["pid"])
    assert (tmp_path / "run" / "tools.log").read_text() == ""


def test_calls_succeed_although_the_adapter_is_killed(corpus: Path, tmp_path: Path):
    with (
        adapter(SETTINGS, corpus, log=tmp_path / "tools.log") as (url, token),
        ToolClient(url, SETTINGS, token) as client,
    ):
        before = ask(client, range(300))
        pid = client.check()["pid"]
        for id in range(300, 600):
            client.submit(id, "search", {"query": f"town {id % 100}"}, "e")
        os.kill(pid, signal.SIGKILL)
        during = ask(client, range(600, 900))
        assert client.check()["pid"] != pid
        last = client.check()["pid"]
    assert set(during) == set(range(300, 900))
    assert [reply for reply in during.values() if not reply.ok] == []
    assert all(during[id] == before[id % 100] for id in during)
    assert is_gone(last)


def test_an_adapter_that_hangs_is_replaced(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process, "LOOK_S", 0.1)
    monkeypatch.setattr(process, "SILENCE_S", 4.0)
    with (
        adapter(SETTINGS, corpus, log=tmp_path / "tools.log") as (url, token),
        ToolClient(url, SETTINGS, token) as client,
    ):
        before = ask(client, range(100))
        wait_until(lambda: answered(tmp_path) == 100, "the run notes the answers")
        pid = client.check()["pid"]
        os.kill(pid, signal.SIGSTOP)
        during = ask(client, range(100, 200))
        assert client.check()["pid"] != pid
        assert is_gone(pid)
        last = client.check()["pid"]
    assert [during[id + 100] for id in range(100)] == [before[id] for id in range(100)]
    assert "silent for 4 s: killed" in (tmp_path / "tools.log").read_text()
    record = watch.read(tmp_path)
    assert record is not None
    assert (record.url, record.pid, record.restarts) == (url, last, 1)
    assert answered(tmp_path) == 200


def test_a_restart_that_hangs_is_killed_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(process, "RESTART_S", 8.0)
    monkeypatch.setattr(process, "RESTART_TIMES", 0)
    settings = functions(tmp_path, HANGS_AT_ITS_SECOND_IMPORT, "'mine:one'")
    imports = tmp_path / "imports"
    with (
        adapter(settings, tmp_path / "none", log=tmp_path / "tools.log") as (url, token),
        ToolClient(url, settings, token) as client,
    ):
        os.kill(client.check()["pid"], signal.SIGKILL)
        wait_until(lambda: len(imports.read_text().split()) == 2, "the second import")
        client.submit(1, "one", {}, "e")
        ((_, reply),) = client.poll(None)
        last = client.check()["pid"]
    assert reply.content == "1"
    assert "did not start again: it was silent for 8 s" in (tmp_path / "tools.log").read_text()
    pids = [int(pid) for pid in imports.read_text().split()]
    assert pids[-1] == last
    assert all(is_gone(pid) for pid in pids)


def test_the_end_of_a_run_waits_for_no_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    settings = functions(tmp_path, HANGS_AT_ITS_SECOND_IMPORT, "'mine:one'")
    imports = tmp_path / "imports"
    with adapter(settings, tmp_path / "none", log=tmp_path / "tools.log") as (url, token):
        with ToolClient(url, settings, token) as client:
            os.kill(client.check()["pid"], signal.SIGKILL)
        wait_until(lambda: len(imports.read_text().split()) == 2, "the second import")
    assert all(is_gone(int(pid)) for pid in imports.read_text().split())


def test_what_a_function_prints_is_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = """if True:
        print("imported")
        def chatty(n: int) -> str:
            print("called", n, flush=True)
            return str(n)
    """
    settings = functions(tmp_path, source, "'mine:chatty'")
    log = tmp_path / "tools.log"
    with (
        adapter(settings, tmp_path / "none", log=log) as (url, token),
        ToolClient(url, settings, token) as client,
    ):
        for id in range(3):
            client.submit(id, "chatty", {"n": id}, "e")
            ((answered, reply),) = client.poll(None)
            assert (answered, reply.content) == (id, str(id))
    assert sorted(log.read_text().splitlines()) == ["called 0", "called 1", "called 2", "imported"]


@pytest.mark.parametrize(("state", "restarted"), [("stopped", True), ("in C", False)])
def test_an_adapter_that_cannot_run_python_dies_with_its_run(tmp_path: Path, state: str, restarted: bool):
    source = """if True:
        import re
        def stuck(n: int) -> str:
            return str(re.match("(a+)+$", "a" * n + "b"))
    """
    functions(tmp_path, source, "'mine:stuck'")
    script = """if True:
        import os, signal, sys, time
        from pathlib import Path
        from rest_jax.config.settings import ToolsSettings
        from rest_jax.tools import watch
        from rest_jax.tools.client import ToolClient
        from rest_jax.tools.process import adapter
        settings = ToolsSettings(config="tools.yaml", timeout_s=60)
        opened = adapter(settings, Path("none"), log=Path("tools.log"))
        with opened as (url, token), ToolClient(url, settings, token) as client:
            pid = client.check()["pid"]
            if sys.argv[2] == "True":
                os.kill(pid, signal.SIGKILL)
                client.submit(1, "stuck", {"n": 1}, "e")
                assert client.poll(None)[0][1].ok
                pid = client.check()["pid"]
            if sys.argv[1] == "stopped":
                os.kill(pid, signal.SIGSTOP)
            else:
                client.submit(2, "stuck", {"n": 99}, "e")
                while True:
                    try:
                        watch.look(url, 1.0, token)
                    except TimeoutError:
                        break
            print(pid, flush=True)
            time.sleep(600)
    """
    kill_a_run(script, state, str(restarted), folder=tmp_path)


def test_killing_the_run_leaves_no_orphan(corpus: Path, tmp_path: Path):
    script = """if True:
        import sys, time
        from pathlib import Path
        from rest_jax.config.settings import ToolsSettings
        from rest_jax.tools.client import ToolClient
        from rest_jax.tools.process import adapter
        with adapter(ToolsSettings(), Path(sys.argv[1]), log=Path(sys.argv[2])) as (url, token):
            with ToolClient(url, ToolsSettings(), token) as client:
                print(client.check()["pid"], flush=True)
            time.sleep(600)
    """
    kill_a_run(script, str(corpus), str(tmp_path / "tools.log"), folder=tmp_path)


def test_not_even_one_whose_tool_is_stuck(tmp_path: Path):
    (tmp_path / "stuck.py").write_text("""if True:
        import asyncio, time
        from contextlib import asynccontextmanager
        from dataclasses import dataclass
        from rest_jax.tools.registry import Tool

        @dataclass(frozen=True)
        class Settings:
            pass

        async def run(arguments, episode):
            await asyncio.to_thread(time.sleep, 600)

        @asynccontextmanager
        async def opened(settings):
            yield (Tool("stuck", "1", "", {}, run),)
    """)
    (tmp_path / "tools.yaml").write_text("tools: [{kind: stuck}]")
    server = """if True:
        from rest_jax.tools import __main__, settings
        settings.FAMILIES = {"stuck": settings.Family("stuck", "Settings", "opened")}
        __main__.main(["serve", "--config=tools.yaml", "--port=0", "--lifeline"])
    """
    script = """if True:
        import json, subprocess, sys, time, urllib.request
        server = subprocess.Popen(
            [sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        url = json.loads(server.stdout.readline())["url"]
        batch = {"deadline_ms": 60_000, "calls": [{"id": 1, "tool": "stuck", "arguments": {}}]}
        request = urllib.request.Request(url + "/v1/call", json.dumps(batch).encode())
        request.add_header("Content-Type", "application/json")
        try:
            urllib.request.urlopen(request, timeout=2)
        except TimeoutError:
            print(server.pid, flush=True)
        time.sleep(600)
    """
    kill_a_run(script, server, folder=tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, r"cannot read .*corpus\.jsonl: No such file"),
        ('{"title": "A", "text": "b"}\n{"title": "A"}\n', r'corpus\.jsonl:2: malformed passage \("text" is missing\)'),
    ],
)
def test_a_bad_corpus_is_one_line_for_the_user(corpus: Path, tmp_path: Path, content: str | None, says: str):
    corpus.unlink()
    if content is not None:
        corpus.write_text(content)
    log = tmp_path / "tools.log"
    log.write_text("what an earlier run said\n")
    with pytest.raises(UserError, match=says) as error, adapter(SETTINGS, corpus, log=log):
        pass
    assert "\n" not in str(error.value)


def test_a_defect_at_the_start_is_told_with_a_way_to_see_it(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "bm25s.py").write_text("raise RuntimeError('built for another Python')\n")
    monkeypatch.syspath_prepend(tmp_path)  # the adapter inherits our path
    why = r"exit code 1: RuntimeError: built for another Python\); see all that it says with `rest-jax tools serve "
    with pytest.raises(UserError, match=why) as error, adapter(SETTINGS, corpus, log=tmp_path / "tools.log"):
        pass
    assert "\n" not in str(error.value)


def test_a_given_url_is_used_and_left_running(corpus: Path, tmp_path: Path):
    server = serve(corpus, "--port=0", **{TOKEN_VARIABLE: ""})
    assert server.stdout is not None
    url = json.loads(server.stdout.readline())["url"]
    given = ToolsSettings(url=url)
    with adapter(given, tmp_path / "no corpus", log=tmp_path / "tools.log") as used:
        assert used == (url, None)
    with ToolClient(url, given) as client:
        assert client.check()["pid"] == server.pid
    server.terminate()
    _, errors = server.communicate()
    assert (server.returncode, errors) == (0, "")


def test_an_adapter_of_its_own_leaves_the_accelerator_alone(corpus: Path, tmp_path: Path):
    (tmp_path / "own.py").write_text(
        'import os\ndef platform() -> str:\n    """Where."""\n    return os.environ["JAX_PLATFORMS"]\n'
    )
    config = tmp_path / "tools.yaml"
    config.write_text("tools: [{kind: functions, functions: ['own:platform']}]")
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    server = serve(corpus, f"--config={config}", "--port=0", JAX_PLATFORMS="cuda", PYTHONPATH=path)
    assert server.stdout is not None
    url = json.loads(server.stdout.readline())["url"]
    with ToolClient(url, ToolsSettings(url=url)) as client:
        client.check()
        client.submit(1, "platform", {}, "e")
        ((_, reply),) = client.poll(None)
    server.terminate()
    server.communicate()
    assert reply.content == "cpu"


def test_whatever_goes_wrong_at_a_restart_the_next_one_is_tried(corpus: Path, tmp_path: Path):
    log = tmp_path / "run" / "tools.log"
    with adapter(SETTINGS, corpus, log=log) as (url, token), ToolClient(url, SETTINGS, token) as client:
        pid = client.check()["pid"]
        log.parent.rename(tmp_path / "away")  # no log can be opened: an error of the supervisor's own
        os.kill(pid, signal.SIGKILL)
        wait_until_gone(pid)
        client.submit(1, "search", {"query": "town 1"}, "e")
        assert client.poll(2.0) == []
        log.parent.mkdir()
        ((_, reply),) = client.poll(None)
        assert reply.ok
        assert client.check()["pid"] != pid


def test_an_address_open_to_others_needs_a_token(corpus: Path):
    server = serve(corpus, "--host=0.0.0.0", "--port=0")
    _, errors = server.communicate()
    assert server.returncode == 2
    assert errors.splitlines() == [
        "error: --host 0.0.0.0 is open to others; set REST_JAX_TOOLS_TOKEN or listen on 127.0.0.1"
    ]


def test_one_that_is_open_to_others_answers_them_by_any_name(corpus: Path):
    server = serve(corpus, "--host=0.0.0.0", "--port=0", **{TOKEN_VARIABLE: "a-token-of-the-tests"})
    assert server.stdout is not None
    port = urlsplit(json.loads(server.stdout.readline())["url"]).port
    headers = {"Host": "tools.example", "Authorization": "Bearer a-token-of-the-tests"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/healthz", headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200
    finally:
        server.terminate()
        server.communicate()


def test_a_runs_own_adapter_answers_the_run_alone(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "a-token-for-others")
    noted, tokens = tmp_path / watch.RECORD, []
    for _ in range(2):
        with adapter(SETTINGS, corpus, log=tmp_path / "tools.log") as (url, token):
            tokens.append(token)
            record = watch.read(tmp_path)
            assert record is not None
            assert (record.url, record.token) == (url, token)
            assert noted.stat().st_mode & 0o777 == 0o600
            assert record.pid == watch.pid_at(url, 20.0, token)
            command = Path(f"/proc/{record.pid}/cmdline").read_text()
            with ToolClient(url, SETTINGS) as stranger, pytest.raises(UserError, match="401"):
                stranger.check()
            with ToolClient(url, SETTINGS, token) as client:
                assert client.check()["pid"] == record.pid
        assert token is not None
        assert token not in command + repr(record) + (tmp_path / "tools.log").read_text()
    assert len(set(tokens)) == 2


def test_a_taken_port_is_one_line_for_the_user(corpus: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = serve(corpus, f"--port={port}")
        _, errors = server.communicate()
    assert server.returncode == 2
    (line,) = errors.splitlines()
    assert line.startswith(f"error: cannot listen on 127.0.0.1:{port} (")
    assert line.endswith("address already in use); choose another --host or --port")
