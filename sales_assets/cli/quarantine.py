"""`sales-assets quarantine`: list rejected rows, resolve them, and load their days again through Dagster."""

import datetime as dt
import json
import os
import pwd
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from sales_assets.cli.console import out, print_error
from sales_assets.cli.options import day_option

if TYPE_CHECKING:
    from sales_assets.postgres.warehouse import Warehouse

app = typer.Typer(
    help="""Rejected rows: list, show and resolve them.

    A row that breaks a rule never reaches the mart. It is quarantined with its file, line number and reason. Correct it
    (`replay ID --line ...`) or discard it (`replay ID --discard`): its file is parsed again with the resolution, and
    its day is loaded again. `reopen ID` undoes that.""",
    no_args_is_help=True,
)

Row = dict[str, Any]


@dataclass(frozen=True)
class Replayed:
    """The rows after the replay, and the failures of loading their days.

    also: numbers of identical rows of other contents, which inherited the resolution.
    """

    lines: list[Row]
    failures: list[str]
    also: list[int]


@app.command("list")
def quarantine_list(
    day: Annotated[
        dt.date | None,
        day_option("--day", "Only rows dated this day or from files delivered for it."),
    ] = None,
    all_states: Annotated[bool, typer.Option("--all", help="Include resolved rows.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON lines; correct them in a file and replay it with --file.")
    ] = False,
    limit: Annotated[int, typer.Option(help="Maximum number of rows.", min=1)] = 1000,
) -> None:
    """List rejected rows with file, line number and reason."""
    from sales_assets.postgres.warehouse import Warehouse

    rows = list_lines(Warehouse(), day=day, all_states=all_states, limit=limit)
    if as_json:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False, default=str))  # noqa: T201  rich would wrap the lines
        return
    table = Table("id", "state", "day", "file", "line", "reason", "text")
    for row in rows:
        table.add_row(
            str(row["quarantine_id"]),
            state_of(row),
            str(row["date_id"] or "?"),
            row["path"],
            str(row["line_no"]),
            row["reason"],
            row["line_text"][:80],
        )
    out.print(table if rows else "the quarantine is empty")


def state_of(row: Row) -> str:
    """Format the state of a rejected row, with the row that its resolution is inherited from."""
    return f"{row['state']}, inherited from {row['inherited_from']}" if row["inherited_from"] else str(row["state"])


@app.command("show")
def quarantine_show(
    ids: Annotated[list[int], typer.Argument(help="Numbers from `quarantine list`.")],
) -> None:
    """Show rejected rows in detail: fetch, file, line number, text, reason, state."""
    from sales_assets.postgres.warehouse import Warehouse

    for row in show_lines(Warehouse(), ids):
        for name, value in row.items():
            out.print(f"{name:>15}  {'' if value is None else value}")
        out.print()


@app.command("replay")
def quarantine_replay(
    ids: Annotated[list[int] | None, typer.Argument(help="Numbers from `quarantine list`.")] = None,
    line: Annotated[str | None, typer.Option(help="Corrected text of the row, for a single number.")] = None,
    discard: Annotated[bool, typer.Option("--discard", help="Leave the rows out permanently.")] = False,
    file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Corrected rows, in the format of `quarantine list --json`."),
    ] = None,
) -> None:
    """Resolve rejected rows and load their days again from the stored files, without the report API.

    A corrected text replaces the row: `replay 17 --line '1,ab12...,2024-10-02T00:00:00,...'`. Of two conflicting rows
    one can be discarded, which makes the other valid: `replay 18 --discard`. Numbers without --line or --discard parse
    the rows again unchanged, for example after an upgrade with more lenient rules. Resolutions are kept when the same
    contents are delivered again, and inherited by identical rows of other contents.
    """
    from sales_assets.postgres.warehouse import Warehouse

    numbers = ids or []
    if (file is None) == (not numbers):
        raise typer.BadParameter("give numbers, or --file")
    if file is not None and discard:
        raise typer.BadParameter("--discard requires numbers")
    if line is not None and (len(numbers) != 1 or discard):
        raise typer.BadParameter("--line requires a single number, and excludes --discard")
    if file is not None:
        corrections = corrections_in(file)
    else:
        corrections = {numbers[0]: line} if line is not None else {}
    done = replay(
        Warehouse(),
        corrections=corrections,
        discarded=numbers if discard else [],
        as_they_are=[] if discard else [number for number in numbers if number not in corrections],
    )
    still_open = [row for row in done.lines if row["state"] == "open"]
    for row in done.lines:
        text = f"{row['quarantine_id']}: {row['state']}" + (f" ({row['reason']})" if row in still_open else "")
        out.print(text)
    if done.also:
        out.print(f"inherited by identical rows of other contents: {', '.join(map(str, done.also))}")
    for failure in done.failures:
        print_error(failure)
    if still_open or done.failures:
        raise typer.Exit(1)


