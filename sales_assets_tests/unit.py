"""Unit tests: those whose fixtures need no server, browser or process. `make unit` runs them.

A pytest plugin. It marks a test `unit` unless the test uses one of `EXTERNAL_FIXTURES` or is marked `external`. A unit
test that opens a socket or starts a process fails.
"""

import contextlib
import sys
import threading
from collections.abc import Generator, Iterator
from typing import Any

import psycopg
import pytest

# A fixture that uses one of these fixtures is external too.
EXTERNAL_FIXTURES = frozenset(
    {"server", "own_server", "report_api", "broker", "browser", "command", "start", "object_storage"}
)

_FORBIDDEN = frozenset(
    ("socket.bind", "socket.connect", "subprocess.Popen", "os.fork", "os.exec", "os.posix_spawn", "os.system")
)
_ADVICE = "use a fixture that starts what it needs, or mark it `external`"


class _Guard:
    """Audit hook that forbids servers and processes; it has a switch, because audit hooks can't be removed.

    Threads that an earlier test left running are exempt, because the current test would fail for their connections.
    """

    def __init__(self) -> None:
        self._on = False
        self._installed = False
        self._seen: list[str] = []
        self._earlier: set[int | None] = set()

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Refuse servers and processes, and fail at the end if a refusal was suppressed."""
        if not self._installed:
            sys.addaudithook(lambda event, _: self._refuse(event) if event in _FORBIDDEN else None)
            self._installed = True
        self._on, self._seen = True, []
        self._earlier = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}
        connect = psycopg.generators.connect

        def refuse_or_connect(*arguments: Any, **options: Any) -> Any:
            self._refuse("psycopg.connect")
            return connect(*arguments, **options)

        try:
            with pytest.MonkeyPatch.context() as patch:
                # Python has no audit events for the sockets that libpq opens.
                patch.setattr(psycopg.generators, "connect", refuse_or_connect)
                yield
        finally:
            self._on = False
        if self._seen:
            pytest.fail(f"{self._seen} in a unit test; {_ADVICE}")

    def _refuse(self, event: str) -> None:
        if self._on and threading.get_ident() not in self._earlier:
            self._seen.append(event)
            raise RuntimeError(f"{event} in a unit test; {_ADVICE}")


_guard = _Guard()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark unit tests, before `-m` selects them."""
    for item in items:
        if EXTERNAL_FIXTURES.isdisjoint(getattr(item, "fixturenames", ())) and not item.get_closest_marker("external"):
            item.add_marker(pytest.mark.unit)


def _guarded(item: pytest.Item) -> Generator[None, object, object]:
    """Refuse servers and processes during one phase of a unit test: setup, call or teardown."""
    with contextlib.nullcontext() if item.get_closest_marker("unit") is None else _guard.on():
        return (yield)


pytest_runtest_setup = pytest.hookimpl(wrapper=True)(_guarded)
pytest_runtest_call = pytest.hookimpl(wrapper=True)(_guarded)
pytest_runtest_teardown = pytest.hookimpl(wrapper=True)(_guarded)
