"""Child process that ends with its parent, together with its own children."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from sales_assets.deploy import child
from sales_assets_tests.services.partner_orders.fixtures import until

pytestmark = pytest.mark.external

# A command that is run as `python -m timeit STATEMENT`.
_PARENT = "import subprocess; subprocess.run(['sh', '-c', 'echo runs; exec sleep 600'])"


def test_closed_stdin_ends_a_process_and_its_children() -> None:
    orphan = subprocess.Popen(
        [sys.executable, "-m", child.__name__, "timeit", "-n1", "-r1", _PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert orphan.stdin is not None
    assert orphan.stdout is not None
    try:
        assert orphan.stdout.readline() == b"runs\n"
        orphan.stdin.close()
        assert orphan.wait(60) != 0
        until(lambda: not _group_lives(orphan.pid), seconds=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(orphan.pid, signal.SIGKILL)
        orphan.wait()


def _group_lives(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True