@app.command("reopen")
def quarantine_reopen(
    ids: Annotated[list[int], typer.Argument(help="Numbers from `quarantine list --all`.")],
) -> None:
    """Undo corrections and discards, and load the days again from the stored files, without the report API.

    The rows are rejected again as they were delivered, and so are identical rows of other contents.
    """
    from sales_assets.postgres.warehouse import Warehouse

    done = replay(Warehouse(), corrections={}, discarded=[], as_they_are=[], reopened=ids)
    for row in done.lines:
        out.print(f"{row['quarantine_id']}: {row['state']}" + (f" ({row['reason']})" if row["state"] == "open" else ""))
    if done.also:
        out.print(f"reopened too, as identical rows of other contents: {', '.join(map(str, done.also))}")
    for failure in done.failures:
        print_error(failure)
    if done.failures:
        raise typer.Exit(1)


def list_lines(warehouse: "Warehouse", *, day: dt.date | None, all_states: bool, limit: int) -> list[Row]:
    """Read rejected rows, of one day or all, open or in any state."""
    from sales_assets.schemas.calendar import date_id

    return warehouse.rows(
        "staging/quarantine",
        "list",
        day=day,
        date_id=date_id(day) if day else None,
        state=None if all_states else "open",
        file=None,
        reason=None,
        limit=limit,
        offset=0,
    )


def show_lines(warehouse: "Warehouse", ids: Sequence[int]) -> list[Row]:
    """Read rejected rows in detail. Raises `ResolutionError` for an unknown number."""
    from sales_assets.postgres.resolutions import rejected_rows

    with warehouse.transaction("sales_assets quarantine show", read_only=True) as transaction:
        return rejected_rows(transaction, ids)


def corrections_in(file: Path) -> dict[int, str]:
    """Read {quarantine_id: text} from a file of JSON lines in the format of `quarantine list --json`."""
    from sales_assets.postgres.resolutions import ResolutionError

    corrections = {}
    try:
        # Not splitlines(): it splits at further characters, which a rejected row may contain and JSON doesn't escape.
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ResolutionError(f"{file} is not UTF-8 ({error.reason} at byte {error.start})") from error
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
            corrections[int(row["quarantine_id"])] = str(row["line_text"])
        except (ValueError, KeyError, TypeError) as error:
            raise ResolutionError(
                f"{file}, line {number}: expected a JSON object with quarantine_id and line_text ({error})"
            ) from error
    return corrections


def replay(
    warehouse: "Warehouse",
    *,
    corrections: Mapping[int, str],
    discarded: Collection[int],
    as_they_are: Collection[int],
    reopened: Collection[int] = (),
) -> Replayed:
    """Resolve rejected rows, then reload the affected days from the stored files. Idempotent.

    Raises `ResolutionError`, and stores nothing, for an unknown number, a correction that breaks a line rule, and a row
    to be reopened that was not resolved.
    """
    from sales_assets.postgres.resolutions import CORRECT, DISCARD, PARSE_AGAIN, REOPEN, Resolution, resolve

    resolutions = [
        *(Resolution(number, CORRECT, text) for number, text in corrections.items()),
        *(Resolution(number, DISCARD) for number in discarded),
        *(Resolution(number, PARSE_AGAIN) for number in as_they_are),
        *(Resolution(number, REOPEN) for number in reopened),
    ]
    with warehouse.transaction("sales_assets quarantine replay") as transaction:
        resolved = resolve(transaction, resolutions, by=_user_name(), via="command")
    failures = _load_again(resolved.days)
    ids = [resolution.quarantine_id for resolution in resolutions]
    return Replayed(warehouse.rows("staging/quarantine", "states", ids=ids), failures, resolved.inherited)


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run under a uid without a name
        return f"uid {os.getuid()}"


def _load_again(days: Collection[dt.date]) -> list[str]:
    import dagster as dg

    from sales_assets.dagster_internals import range_tags
    from sales_assets.definitions import defs
    from sales_assets.deploy.instance import prepare_dagster_home
    from sales_assets.deploy.runs import failures_of, run_job
    from sales_assets.partitions import key_of, ranges

    prepare_dagster_home()
    definitions = defs()
    failures: list[str] = []
    with dg.DagsterInstance.get() as instance:
        for first, last in ranges(days):
            run = run_job(definitions, instance, "load_resolved_days", range_tags(key_of(first), key_of(last)))
            failures += failures_of(run)
    return failures
