"""Changed raw files: a file that differs from the fetched one is not loaded; its days fail, all others are loaded."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sales_assets.pipeline import parse_file
from sales_assets.resources.raw_files import RawFiles
from sales_assets.settings import settings
from sales_assets_tests.builders import Order, days_between
from sales_assets_tests.fixtures import F_SALES, ORDERS, RAW, Shop

FIRST, DAY, LAST = DAYS = days_between("2024-10-01", "2024-10-03")
DOWNSTREAM = [ORDERS, F_SALES]


@pytest.fixture
def shop(engine_shop: Shop) -> Shop:
    """Return a shop that loads without Dagster runs; tests of Dagster's records use `dagster_shop`."""
    return engine_shop


@pytest.fixture(autouse=True)
def _in_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Store raw files in a folder, where tests change them; `faults/test_object_storage.py` changes objects."""
    monkeypatch.delenv("RAW_FILES_URL", raising=False)
    settings.cache_clear()


def raw_file(shop: Shop, day: str = DAY, kind: str = "increment") -> Path:
    """Return the newest order file fetched for a day."""
    ((path,),) = shop.query(
        "SELECT path FROM raw.fetch WHERE file = 'user_orders_log' AND kind = %s AND %s BETWEEN first_day AND last_day"
        " ORDER BY fetch_id DESC LIMIT 1",
        kind,
        day,
    )
    return settings().sales_home / "raw" / str(path)


def change(file: Path) -> None:
    """Change an amount without changing the size."""
    contents = file.read_text()
    assert ",200" in contents
    file.write_text(contents.replace(",200", ",900"))


def deliver_days(shop: Shop) -> None:
    for day in DAYS:
        shop.reports.increment(day, [Order(day, day=day), Order("bad", day=day, quantity="x")])


def test_a_changed_file_among_many_days_is_reported_once(dagster_shop: Shop) -> None:
    """The file is read once per run, and none of its lines reach quarantine or staging."""
    deliver_days(dagster_shop)
    dagster_shop.load(FIRST, LAST, selection=RAW)
    change(raw_file(dagster_shop))
    error = dagster_shop.fail_to_load(FIRST, LAST, selection=DOWNSTREAM)
    assert error.count("was changed or truncated") == 1
    assert [name for name, _ in dagster_shop.sales()] == [FIRST, LAST]
    assert dagster_shop.query("SELECT date_id FROM staging.quarantine ORDER BY 1") == [(20241001,), (20241003,)]
    assert dagster_shop.materialized(F_SALES) == dagster_shop.materialized(ORDERS) == {FIRST, LAST}


def test_a_correction_in_a_changed_file_applies_once_the_file_is_restored(shop: Shop) -> None:
    """Until the file is restored, loading the day fails and the day's rows don't change."""
    deliver_days(shop)
    shop.load(FIRST, LAST)
    file = raw_file(shop)
    original = file.read_bytes()
    change(file)
    line = Order("bad", day=DAY, quantity="5").line(2, statuses=True)
    shop.query(
        "UPDATE staging.quarantine SET state = 'corrected', corrected_text = %s, corrected_at = now()"
        " WHERE date_id = 20241002",
        line,
    )
    for _ in range(2):
        error = shop.fail_to_load(DAY, selection=DOWNSTREAM)
        assert f"{DAY}: user_orders_log_inc/{DAY}/{file.name}: the raw file was changed" in error
        assert shop.sales(DAY) == [(DAY, 200)]
    file.write_bytes(original)
    shop.load(DAY, selection=DOWNSTREAM)
    assert shop.sales(DAY) == [(DAY, 200), ("bad", 200)]


def test_a_changed_file_that_was_replaced_by_a_newer_one_is_no_failure(dagster_shop: Shop) -> None:
    """The older file is not needed, so the day is loaded."""
    dagster_shop.reports.increment(DAY, [Order("old", day=DAY)])
    dagster_shop.load(DAY, selection=RAW)
    change(raw_file(dagster_shop))
    dagster_shop.reports.increment(DAY, [Order("new", day=DAY)])
    dagster_shop.load(DAY)
    assert dagster_shop.sales() == [("new", 200)]
    assert dagster_shop.materialized(F_SALES) == {DAY}


def test_a_changed_file_with_statuses_outranks_a_newer_one_without(shop: Shop) -> None:
    """The older file is selected for the day, so the day fails if that file can't be read again."""
    shop.reports.increment(DAY, [Order("old", day=DAY), Order("bad", day=DAY, quantity="x")])
    shop.load(DAY)
    older = raw_file(shop)
    shop.reports.increment(DAY, [Order("new", day=DAY)], statuses=False)
    shop.load(DAY)
    assert shop.sales() == [("old", 200)]
    change(older)
    shop.query("UPDATE staging.quarantine SET state = 'discarded', corrected_at = now()")
    error = shop.fail_to_load(DAY, selection=DOWNSTREAM)
    assert f"{DAY}: user_orders_log_inc/{DAY}/{older.name}: the raw file was changed" in error
    assert shop.sales() == [("old", 200)]


