"""Generated pages of ``docs/reference/``, from settings, commands, definitions and the warehouse's catalog.

`python -m sales_assets_tests.architecture.reference` rewrites the pages, and starts a PostgreSQL for the catalog.
"""

import inspect
import tempfile
from collections.abc import Iterator
from pathlib import Path

import typer
from typer.core import TyperArgument, TyperOption

from sales_assets.cli import app
from sales_assets.postgres import migrations
from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.settings import describe
from sales_assets_tests.architecture.modules import PACKAGE
from sales_assets_tests.architecture.reference_assets import assets_page, cell, tables_page, tables_without_asset
from sales_assets_tests.site.diagrams import draw

FOLDER = PACKAGE.parent / "docs" / "reference"

_SETTINGS_HEADER = """\
# Settings

Settings come from the environment or a `.env` file; the environment takes precedence. `.env.example` is a template of
that file. `sales-assets doctor` shows the values in effect. A malformed or unknown variable stops a program at its
start, with one line per fault and without any secret.

The variable `SALES_ENV_FILE`, in the environment, names a settings file outside the current folder.

| variable | default | meaning |
| --- | --- | --- |
"""

_COMMANDS_HEADER = """\
# Commands

Results go to stdout, everything else to stderr. The exit code is 0 for success, 1 for a failure, and 2 for wrong
settings or usage. `--debug`, before or after the command, shows the traceback of an error; `--help` shows this text.
`sales-assets --version` prints the version.
"""


def settings_page() -> str:
    """Return the table of all settings, in the order of ``.env.example``."""
    rows = (
        f"| `{name}` | {f'`{default}`' if default else 'empty'} | {cell(meaning)} |"
        for name, default, meaning in describe()
    )
    return _SETTINGS_HEADER + "\n".join(rows) + "\n"


def commands_page() -> str:
    """Return every command with its help, arguments and options."""
    group = typer.main.get_command(app)
    return _COMMANDS_HEADER + "".join(_sections(group, "sales-assets"))


# The pages that need no database.
PAGES = {"settings.md": settings_page, "cli.md": commands_page, "assets.md": assets_page}
TABLES = "tables.md"


def _sections(group: object, path: str) -> Iterator[str]:
    for name, command in sorted(getattr(group, "commands", {}).items()):
        help_text = inspect.cleandoc(command.help or "").replace("\f", "").strip()
        yield f"\n## {path} {name}\n\n{help_text}\n"
        rows = list(_parameters(command))
        if rows:
            yield "\n| | default | |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"
        yield from _sections(command, f"{path} {name}")


def _parameters(command: object) -> Iterator[str]:
    for parameter in getattr(command, "params", []):
        if isinstance(parameter, TyperOption):
            if parameter.name == "help":
                continue
            names = ", ".join(f"`{option}`" for option in parameter.opts)
        elif isinstance(parameter, TyperArgument):
            names = f"`{parameter.metavar or parameter.name}`"
        else:
            continue
        has_default = isinstance(parameter.default, str | int | float) and parameter.default is not False
        default = f"`{parameter.default}`" if has_default else ""
        yield f"| {names} | {default} | {cell(parameter.help or '')} |"


def _tables_page() -> str:
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres")
        server.ensure_running()
        try:
            migrations.migrate(server.url("sales"))
            return tables_page(tables_without_asset(server.url("sales")))
        finally:
            server.stop()


if __name__ == "__main__":
    for file, page in PAGES.items():
        (FOLDER / file).write_text(page(), encoding="utf-8")
    (FOLDER / TABLES).write_text(_tables_page(), encoding="utf-8")
    draw()
