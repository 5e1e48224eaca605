"""How the stand-in listens: in the foreground until it is told to stop, or in a thread beside a test."""

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from sales_assets.services.report_api.app import ReportApi

_START_SECONDS = 10


class _Server(uvicorn.Server):
    def __init__(self, app: ReportApi, on_ready: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,  # uvicorn would put handlers of its own beside the caller's
            log_level="error",
            access_log=False,
            lifespan="off",
            ws="none",
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Whoever is still reading after the second of grace is cut off on purpose: no matter for a traceback.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        # uvicorn's own handler raises the signal again after its shutdown: SIGTERM then kills the process
        # before the caller's clean-up (of a generated folder) has run.
        self.force_exit = self.should_exit
        self.should_exit = True


def serve(
    app: ReportApi,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    on_ready: Callable[[str], None] = lambda _url: None,
) -> None:
    """Answer requests until SIGINT or SIGTERM, then return.

    Args:
        app: What answers.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        on_ready: Called once with the base URL (`http://127.0.0.1:8000`) as soon as requests are answered.

    Raises:
        OSError: the address can't be listened on (taken, not ours, not allowed).
    """
    listener = _listen(host, port)
    url = _url(listener)
    _Server(app, lambda: on_ready(url)).run([listener])


@contextmanager
def running(app: ReportApi) -> Iterator[str]:
    """Answer requests in a background thread, on a free port of the loopback; the value is the base URL."""
    listener = _listen("127.0.0.1", 0)
    ready = threading.Event()
    server = _Server(app, ready.set)
    thread = threading.Thread(target=server.run, args=([listener],), name="report-api", daemon=True)
    thread.start()
    try:
        if not ready.wait(_START_SECONDS):
            raise RuntimeError(f"the report API did not start within {_START_SECONDS} s")
        yield _url(listener)
    finally:
        server.should_exit = True
        thread.join()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
