"""Which backend computes attention: who chooses, why, and what else follows from it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import get_args, get_type_hints

import numpy as np
import pytest
from sampling_toys import SETTINGS, prompt, request, run, tiny_model

from rest_jax.config.settings import EngineSettings
from rest_jax.core.effects import Sampling
from rest_jax.core.errors import UserError
from rest_jax.core.events import Event
from rest_jax.models import attention
from rest_jax.models.attention import BACKENDS, Backend, Case, Chosen, choose
from rest_jax.sampling.engine import Engine
from rest_jax.sampling.replicas import Replicas

CASE = Case("gpu", 16, "bfloat16")
XLA = BACKENDS["xla"]


@pytest.fixture
def turned(monkeypatch: pytest.MonkeyPatch) -> Backend:
    """A backend before `xla` that serves heads of 16 alone, and has cached keys and values lie the other way round."""

    def cached(q_btnh, k_bksh, v_bkhs, spec, positions_bt, shared):
        if shared is not None:
            shared = shared._replace(k_khp=shared.k_khp.swapaxes(1, 2), v_kph=shared.v_kph.swapaxes(1, 2))
        return XLA.cached(q_btnh, k_bksh.swapaxes(2, 3), v_bkhs.swapaxes(2, 3), spec, positions_bt, shared)

    def unfit(case: Case) -> str:
        return "" if case.head_dim == 16 else "heads of 16 only"

    backend = Backend(XLA.packed_causal, cached, token_axes=(-2, -1), unfit=unfit)
    monkeypatch.setattr(attention, "BACKENDS", {"turned": backend, **BACKENDS})
    return backend


def test_auto_takes_the_first_that_serves_and_says_why_not_those_before(turned: Backend) -> None:
    assert choose("auto", CASE) == Chosen("turned", "attention: turned (gpu, heads of 16, bfloat16)")
    assert choose("auto", replace(CASE, head_dim=64)) == Chosen(
        "xla", "attention: xla (gpu, heads of 64, bfloat16); not turned: heads of 16 only"
    )


def test_a_name_is_taken_or_refused(turned: Backend) -> None:
    assert choose("xla", CASE).name == "xla"
    with pytest.raises(UserError, match=r"turned does not serve gpu, heads of 64, .*: heads of 16 only; set"):
        choose("turned", replace(CASE, head_dim=64))
    with pytest.raises(UserError, match="no backend 'flash9'; choose one of turned, xla"):
        choose("flash9", CASE)
    with pytest.raises(UserError, match=r"engine.attention: expected one of auto, xla, got flash9"):
        Engine(tiny_model(), replace(SETTINGS, attention="flash9"))


@pytest.mark.parametrize("shared", [0, pytest.param(45, marks=pytest.mark.slow)])
def test_the_cache_lies_as_its_backend_says(turned: Backend, shared: int) -> None:
    model, settings = tiny_model(), replace(SETTINGS, shared=shared)
    beginning = prompt(9, 40)
    asked = [request(id, (*beginning, *prompt(id, 20)), sampling=Sampling(0.0)) for id in range(3)]
    replies = []
    for name in ("auto", "xla"):
        engine = Engine(model, replace(settings, attention=name))
        engine.share([beginning])
        replies.append(run(engine, *asked))
        assert engine.attention.name == ("turned" if name == "auto" else "xla")
    for id, reply in replies[0].items():
        assert reply.ids == replies[1][id].ids
        np.testing.assert_allclose(reply.logprobs, replies[1][id].logprobs, atol=1e-4)


def test_it_is_told_once_why() -> None:
    told: list[Event] = []
    Replicas(tiny_model(), replace(SETTINGS, replicas=2), emit=lambda event: told.append(event))
    assert [(e.kind, e.data["text"]) for e in told] == [("notice", "attention: xla (cpu, heads of 16, float32)")]


def test_the_settings_name_the_backends_and_decide_bits_once_there_are_several() -> None:
    assert get_args(get_type_hints(EngineSettings)["attention"]) == ("auto", *BACKENDS)
    (field,) = (field for field in fields(EngineSettings) if field.name == "attention")
    assert ("free" in field.metadata) == (len(BACKENDS) == 1)
