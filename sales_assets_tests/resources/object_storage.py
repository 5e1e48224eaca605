"""A local S3 server, and a proxy in front of it that fails on request."""

import http.client
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import botocore.session
import pytest
import s3fs
from botocore.exceptions import BotoCoreError, ClientError

from sales_assets import settings as settings_module

ACCESS_KEY, SECRET_KEY = "AKIACANARYCANARYKEY0", "canary/of+the+object+storage"
BUCKET = "shop"
_IDENTITIES = (
    '{"identities": [{"name": "test", "credentials": [{"accessKey": "%s", "secretKey": "%s"}],'
    ' "actions": ["Admin", "Read", "Write", "List"]}]}'
)
_PORTS = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
_SECONDS = 60


def free_ports(number: int) -> list[int]:
    """Return ports of 127.0.0.1 without a listener."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in sockets]


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """Run SeaweedFS with an empty bucket; yield the URL of its S3 endpoint."""
    weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or "weed"
    for name in ("data", "log"):
        (folder / name).mkdir(parents=True)
    (folder / "s3.json").write_text(_IDENTITIES % (ACCESS_KEY, SECRET_KEY))
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    options = {"dir": folder / "data", "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "master.telemetry": "false"}
    options |= {
        "filer": "true",
        "s3": "true",
        "s3.config": folder / "s3.json",
        "s3.iam": "false",
        "s3.autoCreateBucket": "false",
    }
    options |= {"s3.port.iceberg": 0, "s3.port.lance": 0, "master.volumeSizeLimitMB": 64, "volume.max": 20, **ports}
    line = [
        weed,
        f"-logdir={folder / 'log'}",
        "server",
        *(f"-{name}={value}" for name, value in options.items()),
    ]
    # Tests search for processes of their home by this variable, and the server outlives the test for which it was
    # started.
    environment = {name: value for name, value in os.environ.items() if name != "SALES_HOME"}
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(line, stdout=output, stderr=subprocess.STDOUT, cwd=folder, env=environment)
    try:
        url = f"http://127.0.0.1:{ports['s3.port']}"
        _make_bucket(url, process)
        yield url
    finally:
        process.kill()  # a regular stop takes 25 seconds
        process.wait()


def _make_bucket(url: str, process: subprocess.Popen[bytes]) -> None:
    client = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="first", Body=b"")
            return
        except (BotoCoreError, ClientError):
            assert process.poll() is None, "the S3 server ended"
            assert time.monotonic() < deadline, "the S3 server does not answer"
            time.sleep(0.1)


def use_object_storage(monkeypatch: pytest.MonkeyPatch, endpoint: str, location: str) -> None:
    """Store the raw files at s3:// from now on, with credentials and endpoint in the environment, as users do."""
    for name, value in {
        "RAW_FILES_URL": location,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    settings_module.settings.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()


@dataclass
class StorageProxy:
    """A proxy that forwards requests to the S3 server, except for `failing` ones.

    failing: {part of "<method> <path>?<query>": how}; how is a status such as 503, 'reset' for a closed connection,
    'cut' for half a body, 'lost' for one request that is executed without a response, 'hang' for no response until the
    proxy ends.
    requests: all requests so far, as "<method> <path>?<query>".
    lost_after: the number of requests after which all connections are closed.
    watch: called with each request before it is handled.
    """

    url: str = ""
    failing: dict[str, int | str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    lost_after: int | None = None
    watch: Callable[[str], None] = lambda _: None
    ended: threading.Event = field(default_factory=threading.Event)

    def wait_for(self, part: str) -> None:
        """Wait for a request that contains this part."""
        deadline = time.monotonic() + _SECONDS
        while not any(part in request for request in self.requests):
            assert time.monotonic() < deadline, f"no request has {part}"
            time.sleep(0.01)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print errors, except those of a killed client."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def run_storage_proxy(storage: str) -> Iterator[StorageProxy]:
    """Run a proxy in front of the S3 server."""
    storage_proxy = StorageProxy()
    address = urlsplit(storage)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_request(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = f"{self.command} {unquote(self.path)}"
            storage_proxy.watch(request)
            part, how = next((item for item in storage_proxy.failing.items() if item[0] in request), ("", None))
            storage_proxy.requests.append(request)
            if storage_proxy.lost_after is not None and len(storage_proxy.requests) > storage_proxy.lost_after:
                how = "reset"
            if how == "hang":
                storage_proxy.ended.wait()
            if how == "lost":
                del storage_proxy.failing[part]
                self.forward_request(body, answered=False)
            if how in ("reset", "lost", "hang"):
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            elif isinstance(how, int):
                self.reply(how, [("Content-Type", "application/xml")], self.error_with_secrets())
            else:
                self.forward_request(body, cut=how == "cut")

        def error_with_secrets(self) -> bytes:
            """Return an error body like that of some servers, with request headers, a signed link and the account."""
            link = (
                f"https://{ACCESS_KEY}:{SECRET_KEY}@storage.example/x?X-Amz-Signature=canary-signature&sig=canary-sig"
            )
            return (
                f"<Error><Code>AccessDenied</Code><Message>refused {link} Authorization: "
                f"{self.headers.get('Authorization')} aws_secret_access_key={SECRET_KEY}</Message>"
                f"<AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId></Error>"
            ).encode()

        def forward_request(self, body: bytes, *, cut: bool = False, answered: bool = True) -> None:
            connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
            # The signature covers the Host header that the client sent.
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            response = connection.getresponse()
            content = response.read()
            headers = [
                (name, value)
                for name, value in response.getheaders()
                if name.lower() not in ("connection", "transfer-encoding", "date", "server")
            ]
            if answered:
                self.reply(response.status, headers, content, cut=cut)
            connection.close()

        def reply(self, status: int, headers: list[tuple[str, str]], content: bytes, *, cut: bool = False) -> None:
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            if self.command != "HEAD" and "content-length" not in {name.lower() for name, _ in headers}:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if cut else content)
            if cut:
                self.close_connection = True

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_request  # noqa: N815  the names of http.server

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Suppress the request log."""

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    storage_proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield storage_proxy
    finally:
        storage_proxy.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def storage_proxy(object_storage: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageProxy]:
    """Store raw files in a separate folder of the bucket, behind a proxy; yield the proxy."""
    with run_storage_proxy(object_storage) as made:
        use_object_storage(monkeypatch, made.url, f"s3://{BUCKET}/{secrets.token_hex(4)}")
        yield made
