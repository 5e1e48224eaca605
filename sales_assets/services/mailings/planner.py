"""Planner: start due mailings, finish ended ones, and choose the mailings to dispatch.

Each step is one statement of ``sql/mailings/message.sql``, correct with any number of planners and after a crash at any
point.
"""

import datetime as dt

import structlog

from sales_assets.services.mailings.message_repository import MessageRepository

_log = structlog.get_logger()

# Tasks per mailing at a time: one for each worker process.
_TASKS = 4
# Dispatch tasks at the broker at most, also while no worker runs.
_MOST_WAITING = 100
# A task that has not started within this time counts as lost.
_PATIENCE = dt.timedelta(seconds=10)
# From the end of the longest send to its commit.
_GRACE_SECONDS = 6.0


class Planner:
    """Planner of all mailings. `send_seconds`: time limit of a send; `can_send`: whether a sender is configured."""

    def __init__(self, messages: MessageRepository, *, send_seconds: float, can_send: bool) -> None:
        self._messages = messages
        self._grace = dt.timedelta(seconds=send_seconds + _GRACE_SECONDS)
        self._can_send = can_send

    async def plan(self) -> None:
        """Start, time out and finish due mailings. Raises `psycopg.Error`, `TimeoutError` without a usable database."""
        while await self.begin_one():
            pass
        await self._messages.rows("time_out", grace=self._grace)
        await self._messages.rows("fail_deleted")
        for row in await self._messages.rows("finish"):
            _log.info("mailing finished", mailing_id=row["mailing_id"])
        await self._messages.rows("fold")

    async def dispatch_tasks(self, waiting: int) -> list[int]:
        """Return the mailing id of each dispatch task to enqueue. Raises the errors of `plan`.

        `waiting`: dispatch tasks queued at the broker.
        """
        room = (_MOST_WAITING - waiting) // _TASKS
        if room <= 0 or not self._can_send:
            return []
        mailings = await self._messages.rows("enqueue_dispatch", limit=room, patience=_PATIENCE)
        return [row["mailing_id"] for _ in range(_TASKS) for row in mailings]

    async def begin_one(self) -> bool:
        """Start the mailing that has been due longest, if any, and store its recipients in the same commit."""
        async with self._messages.transaction() as messages:
            rows = await messages.rows_within("start")
            if not rows:
                return False
            await messages.rows_within("write_recipients", **rows[0])
        _log.info("mailing started", mailing_id=rows[0]["mailing_id"])
        return True
