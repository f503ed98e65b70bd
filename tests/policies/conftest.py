from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rest_jax.models import tokenizer
from rest_jax.models.tokenizer import Tokenizer
from rest_jax.policies import transport
from tests.models.tokenizers_for_tests import llama2_like
from tests.policies.completions_server import Served, serving, write_teacher
from tests.policies.endpoint_table import Table


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_BACKOFF_S", 0.01)


@pytest.fixture(scope="session")
def teacher_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random two-layer model with a tokenizer of its own."""
    return write_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="session")
def teacher_codec(teacher_model: Path) -> Tokenizer:
    return tokenizer.load(teacher_model)


@pytest.fixture(scope="session")
def one_server(teacher_model: Path) -> Iterator[Served]:
    with serving(teacher_model) as served:
        yield served


@pytest.fixture
def served(one_server: Served) -> Served:
    """A server over the teacher, which fails at nothing until a test plans it."""
    one_server.plan()
    return one_server


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Another tokenizer than the teacher's."""
    return tokenizer.load(llama2_like(tmp_path_factory.mktemp("student") / "tokenizer"))


@pytest.fixture
def table(served: Served, tmp_path: Path, student: Tokenizer) -> Iterator[Table]:
    table = Table(served, tmp_path, student)
    yield table
    for policy in table.opened:
        policy.close()
