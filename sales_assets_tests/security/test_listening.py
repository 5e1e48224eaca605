"""Listening sockets: every process listens only on the loopback interface or a Unix socket, according to the kernel.

`cli/test_demo.py` checks the demo with its UI.
"""

import socket
import subprocess
import sys

import pytest

from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets_tests.builders import Order, ReportFolderBuilder
from sales_assets_tests.cli.conftest import command
from sales_assets_tests.cli.processes import Command, beyond_this_machine, free_port, listening

__all__ = ["command"]


@pytest.mark.external
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0", "::"])
def test_listening_addresses_are_found(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listener:
        name = f"{address}:{listener.getsockname()[1]}"
        code = "import sys; print(flush=True); sys.stdin.read()"
        with subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[listener.fileno()],
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            assert listening([process.pid]) == {name}
            assert beyond_this_machine({name}) == ([] if "1" in address else [name])
            process.communicate()


def test_services_and_simulators_listen_on_the_loopback(
    command: Command, reports: ReportFolderBuilder, warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBITMQ_URL", "amqp://guest:hush@127.0.0.1:9//")
    metrics_port = free_port()
    monkeypatch.setenv("PARTNERAPI_METRICS_PORT", str(metrics_port))
    reports.report([Order("a")])
    started = [
        command.start(name, *arguments, "--port", "0")
        for name, *arguments in (
            ("report-api", "--data", str(reports.folder)),
            ("partner-api",),
            ("sender-api",),
            ("api",),
        )
    ]
    for process in started:
        assert process.stdout is not None
        assert "http://127.0.0.1:" in process.stdout.readline()
    for process in started:
        found = listening([process.pid])
        assert found
        assert beyond_this_machine(found) == []
    assert len(listening(command.processes())) == len(started) + 1
    assert f"127.0.0.1:{metrics_port}" in listening(command.processes())
    for process in started:
        process.terminate()
        process.communicate(timeout=60)


def test_embedded_server_listens_only_on_a_unix_socket(server: EmbeddedPostgres) -> None:
    lines = (server.data / "postmaster.pid").read_text().splitlines()
    postmaster = int(lines[0])
    assert lines[5] == "", "its own word of the address that it listens on"
    assert listening([postmaster]) == set()
