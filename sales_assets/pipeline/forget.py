"""Erase a person: names and phones, from raw files, staging, dimensions, orders, mailings and the lake.

Ids, sums and lineage stay. The person is remembered by the customer's number and by pseudonyms of the phones, so that
no later delivery brings names or phones back. Every step can be repeated: after a kill, the same command completes it.
"""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from sales_assets.pipeline.csv_reader import ReportReader, parse_line
from sales_assets.pipeline.erasure import NameEraser, erased_customers, header_of_file
from sales_assets.pipeline.names import exclude_other_writers_of_names
from sales_assets.pipeline.stage import exclude_other_recorders
from sales_assets.postgres.connection import Row, connect
from sales_assets.postgres.queries import statements
from sales_assets.postgres.warehouse import Transaction, Warehouse, Writer
from sales_assets.resources.raw_files import RawFiles, RawFilesError, StoredFile
from sales_assets.schemas.line_rules import Header, UnreadableFile
from sales_assets.schemas.pseudonyms import Pseudonyms
from sales_assets.schemas.report_files import REPORT_FILES, ReportFile

_STATEMENTS = "forget/person"
_FILES = [file for file in REPORT_FILES.values() if any(column.name == "customer_id" for column in file.columns)]
_ERASED_REASON = "the row held a name that was erased"
_WAL_ATTEMPTS = 20
_WAL_PAUSE_SECONDS = 0.5


class ForgetError(Exception):
    """The person can't be erased; nothing was changed. The message suggests a fix and has no personal data."""


@dataclass
class Forgotten:
    """Result of an erasure. counts: {kind: number erased}. left: a sentence for each thing that was not erased."""

    counts: dict[str, int] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    @property
    def is_changed(self) -> bool:
        return any(self.counts.values())


@dataclass(frozen=True)
class _Person:
    customer_ids: list[int]
    keys: list[str]
    pseudonyms: list[str]


