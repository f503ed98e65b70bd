"""A run's policies behind endpoints: opened and checked at its start, their replies kept in its folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from rest_jax.config.policies import EndpointSettings, PoliciesSettings
from rest_jax.config.settings import AgentSettings, RestConfig
from rest_jax.core.effects import Role
from rest_jax.core.errors import UserError
from rest_jax.core.policy import TextCodec
from rest_jax.models import catalog, tokenizer
from rest_jax.policies.endpoint import EndpointPolicy
from rest_jax.policies.replies import Replies

Endpoints = Mapping[Role, EndpointPolicy]
REPLIES = "replies"
"""In a run's folder: what they said."""


@contextmanager
def open_endpoints(
    policies: PoliciesSettings, codec: TextCodec, agent: AgentSettings, folder: Path | None, *, offline: bool
) -> Iterator[Endpoints]:
    """The endpoints that settings name, checked. `codec`: the run's own tokenizer. `folder` keeps their replies, each
    role's in a file; without one they are forgotten in the end.

    Raises UserError for what an endpoint refuses, and for tokens whose chat turns the run's own model does not know.
    """
    with ExitStack() as opened:
        if folder is None:
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="rest_jax-")))
        found: dict[Role, EndpointPolicy] = {}
        for role, settings in ((Role.TEACHER, policies.teacher), (Role.JUDGE, policies.judge)):
            if settings is not None:
                own = _tokenizer(settings, offline=offline)
                if own is not None and agent.style == "chat" and own.chat != codec.chat:
                    raise UserError(
                        f"policies.{role}.tokenizer: its chat turns are not those of the run's model, which learns "
                        f"from them; leave it out, or write agent.style: base"
                    )
                policy = EndpointPolicy(settings, codec, _replies(settings, folder, role), own=own)
                found[role] = opened.enter_context(closing(policy))
                policy.check()
        yield found


def named(settings: EndpointSettings | None, policy: EndpointPolicy) -> dict[str, Any]:
    """An endpoint as a stage's input: what decides its replies, as far as can be known here."""
    tokenizer = None if policy.own is None else policy.own.digest
    return {
        "weights_digest": policy.weights_digest,
        "endpoint": settings,
        "tokenizer": tokenizer,
    }


def textual(config: RestConfig) -> bool:
    """Whether a teacher is to act that answers in text alone, without log-probs."""
    teacher = config.policies.teacher
    return config.teacher_acts and teacher is not None and teacher.tokenizer is None


def notes(policies: PoliciesSettings) -> list[str]:
    """What a reader has to know of them beside the numbers."""
    told = {"teacher": policies.teacher, "judge": policies.judge}
    return [
        f"{role}: '{settings.model}' behind an endpoint (style {settings.style}); its weights were not seen here, its "
        f"replies are kept in replies/{role}.jsonl and are not repeatable without them"
        for role, settings in told.items()
        if settings is not None
    ]


def _tokenizer(settings: EndpointSettings, *, offline: bool) -> TextCodec | None:
    if settings.tokenizer is None:
        return None
    return tokenizer.load(catalog.resolve(settings.tokenizer, offline=offline))


def _replies(settings: EndpointSettings, folder: Path, role: Role) -> Replies:
    if settings.replay is not None:
        return Replies(Path(settings.replay), writable=False)
    return Replies(folder / f"{role}.jsonl")
