"""Serve an application with uvicorn in the foreground until a signal, or in a background thread of a test or demo."""

import errno
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp

_START_SECONDS = 30


def server_config(
    app: ASGIApp | Callable[[], ASGIApp], *, lifespan: bool, trusted_proxies: Sequence[str] = (), **others: Any
) -> uvicorn.Config:
    """Return uvicorn's configuration for the platform; `others` are further options of `uvicorn.Config`."""
    return uvicorn.Config(
        app,
        log_config=None,  # uvicorn would add handlers to the caller's
        log_level="error",
        access_log=False,
        lifespan="on" if lifespan else "off",
        ws="none",
        proxy_headers=bool(trusted_proxies),
        # Always given: uvicorn would otherwise read it from the environment.
        forwarded_allow_ips=list(trusted_proxies),
        server_header=False,
        timeout_graceful_shutdown=1,
        **others,
    )


class PortTakenError(OSError):
    """Another process listens on the port; the message contains the remedy."""


class _Server(uvicorn.Server):
    def __init__(
        self, app: ASGIApp, on_ready: Callable[[], None], *, lifespan: bool, trusted_proxies: Sequence[str] = ()
    ) -> None:
        config = server_config(app, lifespan=lifespan, trusted_proxies=trusted_proxies)
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Clients still reading after the second of grace are disconnected on purpose, without a traceback.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        # uvicorn's own handler raises the signal again after its shutdown: SIGTERM then kills the process
        # before the caller's clean-up (of a generated folder) has run.
        self.force_exit = self.should_exit
        self.should_exit = True


def serve(
    app: ASGIApp,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    lifespan: bool = False,
    trusted_proxies: Sequence[str] = (),
    on_ready: Callable[[str], None] = lambda _url: None,
) -> None:
    """Serve requests until SIGINT or SIGTERM, then return.

    Args:
        app: ASGI application.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        lifespan: Whether the application handles lifespan events.
        trusted_proxies: Addresses and networks whose X-Forwarded-Proto and X-Forwarded-For are trusted.
        on_ready: Called once with the base URL (`http://127.0.0.1:8000`) as soon as requests are answered.

    Raises:
        OSError: the address can't be listened on (in use, not local, not permitted).
    """
    listener = listen(host, port)
    url = url_of(listener)
    _Server(app, lambda: on_ready(url), lifespan=lifespan, trusted_proxies=trusted_proxies).run([listener])


@contextmanager
def running(
    app: ASGIApp, *, lifespan: bool = False, port: int = 0, trusted_proxies: Sequence[str] = ()
) -> Iterator[str]:
    """Serve requests in a background thread on the loopback, by default on a free port; yield the base URL."""
    listener = listen("127.0.0.1", port)
    ready = threading.Event()
    server = _Server(app, ready.set, lifespan=lifespan, trusted_proxies=trusted_proxies)
    thread = threading.Thread(target=server.run, args=([listener],), name="service", daemon=True)
    thread.start()
    try:
        if not ready.wait(_START_SECONDS):
            raise RuntimeError(f"the service did not start within {_START_SECONDS} s")
        yield url_of(listener)
    finally:
        server.should_exit = True
        thread.join()


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket. Raises `OSError` if the address is in use, not local or not permitted."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTakenError(f"port {port} is taken: choose another with --port") from None
        raise


def url_of(listener: socket.socket) -> str:
    """Return the base URL of a listening socket, such as `http://127.0.0.1:8000`."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
