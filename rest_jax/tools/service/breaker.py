"""A circuit breaker for each provider: one that fails again and again is left alone for a while."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass, replace

from rest_jax.core.effects import ToolErrorKind
from rest_jax.tools.registry import Refusal, ToolFailure
from rest_jax.tools.service.query import Answer, Ask, Clock, Query
from rest_jax.tools.service.settings import BreakerSettings

logger = logging.getLogger(__name__)


PROBE_S = 0.5
"""While a call tries whether a provider works again, the others look again after so long."""


class CircuitOpen(ToolFailure):
    """The provider was not asked; `retry_after_s` says when it will be."""

    attempts = 0


@dataclass(frozen=True)
class Circuit:
    """A provider's state: closed while `opened_at` is None; open for `pause_s` after it; then half-open, in which one
    call at a time goes through and decides."""

    failures: int = 0
    """In a row."""
    opened_at: float | None = None
    probing: bool = False


def closed_in_s(circuit: Circuit, settings: BreakerSettings, now: float) -> float:
    """0 where a call may go through; else after how many seconds it is worth trying again."""
    if circuit.opened_at is None:
        return 0.0
    left = circuit.opened_at + settings.pause_s - now
    if left > 0:
        return left
    return min(PROBE_S, settings.pause_s) if circuit.probing else 0.0


def after_failure(circuit: Circuit, settings: BreakerSettings, now: float) -> Circuit:
    """A failed probe opens the circuit anew, and so does the last of too many failures in a row."""
    failures = circuit.failures + 1
    opens = circuit.opened_at is not None or failures >= settings.failures
    return Circuit(failures, opened_at=now if opens else None)


def breaking(ask: Ask, settings: BreakerSettings, clock: Clock) -> Ask:
    """`ask`, but not of a provider whose circuit is open: that fails at once (CircuitOpen). Tools of nobody pass.

    What counts is whether the provider worked at all: an agent's own mistake, a refusal and a 429 say that it does.
    """
    circuits: defaultdict[str, Circuit] = defaultdict(Circuit)

    async def unless_open(query: Query) -> Answer:
        provider = query.tool.provider
        if not provider:
            return await ask(query)
        circuit = circuits[provider]
        wait_s = closed_in_s(circuit, settings, clock.now())
        if wait_s > 0:
            message = f"{provider} failed {circuit.failures} times in a row and is left alone for {wait_s:.1f} s"
            raise CircuitOpen(ToolErrorKind.INFRA, message, retry_after_s=wait_s)
        probes = circuit.opened_at is not None
        if probes:
            circuits[provider] = replace(circuit, probing=True)
        try:
            answer = await ask(query)
        except ToolFailure as failure:
            if failure.kind in (ToolErrorKind.INFRA, ToolErrorKind.TIMEOUT) and not isinstance(failure, Refusal):
                failed(provider, failure)
            else:
                circuits[provider] = Circuit()
            raise
        except Exception as defect:
            failed(provider, defect)
            raise
        except BaseException:  # given up by who asked: it says nothing about the provider
            if probes:
                circuits[provider] = replace(circuits[provider], probing=False)
            raise
        circuits[provider] = Circuit()
        return answer

    def failed(provider: str, why: Exception) -> None:
        before = circuits[provider]
        circuits[provider] = after_failure(before, settings, clock.now())
        if before.opened_at is None and circuits[provider].opened_at is not None:
            logger.warning(
                "%s failed %d times in a row (%s): left alone for %g s",
                provider,
                before.failures + 1,
                why,
                settings.pause_s,
            )

    return unless_open
