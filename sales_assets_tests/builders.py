"""Builders of report files, row by row, and helpers that load them."""

import datetime as dt
import functools
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import dagster as dg

from sales_assets.dagster_internals import range_tags
from sales_assets.definitions import defs

ORDER_COLUMNS = (
    "id,uniq_id,date_time,city_id,city_name,customer_id,first_name,last_name,item_id,item_name,quantity,payment_amount"
)


@dataclass(frozen=True)
class Order:
    """One line of an order file; if `status` is None, the cell is empty in a file with statuses."""

    uniq_id: str
    day: str = "2024-10-01"
    quantity: str = "2"
    amount: str = "200"
    status: str | None = None
    city_id: str = "1"
    city_name: str = "Rostov"
    customer_id: str = "51"
    first_name: str = "Anna"
    last_name: str = "Orlova"
    item_id: str = "3"
    item_name: str = "Milk"
    time: str = "T00:00:00"

    def line(self, number: int, *, statuses: bool) -> str:
        cells = [
            str(number),
            self.uniq_id,
            f"{self.day}{self.time}",
            self.city_id,
            self.city_name,
            self.customer_id,
            self.first_name,
            self.last_name,
            self.item_id,
            self.item_name,
            self.quantity,
            self.amount,
        ]
        return ",".join([*cells, self.status or ""] if statuses else cells)

    def but(self, **changes: str) -> "Order":
        return replace(self, **changes)


def order_file(orders: Sequence[Order | str], *, statuses: bool, end: str = "\n") -> str:
    """Return the text of an order file; a string is used as a raw line."""
    header = ORDER_COLUMNS + (",status" if statuses else "")
    lines = [
        order if isinstance(order, str) else order.line(number, statuses=statuses)
        for number, order in enumerate(orders, start=1)
    ]
    return "".join(f"{line}{end}" for line in [header, *lines])


class ReportFolderBuilder:
    """A folder of report files in the simulator's layout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def report(self, orders: Sequence[Order | str] | None, *, statuses: bool = False, **files: str) -> None:
        r"""Replace the report; `files` maps names of its other files to texts, such as price_log='Milk,100\\n'."""
        self._write(self.folder / "main", "", orders, statuses, files)

    def increment(
        self, day: str, orders: Sequence[Order | str] | None, *, statuses: bool = True, **files: str | bytes
    ) -> None:
        """Replace the increment of a day; if `orders` is None, the increment has no order file."""
        self._write(self.folder / "inc" / day, "_inc", orders, statuses, files)

    def without_increment(self, day: str) -> None:
        """Remove the increment of a day; from now on, the API responds NOT FOUND."""
        shutil.rmtree(self.folder / "inc" / day, ignore_errors=True)

    @staticmethod
    def _write(
        folder: Path,
        suffix: str,
        orders: Sequence[Order | str] | None,
        statuses: bool,
        files: Mapping[str, str | bytes],
    ) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        contents: dict[str, str | bytes] = dict(files)
        if orders is not None:
            contents["user_orders_log"] = order_file(orders, statuses=statuses)
        for name, text in contents.items():
            (folder / f"{name}{suffix}.csv").write_bytes(text.encode() if isinstance(text, str) else text)


@functools.cache
def definitions() -> dg.Definitions:
    """Return the code location, loaded once per test process: loading it for each job would take a second."""
    return defs()


@functools.cache
def job(name: str) -> dg.JobDefinition:
    """Return a job of the code location."""
    return definitions().resolve_job_def(name)


def fetch_report(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """Run the job that lets the simulator generate a report and stores its files."""
    return job("load_report").execute_in_process(instance=instance, raise_on_error=False)


def load_days(
    instance: dg.DagsterInstance,
    first: str,
    last: str | None = None,
    selection: Iterable[dg.AssetKey] | None = None,
) -> dg.ExecuteInProcessResult:
    """Run `load_daily_sales` for a range of days as one run, like the UI and the command."""
    return job("load_days").execute_in_process(
        instance=instance,
        raise_on_error=False,
        asset_selection=None if selection is None else list(selection),
        tags=range_tags(first, last or first),
    )


def days_between(first: str, last: str) -> list[str]:
    start, end = dt.date.fromisoformat(first), dt.date.fromisoformat(last)
    return [(start + dt.timedelta(days=n)).isoformat() for n in range((end - start).days + 1)]
