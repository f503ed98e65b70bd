"""An adapter that runs already: what it must serve to be taken for the run's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from rest_jax.config.settings import OF_THE_CORPUS, ToolsSettings
from rest_jax.core.errors import UserError
from rest_jax.core.events import Event
from rest_jax.tools.agreement import refuse_another
from rest_jax.tools.search.corpus import read_corpus

URL, SETTINGS = "http://there:1", ToolsSettings()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"title": "Vell", "text": "A town."}\n')
    return path


def health_of(corpus: Path) -> dict:
    shown = {name: getattr(SETTINGS, name) for name in OF_THE_CORPUS}
    return {"about": {"search": {"corpus": read_corpus(corpus).digest, **shown}}}


def test_the_same_corpus_and_settings_are_taken(corpus: Path) -> None:
    events: list[Event] = []
    refuse_another(URL, health_of(corpus), corpus, SETTINGS, events.append)
    assert events == []


@pytest.mark.parametrize("name", OF_THE_CORPUS)
def test_each_setting_that_decides_what_is_shown_must_agree(corpus: Path, name: str) -> None:
    health = health_of(corpus)
    health["about"]["search"][name] = "other"
    with pytest.raises(UserError, match=f"serves {name} other instead of {getattr(SETTINGS, name)}; start it with"):
        refuse_another(URL, health, corpus, SETTINGS, lambda event: None)


def test_an_adapter_that_does_not_say_what_it_serves_is_warned_of(corpus: Path) -> None:
    events: list[Event] = []
    refuse_another(URL, {"status": "ok"}, corpus, SETTINGS, events.append)
    assert [event.kind for event in events] == ["warning"]