@dataclass(frozen=True)
class Forgetting:
    """Erasure of persons from all stores. scratch: folder of this machine's temporary files."""

    warehouse: Warehouse
    raw_files: RawFiles
    pseudonyms: Pseudonyms
    scratch: Path
    notify: Callable[[str], None]

    def forget(self, *, customer_id: int | None = None, phone: str | None = None) -> Forgotten:
        """Erase the person with a customer id or a phone; waits for all loads and excludes them.

        A phone leads to its customer by the mappings of partner orders and the links of mailings' clients, and a
        customer to its phones. Raises `ForgetError`; the result lists files that can't be read.
        """
        done = Forgotten()
        self.notify("waiting for running loads")
        with self.warehouse.rewriting_raw_files("sales_assets forget") as writer:
            with writer.transaction("sales_assets forget") as transaction:
                person = self._find(transaction, customer_id, phone)
                self._erase_from_tables(transaction, person, done)
            self._erase_from_files(writer, done)
        return done

    # --- tables ---------------------------------------------------------------------------------------------------

    def _find(self, transaction: Transaction, customer_id: int | None, phone: str | None) -> _Person:
        self._require_secret_of_former_erasures(transaction)
        keys: list[str] = []
        customers = [customer_id] if customer_id is not None else []
        if phone is not None:
            row = transaction.row(_STATEMENTS, "phone_key", phone=phone)
            if row is None or row["key"] is None:
                raise ForgetError("this is not a phone number")
            keys = [row["key"]]
            pseudonyms = self._pseudonyms_of(keys)
            rows = transaction.rows(_STATEMENTS, "customers_of_phones", keys=keys, pseudonyms=pseudonyms)
            customers = [row["customer_id"] for row in rows]
            if len(customers) > 1:
                numbers = ", ".join(map(str, customers))
                raise ForgetError(f"the phone belongs to several customers ({numbers}): erase each with --customer")
        for customer in customers:
            rows = transaction.rows(_STATEMENTS, "phones_of_customer", customer_id=customer)
            keys = sorted({*keys, *(row["key"] for row in rows), *self._phones_of_new_orders(transaction, customer)})
        return _Person(customers, keys, self._pseudonyms_of(keys))

    def _phones_of_new_orders(self, transaction: Transaction, customer_id: int) -> list[str]:
        """Find the phones of a customer's orders that were placed after the phone was erased.

        Only its pseudonym leads to the customer, so the phones of all orders are compared by their pseudonyms.
        """
        known = transaction.rows(_STATEMENTS, "erased_phones_of_customer", customer_id=customer_id)
        if not known:
            return []
        erased = {row["pseudonym"] for row in known}
        keys = [row["key"] for row in transaction.rows(_STATEMENTS, "phones_of_orders")]
        return [key for key, pseudonym in zip(keys, self.pseudonyms.of(keys), strict=True) if pseudonym in erased]

    def _require_secret_of_former_erasures(self, transaction: Transaction) -> None:
        others = transaction.row("mailings/erased_phone", "of_another_secret", key_id=self.pseudonyms.key_id)
        if others and others["phones"]:
            raise ForgetError(self.pseudonyms.other_secret)

    def _pseudonyms_of(self, keys: Sequence[str]) -> list[str]:
        if not keys:
            return []
        if self.pseudonyms.key_id is None:
            raise ForgetError("SALES_ERASURE_SECRET is not set: without it the phone would not be recognized later")
        return [one for one in self.pseudonyms.of(keys) if one is not None]

    def _erase_from_tables(self, transaction: Transaction, person: _Person, done: Forgotten) -> None:
        customers = {"customer_ids": person.customer_ids}
        phones = {"keys": person.keys, "pseudonyms": person.pseudonyms}
        transaction.run(_STATEMENTS, "exclude_writers")
        transaction.run("staging/erased_customer", "add", **customers)
        if person.pseudonyms:
            told = {"pseudonyms": person.pseudonyms, "key_id": self.pseudonyms.key_id}
            transaction.run(_STATEMENTS, "remember_phones", **told)
        for what, statement in (
            ("partner orders", "orders"),
            ("staged order events", "events"),
            ("mappings of phones", "mappings"),
        ):
            done.counts[what] = transaction.run(_STATEMENTS, statement, **phones)
        done.counts["answers of the partner"] = transaction.run(_STATEMENTS, "answers")
        done.counts["suppressed phones"] = transaction.run(_STATEMENTS, "suppressions", keys=person.keys)
        clients = transaction.rows(_STATEMENTS, "clients", keys=person.keys, **customers)
        for client in clients:
            transaction.run("mailings/client", "delete", client_id=client["client_id"])
        done.counts["clients of mailings"] = len(clients)
        exclude_other_writers_of_names(transaction)
        done.counts["names"] = transaction.run(_STATEMENTS, "names", **customers)
        done.counts["rows of d_customer"] = transaction.run(_STATEMENTS, "dimension", **customers)

    # --- files ----------------------------------------------------------------------------------------------------

    def _erase_from_files(self, writer: Writer, done: Forgotten) -> None:
        """Rewrite the raw files of all erased customers, including those of an interrupted erasure."""
        with writer.transaction("sales_assets forget: raw files") as transaction:
            eraser = NameEraser(erased_customers(transaction))
            rows = transaction.rows(_STATEMENTS, "raw_files", files=[file.name for file in _FILES])
        counts = dict.fromkeys(("raw files", "rejected rows", "unrecorded files"), 0)
        stored = set(self.raw_files.paths())
        for number, row in enumerate(rows, start=1):
            self.notify(f"raw file {number} of {len(rows)}")
            if row["verdict"] == "failed" and row["path"] not in stored:
                continue  # the user deleted it, as `_unread` suggests
            try:
                replaced, rejected, is_read = self._erase_from_file(writer, eraser, row)
                if not is_read:
                    done.left.append(_unread(row["path"]))
            except RawFilesError as error:
                done.left.append(str(error))
            else:
                counts["raw files"] += replaced
                counts["rejected rows"] += rejected
        counts["unrecorded files"] = self._delete_unrecorded(writer, eraser, done)
        done.counts |= counts
        for left in self.scratch.glob("*"):
            # Left by killed loads; no load is running now.
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)

    def _erase_from_file(self, writer: Writer, eraser: NameEraser, row: dict[str, Any]) -> tuple[int, int, bool]:
        """Replace a raw file that contains an erased name, and the texts of its rejected rows.

        The new file is complete before it is recorded, and the old file is deleted after that. Returns the numbers of
        replaced files and rows, and whether the header could be read: without it, some names may be missed.
        """
        file, path = REPORT_FILES[row["file"]], row["path"]
        read = partial(self.raw_files.verified_chunks, path, row["sha256"])
        blanked = hashlib.sha256()
        for chunk in eraser.erase(file, read()):
            blanked.update(chunk)
        kept: StoredFile | None = None
        if blanked.hexdigest() != row["sha256"]:
            kept = self._store(eraser, file, row, read)
        header = header_of_file(self.raw_files.chunks(path), file)
        is_read = header is not None or self._is_blank(path)
        with writer.transaction("sales_assets forget: raw file") as transaction:
            exclude_other_recorders(transaction)
            rejected = 0
            for rejected_row in transaction.rows(_STATEMENTS, "rejected_rows", fetch_id=row["fetch_id"]):
                changed = _blanked_row(rejected_row, eraser, file, header)
                if changed != rejected_row:
                    changed.pop("line_no")
                    rejected += transaction.run(_STATEMENTS, "replace_rejected_row", **changed)
            for correction in transaction.rows(_STATEMENTS, "corrections", fetch_id=row["fetch_id"]):
                text = eraser.erase_line(correction["corrected_text"], file, header)
                if text != correction["corrected_text"]:
                    transaction.run(_STATEMENTS, "replace_correction", **(correction | {"corrected_text": text}))
            if kept is not None:
                told = {"path": kept.path, "sha256": kept.sha256, "bytes": kept.bytes, "fetch_id": row["fetch_id"]}
                transaction.run(_STATEMENTS, "replace_raw_file", **told)
            if row["reason"] is not None:
                # Also for a file that was not replaced: an earlier version quoted its first line.
                now = kept.path if kept is not None else path
                reason = self._verdict(file, now) or row["reason"].replace(path, now)
                transaction.run(_STATEMENTS, "replace_verdict", reason=reason, fetch_id=row["fetch_id"])
        if kept is not None:
            self.raw_files.delete([path, f"{path}.json"])
        return int(kept is not None), rejected, is_read

    def _store(
        self, eraser: NameEraser, file: ReportFile, row: dict[str, Any], read: Callable[[], Iterator[bytes]]
    ) -> StoredFile:
        path, folder = row["path"], row["path"].rpartition("/")[0]
        former = self.raw_files.manifest(path)

        def manifest(kept: StoredFile) -> dict[str, object]:
            note = {"at": kept.fetched_at.isoformat(), "sha256_before": row["sha256"]}
            notes = former.get("names_erased")
            return {
                **former,
                "sha256": kept.sha256,
                "bytes": kept.bytes,
                "lines": kept.line_count,
                "names_erased": [*(notes if isinstance(notes, list) else []), note],
            }

        kept = self.raw_files.add(folder, eraser.erase(file, read()), manifest, suffix=f"-{row['fetch_id']}")
        rejected: set[int] = set()
        before = _digest_of_rows(read(), file, rejected, is_former=True)
        after = _digest_of_rows(self.raw_files.verified_chunks(kept.path, kept.sha256), file, rejected, is_former=False)
        if before != after:
            self.raw_files.delete([kept.path, f"{kept.path}.json"])
            raise RawFilesError(f"{path}: blanking names would change other values; the file was not replaced")
        return kept

    def _verdict(self, file: ReportFile, path: str) -> str | None:
        """Return the reason why a file can't be parsed; None if it can be read and only its rows are invalid."""
        try:
            for _ in ReportReader(self.raw_files.chunks(path), file):
                pass
        except UnreadableFile as error:
            return f"{path}: {error}"
        return None

    def _delete_unrecorded(self, writer: Writer, eraser: NameEraser, done: Forgotten) -> int:
        """Delete files that killed fetches and erasures left behind, if they may contain an erased name."""
        with writer.transaction("sales_assets forget: recorded files") as transaction:
            recorded = {row["path"] for row in transaction.rows(_STATEMENTS, "recorded_paths")}
        deleted = 0
        for path in self.raw_files.paths():
            file = _file_of(path)
            if file is None or path in recorded or path.endswith(".json"):
                continue
            try:
                if path.endswith(".part") or self._may_name(path, file, eraser):
                    self.raw_files.delete([path, f"{path}.json"])
                    deleted += 1
            except RawFilesError as error:
                done.left.append(str(error))
        return deleted

    def _is_blank(self, path: str) -> bool:
        return not any(chunk.strip() for chunk in self.raw_files.chunks(path))

    def _may_name(self, path: str, file: ReportFile, eraser: NameEraser) -> bool:
        if header_of_file(self.raw_files.chunks(path), file) is None and not self._is_blank(path):
            return True
        contents, blanked = hashlib.sha256(), hashlib.sha256()
        for chunk in self.raw_files.chunks(path):
            contents.update(chunk)
        for chunk in eraser.erase(file, self.raw_files.chunks(path)):
            blanked.update(chunk)
        return contents.digest() != blanked.digest()


