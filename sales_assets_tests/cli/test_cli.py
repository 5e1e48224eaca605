"""The command line itself: help, startup, wrong arguments, wrong settings."""

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from sales_assets import settings as settings_module
from sales_assets.cli import app


def commands(command: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """The words of every command and group."""
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, *path, name)


@pytest.mark.parametrize("words", list(commands(typer.main.get_command(app))), ids=" ".join)
def test_every_command_explains_itself(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALES_NONSENSE", "help needs no settings")
    result = CliRunner().invoke(app, [*words, "--help"])
    assert result.exit_code == 0
    # Beyond the usage: what it is, and every parameter with a text of its own.
    lines = [line for line in result.output.splitlines() if line.strip()]
    assert "Usage: " in lines[0]
    assert lines[1].strip().endswith((".", ":")) or len(lines[1].strip()) > 20
    bare = [line for line in lines if line.startswith("│ --") and not line.rstrip("│ ").split("  ")[-1].strip()]
    assert bare == []


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"sales-assets {project['project']['version']}\n")


@pytest.mark.external
def test_the_command_line_starts_without_what_its_commands_work_with() -> None:
    """`--help` and `warehouse url` must not wait for Dagster, pandas or a driver."""
    script = "import sys, sales_assets.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    ours = {name for name in loaded if name.startswith("sales_assets.") and not name.startswith("sales_assets.cli")}
    assert ours == {
        "sales_assets.scrubbing",
        "sales_assets.settings",
        "sales_assets.deploy",
        "sales_assets.deploy.templates",
    }
    assert not loaded & {"dagster", "fastapi", "numpy", "pandas", "psycopg", "pyarrow", "requests", "sqlalchemy"}


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sales_assets.cli", *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.external
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("REPORT_API_KYE", "hush", "error: REPORT_API_KYE: unknown setting; did you mean REPORT_API_KEY?"),
        ("WAREHOUSE_URL", "mysql://hush", "error: WAREHOUSE_URL: must be a postgresql:// URL"),
        ("SALES_FIRST_DAY", "soon", "error: SALES_FIRST_DAY: Invalid isoformat string: 'soon'"),
    ],
)
def test_a_wrong_setting_ends_every_command_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    done = run("doctor", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(told)
    assert "hush" not in done.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("load", "--from", "yesterday"),
        ("load", "--from", "2024-02-30"),
        ("why", "2024-13-01"),
        ("why",),
        ("nonsense",),
        ("report-api",),
        ("report-api", "--generated", "--cut", "2"),
        ("quarantine", "replay", "x"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_end_with_2_and_a_word_on_usage(arguments: tuple[str, ...]) -> None:
    settings_module.settings.cache_clear()
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: " in result.stderr
