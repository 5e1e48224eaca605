"""Processes that copy days to a lake, several concurrently or until they are killed."""

import datetime as dt
import multiprocessing
import os
import signal
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from typing import Any
from unittest import mock

import psycopg

SECONDS = 120
# Not forked from the test, whose threads would be missing in the child.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__, "sales_assets.resources.lake", "sales_assets_tests.faults.preloaded"])

BEFORE_COMMIT, BEFORE_CATALOG = "before the commit", "between metadata and catalog"


def start(days: Sequence[dt.date], rounds: int = 1, kill: str = "") -> BaseProcess:
    """Start a process that repeatedly changes days of the mart and copies them; `kill`: die during the first copy."""
    process = _CONTEXT.Process(target=_write, args=(dict(os.environ), days, rounds, kill))
    process.start()
    return process


def _write(environment: Mapping[str, str], days: Sequence[dt.date], rounds: int, kill: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    from pyiceberg.catalog import MetastoreCatalog
    from pyiceberg.table import Transaction

    from sales_assets.postgres.warehouse import Warehouse
    from sales_assets.resources.lake import Lake

    def die_with_sales(self: Any, *_: Any) -> None:
        if self._table.name()[-1] == "f_sales":
            os.kill(os.getpid(), signal.SIGKILL)
        commit(self)

    def die_after_metadata(metadata: Any, io: Any, metadata_path: str) -> None:
        write(metadata, io, metadata_path)
        if "/f_sales/" in metadata_path:
            os.kill(os.getpid(), signal.SIGKILL)

    commit, write = Transaction.commit_transaction, MetastoreCatalog._write_metadata
    if kill == BEFORE_COMMIT:
        mock.patch.object(Transaction, "commit_transaction", die_with_sales).start()
    elif kill == BEFORE_CATALOG:
        mock.patch.object(MetastoreCatalog, "_write_metadata", staticmethod(die_after_metadata)).start()
    lake = Lake(Warehouse())
    date_ids = [int(f"{day:%Y%m%d}") for day in days]
    for _ in range(rounds):
        with psycopg.connect(environment["WAREHOUSE_URL"]) as connection:
            connection.execute("UPDATE mart.f_sales SET amount = amount + 0.01 WHERE date_id = ANY (%s)", [date_ids])
        for replaced in lake.replace_days(days, "writer"):
            assert replaced.differences == []
