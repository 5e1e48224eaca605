"""`sales-assets api --workers`: several processes on one port."""

import os
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from sales_assets_tests.cli.processes import Command, run_command_in_process
from sales_assets_tests.cli.test_api import NO_BROKER, ended, first_line

REQUESTS = 40


@pytest.fixture(autouse=True)
def _on_this_machine(warehouse_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITMQ_URL", NO_BROKER)


def children_of(pid: int) -> set[int]:
    """Return the pids of the worker processes, which are the children started by `spawn_main`."""
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        found |= {int(child) for child in (task / "children").read_text().split()}
    return {child for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()}


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def requests_counted(url: str) -> int:
    """Return the number of requests in the metrics, which must not depend on the process that serves the scrape."""
    text = requests.get(f"{url}/metrics", timeout=30).text
    counts = re.findall(r'^http_request_seconds_count\{.*route="/api/v1/clients/list/".*\} (\S+)$', text, re.MULTILINE)
    return int(sum(map(float, counts)))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_processes_share_port_and_metrics_and_are_replaced(command: Command) -> None:
    services = command.start("api", "--port", "0", "--workers", "2")
    url = first_line(services).removeprefix("services: ")
    workers = children_of(services.pid)
    assert len(workers) == 2

    def get_status(_: int) -> int:
        return requests.get(f"{url}/api/v1/clients/list/", timeout=60).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(get_status, range(REQUESTS))) == {200}
    assert [requests_counted(url) for _ in range(6)] == [REQUESTS] * 6

    killed_worker = workers.pop()
    os.kill(killed_worker, signal.SIGKILL)
    wait_until(lambda: len(children_of(services.pid) - {killed_worker}) == 2)
    assert get_status(0) == 200
    assert requests_counted(url) == REQUESTS + 1  # the counts of the killed process are still included

    last = children_of(services.pid)
    ended(services)
    assert not [pid for pid in last if is_alive(pid)]


def test_no_process_outlives_a_killed_parent(command: Command) -> None:
    services = command.start("api", "--port", "0", "--workers", "2")
    first_line(services)
    workers = children_of(services.pid)
    assert len(workers) == 2
    services.kill()
    wait_until(lambda: not [pid for pid in workers if is_alive(pid)])


def test_workers_without_the_http_part_are_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run_command_in_process(("api", "--workers", "2", "--part", "relay"), capsys, monkeypatch)
    assert done.returncode == 2
    assert "--workers requires the part http" in done.stderr
