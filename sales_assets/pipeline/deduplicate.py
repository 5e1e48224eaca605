"""Deduplicate the rows of one file; reject rows whose key conflicts.

Rows that are equal in every column but `id` are one row. Rows that share a key and differ elsewhere are all rejected:
nothing shows which one is right.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sales_assets.schemas.report_files import ReportFile

_IDENTITY = "uniq_id"


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """Result of a deduplication: each input row is in `rows`, counted in `duplicates`, or in `conflicts`.

    rows: distinct rows in file order, with the schema of the file and the line_no of the first copy.
    duplicates: number of dropped copies.
    conflicts: line_no, versions and the key columns of every row whose key occurs with different contents.
    """

    rows: pa.Table
    duplicates: int
    conflicts: pa.Table


def deduplicate(lines: pa.Table, file: ReportFile) -> Deduplicated:
    """Deduplicate rows of one file. The table must hold all rows of each key that occurs in it."""
    if _IDENTITY in file.key and not lines.column(_IDENTITY).null_count:
        return _deduplicate_by_uniq_id(lines, file)
    return _deduplicate_by_contents(lines, file)


def _deduplicate_by_uniq_id(lines: pa.Table, file: ReportFile) -> Deduplicated:
    """Compare each row with the first one of its uniq_id, column by column: three times as fast as grouping.

    Only rows whose uniq_id occurs with different contents (say sold and refunded) are deduplicated by contents.
    """
    ordered = _in_file_order(lines)
    identities = ordered.column(_IDENTITY).combine_chunks().dictionary_encode()
    owner = identities.indices.to_numpy()
    if len(identities.dictionary) == len(owner):
        return Deduplicated(ordered, 0, _no_conflicts(lines, file))
    # Assign backwards, so that the first position of each uniq_id is the last one written.
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
    duplicates = len(repeated) - int(is_open[owner[repeated]].sum())
    if not differs.any():
        return Deduplicated(kept, duplicates, _no_conflicts(lines, file))
    rest = _deduplicate_by_contents(ordered.filter(pa.array(is_open[owner])), file)
    return Deduplicated(
        _in_file_order(pa.concat_tables([kept, rest.rows])), duplicates + rest.duplicates, rest.conflicts
    )


def _deduplicate_by_contents(lines: pa.Table, file: ReportFile) -> Deduplicated:
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
    duplicates = lines.num_rows - distinct.num_rows - conflicts.num_rows
    # Grouping makes every column nullable.
    return Deduplicated(_in_file_order(distinct).cast(file.schema), duplicates, conflicts)


def _in_file_order(lines: pa.Table) -> pa.Table:
    line_nos = lines.column("line_no").to_numpy()
    return lines if (line_nos[1:] > line_nos[:-1]).all() else lines.take(pc.sort_indices(lines.column("line_no")))


def _no_conflicts(lines: pa.Table, file: ReportFile) -> pa.Table:
    return lines.schema.empty_table().select(["line_no", *file.key])


def _identified(distinct: pa.Table, contents: list[str]) -> pa.Table:
    """Derive the uniq_id of rows of very old files, which have none, from their contents."""
    contents_without_day = [name for name in contents if name not in (_IDENTITY, "date_id")]
    rows = zip(*(distinct.column(name).to_pylist() for name in contents_without_day), strict=True)
    # repr is unambiguous: ('a', 'b|c') and ('a|b', 'c') differ.
    made = pa.array([hashlib.md5(repr(row).encode(), usedforsecurity=False).hexdigest() for row in rows], pa.string())
    position = distinct.schema.get_field_index(_IDENTITY)
    given = distinct.column(_IDENTITY).combine_chunks()
    return distinct.set_column(position, distinct.schema.field(position), pc.coalesce(given, made))
