"""What a fetch's lines come to: repeats are one line, lines that contradict each other are none.

Belongs here: the rules between lines (day-rules, "Line"), as set operations on tables of read lines. A caller cuts
large files into tables such that all lines of one key are in one of them.
Does not belong here: the rules of one line (`rules`), reading (`parse`), or where tables lie meanwhile.
"""

import hashlib
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from sales_assets.contracts.report_files import ReportFile

_IDENTITY = "uniq_id"


@dataclass(frozen=True, slots=True)
class Settled:
    """Every line of a table is in exactly one of three places.

    lines: a line once, in file order, with the schema of the file; line_no is that of the first copy.
    repeats: how many verbatim copies of those were dropped (every column equal but `id`, which is not read).
    conflicts: (line_no, versions, key columns) of every copy of a key whose lines differ elsewhere: nobody guesses.
    """

    lines: pa.Table
    repeats: int
    conflicts: pa.Table


def settle(lines: pa.Table, file: ReportFile) -> Settled:
    """Settle lines of one file. All lines of a key must be in the table; lines of several fetches must not."""
    contents = [name for name in file.schema.names if name != "line_no"]
    distinct = lines.group_by(contents, use_threads=False).aggregate([("line_no", "min")])
    distinct = distinct.rename_columns([*contents, "line_no"]).select(file.schema.names)
    if _IDENTITY in contents and distinct.column(_IDENTITY).null_count:
        distinct = _identified(distinct, contents)
    versions = distinct.group_by(list(file.key), use_threads=False).aggregate([([], "count_all")])
    versions = versions.filter(pc.greater(versions.column("count_all"), 1))
    keys = list(file.key)
    conflicts = lines.schema.empty_table().select(["line_no", *keys])
    if versions.num_rows:
        copies = lines.select(["line_no", *keys]).join(versions, keys, join_type="inner")
        conflicts = copies.select(["line_no", "count_all", *keys]).rename_columns(["line_no", "versions", *keys])
        contradicting = distinct.select(["line_no", *keys]).join(versions.select(keys), keys, join_type="inner")
        sound = pc.invert(pc.is_in(distinct.column("line_no"), value_set=contradicting.column("line_no")))
        distinct = distinct.filter(sound)
    distinct = distinct.take(pc.sort_indices(distinct.column("line_no")))
    repeats = lines.num_rows - distinct.num_rows - conflicts.num_rows
    return Settled(distinct, repeats, conflicts)


def _identified(distinct: pa.Table, contents: list[str]) -> pa.Table:
    """Lines of very old files have no uniq_id: there the contents are the identity."""
    told = [name for name in contents if name not in (_IDENTITY, "date_id")]
    rows = zip(*(distinct.column(name).to_pylist() for name in told), strict=True)
    # repr keeps the cells apart, whatever they hold: ('a', 'b|c') and ('a|b', 'c') differ.
    made = pa.array([hashlib.md5(repr(row).encode(), usedforsecurity=False).hexdigest() for row in rows], pa.string())
    position = distinct.schema.get_field_index(_IDENTITY)
    given = distinct.column(_IDENTITY).combine_chunks()
    return distinct.set_column(position, distinct.schema.field(position), pc.coalesce(given, made))
