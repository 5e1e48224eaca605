"""A raw file that is no longer what was fetched is never loaded: its days are named, all others go on."""

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
    """The engine's data rules need no runs of Dagster; tests that look at its records use `dagster_shop`."""
    return engine_shop


def raw_file(shop: Shop, day: str = DAY, kind: str = "increment") -> Path:
    """The newest order file that was fetched for a day."""
    ((path,),) = shop.query(
        "SELECT path FROM raw.fetch WHERE file = 'user_orders_log' AND kind = %s AND %s BETWEEN first_day AND last_day"
        " ORDER BY fetch_id DESC LIMIT 1",
        kind,
        day,
    )
    return settings().sales_home / "raw" / str(path)


def change(file: Path) -> None:
    """Another amount, in as many bytes."""
    contents = file.read_text()
    assert ",200" in contents
    file.write_text(contents.replace(",200", ",900"))


def fill(shop: Shop) -> None:
    for day in DAYS:
        shop.reports.increment(day, [Order(day, day=day), Order("bad", day=day, quantity="x")])


def test_a_changed_file_in_many_days(dagster_shop: Shop) -> None:
    """It is read once in a run, and none of its lines reach quarantine or staging."""
    fill(dagster_shop)
    dagster_shop.load(FIRST, LAST, selection=RAW)
    change(raw_file(dagster_shop))
    told = dagster_shop.fail_to_load(FIRST, LAST, selection=DOWNSTREAM)
    assert told.count("was changed or truncated") == 1
    assert [name for name, _ in dagster_shop.sales()] == [FIRST, LAST]
    assert dagster_shop.query("SELECT date_id FROM staging.quarantine ORDER BY 1") == [(20241001,), (20241003,)]
    assert dagster_shop.materialized(F_SALES) == dagster_shop.materialized(ORDERS) == {FIRST, LAST}


def test_a_changed_file_that_a_correction_reads_again(shop: Shop) -> None:
    """The day stays as it was and fails until the file is back; then the correction counts."""
    fill(shop)
    shop.load(FIRST, LAST)
    file = raw_file(shop)
    kept = file.read_bytes()
    change(file)
    line = Order("bad", day=DAY, quantity="5").line(2, statuses=True)
    shop.query(
        "UPDATE staging.quarantine SET state = 'corrected', corrected_text = %s, corrected_at = now()"
        " WHERE date_id = 20241002",
        line,
    )
    for _ in range(2):
        told = shop.fail_to_load(DAY, selection=DOWNSTREAM)
        assert f"{DAY}: user_orders_log_inc/{DAY}/{file.name}: the raw file was changed" in told
        assert shop.sales(DAY) == [(DAY, 200)]
    file.write_bytes(kept)
    shop.load(DAY, selection=DOWNSTREAM)
    assert shop.sales(DAY) == [(DAY, 200), ("bad", 200)]


def test_a_changed_file_that_a_newer_one_has_replaced(dagster_shop: Shop) -> None:
    """It was never read, and nothing is missing without it: the day is good."""
    dagster_shop.reports.increment(DAY, [Order("old", day=DAY)])
    dagster_shop.load(DAY, selection=RAW)
    change(raw_file(dagster_shop))
    dagster_shop.reports.increment(DAY, [Order("new", day=DAY)])
    dagster_shop.load(DAY)
    assert dagster_shop.sales() == [("new", 200)]
    assert dagster_shop.materialized(F_SALES) == {DAY}


def test_a_changed_file_with_statuses_outranks_a_newer_one_without(shop: Shop) -> None:
    """The older file is the one that the day is taken from: that it can't be read again fails the day."""
    shop.reports.increment(DAY, [Order("old", day=DAY), Order("bad", day=DAY, quantity="x")])
    shop.load(DAY)
    older = raw_file(shop)
    shop.reports.increment(DAY, [Order("new", day=DAY)], statuses=False)
    shop.load(DAY)
    assert shop.sales() == [("old", 200)]
    change(older)
    shop.query("UPDATE staging.quarantine SET state = 'discarded', corrected_at = now()")
    told = shop.fail_to_load(DAY, selection=DOWNSTREAM)
    assert f"{DAY}: user_orders_log_inc/{DAY}/{older.name}: the raw file was changed" in told
    assert shop.sales() == [("old", 200)]


def test_a_changed_report_fails_the_days_that_only_it_serves(shop: Shop) -> None:
    """In the second run too, where the days with increments are unchanged."""
    fill(shop)
    shop.reports.without_increment(FIRST)
    shop.reports.report([Order(f"r{day}", day=day) for day in DAYS])
    shop.fetch_report()
    change(raw_file(shop, kind="report"))
    for _ in range(2):
        told = shop.fail_to_load(FIRST, LAST)
        assert "1 of 3 days broke" in told
        assert f"{FIRST}: user_orders_log/{FIRST}_{LAST}/" in told
        assert [name for name, _ in shop.sales()] == [DAY, LAST]


@pytest.mark.parametrize("size", ["small", "large"])
def test_a_file_that_changes_between_its_two_readings(shop: Shop, monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    """Lines that contradict each other are looked up in the file once more, where they may have become others."""
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


def test_a_file_that_can_not_be_read_is_tried_once_in_a_run(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage that is down costs each file its time-out: a second try would double it."""
    fill(shop)
    shop.load(FIRST, LAST, selection=RAW)
    raw_file(shop).unlink()
    tried: list[str] = []
    chunks = RawFiles.chunks

    def counted(raw_files: RawFiles, path: str) -> Iterator[bytes]:
        tried.append(path)
        return chunks(raw_files, path)

    monkeypatch.setattr(RawFiles, "chunks", counted)
    told = shop.fail_to_load(FIRST, LAST, selection=DOWNSTREAM)
    assert f"{DAY}: user_orders_log_inc/{DAY}/" in told
    assert f"can't be read from {settings().raw_files_location}: No such file or directory" in told
    assert [name for name, _ in shop.sales()] == [FIRST, LAST]
    assert [path.split("/")[1] for path in tried] == DAYS


def test_garbage_in_place_of_a_file_is_not_held_against_the_delivery(shop: Shop) -> None:
    """A file whose header can't be read is a fault of the delivery only where it is what was delivered."""
    fill(shop)
    shop.load(FIRST, LAST, selection=RAW)
    file = raw_file(shop)
    kept = file.read_bytes()
    file.write_text("what is this\n" * 100_000)
    assert "was changed or truncated" in shop.fail_to_load(FIRST, LAST, selection=DOWNSTREAM)
    assert shop.query("SELECT verdict FROM staging.fetch_reading") == [("usable",), ("usable",)]
    file.write_bytes(kept)
    shop.load(FIRST, LAST, selection=DOWNSTREAM)
    assert [name for name, _ in shop.sales()] == DAYS
