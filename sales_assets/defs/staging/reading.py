"""Reading kept fetches into staging: land, settle, quarantine, choose, replace whole days.

Belongs here: the order of the steps, which are statements of ``sql/staging``, for one of the four files at a time.
Does not belong here: the rules of one line (`sales_assets.contracts.parse`), the mart (`sales_assets.defs.facts`),
or Dagster.
"""

import csv
import datetime as dt
import io
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from sales_assets.contracts.parse import Batch, ReportReader, UnreadableFile, parse_line, to_copy
from sales_assets.contracts.report_files import ReportFile
from sales_assets.partitions import date_id
from sales_assets.resources.raw_files import RawFiles
from sales_assets.resources.warehouse import Transaction
from sales_assets.settings import first_day

# Bad lines are held back while good ones stream through COPY; this many are a few megabytes.
_BAD_LINES_HELD = 20_000
_ISO_DAY = re.compile(r'(?:^|[,"])(\d{4}-\d{2}-\d{2})(?=[T ,"]|$)', re.ASCII)


@dataclass(frozen=True)
class KeptFetch:
    """A fetch that is to be read; `corrected` tells that a line of it was settled since it was read."""

    fetch_id: int
    kind: str
    path: str
    first_day: dt.date
    last_day: dt.date
    corrected: bool


@dataclass
class _Facts:
    """What Python learns of a fetch while its lines stream by."""

    lines: int = 0
    bad: int = 0
    discarded: int = 0
    has_status: bool = False
    extra_columns: list[str] = field(default_factory=list)
    unreadable: str | None = None


def unread_fetches(transaction: Transaction, file: ReportFile, days: Sequence[dt.date]) -> list[KeptFetch]:
    """Kept fetches that cover the days and have lines nobody has read yet; increments first, reports last."""
    rows = transaction.rows("staging/fetch_reading", "unread", file=file.name, first_day=min(days), last_day=max(days))
    return [KeptFetch(**row) for row in rows]


def stale_fetches(transaction: Transaction, file: ReportFile, days: Sequence[dt.date]) -> list[KeptFetch]:
    """Fetches that were read before, and now win days which staging holds from another fetch or not at all."""
    _choose(transaction, file, days)
    fetch_ids = [row["fetch_id"] for row in transaction.rows("staging/staged_day", "chosen_fetches")]
    _drop(transaction, "chosen_day")
    return [KeptFetch(**row) for row in transaction.rows("staging/fetch_reading", "kept", fetch_ids=fetch_ids)]


def stage(
    transaction: Transaction,
    raw_files: RawFiles,
    file: ReportFile,
    fetches: Sequence[KeptFetch],
    days: Sequence[dt.date],
    run_id: str,
) -> list[int]:
    """Read the fetches and put the days that they win into staging. Returns the date_ids that were replaced.

    Every line of a fetch ends in exactly one of: kept, repeats, quarantine. A file that can't be read is recorded
    as failed, with its reason, and never chosen.
    """
    transaction.run(f"staging/{file.name}", "create_landing")
    transaction.run("staging/fetch_reading", "create_bad_line")
    facts = {fetch.fetch_id: _land(transaction, raw_files, file, fetch) for fetch in fetches}
    # From here on one loader at a time; landing and bad_line are this transaction's own.
    transaction.lock_writers()
    outside = _settle(transaction, raw_files, file, fetches)
    _record(transaction, fetches, facts, outside, run_id)
    replaced = _replace_days(transaction, file, [fetch.fetch_id for fetch in fetches], days, run_id)
    for table in ("landing", "settled", "conflict", "bad_line"):
        _drop(transaction, table)
    return replaced


# --- landing ----------------------------------------------------------------------------------------------


def _land(transaction: Transaction, raw_files: RawFiles, file: ReportFile, fetch: KeptFetch) -> _Facts:
    facts = _Facts()
    corrections = {
        row["line_no"]: row["text"]
        for row in transaction.rows("staging/fetch_reading", "corrections", fetch_id=fetch.fetch_id)
    }
    try:
        reader = ReportReader(raw_files.chunks(fetch.path), file)
        facts.has_status = reader.header.has_status
        facts.extra_columns = list(reader.header.extra_columns)
        batches = _settled_by_hand(reader, file, corrections, facts)
        exhausted = False
        while not exhausted:
            bad: list[pa.RecordBatch] = []
            exhausted = _copy_until_bad(transaction, file, fetch, batches, bad, facts)
            _copy_bad_lines(transaction, fetch.fetch_id, bad)
    except UnreadableFile as error:
        # The encoding may show only at the end: what landed before is void.
        transaction.run("staging/fetch_reading", "forget_landing", fetch_id=fetch.fetch_id)
        transaction.run("staging/fetch_reading", "forget_bad_lines", fetch_id=fetch.fetch_id)
        return _Facts(unreadable=str(error))
    return facts


