"""An HTTP server that sends exactly the bytes chosen by a test."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Server:
    """The `url` of the server, and the head (request line and headers) of every request so far."""

    url: str
    heads: list[str] = field(default_factory=list)


def http_response(
    body: bytes | str = b"", status: str = "200 OK", length: int | None = None, **headers: str
) -> list[bytes]:
    """Return a complete HTTP response; `length` may be a wrong Content-Length, header names have _ for -."""
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(data) if length is None else length}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ["\r\n".join([*lines, "", ""]).encode(), data]


@contextmanager
def serving(respond: Callable[[str], Iterator[bytes] | list[bytes]]) -> Iterator[Server]:
    """Respond to each request, on a separate connection, with the pieces that `respond` returns for its path."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(f"http://127.0.0.1:{listener.getsockname()[1]}")

    def handle_connection(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                received = connection.recv(65536)
                if not received:
                    return
                head += received
            server.heads.append(head.decode("latin-1"))
            for piece in respond(head.split()[1].decode("latin-1")):
                connection.sendall(piece)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=handle_connection, args=(listener.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
