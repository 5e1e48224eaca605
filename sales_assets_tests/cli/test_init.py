"""`sales-assets init`: five questions, and a commented .env file that only its owner can read."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import dotenv
import pytest
from typer.testing import CliRunner, Result

from sales_assets.cli import app
from sales_assets.cli.init import QUESTIONS, InitError
from sales_assets.settings import describe, settings
from sales_assets_tests.cli.conftest import Run

SECRET = "it's \\ a #secret$"
WAREHOUSE = "postgresql://loader:p%40ss@db.example.com/sales"
INPUTS = ["https://reports.example.com", SECRET, "2024-09-01", WAREHOUSE, ""]


def run_init(file: Path, *lines: str, options: tuple[str, ...] = ()) -> Result:
    return CliRunner().invoke(app, ["init", *options, str(file)], input="".join(f"{line}\n" for line in lines))


def test_five_answers_become_a_file_that_the_settings_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ".env"
    before = os.umask(0)
    try:
        done = run_init(file, *INPUTS)
    finally:
        os.umask(before)
    assert done.exit_code == 0, done.output
    assert len(QUESTIONS) == len(INPUTS) == 5
    assert SECRET not in done.output
    assert "p%40ss" not in done.output
    assert done.stdout.splitlines()[-1].startswith("next step: `sales-assets doctor`")
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [".env"]

    assert dotenv.dotenv_values(file) == {
        "REPORT_API_URL": INPUTS[0],
        "REPORT_API_KEY": SECRET,
        "SALES_FIRST_DAY": "2024-09-01",
        "WAREHOUSE_URL": WAREHOUSE,
    }
    for name in ("REPORT_API_KEY", "SALES_HOME"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("SALES_ENV_FILE", str(file))
    settings.cache_clear()
    assert settings().report_api_key.get_secret_value() == SECRET
    assert settings().report_api_url == INPUTS[0]


def test_every_setting_is_a_comment_with_its_default(run_in_process: Run, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    assert run_in_process("init", "--yes", str(file)).returncode == 0
    text = file.read_text(encoding="utf-8")
    assert dotenv.dotenv_values(file) == {}
    for variable, default, meaning in describe():
        assert f"\n# {variable}={default}\n" in text
        assert meaning in " ".join(re.sub(r"\n# ", " ", text).split())
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("position", "wrong", "fault"),
    [
        (0, "reports.example.com", "REPORT_API_URL: must be an http:// or https:// URL"),
        (2, "01.09.2024", "SALES_FIRST_DAY: Invalid isoformat string"),
        (2, "2999-01-01", "SALES_FIRST_DAY: must be before today"),
        (3, "mysql://u:hush@h/d", "WAREHOUSE_URL: "),
        (1, "hush${HOME}", "REPORT_API_KEY: '${' can't be written to a file"),
    ],
)
def test_invalid_answer_repeats_the_question(tmp_path: Path, position: int, wrong: str, fault: str) -> None:
    file = tmp_path / ".env"
    done = run_init(file, *INPUTS[:position], wrong, *INPUTS[position:])
    assert done.exit_code == 0, done.output
    assert fault in done.output
    assert "hush" not in done.output
    assert dotenv.dotenv_values(file)["WAREHOUSE_URL"] == WAREHOUSE


def test_an_existing_file_is_replaced_only_on_request(run_in_process: Run, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("precious")
    done = run_in_process("init", "--yes", str(file))
    assert (done.returncode, done.stderr) == (
        1,
        f"error: {file} exists: `sales-assets init --yes --force {file}` replaces it\n",
    )
    other = tmp_path / "other settings.env"
    other.touch()
    done = run_in_process("init", "--yes", str(other))
    assert f"`sales-assets init --yes --force '{other}'` replaces it" in done.stderr
    refused = run_init(file, "n")
    assert isinstance(refused.exception, InitError)
    assert str(refused.exception) == f"{file} was not changed"
    assert file.read_text() == "precious"
    assert run_init(file, "y", *INPUTS).exit_code == 0
    assert dotenv.dotenv_values(file)["REPORT_API_URL"] == INPUTS[0]
    assert run_in_process("init", "--yes", "--force", str(file)).returncode == 0
    assert dotenv.dotenv_values(file) == {}
    missing = run_in_process("init", "--yes", str(tmp_path / "nowhere" / ".env"))
    assert (missing.returncode, missing.stderr) == (1, f"error: {tmp_path}/nowhere is not a folder\n")


@pytest.mark.parametrize("answers", [0, 1])
def test_without_input_the_command_is_named(tmp_path: Path, answers: int) -> None:
    file = tmp_path / ".env"
    done = run_init(file, *INPUTS[:answers])
    assert isinstance(done.exception, InitError)
    assert (
        str(done.exception)
        == f"no more input, {file} was not written: `sales-assets init --yes {file}` uses the defaults"
    )
    assert not file.exists()


@pytest.mark.external
def test_a_terminal_echoes_no_secret(tmp_path: Path) -> None:
    """Run in a real terminal: the kernel echoes the input unless the program switches the echo off."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "sales_assets.cli", "init", ".env"],
        cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, close_fds=True,
        preexec_fn=lambda: os.open(os.ttyname(0), os.O_RDWR),  # makes the pseudo-terminal the controlling terminal
    )  # fmt: skip
    os.close(theirs)
    shown = ""
    try:
        for question, text in zip(QUESTIONS, INPUTS, strict=True):
            while f"{question.text[:20]}" not in shown or not shown.endswith(": "):
                shown += os.read(ours, 1024).decode()
            os.write(ours, f"{text}\n".encode())
            shown += os.read(ours, 1024).decode()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert INPUTS[0] in shown
    assert "#secret" not in shown
    assert "p%40ss" not in shown
    assert dotenv.dotenv_values(tmp_path / ".env")["REPORT_API_KEY"] == SECRET
