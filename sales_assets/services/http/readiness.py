"""Readiness checks with a time limit, including checks of the database."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sales_assets.postgres.connection import UnusableDatabaseError, connect_async
from sales_assets.postgres.queries import statements
from sales_assets.schemas.pseudonyms import Pseudonyms

# Load balancers often wait three seconds, and a busy machine needs part of that time.
_SECONDS = 1.5
_OK = "ok"


class NotReadyError(Exception):
    """A readiness check failed; the message is shown to callers and holds no secret."""


class NotConfiguredError(NotReadyError):
    """A part of the service is disabled by the settings."""


@dataclass(frozen=True)
class Check:
    """A readiness check: an awaitable that raises when a dependency is missing.

    `degrading`: without the dependency the service still does its main work. `optional`: the dependency may be left
    unconfigured, in which case `run` raises `NotConfiguredError`.
    """

    run: Callable[[], Awaitable[None]]
    degrading: bool = False
    optional: bool = False


@dataclass(frozen=True)
class State:
    """The result of a check; `text` is "ok" or the reason."""

    text: str
    ready: bool
    degraded: bool = False
    configured: bool = True


class Readiness:
    """All checks of the application, run together.

    A check that hangs is reported after a second and a half, and not started again before it has ended: connections
    to a database that never answers must not pile up.
    """

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self._running: dict[str, asyncio.Task[None]] = {}

    async def report(self) -> tuple[bool, dict[str, Any]]:
        """Return whether the application is ready, and the body of `/ready`.

        Optional parts that are not configured are ignored, unless none of them is configured.
        """
        states = dict(zip(self._checks, await asyncio.gather(*map(self._state, self._checks)), strict=True))
        optional = [states[name].configured for name, check in self._checks.items() if check.optional]
        ready = all(state.ready for state in states.values()) and (not optional or any(optional))
        degraded = [name for name, state in states.items() if state.degraded]
        checks = {name: state.text for name, state in states.items()}
        return ready, {"ready": ready, "degraded": degraded, "checks": checks}

    async def _state(self, name: str) -> State:
        check = self._checks[name]
        task = self._running.get(name)
        if task is None or task.done():
            task = self._running[name] = asyncio.ensure_future(check.run())
            task.add_done_callback(_retrieve)
        done, _ = await asyncio.wait({task}, timeout=_SECONDS)
        if not done or task.cancelled():
            task.cancel()
            return State(f"no answer within {_SECONDS} s", ready=check.degrading, degraded=check.degrading)
        error = task.exception()
        if error is None:
            return State(_OK, ready=True)
        if isinstance(error, NotConfiguredError):
            return State(str(error), ready=True, configured=False)
        # Show only the type of other errors: drivers' messages contain addresses and user names.
        text = str(error) if isinstance(error, NotReadyError) else type(error).__name__
        return State(text, ready=check.degrading, degraded=check.degrading)


def _retrieve(task: "asyncio.Task[None]") -> None:
    # asyncio logs errors that are not retrieved; a check that hung has been reported already.
    if not task.cancelled():
        task.exception()


async def require_erasure_secret(url: str, pseudonyms: Pseudonyms) -> None:
    """Raise `NotReadyError` unless all phones were erased with the configured secret."""
    row = await _row(url, "mailings/erased_phone", "of_another_secret", key_id=pseudonyms.key_id)
    if row["phones"]:
        raise NotReadyError(pseudonyms.other_secret)


async def require_writable(url: str, table: str) -> None:
    """Open a new connection and require that rows can be added to a table. Raises `NotReadyError`."""
    row = await _row(url, "services/readiness", "is_writable", table=table)
    if not row["writable"]:
        raise NotReadyError("the database accepts no writes")


async def _row(url: str, file: str, name: str, **parameters: object) -> dict[str, Any]:
    """Read the only row of a named statement, in a new connection."""
    try:
        connection = await connect_async(
            url,
            "sales_assets ready",
            connect_seconds=2,  # libpq rounds smaller values up to 2
            statement_ms=int(_SECONDS * 1000),
        )
    except UnusableDatabaseError as error:
        raise NotReadyError("the database accepts no writes") from error
    async with connection:
        cursor = await connection.execute(statements(file)[name], parameters)
        row = await cursor.fetchone()
    if row is None:
        raise NotReadyError(f"{name} has no row")
    return row
