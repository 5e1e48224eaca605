"""Raw files on a real S3 server: days are loaded from the store, and a faulty object fails only its own days."""

import pytest

from sales_assets.resources.raw_files import RawFiles, RawFilesError
from sales_assets_tests.builders import Order, days_between
from sales_assets_tests.fixtures import F_SALES, ORDERS, RAW, Shop, change_stored_file, stored_files
from sales_assets_tests.resources.object_storage import (
    ACCESS_KEY,
    BUCKET,
    SECRET_KEY,
    StorageProxy,
    free_ports,
    storage_proxy,
    use_object_storage,
)

__all__ = ["storage_proxy"]

DAYS = days_between("2024-10-01", "2024-10-03")
DOWNSTREAM = [ORDERS, F_SALES]
SECRETS = (ACCESS_KEY, SECRET_KEY, "canary", "Signature", "AWS4-HMAC")


def deliver_days(shop: Shop, suffix: str = "") -> None:
    for day in DAYS:
        shop.reports.increment(day, [Order(f"{day}{suffix}", day=day)])


def fetch_only(shop: Shop) -> str:
    """Fetch the days' files without staging them, like a run that died; return the path of the second day's file."""
    deliver_days(shop)
    shop.load(DAYS[0], DAYS[-1], selection=RAW)
    return str(shop.query("SELECT path FROM raw.fetch WHERE first_day = %s", DAYS[1])[0][0])


def test_days_are_loaded_from_object_storage(shop: Shop, storage_proxy: StorageProxy) -> None:
    deliver_days(shop)
    shop.load(DAYS[0], DAYS[-1])
    assert [name for name, _ in shop.sales()] == DAYS
    paths = [path for (path,) in shop.query("SELECT path FROM raw.fetch")]
    assert sorted(stored_files()) == sorted([*paths, *(f"{path}.json" for path in paths)])
    assert RawFiles().probe().startswith(f"s3://{BUCKET}/")


@pytest.mark.parametrize("how", [503, 403, "reset"])
def test_a_file_refused_by_the_store_fails_only_its_day(
    shop: Shop, storage_proxy: StorageProxy, how: int | str
) -> None:
    """The failure to write is reported with a reason that contains no secret, and the next load repairs the day."""
    deliver_days(shop)
    shop.fetch_report()
    storage_proxy.failing = {f"/{DAYS[1]}/": how}
    error = shop.fail_to_load(DAYS[0], DAYS[-1])
    assert "1 of 3 days failed" in error
    (named,) = [line for line in error.splitlines() if line.startswith(f"{DAYS[1]}: ")]
    assert f"{DAYS[1]}: user_orders_log_inc/{DAYS[1]}: can't be written to s3://{BUCKET}/" in named
    assert [word for word in SECRETS if word in error] == []
    assert [name for name, _ in shop.sales()] == [DAYS[0], DAYS[2]]
    assert shop.materialized(F_SALES) == {DAYS[0], DAYS[2]}
    ((reason,),) = shop.query("SELECT reason FROM raw.delivery WHERE outcome = 'failed'")
    assert reason in error

    storage_proxy.failing = {}
    shop.load(DAYS[1])
    assert [name for name, _ in shop.sales()] == DAYS


def test_a_raw_file_that_the_store_does_not_return_fails_only_its_day(shop: Shop, storage_proxy: StorageProxy) -> None:
    """The store refuses the object, then truncates it: both loads fail only this day; a third load repairs the day."""
    path = fetch_only(shop)
    for how in (503, "cut"):
        storage_proxy.failing = {path: how}
        error = shop.fail_to_load(DAYS[0], DAYS[-1], selection=DOWNSTREAM)
        assert "1 of 3 days failed" in error
        assert f"\n{DAYS[1]}: {path}: can't be read from s3://{BUCKET}/" in error
        assert [name for name, _ in shop.sales()] == [DAYS[0], DAYS[2]]
        assert [word for word in SECRETS if word in error] == []
    storage_proxy.failing = {}
    shop.load(DAYS[0], DAYS[-1], selection=DOWNSTREAM)
    assert [name for name, _ in shop.sales()] == DAYS


