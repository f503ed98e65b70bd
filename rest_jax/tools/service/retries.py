"""Failures that may pass are tried again, after a pause of full jitter that obeys Retry-After."""

from __future__ import annotations

import random
from dataclasses import replace

from rest_jax.core.http import backoff_s
from rest_jax.tools.protocol import RETRYABLE
from rest_jax.tools.registry import ToolFailure
from rest_jax.tools.service.breaker import CircuitOpen
from rest_jax.tools.service.query import Answer, Ask, Clock, Query
from rest_jax.tools.service.settings import RetrySettings


def pause_s(settings: RetrySettings, attempt: int, retry_after_s: float, drawn: float) -> float:
    """Seconds between attempt number `attempt` (from 1) and the next: what the provider asked for, and then `drawn`,
    uniform in [0, 1), of a range that doubles, so that not all who heard it come back at one time."""
    return retry_after_s + backoff_s(attempt - 1, settings.first_s, settings.last_s, drawn)


def is_worth_retrying(query: Query, failure: ToolFailure) -> bool:
    """Whether the same call may do better, and asking again changes nothing but that."""
    passing = failure.kind in RETRYABLE if failure.retryable is None else failure.retryable
    return passing and not query.tool.stateful


def retrying(ask: Ask, settings: RetrySettings, clock: Clock, draw: random.Random | None = None) -> Ask:
    """`ask`, again after failures that may pass, while there is time. Answers and failures say how many attempts they
    took; a failure after the last of them is not to be tried again by whoever asked, or attempts would multiply.

    A circuit that is open is waited for, however often: nothing was asked, and a call that is given up meanwhile would
    find the provider no better elsewhere.
    """
    draw = draw or random.Random()

    async def pause(query: Query, attempt: int, failure: ToolFailure) -> None:
        """Raises the failure when the next attempt would come too late."""
        seconds = pause_s(settings, attempt, failure.retry_after_s, draw.random())
        if clock.now() + seconds >= query.until:
            raise failure
        await clock.sleep(seconds)

    async def try_again(query: Query) -> Answer:
        attempt = 1
        while True:
            try:
                return replace(await ask(query), attempts=attempt)
            except CircuitOpen as refusal:
                refusal.attempts = attempt - 1
                await pause(query, 1, refusal)
            except ToolFailure as failure:
                failure.attempts = attempt
                if attempt == settings.attempts:
                    failure.retryable = False
                if not is_worth_retrying(query, failure):
                    raise
                await pause(query, attempt, failure)
                attempt += 1

    return try_again