def test_a_changed_report_fails_the_days_that_only_it_serves(shop: Shop) -> None:
    """The second run also fails these days, although the days with increments are unchanged."""
    deliver_days(shop)
    shop.reports.without_increment(FIRST)
    shop.reports.report([Order(f"r{day}", day=day) for day in DAYS])
    shop.fetch_report()
    change(raw_file(shop, kind="report"))
    for _ in range(2):
        error = shop.fail_to_load(FIRST, LAST)
        assert "1 of 3 days failed" in error
        assert f"{FIRST}: user_orders_log/{FIRST}_{LAST}/" in error
        assert [name for name, _ in shop.sales()] == [DAY, LAST]


@pytest.mark.parametrize("size", ["small", "large"])
def test_a_file_that_changes_before_the_lookup_of_its_conflicts_is_not_loaded(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    """The texts of conflicting lines are read from the file a second time; by then the file may have changed."""
    if size == "large":
        monkeypatch.setattr(parse_file, "_ROWS_PER_DISTRIBUTION", 2)
    shop.reports.increment(DAY, [Order("twice", day=DAY), Order("twice", day=DAY, amount="7"), Order("a", day=DAY)])
    shop.load(DAY, selection=RAW)
    file = raw_file(shop)
    look_up = parse_file._texts

    def changed_before(*arguments: object) -> dict[int, str]:
        change(file)
        return look_up(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(parse_file, "_texts", changed_before)
    assert "was changed or truncated" in shop.fail_to_load(DAY, selection=DOWNSTREAM)
    assert shop.quarantined() == []
    assert shop.sales() == []


def test_a_file_that_cannot_be_read_is_tried_once_per_run(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the storage is down, each file costs its timeout; a second attempt would double it."""
    deliver_days(shop)
    shop.load(FIRST, LAST, selection=RAW)
    raw_file(shop).unlink()
    attempts: list[str] = []
    chunks = RawFiles.chunks

    def counted(raw_files: RawFiles, path: str) -> Iterator[bytes]:
        attempts.append(path)
        return chunks(raw_files, path)

    monkeypatch.setattr(RawFiles, "chunks", counted)
    error = shop.fail_to_load(FIRST, LAST, selection=DOWNSTREAM)
    assert f"{DAY}: user_orders_log_inc/{DAY}/" in error
    assert f"can't be read from {settings().raw_files_location}: No such file or directory" in error
    assert [name for name, _ in shop.sales()] == [FIRST, LAST]
    assert [path.split("/")[1] for path in attempts] == DAYS


def test_unreadable_header_of_a_changed_file_is_not_a_delivery_fault(shop: Shop) -> None:
    """An unreadable header counts as a fault of the delivery only if the file is unchanged since its fetch."""
    deliver_days(shop)
    shop.load(FIRST, LAST, selection=RAW)
    file = raw_file(shop)
    original = file.read_bytes()
    file.write_text("what is this\n" * 100_000)
    assert "was changed or truncated" in shop.fail_to_load(FIRST, LAST, selection=DOWNSTREAM)
    assert shop.query("SELECT verdict FROM staging.fetch_reading") == [("usable",), ("usable",)]
    file.write_bytes(original)
    shop.load(FIRST, LAST, selection=DOWNSTREAM)
    assert [name for name, _ in shop.sales()] == DAYS
