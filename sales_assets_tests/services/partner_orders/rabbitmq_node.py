"""A separate RabbitMQ node with its own ports and folder, which a test can kill without affecting other nodes."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from sales_assets_tests.services.partner_orders.fixtures import broker_reachable

_START_SECONDS = 90


def server_program() -> Path | None:
    """Return RabbitMQ's original start script: the one on the PATH is a wrapper that changes user and folders."""
    scripts = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    if scripts:
        return scripts[-1]
    found = shutil.which("rabbitmq-server")
    return Path(found) if found else None


class RabbitMQNode:
    """One node with its data below `folder`. Messages and queues survive `kill` and `start`."""

    def __init__(self, folder: Path) -> None:
        program = server_program()
        if program is None:
            pytest.skip("rabbitmq-server is not installed: the test with a separate broker was not run")
        self._program = program
        self._folder = folder
        self._name = f"test_{secrets.token_hex(6)}@localhost"
        self.port, self._distribution_port = _free_port(), _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "enabled_plugins").write_text("[].\n")
        (folder / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\n")

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        """Start the node unless it is running, and wait until it accepts connections."""
        if self._process is not None:
            return
        own = {
            "HOME": str(self._folder),
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_PID_FILE": str(self._folder / "pid"),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "none.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "enabled_plugins"),
        }
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._program)],
                env=os.environ | own,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._takes_connections():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._folder / "server.log").read_text()[-2000:])
            time.sleep(0.1)

    def _takes_connections(self) -> bool:
        if not broker_reachable(self.url):
            return False
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            connection.settimeout(2)
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            try:
                return bool(connection.recv(1))
            except OSError:
                return False

    def kill(self) -> None:
        """Send SIGKILL to the node and its children."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
