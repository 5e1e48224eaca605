"""Send the messages of a mailing: claim, authorize each, send, store the result.

Decides concurrency, pace, retries and what a crash may repeat. A message is in flight from before its authorization
until its outcome is committed. The messages in flight, bounded per process, are what a `kill -9` may repeat, under the
same ids. Each message is authorized by the database after all waits (concurrency, rate), so that a pause, a deletion or
an end stops all but these.
"""

import asyncio
import datetime as dt
import itertools
import json
import math
import os
import random
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psycopg
import structlog

from sales_assets.backoff import doubling_pause
from sales_assets.services.http.micro_batch import MicroBatch
from sales_assets.services.mailings.message_repository import MessageRepository, Row
from sales_assets.services.mailings.metrics import Sends
from sales_assets.services.mailings.rate_limiter import STEP_SECONDS, RateLimiter, Reservation
from sales_assets.services.mailings.sender_client import Outcome, SenderClient, Verdict
from sales_assets.services.mailings.unsubscribe import PLACEHOLDER, UnsubscribeLinks
from sales_assets.services.mailings.windows import Window, known_zone

_log = structlog.get_logger()

ATTEMPTS = 5
LONGEST_PAUSE = 600.0
LONGEST_RETRY_AFTER = 3600.0

# Time limit of a task, so that mailings alternate; the planner enqueues the next.
_SLICE_SECONDS = 5.0
# Pause between batches of authorizations; a hundredth of the time that a send may take.
_PERMIT_PAUSE = 0.004
_MOST_TOGETHER = 1000
# Time for a request to reach the sender: no send starts later than this before the end.
END_MARGIN = dt.timedelta(milliseconds=100)
# From the end of the longest send to its commit.
_COMMIT_SECONDS = 5.0
# Pause of all sends after the sender refused the token.
_UNAUTHORIZED_SECONDS = 30.0
# How far ahead of its rate slot a message is claimed.
_AHEAD_SECONDS = 2.0
_AHEAD_SHARE = 8
_DATABASE_PAUSE = 0.5
# Tolerance for the age of the last reading of the database's clock.
_CLOCK_SECONDS = 1.0

PENDING, SENT, FAILED = "Pending", "SENT", "FAILED"

Clock = Callable[[], dt.datetime]
_DOWN = (psycopg.OperationalError, TimeoutError, OSError)


@dataclass(frozen=True)
class Pace:
    """Limits of a worker process; see the settings of the same names."""

    timeout: float
    rate: float
    retry_seconds: float
    lease_seconds: float
    in_flight: int


@dataclass(frozen=True)
class Mailing:
    """Values shared by all messages of a mailing; `text` as JSON, with the placeholder of the unsubscribe link."""

    mailing_id: int
    text: str
    window: Window | None


@dataclass(frozen=True)
class Claimed:
    """A message that this worker holds, under a claim unique to message and attempt."""

    message_id: int
    client_id: int
    attempts: int
    claim: str
    until: float = math.inf
    """When it is released without a rate slot, on the monotonic clock."""


@dataclass(frozen=True)
class MessageResult:
    """The new state of a claimed message; `attempts` is added. No `next_attempt_at`: the message is due at once."""

    message: Claimed
    status: str
    attempts: int = 0
    reason: str | None = None
    next_attempt_at: dt.datetime | None = None


@dataclass(frozen=True)
class Permit:
    """Permission to send a message. `seconds_left` until its mailing ends."""

    phone: str | None
    timezone: str | None
    now: dt.datetime
    seconds_left: float
    opted_out: bool


def pause_after(attempts: int, base: float, chance: float) -> float:
    """Return a pause with full jitter: `chance` (0 to 1) of a pause that doubles per failed attempt, up to a cap."""
    return chance * doubling_pause(attempts, first=base, longest=LONGEST_PAUSE)