def _file_of(path: str) -> ReportFile | None:
    folder = path.partition("/")[0].removesuffix("_inc")
    return next((file for file in _FILES if file.name == folder), None)


def _unread(path: str) -> str:
    return (
        f"{path}: the header can't be read, so the person's name may remain in it; if it does, delete the file and "
        f"{path.rpartition('/')[2]}.json"
    )


def _digest_of_rows(chunks: Iterator[bytes], file: ReportFile, rejected: set[int], *, is_former: bool) -> object:
    """Hash the valid rows of a file, without names. rejected: lines rejected in the former file, which are left out."""
    digest = hashlib.sha256()
    try:
        for batch in ReportReader(chunks, file):
            rows = batch.lines
            if is_former:
                rejected.update(batch.rejected.column("line_no").to_pylist())
            elif rejected:
                rows = rows.filter(
                    pc.invert(pc.is_in(rows.column("line_no"), value_set=pa.array(sorted(rejected), pa.int64())))
                )
            for row in rows.drop_columns(list(file.personal)).to_pylist():
                digest.update(repr(tuple(row.values())).encode())
    except UnreadableFile:
        return None
    return digest.digest()


def _blanked_row(row: dict[str, Any], eraser: NameEraser, file: ReportFile, header: Header | None) -> dict[str, Any]:
    """Blank the texts of a rejected row; a reason that quotes a value of the row is derived from the new text."""
    text = eraser.erase_line(row["line_text"], file, header)
    corrected = row["corrected_text"] and eraser.erase_line(row["corrected_text"], file, header)
    reason = row["reason"]
    if header is not None and (text, corrected) != (row["line_text"], row["corrected_text"]):
        for before, after in ((row["line_text"], text), (row["corrected_text"], corrected)):
            if before and _reason(before, file, header, row["line_no"]) == reason:
                reason = _reason(after, file, header, row["line_no"]) or _ERASED_REASON
    return {**row, "line_text": text, "corrected_text": corrected, "reason": reason}


