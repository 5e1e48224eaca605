"""Serve one port with several processes: uvicorn's supervisor, with readiness and shared metrics.

The parent opens the listening socket and the processes inherit it. A process that dies is replaced; one that fails to
start ends the parent.
"""

import multiprocessing
import os
import signal
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from socket import socket

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from sales_assets.services.http.server import listen, server_config, url_of

# Variable of prometheus_client: the folder in which several processes store their metrics.
_SHARED_METRICS = "PROMETHEUS_MULTIPROC_DIR"
_START_SECONDS = 60
# A process that is silent for this long is replaced: its event loop may be busy, but not for half a minute.
_SILENT_SECONDS = 30


class WorkerError(Exception):
    """A process did not start; its reason is on stderr."""


@contextmanager
def shared_metrics() -> Iterator[Path]:
    """Make this process's children store their metrics in one folder, from which any of them reports the sums."""
    with tempfile.TemporaryDirectory(prefix="sales_assets_metrics_") as folder:
        os.environ[_SHARED_METRICS] = folder
        try:
            yield Path(folder)
        finally:
            del os.environ[_SHARED_METRICS]


def shared_registry() -> CollectorRegistry:
    """Return a registry with the metrics of all processes that share the folder."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


def serve_by_processes(
    make_app: Callable[[], ASGIApp],
    processes: int,
    *,
    host: str,
    port: int,
    trusted_proxies: Sequence[str],
    metrics: Path,
    on_ready: Callable[[str], None],
) -> None:
    """Serve requests with several processes until SIGINT or SIGTERM, then return.

    Args:
        make_app: Called once in each process; must be importable there (a function of a module, or a partial of one).
        processes: Number of processes. SIGHUP replaces them one after the other without refusing a request.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        trusted_proxies: Addresses and networks whose X-Forwarded-Proto and X-Forwarded-For are trusted.
        metrics: Folder of `shared_metrics`.
        on_ready: Called once with the base URL as soon as all processes answer.

    Raises:
        OSError: the address can't be listened on.
        WorkerError: a process did not start; its reason is on stderr.
    """
    config = server_config(
        partial(_made_in_child, make_app),
        lifespan=True,
        trusted_proxies=trusted_proxies,
        factory=True,
        workers=processes,
        timeout_worker_healthcheck=_SILENT_SECONDS,
    )
    with listen(host, port) as listener:
        supervisor = _Supervisor(config, [listener], metrics, lambda: on_ready(url_of(listener)))
        supervisor.run()
        if supervisor.has_failed:
            raise WorkerError("a process of the service did not start")


class _Supervisor(Multiprocess):
    def __init__(
        self, config: uvicorn.Config, sockets: list[socket], metrics: Path, on_ready: Callable[[], None]
    ) -> None:
        super().__init__(config, sockets)
        self._metrics = metrics
        self._on_ready = on_ready
        self.has_failed = False

    def init_processes(self) -> None:
        super().init_processes()
        if all(process.wait_until_ready(_START_SECONDS, self.should_exit) for process in self.processes):
            self._on_ready()

    def keep_subprocess_alive(self) -> None:
        if self.should_exit.is_set():  # by a signal
            return
        before = list(self.processes)
        super().keep_subprocess_alive()
        for process in before:
            if process.exitcode is not None and process.pid is not None:
                # Counters of a dead process stay in the sums, its current values do not.
                mark_process_dead(process.pid, str(self._metrics))  # type: ignore[no-untyped-call]
        # Set by uvicorn if a process failed to start.
        self.has_failed = self.should_exit.is_set()


def _made_in_child(make_app: Callable[[], ASGIApp]) -> ASGIApp:
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=[parent], name="parent", daemon=True).start()
    try:
        return make_app()
    except Exception:  # noqa: BLE001  any error at the start is final
        traceback.print_exc()
        # With any other exit code uvicorn would restart the process forever.
        raise SystemExit(STARTUP_FAILURE) from None


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    """End this process when its parent has ended: orphaned children would keep the port."""
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
