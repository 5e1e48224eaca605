"""Receivers of alerts on the loopback: a mail server, and an HTTP server that accepts, refuses or never responds."""

import asyncio
import email
import email.policy
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from sales_assets import settings as settings_module


class Mailbox:
    """The mails accepted by a mail server: (subject, text)."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, str]] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"mailto://127.0.0.1:{self.port}/?from=alerts@shop.example&to=ops@shop.example"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802  aiosmtpd's name
        assert isinstance(envelope.content, bytes)
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        body = mail.get_body(("plain", "html"))
        assert body is not None
        self.mails.append((str(mail["subject"]), body.get_content()))
        return "250 OK"


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """Run a mail server."""
    mail_box = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        mail_box.port = listener.getsockname()[1]
        loop = asyncio.new_event_loop()
        server = loop.run_until_complete(loop.create_server(lambda: SMTP(mail_box, loop=loop), sock=listener))
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield mail_box
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            server.close()
            loop.close()


class Webhook:
    """The requests to an HTTP server.

    `status` is the response status; with None, the server sends header lines without end.
    """

    def __init__(self, port: int) -> None:
        self.url = f"json://127.0.0.1:{port}/hook/t0ken-0f-the-webhook"
        self.messages: list[dict[str, Any]] = []
        self.status: int | None = 200
        self.closing = threading.Event()

    @property
    def titles(self) -> list[str]:
        return [message["title"].removeprefix("sales_assets, ") for message in self.messages]


@contextmanager
def webhook() -> Iterator[Webhook]:
    """Run an HTTP server that accepts Apprise's JSON notifications."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if hook.status is None:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                while not hook.closing.wait(0.2):
                    self.wfile.write(b"X-More: to come\r\n")
                return
            if hook.status < 300:
                hook.messages.append(message)
            self.send_response(hook.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hook = Webhook(server.server_port)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield hook
        finally:
            hook.closing.set()
            server.shutdown()
            thread.join()


def clear_settings_cache() -> None:
    """Clear the cached settings, after a test changed the environment."""
    settings_module.settings.cache_clear()
    settings_module.definition_settings.cache_clear()
