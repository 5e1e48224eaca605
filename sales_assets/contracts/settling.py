"""What a fetch's lines come to: repeats are one line, lines that contradict each other are none.

Belongs here: the rules between lines (day-rules, "Line"), as set operations on tables of read lines. A caller cuts
large files into tables such that all lines of one key are in one of them.
Does not belong here: the rules of one line (`rules`), reading (`parse`), or where tables lie meanwhile.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sales_assets.contracts.report_files import ReportFile

_IDENTITY = "uniq_id"


@dataclass(frozen=True, slots=True)
class Settled:
    """Every line of a table is in exactly one of three places.

    lines: a line once, in file order, with the schema of the file; line_no is that of the first copy. The table that
        was given itself, where nothing is to be settled in it.
    repeats: how many verbatim copies of those were dropped (every column equal but `id`, which is not read).
    conflicts: (line_no, versions, key columns) of every copy of a key whose lines differ elsewhere: nobody guesses.
    """

    lines: pa.Table
    repeats: int
    conflicts: pa.Table


def settle(lines: pa.Table, file: ReportFile) -> Settled:
    """Settle lines of one file. All lines of a key must be in the table; lines of several fetches must not."""
    if _IDENTITY in file.key and not lines.column(_IDENTITY).null_count:
        return _settle_identified(lines, file)
    return _settle_by_contents(lines, file)


def _settle_identified(lines: pa.Table, file: ReportFile) -> Settled:
    """Compares each line with the first one of its uniq_id, column by column: a third of what grouping all takes.

    Only a uniq_id whose lines are not all the same, say one sold and refunded, is settled by contents.
    """
    ordered = _in_file_order(lines)
    identities = ordered.column(_IDENTITY).combine_chunks().dictionary_encode()
    owner = identities.indices.to_numpy()
    if len(identities.dictionary) == len(owner):
        return Settled(ordered, 0, _no_conflicts(lines, file))
    # Written backwards: what stays is the first.
    first = np.empty(len(identities.dictionary), dtype=np.int64)
    first[owner[::-1]] = np.arange(len(owner) - 1, -1, -1)
    repeated = np.flatnonzero(first[owner] != np.arange(len(owner)))
    originals = first[owner[repeated]]
    differs = np.zeros(len(repeated), dtype=np.bool_)
    for name in ordered.schema.names:
        if name not in ("line_no", _IDENTITY):
            column = ordered.column(name).combine_chunks()
            same = pc.equal(column.take(pa.array(repeated)), column.take(pa.array(originals)))
            differs |= ~same.fill_null(fill_value=False).to_numpy(zero_copy_only=False)
    is_open = np.zeros(len(first), dtype=np.bool_)
    is_open[owner[repeated[differs]]] = True
    keep = ~is_open[owner]
    keep[repeated] = False
    kept = ordered.filter(pa.array(keep))
    repeats = len(repeated) - int(is_open[owner[repeated]].sum())
    if not differs.any():
        return Settled(kept, repeats, _no_conflicts(lines, file))
    rest = _settle_by_contents(ordered.filter(pa.array(is_open[owner])), file)
    return Settled(_in_file_order(pa.concat_tables([kept, rest.lines])), repeats + rest.repeats, rest.conflicts)


def _settle_by_contents(lines: pa.Table, file: ReportFile) -> Settled:
    contents = [name for name in file.schema.names if name != "line_no"]
    distinct = lines.group_by(contents, use_threads=False).aggregate([("line_no", "min")])
    distinct = distinct.rename_columns([*contents, "line_no"]).select(file.schema.names)
    if _IDENTITY in contents and distinct.column(_IDENTITY).null_count:
        distinct = _identified(distinct, contents)
    versions = distinct.group_by(list(file.key), use_threads=False).aggregate([([], "count_all")])
    versions = versions.filter(pc.greater(versions.column("count_all"), 1))
    keys = list(file.key)
    conflicts = _no_conflicts(lines, file)
    if versions.num_rows:
        copies = lines.select(["line_no", *keys]).join(versions, keys, join_type="inner")
        conflicts = copies.select(["line_no", "count_all", *keys]).rename_columns(["line_no", "versions", *keys])
        contradicting = distinct.select(["line_no", *keys]).join(versions.select(keys), keys, join_type="inner")
        sound = pc.invert(pc.is_in(distinct.column("line_no"), value_set=contradicting.column("line_no")))
        distinct = distinct.filter(sound)
    repeats = lines.num_rows - distinct.num_rows - conflicts.num_rows
    # Grouping forgets which columns are never null.
    return Settled(_in_file_order(distinct).cast(file.schema), repeats, conflicts)


def _in_file_order(lines: pa.Table) -> pa.Table:
    line_nos = lines.column("line_no").to_numpy()
    return lines if (line_nos[1:] > line_nos[:-1]).all() else lines.take(pc.sort_indices(lines.column("line_no")))


def _no_conflicts(lines: pa.Table, file: ReportFile) -> pa.Table:
    return lines.schema.empty_table().select(["line_no", *file.key])


def _identified(distinct: pa.Table, contents: list[str]) -> pa.Table:
    """Lines of very old files have no uniq_id: there the contents are the identity."""
    told = [name for name in contents if name not in (_IDENTITY, "date_id")]
    rows = zip(*(distinct.column(name).to_pylist() for name in told), strict=True)
    # repr keeps the cells apart, whatever they hold: ('a', 'b|c') and ('a|b', 'c') differ.
    made = pa.array([hashlib.md5(repr(row).encode(), usedforsecurity=False).hexdigest() for row in rows], pa.string())
    position = distinct.schema.get_field_index(_IDENTITY)
    given = distinct.column(_IDENTITY).combine_chunks()
    return distinct.set_column(position, distinct.schema.field(position), pc.coalesce(given, made))
