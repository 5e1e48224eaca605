"""Dimension rows of some days, made in the transaction that loads them.

Belongs here: gathering names, from lines on their way or from staging, and the order of the upserts.
Does not belong here: which name wins (``sql/dims``), or Dagster.
"""

import datetime as dt
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sales_assets.resources.copying import encode
from sales_assets.resources.warehouse import Transaction

# Dimension: (its key, the columns of its name) in an order line.
NAMED_DIMENSIONS = {
    "d_city": ("city_id", ("city_name",)),
    "d_customer": ("customer_id", ("first_name", "last_name")),
    "d_item": ("item_id", ("item_name",)),
}


def add_calendar_days(transaction: Transaction, first_day: dt.date, last_day: dt.date) -> int:
    """Make sure that no day is missing between these and any other that was asked for; returns how many were added."""
    return transaction.run("dims/d_calendar", "add_days", first_day=first_day, last_day=last_day)


def names_in(lines: pa.Table) -> pa.Table:
    """The names in order lines, each with the latest moment it was used: a few rows, whatever the number of lines."""
    events = _event_times(lines.column("date_time").combine_chunks())
    # One number per line that grows with time, then with the line: the latest use of a name is a maximum.
    ranks = pc.rank(events.dictionary, tiebreaker="dense").to_numpy().astype(np.int64)
    line_nos = lines.column("line_no").to_numpy()
    moments = (ranks[events.indices.to_numpy()] << _LINE_BITS) + line_nos
    lines = lines.append_column("moment", pa.array(moments))
    in_order = events.dictionary.take(pc.sort_indices(events.dictionary)).unique()
    found = []
    for table, (key, names) in NAMED_DIMENSIONS.items():
        latest = lines.group_by([key, *names], use_threads=False).aggregate([("moment", "max")])
        moment = latest.column("moment_max").to_numpy()
        columns = [
            pa.repeat(pa.scalar(table), latest.num_rows),
            latest.column(key),
            latest.column(names[0]),
            latest.column(names[1]) if len(names) > 1 else pa.repeat(pa.scalar(""), latest.num_rows),
            in_order.take(pa.array((moment >> _LINE_BITS) - 1)),
            pa.array(moment & ((1 << _LINE_BITS) - 1)),
        ]
        found.append(pa.table(columns, names=_COLUMNS))
    return pa.concat_tables(found)


def _event_times(date_times: pa.Array) -> pa.DictionaryArray:
    """YYYY-MM-DDTHH:MM:SS of each: as text they order as times do. Fractions and zones are left out (``sql/dims``)."""
    encoded = date_times.dictionary_encode()
    texts = encoded.dictionary
    minutes = pc.replace_substring(pc.utf8_slice_codeunits(texts, 0, 16), " ", "T")
    minutes = pc.if_else(pc.equal(pc.utf8_length(texts), 10), pc.binary_join_element_wise(texts, "00:00", "T"), minutes)
    seconds = pc.utf8_slice_codeunits(texts, 16, 19)
    seconds = pc.if_else(pc.starts_with(seconds, ":"), seconds, ":00")
    return pa.DictionaryArray.from_arrays(encoded.indices, pc.binary_join_element_wise(minutes, seconds, ""))


def _latest(names: Sequence[pa.Table]) -> pa.Table:
    """Names that were gathered in several places, each once, with its latest use."""
    together = pa.concat_tables(names).sort_by([("event_time", "ascending"), ("line_no", "ascending")])
    grouped = together.group_by(_COLUMNS[:4], use_threads=False)
    latest = grouped.aggregate([("event_time", "last"), ("line_no", "last")])
    return latest.rename_columns(_COLUMNS)


_COLUMNS = ["dimension", "id", "first", "second", "event_time", "line_no"]
_LINE_BITS = 32  # no file has four billion lines
_NAMES_TOGETHER = 50_000
_NAMES_A_BLOCK = 10_000


def upsert_names(transaction: Transaction, names: Iterable[pa.Table]) -> dict[str, int]:
    """Take gathered names into cities, customers and items; returns {table: rows written}."""
    gathered: list[pa.Table] = []
    more = 0
    for table in names:
        gathered.append(table)
        more += table.num_rows
        # As many as are known already: each name is then merged a few times, however many there are.
        if more > max(_NAMES_TOGETHER, gathered[0].num_rows):
            gathered, more = [_latest(gathered)], 0
    transaction.run("dims/named", "create")
    if gathered:
        batches = _latest(gathered).to_batches(max_chunksize=_NAMES_A_BLOCK)
        transaction.copy("dims/named", "copy", (encode(batch) for batch in batches))
    return _upsert(transaction)


def upsert_names_from_staging(transaction: Transaction, date_ids: Sequence[int]) -> dict[str, int]:
    """The same from the staged lines of some days."""
    transaction.run("dims/named", "create")
    transaction.run("dims/named", "from_staging", date_ids=list(date_ids))
    return _upsert(transaction)


def _upsert(transaction: Transaction) -> dict[str, int]:
    written = {table: transaction.run(f"dims/{table}", "upsert") for table in NAMED_DIMENSIONS}
    transaction.run("dims/named", "drop")
    return written
