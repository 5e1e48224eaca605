"""Quick start in the guide of the mailings: its commands, executed in order, send a message."""

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sales_assets_tests.cli.processes import free_port
from sales_assets_tests.services.mailings.worker import remove_queues
from sales_assets_tests.services.partner_orders.fixtures import BROKER_URL, need_broker, until

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "mailings.md"

pytestmark = pytest.mark.broker


@pytest.fixture
def commands() -> list[str]:
    """Return the lines of the first shell block below the heading, without comments."""
    block = re.search(r"## Try it\n.*?```sh\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    return [line for text in block[1].splitlines() if (line := re.sub(r"(^|\s+)# .*", "", text).strip())]


@pytest.fixture
def environment(warehouse_url: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    need_broker()
    if shutil.which("curl") is None:
        pytest.skip("THE QUICK START IS NOT TESTED: curl is not installed")
    prefix = f"quick_{secrets.token_hex(6)}"
    yield os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "RABBITMQ_URL": BROKER_URL,
        "MAILINGS_QUEUE_PREFIX": prefix,
    }
    remove_queues(BROKER_URL, prefix)


def test_the_quick_start_sends_a_message(commands: list[str], environment: dict[str, str], tmp_path: Path) -> None:
    ports = {"8000": str(free_port()), "8082": str(free_port())}
    listens = {"sales-assets api": ports["8000"], "sales-assets sender-api": ports["8082"]}
    responses: list[str] = []

    def run_shell(command: str) -> str:
        done = subprocess.run(
            ["sh", "-c", command],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout

    with ExitStack() as stack:
        for number, command in enumerate(commands):
            line = command
            for old, new in ports.items():
                line = line.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").partition("=")
                environment[name] = value
            elif line.startswith("curl "):
                responses.append(until(lambda line=line: run_shell(line), seconds=120))  # type: ignore[misc]
            else:
                assert line.startswith(("sales-assets ", "celery ")), line
                if line in listens:
                    line = f"{line} --port {listens[line]}"
                log = stack.enter_context((tmp_path / f"{number}.log").open("wb"))
                process = subprocess.Popen(
                    ["sh", "-c", f"exec {line}"],
                    env=environment, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
                stack.callback(_end, process)
        assert '"phone":"78218173218"' in responses[0]
        assert '"text":"hello"' in responses[1]
        sent = '{"message_data":[{"status":"SENT","count":1}],"total_mailings":1}'
        logs = {path.name: path.read_text() for path in tmp_path.glob("*.log")}
        assert until(lambda: sent in run_shell(line), seconds=120), logs


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
