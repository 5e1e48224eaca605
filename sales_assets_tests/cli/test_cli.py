"""Command-line interface: help, startup, wrong arguments, wrong settings."""

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
    """Yield the path of every command and command group."""
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, *path, name)


@pytest.mark.parametrize("words", list(commands(typer.main.get_command(app))), ids=" ".join)
def test_every_command_and_parameter_has_a_help_text(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALES_NONSENSE", "help needs no settings")
    result = CliRunner().invoke(app, [*words, "--help"])
    assert result.exit_code == 0
    # Besides the usage there must be a description, and a help text for every parameter.
    lines = [line for line in result.output.splitlines() if line.strip()]
    assert "Usage: " in lines[0]
    assert lines[1].strip().endswith((".", ":")) or len(lines[1].strip()) > 20
    bare = [line for line in lines if line.startswith("│ --") and not line.rstrip("│ ").split("  ")[-1].strip()]
    assert bare == []


def test_version_equals_that_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"sales-assets {project['project']['version']}\n")


@pytest.mark.external
def test_startup_imports_no_heavy_dependency() -> None:
    """`--help` and `warehouse url` must not wait for the import of Dagster, pandas or a database driver."""
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
    ("name", "value", "message"),
    [
        ("REPORT_API_KYE", "hush", "error: REPORT_API_KYE: unknown setting; did you mean REPORT_API_KEY?"),
        ("WAREHOUSE_URL", "mysql://hush", "error: WAREHOUSE_URL: must be a postgresql:// URL"),
        ("SALES_FIRST_DAY", "soon", "error: SALES_FIRST_DAY: Invalid isoformat string: 'soon'"),
    ],
)
def test_invalid_setting_exits_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    done = run("doctor", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message)
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
def test_invalid_arguments_exit_with_2_and_the_usage(arguments: tuple[str, ...]) -> None:
    settings_module.settings.cache_clear()
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: " in result.stderr


@pytest.mark.parametrize("arguments", [("load", "--to"), ("why",), ("quarantine", "list", "--day")], ids=" ".join)
@pytest.mark.parametrize("day", ["yesterday", "02.10.2024", "2024-02-30"])
def test_a_wrong_date_is_reported_with_the_right_form(arguments: tuple[str, ...], day: str) -> None:
    result = CliRunner().invoke(app, [*arguments, day])
    assert result.exit_code == 2
    text = " ".join(result.stderr.replace("│", " ").split())
    assert f"Invalid value for '{'YYYY-MM-DD' if arguments == ('why',) else arguments[-1]}': " in text
    assert f"'{day}' is not a date such as 2024-10-02" in text


@pytest.mark.external
def test_a_shell_completes_commands_and_options(tmp_path: Path) -> None:
    """Call the command as the script of `--show-completion` does."""
    command = Path(sys.executable).with_name("sales-assets")

    def complete(typed: str) -> list[str]:
        words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split(" ")) - 1), "HOME": "/nowhere"}
        environment = {"_SALES_ASSETS_COMPLETE": "complete_bash", "PATH": "/usr/bin:/bin", **words}
        done = subprocess.run([command], env=environment, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert complete("sales-assets qua") == ["quarantine"]
    assert complete("sales-assets quarantine ") == ["list", "show", "replay", "reopen"]
    assert "--report" in complete("sales-assets load --")

    home = {"HOME": str(tmp_path), "PATH": f"{command.parent}:/usr/bin:/bin"}
    subprocess.run(["bash", "-c", "sales-assets --install-completion; true"], env=home, check=True, capture_output=True)
    (script,) = (tmp_path / ".bash_completions").iterdir()
    assert "_SALES_ASSETS_COMPLETE=complete_bash" in script.read_text(encoding="utf-8")
    assert str(script) in (tmp_path / ".bashrc").read_text(encoding="utf-8")
