"""Retries, breaker, limits and budget: by a clock that nobody waits for."""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
from service_world import Backend, FakeTime, ask_for, down, full_disk, limited

from rest_jax.core.effects import ToolErrorKind
from rest_jax.core.errors import UserError
from rest_jax.tools.registry import ToolFailure
from rest_jax.tools.service.breaker import CircuitOpen, breaking
from rest_jax.tools.service.budget import Budget, BudgetSpent
from rest_jax.tools.service.limits import Bucket, limiting
from rest_jax.tools.service.query import Trouble, run_tool
from rest_jax.tools.service.retries import pause_s, retrying
from rest_jax.tools.service.service import asking
from rest_jax.tools.service.settings import BreakerSettings, ProviderLimits, RetrySettings, ServiceSettings

RETRIES = RetrySettings(attempts=4, first_s=0.5, last_s=1.5)


# Retries


def test_pauses_double_up_to_the_longest_and_begin_where_retry_after_ends():
    assert [pause_s(RETRIES, attempt, 0, 1.0) for attempt in (1, 2, 3, 4)] == [0.5, 1.0, 1.5, 1.5]
    assert [pause_s(RETRIES, attempt, 0, 0.0) for attempt in (1, 2, 3)] == [0, 0, 0]
    assert pause_s(RETRIES, 1, 7, 0.5) == 7.25


async def failing(
    attempts: int, failure: ToolFailure, until_s: float = math.inf, **tool: object
) -> tuple[Backend, FakeTime, object]:
    """`attempts` failures, retried for so long: the backend, the time, and the answer or the failure that came out."""
    backend, time = Backend(*[failure] * attempts), FakeTime()
    ask = retrying(run_tool, RETRIES, time.clock, random.Random(0))
    try:
        return backend, time, await ask(replace(ask_for(backend.tool(**tool)), until=time.seconds + until_s))
    except ToolFailure as error:
        return backend, time, error


async def test_what_may_pass_is_tried_again():
    backend, time, answer = await failing(3, down())
    assert answer.attempts == 4
    assert len(backend.calls) == 4
    assert len(set(time.slept)) == 3
    assert all(0 <= slept <= most for slept, most in zip(time.slept, (0.5, 1.0, 1.5), strict=True))


async def test_the_last_failure_is_told_with_the_attempts():
    backend, _, failure = await failing(9, down())
    assert (len(backend.calls), failure.attempts, str(failure)) == (4, 4, "503")
    assert failure.retryable is False


async def test_retry_after_is_obeyed_while_there_is_time():
    _, time, answer = await failing(1, limited(retry_after_s=7), until_s=8)
    assert answer.attempts == 2
    assert 7 <= time.slept[0] <= 7.5
    backend, time, failure = await failing(1, limited(retry_after_s=7), until_s=7)
    assert (len(backend.calls), time.slept, failure.kind) == (1, [], ToolErrorKind.RATE_LIMITED)


@pytest.mark.parametrize(
    ("failure", "tool"),
    [
        (down(), {"stateful": True}),
        (ToolFailure(ToolErrorKind.TOOL_ERROR, "no"), {}),
        (ToolFailure(ToolErrorKind.BAD_ARGUMENTS, "no"), {}),
        (ToolFailure(ToolErrorKind.TIMEOUT, "slow"), {}),
        (BudgetSpent(ToolErrorKind.INFRA, "poor"), {}),
    ],
)
async def test_what_will_not_pass_or_may_have_had_its_effect_is_not_tried_again(failure: ToolFailure, tool: dict):
    backend, time, raised = await failing(1, failure, **tool)
    assert (raised, len(backend.calls), time.slept) == (failure, 1, [])


async def test_an_open_circuit_is_waited_for_and_is_no_attempt():
    time, backend = FakeTime(), Backend(*(down() for _ in range(5)))
    ask = retrying(breaking(run_tool, BreakerSettings(failures=2, pause_s=3), time.clock), RETRIES, time.clock)
    with pytest.raises(ToolFailure, match="503") as failed:
        await ask(ask_for(backend.tool()))
    assert (failed.value.attempts, len(backend.calls)) == (4, 4)  # the third and the fourth are probes, 3 s apart
    assert time.seconds >= 1006
    answer = await ask(ask_for(backend.tool()))
    assert (answer.attempts, len(backend.calls)) == (2, 6)


async def test_a_circuit_that_stays_open_for_too_long_is_told_at_once():
    time, backend = FakeTime(), Backend(down())
    ask = retrying(breaking(run_tool, BreakerSettings(failures=1, pause_s=11), time.clock), RETRIES, time.clock)
    query = replace(ask_for(backend.tool()), until=time.seconds + 10)
    for attempts in (1, 0):
        with pytest.raises(CircuitOpen, match="left alone for 1") as refused:
            await ask(query)
        assert (refused.value.attempts, len(backend.calls)) == (attempts, 1)
    assert time.seconds < 1001


