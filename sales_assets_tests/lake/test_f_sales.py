"""``lake.f_sales``: the copy of the mart for other engines, replaced by days; concurrent and killed writers."""

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.avro.file import AvroFile
from pyiceberg.io.fsspec import FsspecFileIO
from pyiceberg.table import Transaction

from sales_assets import settings as settings_module
from sales_assets.postgres.queries import statements
from sales_assets.resources import lake as lake_module
from sales_assets.resources.lake import Lake, LakeError, differences
from sales_assets.schemas.lake import LAKE_TABLES, LakeColumn
from sales_assets_tests.builders import Order
from sales_assets_tests.fixtures import Shop
from sales_assets_tests.lake import writers
from sales_assets_tests.lake.conftest import DAYS, Query, copy, files_of, lake_rows, require_equal, use_lake

InsertSale = Callable[..., None]
SECONDS = 60


@pytest.fixture
def month(insert_sale: InsertSale) -> list[dt.date]:
    """Add sales on 30 days; return the days."""
    for number, day in enumerate(DAYS):
        insert_sale(day, 20 + number)
    return DAYS


# --- days ------------------------------------------------------------------------------------------------------


def test_a_month_in_the_lake_equals_the_mart_after_changed_smaller_and_empty_days(
    lake: Lake, month: list[dt.date], insert_sale: InsertSale, query: Query
) -> None:
    copy(lake, *month)
    require_equal(lake, query)
    assert len(lake_rows(lake)) == sum(20 + number for number in range(30))
    # Every day is a partition with one file.
    partitions = lake.table("f_sales").inspect.partitions().to_pylist()
    assert sorted((row["partition"]["day"], row["file_count"]) for row in partitions) == [(day, 1) for day in month]

    insert_sale(month[3], rows=5, first=1000)
    query("DELETE FROM mart.f_sales WHERE date_id = 20240920 AND item_id = 3")
    query("DELETE FROM mart.f_sales WHERE date_id = 20240922")
    copy(lake, *month[2:9])
    require_equal(lake, query)
    assert "20240922" not in {str(row[0]) for row in lake_rows(lake)}

    copy(lake, *month[2:9])
    require_equal(lake, query)
    query("DELETE FROM mart.f_sales")
    copy(lake, *month)
    assert lake_rows(lake) == []
    require_equal(lake, query)