def test_an_unreachable_store_fails_the_days_with_files(
    shop: Shop, storage_proxy: StorageProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is an exception of botocore, not an OSError; a day that is NOT FOUND needs no store and succeeds."""
    deliver_days(shop)
    shop.fetch_report()
    shop.reports.without_increment(DAYS[1])
    (port,) = free_ports(1)
    use_object_storage(monkeypatch, f"http://127.0.0.1:{port}", f"s3://{BUCKET}/raw")
    error = shop.fail_to_load(DAYS[0], DAYS[-1])
    assert "2 of 3 days failed" in error
    for day in (DAYS[0], DAYS[2]):
        refused = f"\n{day}: user_orders_log_inc/{day}: can't be written to s3://shop/raw"
        assert f"{refused}: EndpointConnectionError: Could not connect" in error
    assert shop.materialized(F_SALES) == {DAYS[1]}
    with pytest.raises(RawFilesError, match=r"^s3://shop/raw can't be written to: EndpointConnectionError: .*$"):
        RawFiles().probe()


def test_a_store_lost_during_a_load_fails_only_the_later_days(shop: Shop, storage_proxy: StorageProxy) -> None:
    """The store is lost after storing six days (12 requests) and returning three (6); the next load uploads nothing."""
    days = days_between("2024-10-01", "2024-10-06")
    for day in days:
        shop.reports.increment(day, [Order(day, day=day)])
    shop.fetch_report()
    storage_proxy.lost_after = len(storage_proxy.requests) + 12 + 6
    error = shop.fail_to_load(days[0], days[-1])
    storage_proxy.lost_after = None
    loaded = [name for name, _ in shop.sales()]
    assert 0 < len(loaded) < len(days)
    assert sorted({line[:10] for line in error.splitlines() if ": user_orders_log" in line}) == [
        day for day in days if day not in loaded
    ]
    storage_proxy.requests.clear()
    shop.load(days[0], days[-1])
    assert [name for name, _ in shop.sales()] == days
    assert [request for request in storage_proxy.requests if not request.startswith(("GET", "HEAD"))] == []


@pytest.mark.parametrize("change", ["shorter", "another", "empty", "garbage"])
def test_a_changed_object_is_not_loaded(shop: Shop, storage_proxy: StorageProxy, change: str) -> None:
    """Until the object is restored, every run names the failed day; the damage is not recorded as a delivery fault."""
    path = fetch_only(shop)
    original = stored_files()[path]
    changed = {
        "shorter": original[:-1],
        "another": original.replace(b",200,", b",900,"),
        "empty": b"",
        "garbage": b"\xff,\n",
    }
    change_stored_file(path, changed[change])
    for _ in range(2):
        error = shop.fail_to_load(DAYS[0], DAYS[-1], selection=DOWNSTREAM)
        assert "1 of 3 days failed" in error
        assert f"\n{DAYS[1]}: {path}: the raw file was changed or truncated since it was fetched (its SHA-256" in error
        assert [name for name, _ in shop.sales()] == [DAYS[0], DAYS[2]]
    assert shop.query("SELECT verdict FROM staging.fetch_reading") == [("usable",), ("usable",)]
    change_stored_file(path, original)
    shop.load(DAYS[0], DAYS[-1], selection=DOWNSTREAM)
    assert shop.sales() == [(day, 200) for day in DAYS]


@pytest.mark.external
def test_a_missing_bucket_and_a_scheme_without_a_driver_are_reported(
    storage_proxy: StorageProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_object_storage(monkeypatch, storage_proxy.url, "s3://nobody-made-this-one/raw")
    with pytest.raises(RawFilesError, match=r"^s3://nobody-made-this-one/raw can't be written to: .*bucket"):
        RawFiles().probe()
    for scheme, reason in (("gs", "ImportError: "), ("nonsense", "ValueError: Protocol not known: nonsense")):
        use_object_storage(monkeypatch, storage_proxy.url, f"{scheme}://shop/raw")
        with pytest.raises(RawFilesError, match=f"^{scheme}://shop/raw can't be written to: {reason}"):
            RawFiles().probe()
