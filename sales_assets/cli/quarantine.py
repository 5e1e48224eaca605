"""`sales-assets quarantine`: list rejected rows, resolve them, and load their days again through Dagster."""

import datetime as dt
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from sales_assets.cli.console import out, say_error
from sales_assets.cli.options import day_option
from sales_assets.settings import first_day

if TYPE_CHECKING:
    from sales_assets.postgres.warehouse import Warehouse

app = typer.Typer(
    help="""Rejected rows: list, show and resolve them.

    A row that breaks a rule never reaches the mart. It is quarantined with its file, line number and reason. Correct it
    (`replay ID --line ...`) or discard it (`replay ID --discard`): its file is parsed with the resolution, and its day
    is loaded again.""",
    no_args_is_help=True,
)

Row = dict[str, Any]


class QuarantineError(Exception):
    """A row can't be resolved; the message has its number and the reason."""


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
        day_option("--day", "Only rows of this day, and of files for it."),
    ] = None,
    all_states: Annotated[bool, typer.Option("--all", help="Include resolved rows.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON lines, to be corrected in a file and replayed with --file.")
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
    one can be discarded, which makes the other valid: `replay 18 --discard`. Numbers alone parse the rows again
    unchanged, after an upgrade with more lenient rules. Resolutions are kept when the same contents are delivered
    again, and inherited by identical rows of other contents.
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
        say_error(failure)
    if still_open or done.failures:
        raise typer.Exit(1)


def list_lines(warehouse: "Warehouse", *, day: dt.date | None, all_states: bool, limit: int) -> list[Row]:
    """Read rejected rows, of one day or all, open or in any state."""
    from sales_assets.schemas.calendar import date_id

    return warehouse.rows(
        "staging/quarantine",
        "list",
        day=day,
        date_id=date_id(day) if day else None,
        all_states=all_states,
        limit=limit,
    )


def show_lines(warehouse: "Warehouse", ids: Sequence[int]) -> list[Row]:
    """Read rejected rows in detail. Raises `QuarantineError` for an unknown number."""
    rows = warehouse.rows("staging/quarantine", "show", ids=list(ids))
    _require_all(ids, rows)
    return rows


def corrections_in(file: Path) -> dict[int, str]:
    """Read {quarantine_id: text} from a file of JSON lines in the format of `quarantine list --json`."""
    corrections = {}
    try:
        # Not splitlines(): it splits at further characters, which a rejected row may contain and JSON doesn't escape.
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise QuarantineError(f"{file} is not UTF-8 ({error.reason} at byte {error.start})") from error
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
            corrections[int(row["quarantine_id"])] = str(row["line_text"])
        except (ValueError, KeyError, TypeError) as error:
            raise QuarantineError(
                f"{file}, line {number}: expected a JSON object with quarantine_id and line_text ({error})"
            ) from error
    return corrections


def replay(
    warehouse: "Warehouse",
    *,
    corrections: Mapping[int, str],
    discarded: Collection[int],
    as_they_are: Collection[int],
) -> Replayed:
    """Resolve rejected rows and load the days they can change again, from the stored files. Idempotent.

    A corrected text replaces the row in its file, with its line number; a discarded row is left out permanently.
    Identical rows of other contents inherit the resolution, because these contents may be delivered again.
    """
    from sales_assets.pipeline.stage import exclude_other_recorders

    ids = [*corrections, *discarded, *as_they_are]
    show_lines(warehouse, ids)
    with warehouse.transaction("sales_assets quarantine replay") as transaction:
        exclude_other_recorders(transaction)
        for number, text in corrections.items():
            transaction.run("staging/quarantine", "correct", id=number, text=text)
        for number in discarded:
            transaction.run("staging/quarantine", "discard", id=number)
        transaction.run("staging/quarantine", "touch", ids=list(as_they_are))
        resolved = [*corrections, *discarded]
        inherited = transaction.rows("staging/quarantine", "inherit", fetch_ids=[], ids=resolved)
    also = sorted({row["quarantine_id"] for row in inherited} - set(ids))
    failures = _load_again(_days_by_file(show_lines(warehouse, [*ids, *also])))
    return Replayed(warehouse.rows("staging/quarantine", "states", ids=ids), failures, also)


def _require_all(ids: Iterable[int], rows: Sequence[Row]) -> None:
    unknown = sorted(set(ids) - {row["quarantine_id"] for row in rows})
    if unknown:
        raise QuarantineError(f"not in quarantine: {', '.join(map(str, unknown))}")


def _days(line: Row) -> set[dt.date]:
    """Find the days that a resolved row can change: its old day and that of the corrected text.

    For an undated or unusable file these are all days of its fetch.
    """
    from sales_assets.pipeline.csv_reader import ReportReader, UnreadableFile, parse_line
    from sales_assets.resources.raw_files import RawFiles, RawFilesError
    from sales_assets.schemas.calendar import date_id
    from sales_assets.schemas.report_files import REPORT_FILES

    text = line["corrected_text"] or line["line_text"]
    span = {line["first_day"] + dt.timedelta(days=n) for n in range((line["last_day"] - line["first_day"]).days + 1)}
    if line["verdict"] == "failed":
        return span  # with its first valid row the file becomes selectable for all of its days
    file = REPORT_FILES[line["file"]]
    try:
        # The header alone, unverified: the load reads and verifies the file.
        reader = ReportReader(RawFiles().chunks(line["path"]), file)
        parsed = parse_line(text, file, reader.header, line["line_no"]).lines
    except (UnreadableFile, RawFilesError):
        return span  # the load names the days that the file fails
    numbers = {line["date_id"]}
    if "date_id" in parsed.schema.names:
        numbers |= set(parsed.column("date_id").to_pylist())
    else:
        return span
    return {day for day in span if date_id(day) in numbers} or span


def _days_by_file(lines: Sequence[Row]) -> dict[str, set[dt.date]]:
    by_file: dict[str, set[dt.date]] = {}
    for line in lines:
        by_file.setdefault(line["file"], set()).update(_days(line))
    return by_file


def _load_again(days_by_file: Mapping[str, set[dt.date]]) -> list[str]:
    import dagster as dg

    from sales_assets.dagster_internals import range_tags
    from sales_assets.definitions import defs
    from sales_assets.defs.load_daily_sales import staged_and_published
    from sales_assets.deploy.instance import prepare_dagster_home
    from sales_assets.deploy.runs import failures_of, run_job
    from sales_assets.partitions import DAYS, days_of, key_of, ranges
    from sales_assets.schemas.report_files import REPORT_FILES

    prepare_dagster_home()
    definitions = defs()
    latest = days_of([DAYS.get_last_partition_key() or ""])[0]
    failures: list[str] = []
    with dg.DagsterInstance.get() as instance:
        for name, days in days_by_file.items():
            selection = staged_and_published(REPORT_FILES[name])
            for first, last in ranges(day for day in days if first_day() <= day <= latest):
                tags = range_tags(key_of(first), key_of(last))
                run = run_job(definitions, instance, "load_days", tags, selection=selection)
                failures += failures_of(run)
    return failures