def test_days_are_written_in_parts_that_fit_into_memory(
    lake: Lake, insert_sale: InsertSale, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in DAYS[:9]:
        insert_sale(day)
    monkeypatch.setattr(lake_module, "_ROWS_AT_ONCE", 50)
    monkeypatch.setattr("sales_assets.postgres.warehouse._ROWS_READ_AT_ONCE", 7)
    monkeypatch.setattr(lake_module, "_DAYS_PER_COMMIT", 4)
    replaced = list(lake.replace_days([*reversed(DAYS[:9]), DAYS[0]], "test"))
    assert [len(some.days) for some in replaced] == [4, 4, 1]
    require_equal(lake, query)


def test_erased_names_are_in_no_file_of_the_lake(lake: Lake, query: Query, tmp_path: Path) -> None:
    """The names are also absent from former snapshots and from the statistics of files in manifests."""
    folder = tmp_path / "the lake"

    def files() -> list[Path]:
        def holds(path: Path) -> bool:
            text = path.read_bytes().decode(errors="replace")
            if path.suffix == ".parquet":
                text += str(pq.read_table(path).to_pylist())
            elif path.suffix == ".avro":
                with AvroFile[Any](FsspecFileIO({}).new_input(f"file://{path}")) as entries:
                    text += str(list(entries))
            return "Aazoe" in text or "Zzquill" in text

        return [path for path in files_of(folder) if holds(path)]

    query("INSERT INTO mart.d_customer VALUES (51, 'Aazoe', 'Zzquill', now()), (52, 'Anna', 'Orlova', now())")
    lake.refresh_dimensions("test")
    query("UPDATE mart.d_customer SET first_name = 'Maria' WHERE customer_id = 52")
    lake.refresh_dimensions("test")
    assert len({path.suffix for path in files()}) > 1
    query("UPDATE mart.d_customer SET first_name = '', last_name = '', name_as_of = NULL WHERE customer_id = 51")
    assert lake.forget_names("test") > 0
    assert files() == []
    rows = lake.table("d_customer").scan().to_arrow().sort_by("customer_id").to_pylist()
    assert [(row["customer_id"], row["first_name"], row["last_name"]) for row in rows] == [
        (51, "", ""), (52, "Maria", "Orlova")]  # fmt: skip
    before = {path: path.read_bytes() for path in files_of(folder)}
    assert lake.forget_names("test") == 0
    assert {path: path.read_bytes() for path in files_of(folder)} == before


def test_rows_have_their_keys_and_dimensions_their_names(lake: Lake, shop: Shop) -> None:
    shop.reports.increment("2024-10-01", [Order("a", amount="0.01"), Order("b", status="refunded")])
    shop.load("2024-10-01")
    shop.query(
        "INSERT INTO mart.f_sales (date_id, item_id, customer_id, city_id, quantity, amount, status, source) "
        "VALUES (20241001, 3, 51, 1, NULL, NULL, 'shipped', 'legacy')"
    )
    copy(lake, dt.date(2024, 10, 1))
    rows = lake.table("f_sales").scan().to_arrow().sort_by("sale_id").to_pylist()
    assert [(row["uniq_id"], row["quantity"], str(row["amount"]), row["source"]) for row in rows] == [
        ("a", 2, "0.01", "report_api"),
        ("b", -2, "-200.00", "report_api"),
        (None, None, "None", "legacy"),
    ]
    assert lake.table("d_city").scan().to_arrow()["city_name"].to_pylist() == ["Rostov"]
    calendar = lake.table("d_calendar").scan("date_id = 20241001").to_arrow().to_pylist()
    assert [(row["date_actual"], row["month_name"], row["iso_week"]) for row in calendar] == [
        (dt.date(2024, 10, 1), "October", 40)
    ]


def test_dimensions_are_replaced_only_after_a_change(lake: Lake, query: Query) -> None:
    query(
        "INSERT INTO mart.d_city (city_id, city_name, name_as_of) "
        "VALUES (1, '', NULL), (2, NULL, '2024-10-01 12:00'), (3, %s, NULL)",
        "Ро\"с',\nтов",
    )
    assert set(lake.refresh_dimensions("test")) == {"d_calendar", "d_city", "d_customer", "d_item"}
    assert lake.refresh_dimensions("test") == []
    query("UPDATE mart.d_city SET city_name = 'Омск' WHERE city_id = 2")
    assert lake.refresh_dimensions("test") == ["d_city"]
    assert lake.table("d_city").scan().to_arrow().sort_by("city_id").to_pylist() == [
        {"city_id": 1, "city_name": "", "name_as_of": None},
        {"city_id": 2, "city_name": "Омск", "name_as_of": dt.datetime.fromisoformat("2024-10-01T12:00:00")},
        {"city_id": 3, "city_name": "Ро\"с',\nтов", "name_as_of": None},
    ]


def test_a_copy_that_differs_from_the_mart_is_not_committed(lake: Lake, month: list[dt.date], query: Query) -> None:
    copy(lake, *month[:2])
    before = lake_rows(lake)
    query("UPDATE mart.f_sales SET amount = amount + 1 WHERE date_id = 20240916")
    append = Transaction.append
    pattern = r"lake.f_sales, 2024-09-15 to 2024-09-16: 20240915: \w+ of \w+: rows \d+, "
    patched = mock.patch.object(Transaction, "append", lambda self, rows: append(self, rows.slice(1)))
    with patched, pytest.raises(LakeError, match=pattern):
        copy(lake, *month[:2])
    assert lake_rows(lake) == before


def test_differences_are_found_by_day_status_and_source() -> None:
    sums = {(20241001, "shipped", "report_api"): {"rows": 1, "amount": 5}}
    other = {(20241001, "shipped", "legacy"): {"rows": 1, "amount": 5}}
    assert differences(sums, dict(sums)) == []
    assert differences(sums, {(20241001, "shipped", "report_api"): {"rows": 1, "amount": 6}}) == [
        {
            "date_id": 20241001,
            "offending": 1,
            "example": "shipped of report_api: rows 1, amount 5 in the mart, rows 1, amount 6 in the lake",
        }
    ]
    assert differences(sums, other)[0]["offending"] == 2
    assert "nothing in the lake" in differences(sums, {})[0]["example"]


def test_a_changed_location_of_the_lake_is_refused(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy(lake, DAYS[0])
    use_lake(monkeypatch, str(tmp_path / "elsewhere"))
    with pytest.raises(LakeError, match=r"the table is at file://.*/the lake/f_sales, but LAKE_URL is file://.*"):
        copy(lake, DAYS[0])


# --- columns ---------------------------------------------------------------------------------------------------


@pytest.fixture
def older_version(lake: Lake, query: Query, monkeypatch: pytest.MonkeyPatch) -> dt.date:
    """Create a lake with the columns of an older version, and add a day and a city; return the day."""
    since = {"uniq_id", "name_as_of"}
    columns = {name: [column for column in of if column.name not in since] for name, of in LAKE_TABLES.items()}
    narrower = [
        replace(column, kind="integer", description="Id") if column.name == "sale_id" else column
        for column in columns["f_sales"]
    ]
    columns["f_sales"] = [*narrower, LakeColumn("region", "text", "Region", required=True)]
    old = {"date_id": 20240915, "day": DAYS[0], "sale_id": 1, "item_id": 1, "customer_id": 1, "city_id": 1}
    old |= {"quantity": None, "amount": None, "status": "shipped", "source": "legacy", "region": "south"}
    query("INSERT INTO mart.d_city (city_id, city_name, name_as_of) VALUES (1, 'Omsk', '2024-10-01 12:00')")
    ((contents,),) = query(statements("lake/d_city")["fingerprint"])
    with monkeypatch.context() as patch, lake._session() as session:
        patch.setattr(lake_module, "LAKE_TABLES", columns)
        patch.setattr(lake_module, "F_SALES", columns["f_sales"])
        sales, cities = session.table("f_sales"), session.table("d_city")
        sales.append(pa.Table.from_pylist([old], sales.schema().as_arrow()))
        cities.append(pa.Table.from_pylist([{"city_id": 1, "city_name": "Omsk"}], cities.schema().as_arrow()))
        with cities.transaction() as change:
            change.set_properties({lake_module._CONTENTS: str(contents)})
    return DAYS[0]


def test_tables_of_an_older_version_get_the_current_columns(
    lake: Lake, insert_sale: InsertSale, query: Query, older_version: dt.date
) -> None:
    insert_sale(DAYS[1])
    copy(lake, DAYS[1])
    table = lake.table("f_sales")
    for column in LAKE_TABLES["f_sales"]:
        field = table.schema().find_field(column.name)
        assert (field.field_type, field.doc) == (lake_module._TYPES[column.kind], column.description)
        assert field.required == column.required
    (old,) = table.scan(f"day = '{older_version}'").to_arrow().to_pylist()
    assert (old["sale_id"], old["uniq_id"], old["region"]) == (1, None, "south")
    new = table.scan(f"day = '{DAYS[1]}'").to_arrow().to_pylist()
    assert {row["region"] for row in new} == {None}
    # The rows are equal, but are written again for their new column.
    assert lake.table("d_city").scan().to_arrow().to_pylist() == [
        {"city_id": 1, "city_name": "Omsk", "name_as_of": dt.datetime.fromisoformat("2024-10-01T12:00:00")}
    ]
    copy(lake, older_version)
    require_equal(lake, query)
    schemas = len(lake.table("f_sales").schemas())
    copy(lake, *DAYS[:2])
    assert len(lake.table("f_sales").schemas()) == schemas


@pytest.mark.usefixtures("older_version")
def test_concurrent_writers_that_change_the_columns_all_commit(
    lake: Lake, insert_sale: InsertSale, query: Query
) -> None:
    for day in DAYS[:4]:
        insert_sale(day)
    processes = [writers.start([day]) for day in DAYS[:4]]
    for process in processes:
        process.join(writers.SECONDS)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    require_equal(lake, query)
    assert len(lake.table("f_sales").schemas()) == 2


def test_a_type_that_cannot_represent_existing_rows_is_an_error(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    copy(lake, DAYS[0])
    texts = [replace(column, kind="text") if column.name == "amount" else column for column in LAKE_TABLES["f_sales"]]
    monkeypatch.setattr(lake_module, "LAKE_TABLES", {**LAKE_TABLES, "f_sales": texts})
    with pytest.raises(LakeError, match=r"^lake.f_sales, 2024-09-15 to 2024-09-15: .*amount"):
        copy(lake, DAYS[0])


# --- several writers -------------------------------------------------------------------------------------------


@pytest.fixture
def paused() -> Iterator[tuple[threading.Event, threading.Event]]:
    """Pause the first commit of sales; yield two events: the commit was reached, and the commit may continue."""
    reached, may_continue = threading.Event(), threading.Event()
    commit = Transaction.commit_transaction

    def wait(self: Any) -> Any:
        if self._table.name()[-1] == "f_sales" and not reached.is_set():
            reached.set()
            assert may_continue.wait(SECONDS)
        return commit(self)

    with mock.patch.object(Transaction, "commit_transaction", wait):
        yield reached, may_continue
        may_continue.set()


def test_four_processes_write_concurrently(lake: Lake, month: list[dt.date], query: Query) -> None:
    """Each process changes different days and one common day."""
    copy(lake, *month[:15])
    processes = [writers.start([*month[number::4], month[0]], rounds=2) for number in range(4)]
    for process in processes:
        process.join(writers.SECONDS)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    require_equal(lake, query)


def test_a_writer_that_read_earlier_never_overwrites_newer_data(
    lake: Lake, insert_sale: InsertSale, query: Query, paused: tuple[threading.Event, threading.Event]
) -> None:
    reached, may_continue = paused
    insert_sale(DAYS[0])
    first = threading.Thread(target=copy, args=(lake, DAYS[0], DAYS[1]))
    first.start()
    assert reached.wait(SECONDS)
    query("UPDATE mart.f_sales SET amount = amount + 1")
    second = threading.Thread(target=copy, args=(lake, DAYS[0]))
    second.start()
    insert_sale(DAYS[2])
    copy(lake, DAYS[2])  # other days are not blocked
    waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 20240915"
    wait_for(lambda: bool(query(waiting)))
    may_continue.set()
    first.join(SECONDS)
    second.join(SECONDS)
    require_equal(lake, query)


def test_a_writer_that_lost_its_locks_cannot_commit(
    lake: Lake, insert_sale: InsertSale, query: Query, paused: tuple[threading.Event, threading.Event]
) -> None:
    reached, may_continue = paused
    insert_sale(DAYS[0])
    failures: list[Exception] = []

    def write() -> None:
        try:
            copy(lake, DAYS[0])
        except Exception as error:  # noqa: BLE001  the test reads it
            failures.append(error)

    stale = threading.Thread(target=write)
    stale.start()
    assert reached.wait(SECONDS)
    query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sales_assets lake'")
    query("UPDATE mart.f_sales SET amount = amount + 1")
    copy(lake, DAYS[0])
    may_continue.set()
    stale.join(SECONDS)
    assert len(failures) == 1
    assert isinstance(failures[0], (LakeError, psycopg.Error))
    require_equal(lake, query)


# --- kills -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", [writers.BEFORE_COMMIT, writers.BEFORE_CATALOG])
def test_a_killed_writer_changes_nothing_and_its_files_are_deleted(
    lake: Lake, insert_sale: InsertSale, query: Query, tmp_path: Path, moment: str
) -> None:
    for day in DAYS[:4]:
        insert_sale(day)
    copy(lake, *DAYS[:4])
    before = lake_rows(lake)
    folder = tmp_path / "the lake"
    files = files_of(folder / "f_sales")
    process = writers.start(DAYS[:4], kill=moment)
    process.join(writers.SECONDS)
    assert process.exitcode == -9
    assert lake_rows(lake) == before
    left = files_of(folder / "f_sales") - files
    assert sum(path.suffix == ".parquet" for path in left) == 4
    assert sum(path.suffix == ".json" for path in left) == (moment == writers.BEFORE_CATALOG)

    now = dt.datetime.now(dt.UTC)
    lake.maintain(now)
    assert files_of(folder / "f_sales") >= left  # the writer might still commit
    copy(lake, *DAYS[:4])
    require_equal(lake, query)
    lake.maintain(now + dt.timedelta(days=2))
    assert not files_of(folder / "f_sales") & left
    require_equal(lake, query)


# --- maintenance -----------------------------------------------------------------------------------------------


def test_the_number_of_files_is_bounded(
    lake: Lake, insert_sale: InsertSale, query: Query, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(lake_module._PROPERTIES, "write.metadata.previous-versions-max", "3")
    monkeypatch.setitem(lake_module._PROPERTIES, "commit.manifest.min-count-to-merge", "3")
    folder = tmp_path / "the lake" / "f_sales"
    for day in DAYS[:3]:
        insert_sale(day)
    counts = []
    for number in range(1, 10):
        copy(lake, DAYS[number % 3])
        if number % 3 == 0:
            lake.maintain(dt.datetime.now(dt.UTC) + dt.timedelta(days=8))
            counts.append(len(files_of(folder)))
            require_equal(lake, query)
    # 3 data files, a manifest list, up to 3 manifests, the current metadata and 3 former versions.
    assert max(counts) <= 3 + 1 + 3 + 4
    assert len(lake.table("f_sales").snapshots()) == 1


def test_snapshots_of_the_last_seven_days_remain_readable(lake: Lake, insert_sale: InsertSale) -> None:
    insert_sale(DAYS[0])
    copy(lake, DAYS[0])
    former = lake.table("f_sales").current_snapshot()
    assert former is not None
    insert_sale(DAYS[0], first=500)
    copy(lake, DAYS[0])
    lake.maintain(dt.datetime.now(dt.UTC) + dt.timedelta(days=6))
    assert lake.table("f_sales").scan(snapshot_id=former.snapshot_id).to_arrow().num_rows == 40
    lake.maintain(dt.datetime.now(dt.UTC) + dt.timedelta(days=8))
    assert lake.table("f_sales").snapshot_by_id(former.snapshot_id) is None


def test_the_location_of_the_metadata_remains_readable_for_twenty_commits(lake: Lake, insert_sale: InsertSale) -> None:
    """docs/guides/lake.md promises this for the locations that DuckDB and ClickHouse read."""
    insert_sale(DAYS[0])
    copy(lake, DAYS[0])
    metadata = Path(lake.table("f_sales").metadata_location.removeprefix("file://"))
    commits = 0
    while metadata.exists():
        assert commits < 25, "former metadata are not deleted"
        copy(lake, DAYS[0])
        commits += 1
    assert commits > 20


def wait_for(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(SECONDS * 20):
        if condition():
            return
        pause.wait(0.05)
    raise AssertionError("it did not come")


# --- settings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("s3://key:secret@bucket/lake", "must be a folder or a URL without user name, password"),
        ("s3://bucket/lake?token=secret", "must be a folder or a URL without user name, password"),
        ("ftp://host/lake", "must be a folder or a URL of file, s3"),
        ("simplecache::s3://bucket/lake", "must be a folder or a URL of file, s3"),
    ],
)
def test_an_unusable_location_is_refused(monkeypatch: pytest.MonkeyPatch, given: str, message: str) -> None:
    use_lake(monkeypatch, given)
    with pytest.raises(settings_module.SettingsError, match=f"LAKE_URL: {message}") as caught:
        settings_module.definition_settings()
    assert "secret" not in str(caught.value)
