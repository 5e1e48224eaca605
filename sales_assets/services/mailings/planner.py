"""Planner: start due mailings, finish those that are over, and choose the mailings to dispatch.

Belongs here: the order of the steps. Each is a statement of ``sql/mailings/message.sql``, right by itself however many
planners there are and wherever one dies. Does not belong here: sending (``dispatch``).
"""

import datetime as dt

import structlog

from sales_assets.services.mailings.message_repository import MessageRepository

_log = structlog.get_logger()

# Tasks for one mailing at a time: each worker process needs one, the others find what is left.
_TASKS = 4
# No more than this wait for a worker, however long none comes.
_MOST_WAITING = 100
# A task that nobody has begun after this was lost.
_PATIENCE = dt.timedelta(seconds=10)
# From the end of the longest send to its commit.
_GRACE_SECONDS = 6.0


class Planner:
    """`send_seconds`: the longest that a send takes; `can_send`: whether there is somewhere to send to."""

    def __init__(self, messages: MessageRepository, *, send_seconds: float, can_send: bool) -> None:
        self._messages = messages
        self._grace = dt.timedelta(seconds=send_seconds + _GRACE_SECONDS)
        self._can_send = can_send

    async def plan(self) -> None:
        """One look at everything. Raises `psycopg.Error`, `TimeoutError` when the database can't be used."""
        while await self.begin_one():
            pass
        await self._messages.rows("time_out", grace=self._grace)
        await self._messages.rows("fail_deleted")
        for row in await self._messages.rows("finish"):
            _log.info("mailing finished", mailing_id=row["mailing_id"])
        await self._messages.rows("fold")

    async def ask(self, waiting: int) -> list[int]:
        """The mailings that dispatch is to be asked for, once for each task. Raises as `plan` does.

        `waiting`: dispatch tasks that wait at the broker.
        """
        room = (_MOST_WAITING - waiting) // _TASKS
        if room <= 0 or not self._can_send:
            return []
        asked = await self._messages.rows("ask", limit=room, patience=_PATIENCE)
        return [row["mailing_id"] for _ in range(_TASKS) for row in asked]

    async def begin_one(self) -> bool:
        """Begin the mailing that has been due longest, if there is one: its recipients are fixed in the same commit."""
        async with self._messages.transaction() as messages:
            rows = await messages.rows_within("start")
            if not rows:
                return False
            await messages.rows_within("write_recipients", **rows[0])
        _log.info("mailing started", mailing_id=rows[0]["mailing_id"])
        return True
