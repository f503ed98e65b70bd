"""What the calls of a run may cost: once it is spent, every call that costs something fails, and says so."""

from __future__ import annotations

import logging
from pathlib import Path

from rest_jax.core.effects import ToolErrorKind
from rest_jax.core.errors import UserError
from rest_jax.core.files import append_whole
from rest_jax.tools.registry import ToolFailure
from rest_jax.tools.service.query import Answer, Ask, Query, Trouble

logger = logging.getLogger(__name__)

TOLERANCE = 1e-9
"""Dollars: what adding up many small costs may be off by."""


class BudgetSpent(ToolFailure):
    """A call costs more than what is left. Trying again costs as much."""

    retryable = False


class Budget:
    """Dollars that may be spent, and those that were.

    `ledger`, a file with a line for each call that was paid for, outlives the process: neither a crash nor a repeated
    command gets the money twice. Raises UserError when it cannot be read.
    """

    def __init__(self, dollars: float, ledger: Path | None = None, trouble: Trouble | None = None) -> None:
        self.dollars = dollars
        self.spent = _sum(ledger) if ledger is not None else 0.0
        self._ledger = ledger
        self._trouble = trouble or Trouble()

    def guarding(self, ask: Ask) -> Ask:
        """`ask`, but not when there is no money for it: nobody waits for a call that cannot be made."""

        async def if_affordable(query: Query) -> Answer:
            self._refuse_beyond(query)
            return await ask(query)

        return if_affordable

    def paying(self, ask: Ask) -> Ask:
        """`ask`, paid for before it is asked: a call that fails may cost as much."""

        async def paid(query: Query) -> Answer:
            self._refuse_beyond(query)
            self._pay(query.tool.cost)
            return await ask(query)

        return paid

    def _refuse_beyond(self, query: Query) -> None:
        if query.tool.cost <= 0 or self.spent + query.tool.cost <= self.dollars + TOLERANCE:
            return
        message = (
            f"the budget of ${self.dollars:g} is spent: {query.tool.name} costs ${query.tool.cost:g} and "
            f"${max(0.0, self.dollars - self.spent):g} is left; raise service.dollars"
        )
        if not self._trouble.text:
            logger.error(message)
        self._trouble.report(message)
        raise BudgetSpent(ToolErrorKind.INFRA, message)

    def _pay(self, dollars: float) -> None:
        if dollars <= 0:
            return
        if self._ledger is not None:
            try:
                append_whole(self._ledger, f"{dollars!r}\n".encode())
            except OSError as error:
                message = f"{self._ledger}: what a call costs could not be noted ({error.strerror}); make room"
                raise self._trouble.failure(message) from error
        self.spent += dollars


def _sum(ledger: Path) -> float:
    """What a ledger says was spent; a last line that a crash tore is cut off."""
    try:
        with ledger.open("ab+") as file:
            file.seek(0)
            text = file.read()
            file.truncate(text.rfind(b"\n") + 1)
            return sum(float(line) for line in text.splitlines(keepends=True) if line.endswith(b"\n"))
    except (OSError, ValueError) as error:
        raise UserError(f"{ledger}: cannot be used as a list of costs ({error}); mend or remove it") from None