def _copy_until_bad(
    transaction: Transaction,
    file: ReportFile,
    fetch: KeptFetch,
    batches: Iterator[Batch],
    bad: list[pa.RecordBatch],
    facts: _Facts,
) -> bool:
    """Stream good lines until many bad ones are held (a connection does one COPY at a time). True at the end."""
    exhausted = True
    unreadable: UnreadableFile | None = None

    def blocks() -> Iterator[bytes]:
        nonlocal exhausted, unreadable
        held = 0
        try:
            for batch in batches:
                facts.lines += batch.lines.num_rows + batch.bad.num_rows
                facts.bad += batch.bad.num_rows
                if batch.bad.num_rows:
                    bad.append(batch.bad)
                    held += batch.bad.num_rows
                if batch.lines.num_rows:
                    number = pa.repeat(pa.scalar(fetch.fetch_id, pa.int64()), batch.lines.num_rows)
                    yield to_copy(batch.lines.append_column("fetch_id", number))
                if held >= _BAD_LINES_HELD:
                    exhausted = False
                    return
        except UnreadableFile as error:
            # Raised through the COPY it would abort the transaction, and the reason could not be written down.
            unreadable = error

    transaction.copy(transaction.statement(f"staging/{file.name}", "copy_landing"), blocks())
    if unreadable is not None:
        raise unreadable
    return exhausted


def _settled_by_hand(
    reader: ReportReader, file: ReportFile, corrections: Mapping[int, str | None], facts: _Facts
) -> Iterator[Batch]:
    """The reader's batches, with corrected lines in place of the file's and discarded lines left out."""
    if not corrections:
        yield from reader
        return
    numbers = pa.array(sorted(corrections), pa.int64())
    for batch in reader:
        kept = []
        for part in (batch.lines, batch.bad):
            settled = pa.compute.is_in(part.column("line_no"), value_set=numbers)
            kept.append(part.filter(pa.compute.invert(settled)))
        yield Batch(*kept)
    for line_no, text in corrections.items():
        if text is None:
            facts.lines += 1
            facts.discarded += 1
        else:
            yield parse_line(text, file, reader.header, line_no)


def _copy_bad_lines(transaction: Transaction, fetch_id: int, batches: Sequence[pa.RecordBatch]) -> None:
    rows = (
        (fetch_id, row["line_no"], _day_in(row["text"]), row["reason"], row["text"])
        for batch in batches
        for row in batch.to_pylist()
    )
    _copy_rows(transaction, rows)


def _copy_rows(transaction: Transaction, rows: Iterator[tuple[object, ...]]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_NONNUMERIC)  # an empty text is not NULL
    writer.writerows(rows)
    if buffer.tell():
        statement = transaction.statement("staging/fetch_reading", "copy_bad_line")
        transaction.copy(statement, [buffer.getvalue().encode()])


def _day_in(text: str) -> int | None:
    """The day that a bad line seems to be about, for the eye only: its first field that looks like a date."""
    found = _ISO_DAY.search(text)
    try:
        return date_id(dt.date.fromisoformat(found[1])) if found else None
    except ValueError:
        return None


# --- settling ---------------------------------------------------------------------------------------------


def _settle(
    transaction: Transaction, raw_files: RawFiles, file: ReportFile, fetches: Sequence[KeptFetch]
) -> dict[int, int]:
    """Make ``settled`` (a line once) of ``landing``; returns how many lines lay outside each fetch's period."""
    bad = transaction.rows("staging/fetch_reading", "move_outside_period")
    outside: dict[int, int] = {}
    for row in bad:
        outside[row["fetch_id"]] = outside.get(row["fetch_id"], 0) + 1
    transaction.run(f"staging/{file.name}", "settle")
    if transaction.run(f"staging/{file.name}", "find_conflicts"):
        bad += transaction.rows(f"staging/{file.name}", "conflicting_lines")
        transaction.run(f"staging/{file.name}", "drop_conflicts")
    for fetch in fetches:
        found = {row["line_no"]: row for row in bad if row["fetch_id"] == fetch.fetch_id}
        if found:
            texts = _texts(raw_files.chunks(fetch.path), found.keys())
            _copy_rows(
                transaction,
                (
                    (fetch.fetch_id, line_no, row["date_id"], row["reason"], texts.get(line_no, ""))
                    for line_no, row in found.items()
                ),
            )
    return outside


