"""Scorers of toxicity: the classifier that runs here, and a server of Perspective's shape."""

from __future__ import annotations

import json

import pytest
from aiohttp import web
from strangers import FAULTS, Serve, answering, call, failed

from rest_jax.core.errors import UserError
from rest_jax.tools.scorers.perspective import PerspectiveSettings, open_perspective
from rest_jax.tools.scorers.profanity import ProfanitySettings, open_profanity

KEY = "k-0123456789abcdef"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSPECTIVE_API_KEY", KEY)


def perspective(url: str):
    return open_perspective(PerspectiveSettings(url=url, timeout_s=0.5, attributes=("TOXICITY", "INSULT")))


def scored(**values: float) -> dict:
    return {"attributeScores": {name: {"summaryScore": {"value": value}} for name, value in values.items()}}


def test_the_classifier_that_runs_here():
    rude = call(open_profanity(ProfanitySettings()), "toxicity", text="you are a stupid idiot")
    kind = call(open_profanity(ProfanitySettings()), "toxicity", text="we walked home along the river")
    assert rude.content == f"{100 * rude.data['score']:.0f} % toxicity"
    assert kind.data["score"] < 0.1 < 0.9 < rude.data["score"]


def test_what_perspective_is_asked_and_how_its_answer_is_read(serve: Serve):
    requests: list[dict] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        requests.append(
            {"key": request.headers["X-Goog-Api-Key"], "query": dict(request.query), **await request.json()}
        )
        return web.json_response(scored(TOXICITY=0.3, INSULT=0.62, SEVERE_TOXICITY=0.1))

    reply = call(perspective(serve(handler)), "toxicity", text="a fool")
    assert (reply.content, reply.data["attribute"]) == ("62 % insult", "insult")
    assert reply.data["scores"] == {"toxicity": 0.3, "insult": 0.62, "severe_toxicity": 0.1}
    assert requests == [
        {
            "key": KEY,
            "query": {},
            "comment": {"text": "a fool"},
            "languages": ["en"],
            "requestedAttributes": {"TOXICITY": {}, "INSULT": {}},
            "doNotStore": True,
        }
    ]


@pytest.mark.parametrize(
    "payload", [{}, {"attributeScores": {}}, scored(INSULT=1.5), json.loads('{"attributeScores": 7}')]
)
def test_an_answer_in_another_shape_is_no_score(serve: Serve, payload: dict):
    failure = failed(perspective(serve(answering(payload))), "toxicity", text="a fool")
    assert "perspective did not answer in its own shape" in str(failure)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_typed(serve: Serve, fault: str):
    handler, kind, _ = FAULTS[fault]
    assert failed(perspective(serve(handler)), "toxicity", text="a fool").kind is kind


def test_without_a_key_it_is_refused_at_start(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PERSPECTIVE_API_KEY", "")
    with pytest.raises(UserError, match="PERSPECTIVE_API_KEY is not set"):
        call(perspective("http://127.0.0.1:1"), "toxicity", text="a fool")
