"""`sales-assets users`: reads the password from stdin if there is no terminal, and never prints it."""

import io
from pathlib import Path

import pytest

from sales_assets import settings as settings_module
from sales_assets_tests.cli.conftest import Run

PASSWORD = "a password of the tests"


@pytest.fixture
def users_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SALES_USERS_FILE", str(tmp_path / "users"))
    settings_module.settings.cache_clear()
    return tmp_path / "users"


def set_stdin(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_users_are_added_listed_and_removed(
    run_in_process: Run, users_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("boris", "anna"):
        set_stdin(monkeypatch, f"{PASSWORD}\n")
        done = run_in_process("users", "add", name)
        assert (done.returncode, done.stdout) == (0, f"{name}: added\n"), done.stderr
    set_stdin(monkeypatch, "another password of the tests")
    assert run_in_process("users", "add", "anna").stdout == "anna: password changed\n"
    assert run_in_process("users", "list").stdout == "anna\nboris\n"
    assert run_in_process("users", "remove", "boris").stdout == "boris: removed\n"
    assert run_in_process("users", "list").stdout == "anna\n"
    assert PASSWORD not in users_file.read_text()


def test_errors_are_reported_in_one_sentence(
    run_in_process: Run, users_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_stdin(monkeypatch, "short\n")
    refused = run_in_process("users", "add", "anna")
    assert refused.returncode == 1
    assert "a password has 12 to 1000 characters" in refused.stderr
    missing = run_in_process("users", "remove", "anna")
    assert missing.returncode == 1
    assert "there is no user anna" in missing.stderr
    users_file.write_text("anna:x\n")
    broken = run_in_process("users", "list")
    assert broken.returncode == 1
    assert "line 1: expected a name, a colon and an Argon2id hash" in broken.stderr
