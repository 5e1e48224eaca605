"""Progress of the commands: a bar on a terminal, lines elsewhere."""

import os
import pty
import re
import subprocess
import sys

import pytest

# Dagster replaces the descriptors of stdout and stderr while ops run.
_PROGRAM = """
import os, time
from sales_assets.cli.console import ProgressBar

with ProgressBar() as bar:
    saved, (reader, writer) = os.dup(2), os.pipe()
    os.dup2(writer, 2)
    bar.resource.days_ahead(7)
    for text in ("downloading", "downloading", "loading"):
        bar.resource.notify(text)
    bar.resource.days_done(3)
    time.sleep(0.5)
    os.dup2(saved, 2)
"""


@pytest.mark.external
def test_the_bar_of_a_terminal_moves_while_dagster_records_the_output() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen([sys.executable, "-c", _PROGRAM], stdin=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while block := _read(ours):
            shown += block
        assert process.wait() == 0
    os.close(ours)
    text = shown.decode()
    frames = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frame) for frame in re.split(r"\r\x1b\[2K", text)]
    assert any("loading" in frame and "3/7" in frame for frame in frames[:-1]), frames
    assert text.count("\n") <= 1, "the bar leaves no lines behind"


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # the terminal was closed
        return b""


@pytest.mark.external
def test_without_a_terminal_each_text_is_a_line() -> None:
    program = _PROGRAM.replace("os.dup2(writer, 2)", "pass")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "downloading\nloading\n")
