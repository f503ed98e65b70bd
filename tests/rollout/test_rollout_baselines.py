"""ReAct's seven baselines, every branch of each, against pages that were read by a person."""

import pytest
from baselines import PAGES, SCRIPTS, make, page, path_of, play, write_corpus

from rest_jax.agents.registry import agent
from rest_jax.agents.replay import replay, replayed
from rest_jax.config.settings import ToolsSettings
from rest_jax.tools.client import ToolClient
from rest_jax.tools.process import adapter


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    folder = tmp_path_factory.mktemp("baselines")
    corpus, settings = write_corpus(folder / "corpus.jsonl"), ToolsSettings()
    with adapter(settings, corpus, log=folder / "log") as (url, token), ToolClient(url, settings, token) as client:
        client.check()
        yield client


@pytest.mark.parametrize("branch", SCRIPTS)
def test_a_baseline_goes_as_its_page_says(branch, tools):
    trajectory = play(tools, branch)
    assert page(trajectory) == path_of(branch).read_text(encoding="utf-8")
    again, _ = replay(make(branch.split("/")[0]), replayed(trajectory))
    assert (again.status, again.answer, again.why) == (trajectory.status, trajectory.answer, trajectory.why)
    assert {call.tool for call in trajectory.tool_calls} <= set(agent(trajectory.agent).tools)


def test_every_page_is_some_branchs():
    assert set(PAGES.glob("*.txt")) == {path_of(branch) for branch in SCRIPTS}
