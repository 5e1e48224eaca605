"""Names of cities, customers and items: collect each distinct one, store it once, upsert the dimensions.

Order rows are staged with ids only. Which name a dimension has is a rule of ``sql/mart``: the latest by event time.

Loads of different days share names and rows of dimensions. The functions that write them take one lock
(``sql/locks.sql``), so call them last in a transaction: other writers wait until the commit.
"""

import datetime as dt
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sales_assets.postgres.binary_copy import encoded
from sales_assets.postgres.warehouse import Transaction

# {dimension: (key column, name columns)} of an order row.
NAMED_DIMENSIONS = {
    "d_city": ("city_id", ("city_name",)),
    "d_customer": ("customer_id", ("first_name", "last_name")),
    "d_item": ("item_id", ("item_name",)),
}


def exclude_other_writers_of_names(transaction: Transaction) -> None:
    """Lock names and dimensions until the end of the transaction; waits for other writers."""
    transaction.run("locks", "names")


def add_calendar_days(transaction: Transaction, first_day: dt.date, last_day: dt.date) -> int:
    """Extend the calendar without gaps to include these days; returns the number of days added."""
    exclude_other_writers_of_names(transaction)
    return transaction.run("mart/d_calendar", "add_days", first_day=first_day, last_day=last_day)


def names_in(lines: pa.Table) -> pa.Table:
    """Collect the distinct names in order rows, with the event times of their first and last use (`_COLUMNS`)."""
    events = _event_times(lines.column("date_time").combine_chunks())
    # One number per row that grows with time, then with the line number: the latest use of a name is a maximum.
    ranks = pc.rank(events.dictionary, tiebreaker="dense").to_numpy().astype(np.int64)
    line_nos = lines.column("line_no").to_numpy()
    moments = (ranks[events.indices.to_numpy()] << _LINE_BITS) + line_nos
    lines = lines.append_column("moment", pa.array(moments))
    in_order = events.dictionary.take(pc.sort_indices(events.dictionary)).unique()

    def event_time(moment: npt.NDArray[np.int64]) -> pa.Array:
        return in_order.take(pa.array((moment >> _LINE_BITS) - 1))

    found = []
    for table, (key, names) in NAMED_DIMENSIONS.items():
        uses = lines.group_by([key, *names], use_threads=False).aggregate([("moment", "min"), ("moment", "max")])
        last = uses.column("moment_max").to_numpy()
        columns = [
            pa.repeat(pa.scalar(table), uses.num_rows),
            uses.column(key),
            uses.column(names[0]),
            uses.column(names[1]) if len(names) > 1 else pa.repeat(pa.scalar(""), uses.num_rows),
            event_time(uses.column("moment_min").to_numpy()),
            event_time(last),
            pa.array(last & ((1 << _LINE_BITS) - 1)),
        ]
        found.append(pa.table(columns, names=_COLUMNS))
    return pa.concat_tables(found)


def _event_times(date_times: pa.Array) -> pa.DictionaryArray:
    """Format event times as YYYY-MM-DDTHH:MM:SS, which sorts by time. Same as the SQL function staging.event_time."""
    encoded = date_times.dictionary_encode()
    texts = encoded.dictionary
    minutes = pc.replace_substring(pc.utf8_slice_codeunits(texts, 0, 16), " ", "T")
    minutes = pc.if_else(pc.equal(pc.utf8_length(texts), 10), pc.binary_join_element_wise(texts, "00:00", "T"), minutes)
    seconds = pc.utf8_slice_codeunits(texts, 16, 19)
    seconds = pc.if_else(pc.starts_with(seconds, ":"), seconds, ":00")
    return pa.DictionaryArray.from_arrays(encoded.indices, pc.binary_join_element_wise(minutes, seconds, ""))


def _merged(names: Sequence[pa.Table]) -> pa.Table:
    """Merge parts of collected names to distinct names with their first and last use."""
    together = pa.concat_tables(names).sort_by([("last_seen", "ascending"), ("last_line", "ascending")])
    grouped = together.group_by(_COLUMNS[:4], use_threads=False)
    return grouped.aggregate([("first_seen", "min"), ("last_seen", "last"), ("last_line", "last")]).rename_columns(
        _COLUMNS
    )


_COLUMNS = ["dimension", "id", "first", "second", "first_seen", "last_seen", "last_line"]
_LINE_BITS = 32  # no file has four billion lines
_NAMES_TOGETHER = 50_000
_NAMES_A_BLOCK = 10_000


def store_names(transaction: Transaction, names: Iterable[pa.Table], *, in_dimensions: bool) -> dt.datetime:
    """Store collected names, each once; returns the time of storage. in_dimensions: upsert the dimensions too."""
    collected: list[pa.Table] = []
    more = 0
    for table in names:
        collected.append(table)
        more += table.num_rows
        # Merge only when new names outnumber merged ones: the total work stays linear.
        if more > max(_NAMES_TOGETHER, collected[0].num_rows):
            collected, more = [_merged(collected)], 0
    transaction.run("staging/name", "create")
    if collected:
        batches = _merged(collected).to_batches(max_chunksize=_NAMES_A_BLOCK)
        transaction.copy("staging/name", "copy", encoded(batches))
    exclude_other_writers_of_names(transaction)
    if collected:
        transaction.run("staging/name", "erase")
        transaction.run("staging/name", "remember")
    if in_dimensions:
        _upsert(transaction)
    transaction.run("staging/name", "drop")
    (now,) = transaction.rows("staging/name", "stored_at")
    stored_at: dt.datetime = now["stored_at"]
    return stored_at


def forget_names(transaction: Transaction, date_ids: Sequence[int], stored_at: dt.datetime | None) -> None:
    """Delete names that occur only on replaced days, except those that the load stored at `stored_at`."""
    exclude_other_writers_of_names(transaction)
    transaction.run("staging/name", "forget", date_ids=list(date_ids), stored_at=stored_at)


def upsert_dimensions(transaction: Transaction, date_ids: Sequence[int]) -> dict[str, int]:
    """Upsert the cities, customers and items of some staged days; returns {table: rows written}."""
    transaction.run("staging/name", "create")
    transaction.run("staging/name", "from_staging", date_ids=list(date_ids))
    exclude_other_writers_of_names(transaction)
    written = _upsert(transaction)
    transaction.run("staging/name", "drop")
    return written


def _upsert(transaction: Transaction) -> dict[str, int]:
    return {table: transaction.run(f"mart/{table}", "upsert") for table in NAMED_DIMENSIONS}