# Breaker


async def test_a_provider_that_fails_is_left_alone_then_tried_once(caplog: pytest.LogCaptureFixture):
    settings, time = BreakerSettings(failures=3, pause_s=10), FakeTime()
    backend = Backend(down(), ToolFailure(ToolErrorKind.TIMEOUT, "slow"), ZeroDivisionError("defect"), down())
    ask, query = breaking(run_tool, settings, time.clock), ask_for(backend.tool())
    for expected in (ToolFailure, ToolFailure, ZeroDivisionError):
        with pytest.raises(expected):
            await ask(query)
    assert [record.getMessage() for record in caplog.records] == [
        "serper failed 3 times in a row (defect): left alone for 10 s"
    ]
    with pytest.raises(ToolFailure, match=r"serper failed 3 times in a row and is left alone for 10\.0 s") as refused:
        await ask(query)
    assert (refused.value.kind, refused.value.retry_after_s, len(backend.calls)) == (ToolErrorKind.INFRA, 10, 3)
    time.seconds += 10
    with pytest.raises(ToolFailure, match="503"):  # the probe fails: open anew
        await ask(query)
    with pytest.raises(ToolFailure, match="left alone"):
        await ask(query)
    time.seconds += 10
    backend.open.clear()
    probe = asyncio.create_task(ask(query))
    await asyncio.sleep(0)
    with pytest.raises(ToolFailure, match="left alone"):  # one probe at a time
        await ask(query)
    backend.open.set()
    assert (await probe).reply.ok
    assert (await ask(query)).reply.ok
    assert len(backend.calls) == 6


async def test_a_probe_that_is_given_up_lets_the_next_one_try():
    time, backend = FakeTime(), Backend(down())
    ask, query = breaking(run_tool, BreakerSettings(failures=1, pause_s=10), time.clock), ask_for(backend.tool())
    with pytest.raises(ToolFailure):
        await ask(query)
    time.seconds += 10
    backend.open.clear()
    probe = asyncio.create_task(ask(query))
    await asyncio.sleep(0)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    backend.open.set()
    assert (await ask(query)).reply.ok


async def test_providers_have_circuits_of_their_own_and_a_429_opens_none():
    time = FakeTime()
    ask = breaking(run_tool, BreakerSettings(failures=1, pause_s=10), time.clock)
    bad, good, mine, busy = Backend(down()), Backend(), Backend(down()), Backend(limited())
    with pytest.raises(ToolFailure):
        await ask(ask_for(bad.tool()))
    assert (await ask(ask_for(good.tool(provider="brave")))).reply.ok
    for backend, provider in ((mine, ""), (busy, "bing")):
        with pytest.raises(ToolFailure):
            await ask(ask_for(backend.tool(provider=provider)))
        assert (await ask(ask_for(backend.tool(provider=provider)))).reply.ok


# Limits


def test_a_bucket_fills_with_time_up_to_its_size_and_never_by_a_clock_that_goes_back():
    assert Bucket(0, 10).filled(2, 5, 11.5) == Bucket(3, 11.5)
    assert Bucket(4, 10).filled(2, 5, 100) == Bucket(5, 100)
    assert Bucket(1, 10).filled(2, 5, 4) == Bucket(1, 4)


async def gather_starts(
    limits: ProviderLimits, calls: int, *failures: ToolFailure, until_s: float = math.inf
) -> tuple[list[float], list[object]]:
    """When each of so many calls at once began, by the fake clock, and what came of them."""
    time, starts = FakeTime(), []
    backend = Backend(*failures)

    async def noting(arguments, episode):
        starts.append(time.seconds - 1000)
        return await backend(arguments, episode)

    tool = replace(backend.tool(), run=noting)
    ask = limiting(run_tool, {limits.provider: limits}, time.clock)
    outcomes = await asyncio.gather(
        *(ask(replace(ask_for(tool, str(i)), until=1000 + until_s)) for i in range(calls)), return_exceptions=True
    )
    return starts, outcomes


async def test_a_rate_holds_after_a_burst():
    starts, _ = await gather_starts(ProviderLimits("serper", per_second=4, burst=3), 7)
    assert starts == pytest.approx([0, 0, 0, 0.25, 0.5, 0.75, 1.0])