def _reason(text: str, file: ReportFile, header: Header, line_no: int) -> str | None:
    rejected = parse_line(text, file, header, line_no).rejected
    return str(rejected.column("reason")[0].as_py()) if rejected.num_rows else None


def remove_from_disk(warehouse: Warehouse, *, is_embedded: bool) -> list[str]:
    """Remove deleted rows from the server's files; returns a message for each step that was not possible.

    Takes exclusive locks, table by table. is_embedded: remove them from the write-ahead log too.
    """
    left = []
    with connect(warehouse.url(), "sales_assets forget: vacuum", autocommit=True) as connection:
        for name, statement in statements("forget/disk").items():
            if name.startswith("wal_"):
                continue
            try:
                connection.execute(statement)
            except (psycopg.errors.LockNotAvailable, psycopg.errors.InsufficientPrivilege) as error:
                left.append(f"{name}: {type(error).__name__}")
        if is_embedded and not _remove_from_wal(connection):
            left.append("old segments of the write-ahead log are still there")
    return left


def _remove_from_wal(connection: psycopg.Connection[Row]) -> bool:
    """Delete the former segments of the write-ahead log; return whether all of them are gone."""
    disk = statements("forget/disk")
    connection.execute(disk["wal_statistics"])
    connection.execute(disk["wal_no_recycling"])
    try:
        connection.execute(disk["wal_reload"])
        for _ in range(_WAL_ATTEMPTS):
            connection.execute(disk["wal_advance"])
            connection.execute(disk["wal_checkpoint"])
            kept = connection.execute(disk["wal_kept"]).fetchone()
            if kept is not None and kept["segments"] == 0:
                return True
            time.sleep(_WAL_PAUSE_SECONDS)
        return False
    finally:
        connection.execute(disk["wal_recycling"])
        connection.execute(disk["wal_reload_again"])
