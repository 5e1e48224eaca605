"""`sales-assets export`: write the mart's sales of a range of days to CSV or Parquet."""

import datetime as dt
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sales_assets.cli.console import ProgressBar, out
from sales_assets.cli.options import day_option

if TYPE_CHECKING:
    from sales_assets.pipeline.progress import Progress
    from sales_assets.postgres.warehouse import Transaction

# Rows of a Parquet row group, which is held in memory. Readers skip whole groups, and small groups compress badly.
_ROWS_PER_GROUP = 100_000


class Format(StrEnum):
    """File formats, by the ending of their files."""

    PARQUET = "parquet"
    CSV = "csv"


class ExportError(Exception):
    """The requested export is impossible; the message is the reason."""


def export(
    path: Annotated[str, typer.Argument(help="File to write, or, with a trailing /, a folder for one file per day.")],
    from_day: Annotated[dt.date, day_option("--from", "First day.")],
    to_day: Annotated[dt.date, day_option("--to", "Last day, inclusive.")],
    file_format: Annotated[
        Format | None, typer.Option("--format", help="Default: the ending of PATH; parquet without one.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing file; a folder is never replaced.")
    ] = False,
) -> None:
    """Write the sales of a range of days to CSV or Parquet: mart.f_sales with the names of cities, customers and items.

    All days are as of one moment, and PATH appears when it is complete. Amounts are exact: decimals in Parquet,
    PostgreSQL's own text in CSV (UTF-8 with a header), where a name that a spreadsheet would read as a formula begins
    with an apostrophe. The file contains the names of customers.

    Example: `sales-assets export --from 2024-09-08 --to 2024-10-02 sales.parquet`.
    """
    if to_day < from_day:
        raise ExportError(f"the range is reversed: {from_day} is after {to_day}")
    days = [from_day + dt.timedelta(days=number) for number in range((to_day - from_day).days + 1)]
    with ProgressBar() as progress:
        rows = write(path, days, file_format, progress.resource, force=force)
    out.print(f"{path}: {rows} rows, {from_day} to {to_day}")


def write(
    path: str, days: Sequence[dt.date], file_format: Format | None, progress: "Progress", *, force: bool = False
) -> int:
    """Write the sales of the days, and return the number of rows. Raises `ExportError` if the path exists."""
    from sales_assets.fsync import appearing
    from sales_assets.pipeline.named_sales import row_counts, use_one_snapshot
    from sales_assets.postgres.warehouse import Warehouse

    target = Path(path)
    ending = target.suffix.removeprefix(".").lower()
    if file_format is None and ending and ending not in list(Format) and not path.endswith("/"):
        raise ExportError(f"{path}: the format .{ending} is not written; choose --format parquet or --format csv")
    chosen = file_format or (Format(ending) if ending in list(Format) else Format.PARQUET)
    write_days = _WRITERS[chosen]
    is_folder = path.endswith("/") or target.is_dir()
    if target.exists() and (is_folder or not force):
        raise ExportError(f"{path} exists" + ("" if is_folder else ": --force replaces it"))
    if not target.parent.is_dir():
        raise ExportError(f"{target.parent} is not a folder")
    with (
        appearing(target) as temporary,
        Warehouse().transaction("sales_assets export", read_only=True) as transaction,
    ):
        use_one_snapshot(transaction)
        rows = row_counts(transaction, days)
        progress.days_ahead(len(rows))
        if is_folder:
            temporary.mkdir()
            for day in rows:
                write_days(transaction, [day], temporary / f"{day}.{chosen}", progress)
        else:
            write_days(transaction, list(rows), temporary, progress)
    return sum(rows.values())


def _as_csv(transaction: "Transaction", days: Sequence[dt.date], file: Path, progress: "Progress") -> None:
    from sales_assets.pipeline.named_sales import csv_of, schema_of

    with file.open("xb") as output:
        output.write(",".join(schema_of(transaction).names).encode() + b"\n")
        for day in days:
            for block in csv_of(transaction, day):
                output.write(block)
            progress.days_done(1)


def _as_parquet(transaction: "Transaction", days: Sequence[dt.date], file: Path, progress: "Progress") -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from sales_assets.pipeline.named_sales import rows_of, schema_of

    schema = schema_of(transaction)
    held: list[pa.RecordBatch] = []
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for day in days:
            for batch in rows_of(transaction, schema, day):
                held.append(batch)
                if sum(of.num_rows for of in held) >= _ROWS_PER_GROUP:
                    writer.write_table(pa.Table.from_batches(held))
                    held.clear()
            progress.days_done(1)
        if held:
            writer.write_table(pa.Table.from_batches(held))


_WRITERS: dict[Format, Callable[["Transaction", Sequence[dt.date], Path, "Progress"], None]] = {
    Format.CSV: _as_csv,
    Format.PARQUET: _as_parquet,
}