class Dispatcher:
    """The sends of one process. Use as an async context manager; call all methods in the loop that entered it.

    Args:
        database_url: libpq URL.
        sender: Client of the sender; opened and closed with the dispatcher.
        pace: Limits of the process.
        metrics: Counts every send.
        links: Makes the unsubscribe link of each message; default: messages have none.
        clock: Current time for windows and pauses; default: the database's clock.
    """

    def __init__(
        self,
        database_url: str,
        sender: SenderClient,
        pace: Pace,
        metrics: Sends,
        *,
        links: UnsubscribeLinks | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._sender = sender
        self._links = links
        self._pace = pace
        self._metrics = metrics
        self._clock = clock
        self._claims = MessageRepository(database_url, "claims")
        self._permits = MessageRepository(database_url, "leaves")
        self._results = MessageRepository(database_url, "results")
        self._rates = MessageRepository(database_url, "rate")
        self._lease = dt.timedelta(seconds=pace.lease_seconds + pace.timeout)
        self._slots = asyncio.Semaphore(pace.in_flight)
        self._authorize = MicroBatch(self._request_permits, most=_MOST_TOGETHER, pause=_PERMIT_PAUSE)
        self._save = MicroBatch(self._store, most=_MOST_TOGETHER)
        self._stopped = asyncio.Event()
        self._rate_limiter = RateLimiter(
            pace.rate or math.inf,
            pace.lease_seconds,
            sendable=self._sendable,
            take=self._take_rate_slots,
            stopped=self._stopped,
        )
        self._name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._numbers = itertools.count(1)
        self._claiming = asyncio.Lock()
        self._held = 0
        self._most_held = 2 * pace.in_flight
        if pace.rate:
            ahead = min(_AHEAD_SECONDS, pace.lease_seconds / _AHEAD_SHARE)
            self._most_held = min(self._most_held, max(1, int(pace.rate * ahead)))
        self._room = asyncio.Event()
        self._in_flight = 0
        self._silent_until = 0.0
        self._openings: dict[tuple[str | None, Window], dt.datetime] = {}
        self._offset: float | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._stack = AsyncExitStack()
        for messages in (self._claims, self._permits, self._results, self._rates):
            self._stack.push_async_callback(messages.close)
        await self._stack.enter_async_context(self._sender)
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def stop(self) -> None:
        """Finish the sends in flight, start no others, release the messages that wait for the rate. Thread-safe."""
        self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        self._stopped.set()
        self._room.set()

    async def dispatch(self, mailing_id: int, seconds: float = _SLICE_SECONDS) -> int:
        """Send due messages of a mailing for at most `seconds`; return the number claimed.

        Raises `psycopg.Error`, `TimeoutError` when the database can't be used.
        """
        rows = await self._claims.rows("begin", mailing_id=mailing_id)
        if not rows:
            return 0
        if PLACEHOLDER in rows[0]["text"] and self._links is None:
            _log.warning("MAILINGS_UNSUBSCRIBE_URL is not set, messages stay pending", mailing_id=mailing_id)
            return 0
        mailing = _mailing(rows[0], self._links)
        ends = time.monotonic() + seconds
        sending: set[asyncio.Task[None]] = set()
        taken = 0
        try:
            while not self._is_silent() and time.monotonic() < ends and not self._rate_limiter.has_no_slot_before(ends):
                claimed = await self._claim(mailing, ends)
                if claimed is None:
                    if self._is_silent():
                        break
                    self._room.clear()
                    try:
                        await asyncio.wait_for(self._room.wait(), max(0.0, ends - time.monotonic()))
                    except TimeoutError:
                        break
                    continue
                if not claimed:
                    break
                taken += len(claimed)
                for message in claimed:
                    task = asyncio.create_task(self._deliver(mailing, message))
                    sending.add(task)
                    task.add_done_callback(sending.discard)
        finally:
            await asyncio.gather(*sending, return_exceptions=True)
        return taken

    # --- claiming ---------------------------------------------------------------------------------------------

    async def _claim(self, mailing: Mailing, ends: float) -> list[Claimed] | None:
        """Claim messages to send now; defer those outside their window, until `ends` on the monotonic clock.

        Returns None if there is no room for more.
        """
        async with self._claiming:
            room = self._most_held - self._held
            if room < max(1, self._most_held // 2):
                return None
            while True:
                claim = f"{self._name}:{next(self._numbers)}"
                rows = await self._claims.rows(
                    "claim",
                    mailing_id=mailing.mailing_id,
                    claim=claim,
                    limit=room,
                    lease=self._lease,
                )
                claimed = []
                put_off = []
                for row in rows:
                    # Messages claimed ahead at the end of the slice still get a rate slot.
                    until = ends + _AHEAD_SECONDS
                    message = Claimed(row["message_id"], row["client_id"], row["attempts"], claim, until)
                    opening = self._opening(mailing.window, row["timezone"], row["now"])
                    if opening is None:
                        claimed.append(message)
                    else:
                        put_off.append(MessageResult(message, PENDING, next_attempt_at=opening))
                if put_off:
                    await asyncio.gather(*(self._save(result) for result in put_off))
                    _log.info(
                        "messages deferred to their send window", mailing_id=mailing.mailing_id, messages=len(put_off)
                    )
                if claimed or not rows or self._is_silent() or time.monotonic() > ends:
                    self._held += len(claimed)
                    return claimed

    def _release_held(self, messages: int) -> None:
        self._held -= messages
        if self._held <= self._most_held // 2:
            self._room.set()

    # --- sending ----------------------------------------------------------------------------------------------

    async def _deliver(self, mailing: Mailing, message: Claimed) -> None:
        try:
            async with self._slots:
                self._in_flight += 1
                self._metrics.in_flight(self._in_flight)
                try:
                    result = await self._attempt(mailing, message)
                    await self._save(result)
                    self._metrics.released(result.status)
                finally:
                    self._in_flight -= 1
                    self._metrics.in_flight(self._in_flight)
        except _DOWN as error:
            # The claim lapses, and another worker claims the message. Drivers' messages hold addresses.
            _log.error(
                "the database is not available",
                mailing_id=mailing.mailing_id,
                message_id=message.message_id,
                error=type(error).__name__,
            )
        except Exception as error:  # noqa: BLE001 - a failing message must not stop the others
            _log.error(
                "internal error while sending message",
                mailing_id=mailing.mailing_id,
                message_id=message.message_id,
                error=type(error).__name__,
            )
        finally:
            self._release_held(1)

    async def _attempt(self, mailing: Mailing, message: Claimed) -> MessageResult:
        """Wait for the rate, authorize, send; return the message's new state. Without a rate slot it is released."""
        if self._is_silent():
            return self._released(message)
        has_rate_slot = True
        if self._pace.rate:
            began = time.monotonic()
            has_rate_slot = await self._rate_limiter.take((mailing, message), message.until)
            self._metrics.rate_waited(time.monotonic() - began)
        permit = await self._authorize(message)
        if permit is None or self._is_refused():
            return self._released(message)
        if permit.phone is None:
            return MessageResult(message, FAILED, reason="client deleted")
        if permit.opted_out:
            return MessageResult(message, FAILED, reason="opted out")
        opening = self._opening(mailing.window, permit.timezone, permit.now)
        if opening is not None:
            return MessageResult(message, PENDING, next_attempt_at=opening)
        if not has_rate_slot:
            return self._released(message)
        began = time.monotonic()
        text = mailing.text
        if self._links is not None:
            text = text.replace(PLACEHOLDER, self._links.link(message.message_id, permit.phone))
        outcome = await self._sender.send(message.message_id, permit.phone, text, connect_within=permit.seconds_left)
        seconds = time.monotonic() - began
        self._metrics.sent(outcome.verdict.value if outcome.reason is None else outcome.reason, seconds)
        if outcome.verdict is not Verdict.SENT:
            _log.warning(
                "send failed",
                mailing_id=mailing.mailing_id,
                message_id=message.message_id,
                client_id=message.client_id,
                attempt=message.attempts + 1,
                reason=outcome.reason,
            )
        return self._result_of(message, outcome)

    def _result_of(self, message: Claimed, outcome: Outcome) -> MessageResult:
        attempts = message.attempts + 1
        match outcome.verdict:
            case Verdict.SENT:
                return MessageResult(message, SENT, 1)
            case Verdict.UNAUTHORIZED:
                self._silent_until = time.monotonic() + _UNAUTHORIZED_SECONDS
                due = self._now() + dt.timedelta(seconds=_UNAUTHORIZED_SECONDS)
                return MessageResult(message, PENDING, 0, outcome.reason, due)
            case Verdict.FAILED if attempts < ATTEMPTS:
                pause = pause_after(attempts, self._pace.retry_seconds, random.random())  # noqa: S311 - no secret
                pause = max(pause, min(outcome.retry_after, LONGEST_RETRY_AFTER))
                return MessageResult(message, PENDING, 1, outcome.reason, self._now() + dt.timedelta(seconds=pause))
        return MessageResult(message, FAILED, 1, outcome.reason)

    def _released(self, message: Claimed) -> MessageResult:
        """Release a message unchanged."""
        silent = self._silent_until - time.monotonic()
        due = self._now() + dt.timedelta(seconds=silent) if silent > 0 else None
        return MessageResult(message, PENDING, next_attempt_at=due)

    def _is_silent(self) -> bool:
        return self._stopped.is_set() or self._is_refused()

    def _is_refused(self) -> bool:
        return time.monotonic() < self._silent_until

    # --- windows ----------------------------------------------------------------------------------------------

    def _opening(self, window: Window | None, timezone: str | None, now: dt.datetime) -> dt.datetime | None:
        """Return when the client's window opens; None if it is open or there is no window."""
        self._offset = now.timestamp() - time.monotonic()
        if window is None:
            return None
        now = self._now()
        known = self._openings.get((timezone, window))
        if known is not None and now < known:
            return known
        zone = known_zone(timezone) if timezone is not None else dt.UTC
        if zone is None:
            self._metrics.unknown_zone()
            zone = dt.UTC
        opening = window.next_opening(now, zone)
        if opening <= now:
            return None
        if len(self._openings) > _MOST_TOGETHER:
            self._openings.clear()
        self._openings[timezone, window] = opening
        return opening

    def _now(self) -> dt.datetime:
        """Return the time of the database's clock, so that the clocks of workers may differ."""
        if self._clock is not None:
            return self._clock()
        if self._offset is None:
            return dt.datetime.now(dt.UTC)
        return dt.datetime.fromtimestamp(self._offset + time.monotonic(), dt.UTC)

    # --- batched statements -----------------------------------------------------------------------------------

    async def _request_permits(self, messages: list[Claimed]) -> Sequence[Permit | None]:
        rows = await self._permits.rows(
            "permit",
            message_ids=[message.message_id for message in messages],
            claims=[message.claim for message in messages],
            needed=dt.timedelta(seconds=self._pace.timeout + min(_COMMIT_SECONDS, self._pace.lease_seconds / 2)),
            lease=self._lease,
            margin=END_MARGIN,
        )
        permits = {
            row["message_id"]: Permit(row["phone"], row["timezone"], row["now"], row["seconds_left"], row["opted_out"])
            for row in rows
        }
        return [permits.get(message.message_id) for message in messages]

    async def _store(self, results: list[MessageResult]) -> Sequence[bool]:
        """Commit new states of messages; return whether each was still claimed. Retried until all claims lapse."""
        in_order = sorted(results, key=lambda one: one.message.message_id)
        until = time.monotonic() + self._pace.lease_seconds + self._pace.timeout
        while True:
            try:
                stored = await self._store_once(in_order)
                break
            except _DOWN as error:
                if time.monotonic() > until:
                    raise
                _log.warning("could not store results, retrying", messages=len(results), error=type(error).__name__)
            await asyncio.sleep(_DATABASE_PAUSE)
        late = len(results) - len(stored)
        if late:
            self._metrics.late(late)
            _log.warning("late results ignored, another worker has the messages", messages=late)
        return [one.message.message_id in stored for one in results]

    async def _store_once(self, results: Iterable[MessageResult]) -> set[int]:
        results = list(results)
        rows = await self._results.rows(
            "store_results",
            message_ids=[one.message.message_id for one in results],
            claims=[one.message.claim for one in results],
            statuses=[one.status for one in results],
            attempts=[one.attempts for one in results],
            reasons=[one.reason for one in results],
            next_attempts=[one.next_attempt_at for one in results],
        )
        return {row["message_id"] for row in rows}

    async def _sendable(self, waiting: list[tuple[Mailing, Claimed]]) -> Sequence[bool]:
        """Return for each message whether it may still be sent."""
        if self._is_silent():
            return [False] * len(waiting)
        permits = await self._request_permits([message for _, message in waiting])
        return [
            permit is not None
            and permit.phone is not None
            and not permit.opted_out
            and self._opening(mailing.window, permit.timezone, permit.now) is None
            for (mailing, _), permit in zip(waiting, permits, strict=True)
        ]

    async def _take_rate_slots(self, count: int, ahead: float) -> Reservation:
        span = count / self._pace.rate
        rows = await self._rates.rows(
            "reserve_slots",
            span=dt.timedelta(seconds=span),
            ahead=dt.timedelta(seconds=ahead),
            farthest=dt.timedelta(seconds=ahead + max(1 / self._pace.rate, STEP_SECONDS) + _CLOCK_SECONDS),
        )
        return Reservation(rows[0]["taken"], rows[0]["wait"])


def _mailing(row: Row, links: UnsubscribeLinks | None) -> Mailing:
    window = Window(row["send_from"], row["send_until"]) if row["send_from"] is not None else None
    text: str = row["text"] if links is None else links.text_with_link(row["text"])
    return Mailing(row["mailing_id"], json.dumps(text), window)