def _texts(chunks: Iterator[bytes], line_nos: Collection[int]) -> dict[int, str]:
    """The raw text of some lines of a file. A record that goes on in further lines is given whole."""
    wanted = set(line_nos)
    last = max(wanted)
    texts: dict[int, str] = {}
    open_at: int | None = None
    for line_no, line in enumerate(_lines(chunks), start=1):
        if open_at is not None:
            texts[open_at] += "\n" + line
            if texts[open_at].count('"') % 2 == 0:
                open_at = None
        elif line_no in wanted:
            texts[line_no] = line
            open_at = line_no if line.count('"') % 2 else None
        if line_no >= last and open_at is None:
            break
    return texts


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode(errors="backslashreplace")
    if rest:
        yield rest.removesuffix(b"\r").decode(errors="backslashreplace")


def _record(
    transaction: Transaction,
    fetches: Sequence[KeptFetch],
    facts: Mapping[int, _Facts],
    outside: Mapping[int, int],
    run_id: str,
) -> None:
    """Write down what reading showed: counts, verdicts, quarantine."""
    fetch_ids = list(facts)
    transaction.run("staging/fetch_reading", "quarantine")
    transaction.run("staging/fetch_reading", "resolve_quarantine", fetch_ids=fetch_ids)
    transaction.run("staging/fetch_reading", "forget_days", fetch_ids=fetch_ids)
    transaction.run("staging/fetch_reading", "record_days")
    counts = {
        row["fetch_id"]: row
        for row in transaction.rows("staging/fetch_reading", "settled_counts", first_date_id=date_id(first_day()))
    }
    for fetch in fetches:
        fact = facts[fetch.fetch_id]
        count = counts.get(fetch.fetch_id, {"kept": 0, "repeats": 0, "before_first_day": 0})
        bad = fact.lines - count["kept"] - count["repeats"]
        reason = fact.unreadable
        if reason is None and count["kept"] == 0 and bad > fact.discarded:
            reason = f"every line is bad ({bad}, see `sales-assets quarantine list`)"
        transaction.run(
            "staging/fetch_reading",
            "record",
            fetch_id=fetch.fetch_id,
            verdict="failed" if reason else "usable",
            reason=f"{fetch.path}: {reason}" if reason else None,
            has_status=fact.has_status,
            extra_columns=fact.extra_columns,
            lines=fact.lines,
            kept=count["kept"],
            repeats=count["repeats"],
            bad=bad,
            before_first_day=count["before_first_day"],
            outside_period=outside.get(fetch.fetch_id, 0),
            corrected=fetch.corrected,
            run_id=run_id,
        )


# --- choosing ---------------------------------------------------------------------------------------------


def _choose(transaction: Transaction, file: ReportFile, days: Sequence[dt.date]) -> None:
    transaction.run("staging/staged_day", "create_chosen_day")
    transaction.run("staging/staged_day", "choose", file=file.name, days=list(days))


def _replace_days(
    transaction: Transaction,
    file: ReportFile,
    fetch_ids: list[int],
    days: Sequence[dt.date],
    run_id: str,
) -> list[int]:
    _choose(transaction, file, days)
    transaction.run("staging/staged_day", "keep_only", fetch_ids=fetch_ids)
    transaction.run(f"staging/{file.name}", "replace_days")
    dated = any(column.name == "date_id" for column in file.columns)
    transaction.run("staging/staged_day", "record", file=file.name, dated=dated, run_id=run_id)
    replaced = [row["date_id"] for row in transaction.rows("staging/staged_day", "chosen_days")]
    _drop(transaction, "chosen_day")
    return replaced


def _drop(transaction: Transaction, table: str) -> None:
    """Drop a temporary table of this transaction; the next file or group makes its own of the same name."""
    transaction.run("staging/temporary", f"drop_{table}")