async def test_who_would_wait_too_long_is_told_at_once():
    starts, outcomes = await gather_starts(ProviderLimits("serper", per_second=1), 7, until_s=4)
    assert starts == pytest.approx([0, 1, 2, 3, 4])
    refused = [outcome for outcome in outcomes if isinstance(outcome, ToolFailure)]
    assert [failure.kind for failure in refused] == [ToolErrorKind.RATE_LIMITED] * 2
    assert "4 calls wait for serper and this one would for 4 s, longer than it may; have fewer" in str(refused[0])


async def test_what_one_call_hears_of_retry_after_holds_for_all():
    starts, _ = await gather_starts(ProviderLimits("serper", at_once=1), 3, limited(retry_after_s=5))
    assert starts == pytest.approx([0, 5, 5])


async def test_calls_at_one_time_are_capped_whatever_the_rate():
    backend, time = Backend(), FakeTime()
    backend.open.clear()
    ask = limiting(run_tool, {"serper": ProviderLimits("serper", at_once=5)}, time.clock)
    tools = [backend.tool(), backend.tool(name="news")]  # tools of one provider share its limits
    calls = [asyncio.create_task(ask(ask_for(tools[i % 2], str(i)))) for i in range(12)]
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(backend.calls) == 5
    calls[0].cancel()  # one that runs, and one that waits
    calls[11].cancel()
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(backend.calls) == 6
    backend.open.set()
    await asyncio.gather(*calls, return_exceptions=True)
    assert len(backend.calls) == 11
    own = [asyncio.create_task(ask(ask_for(backend.tool(provider=""), str(i)))) for i in range(40)]
    await asyncio.sleep(0)
    assert len(backend.calls) == 51
    await asyncio.gather(*own)


# Budget


async def test_a_budget_is_spent_once_whatever_happens_to_the_process(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    ledger, backend = tmp_path / "spent", Backend(down())
    tool = backend.tool(cost=0.1)
    settings = ServiceSettings(cache=None, dollars=0.3, retries=replace(RETRIES, attempts=2))
    ask = asking(settings, {}, ledger=ledger, clock=FakeTime().clock)
    assert (await ask(ask_for(tool))).attempts == 2  # both are paid for
    with ledger.open("a") as file:
        file.write("0.")  # a crash tore the next line
    ask = asking(settings, {}, ledger=ledger, clock=FakeTime().clock)
    assert (await ask(ask_for(tool))).reply.ok
    for _ in range(2):
        with pytest.raises(BudgetSpent, match=r"budget of \$0\.3 is spent.*raise service\.dollars") as spent:
            await ask(ask_for(tool))
    assert spent.value.kind.is_infrastructure
    assert len(caplog.records) == 1
    assert (await ask(ask_for(backend.tool(cost=0)))).reply.ok
    assert len(backend.calls) == 4
    assert Budget(0.3, ledger).spent == pytest.approx(0.3)


async def test_nobody_waits_for_a_call_that_there_is_no_money_for():
    backend, time = Backend(), FakeTime()
    settings = ServiceSettings(cache=None, dollars=0.1, limits=(ProviderLimits("serper", per_second=0.1),))
    ask = asking(settings, {}, clock=time.clock)
    assert (await ask(ask_for(backend.tool(cost=0.1)))).reply.ok
    with pytest.raises(BudgetSpent):
        await ask(ask_for(backend.tool(cost=0.1)))
    assert time.slept == []


async def test_many_calls_at_once_do_not_overspend():
    backend = Backend()
    budget = Budget(0.5)
    ask = budget.guarding(limiting(budget.paying(run_tool), {}, FakeTime().clock))
    calls = (ask(ask_for(backend.tool(cost=0.1), str(i))) for i in range(50))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert len(backend.calls) == 5
    assert sum(isinstance(outcome, BudgetSpent) for outcome in outcomes) == 45


async def test_what_cannot_be_noted_in_the_ledger_is_neither_asked_nor_paid(tmp_path: Path):
    ledger, backend, trouble = tmp_path / "spent", Backend(), Trouble()
    budget = Budget(5.0, ledger, trouble)
    ask, query = budget.paying(run_tool), ask_for(backend.tool(cost=0.125))
    await ask(query)
    with full_disk(ledger, room=2), pytest.raises(ToolFailure, match="could not be noted") as failure:
        await ask(query)
    assert (failure.value.kind, failure.value.retryable) == (ToolErrorKind.INFRA, False)
    assert f"{ledger}: what a call costs could not be noted (File too large); make room" == trouble.text
    assert (len(backend.calls), budget.spent) == (1, 0.125)
    await ask(query)
    assert Budget(5.0, ledger).spent == 0.25


def test_a_damaged_ledger_is_for_the_user_to_mend(tmp_path: Path):
    (tmp_path / "spent").write_text("0.1\nmuch\n")
    with pytest.raises(UserError, match="spent: cannot be used as a list of costs"):
        Budget(1, tmp_path / "spent")
