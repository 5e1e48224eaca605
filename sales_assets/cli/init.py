"""`sales-assets init`: ask for the few settings that differ between shops, and write a commented .env file."""

import shlex
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from sales_assets.cli.console import INTERRUPTED, err, out
from sales_assets.cli.env import quoted
from sales_assets.settings import ENV_FILE, describe, fault_of

A = TypeVar("A")

_WIDTH = 120
_HEADER = """\
Settings of sales_assets, written by `sales-assets init`. Lines in comments show the defaults: uncomment what you
change. The environment takes precedence over this file. It may hold secrets: keep it out of version control.
"""


@dataclass(frozen=True)
class Question:
    """A setting that `init` asks for. A hidden one isn't echoed, because it is or may contain a secret."""

    variable: str
    text: str
    is_hidden: bool = False


QUESTIONS = (
    Question("REPORT_API_URL", "URL of your report API"),
    Question("REPORT_API_KEY", "Its key, sent as X-API-KEY (not shown; empty: set it later)", is_hidden=True),
    Question("SALES_FIRST_DAY", "First day with sales data, YYYY-MM-DD"),
    Question("WAREHOUSE_URL", "URL of your PostgreSQL (not shown; empty: the embedded one)", is_hidden=True),
    Question("SALES_HOME", "Folder for raw files, embedded server and Dagster's home (empty: the default)"),
)


class InitError(Exception):
    """The settings file was not written; the message is the reason."""


def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path(ENV_FILE),
    yes: Annotated[bool, typer.Option("--yes", help="Use the defaults without asking.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file without asking.")] = False,
) -> None:
    """Ask five questions and write a .env file, which lists all settings with comments.

    Each answer is validated immediately; secrets aren't shown. Only your user may read the file. An existing file is
    replaced after confirmation, or with `--force`. Use an editor to change the file afterwards.
    """
    if path.exists() and not force:
        if yes:
            command = f"sales-assets init --yes --force{_argument(path)}"
            raise InitError(f"{path} exists: `{command}` replaces it")
        if not _asked(path, lambda: typer.confirm(f"{path} exists. Replace it?", err=True)):
            raise InitError(f"{path} was not changed")
    defaults = {variable: default for variable, default, _ in describe()}
    answers = (
        {}
        if yes
        else {
            question.variable: _asked(path, partial(_prompt, question, defaults[question.variable]))
            for question in QUESTIONS
        }
    )
    write_settings(path, {name: value for name, value in answers.items() if value not in ("", defaults[name])})
    out.print(f"wrote {path}, readable only by you")
    out.print("next step: `sales-assets doctor` checks the settings and prints the next step")


def _asked(path: Path, ask: Callable[[], A]) -> A:
    """Return the answer to a question. Raises `InitError` if the input has ended, as without a terminal."""
    try:
        return ask()
    except typer.Abort:
        err.print()  # ends the line of the question
        if sys.stdin.isatty():
            sys.exit(INTERRUPTED)
        command = f"sales-assets init --yes{_argument(path)}"
        raise InitError(f"no more input, {path} was not written: `{command}` uses the defaults") from None


def _argument(path: Path) -> str:
    return "" if path == Path(ENV_FILE) else f" {shlex.quote(str(path))}"


def _prompt(question: Question, default: str) -> str:
    while True:
        value = typer.prompt(
            question.text, default=default, show_default=bool(default), hide_input=question.is_hidden, err=True
        ).strip()
        fault = fault_of(question.variable, value) if value else None
        if fault is None and "${" in value:
            # python-dotenv would expand it, in quotes too.
            fault = f"{question.variable}: '${{' can't be written to a file; set the variable in the environment"
        if fault is None:
            return str(value)
        err.print(fault, style="bold red")


def write_settings(path: Path, values: dict[str, str]) -> None:
    """Write all settings with their descriptions as comments; those in `values` are set, the others show the default.

    The file appears when it is complete, and has mode 0600 from the beginning.
    """
    from sales_assets.fsync import appearing

    if not path.absolute().parent.is_dir():
        raise InitError(f"{path.absolute().parent} is not a folder")
    blocks = [_comment(_HEADER)]
    for variable, default, meaning in describe():
        line = f"{variable}={quoted(values[variable])}" if variable in values else f"# {variable}={default}"
        blocks.append(f"{_comment(meaning)}{line}\n")
    with appearing(path.absolute()) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text("\n".join(blocks), encoding="utf-8")


def _comment(text: str) -> str:
    lines = (line for part in text.splitlines() for line in textwrap.wrap(part, _WIDTH - 2, break_on_hyphens=False))
    return "".join(f"# {line}\n" for line in lines)
