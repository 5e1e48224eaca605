"""Raw files on a real S3 server: days go through it, and a file that fails there fails its own days only."""

import pytest

from sales_assets.resources.raw_files import RawFiles, RawFilesError
from sales_assets_tests.builders import Order, days_between
from sales_assets_tests.fixtures import F_SALES, ORDERS, RAW, Shop
from sales_assets_tests.resources.object_storage import (
    ACCESS_KEY,
    BUCKET,
    SECRET_KEY,
    Front,
    free_ports,
    front,
    objects,
    use_object_storage,
)

__all__ = ["front"]

DAYS = days_between("2024-10-01", "2024-10-03")
DOWNSTREAM = [ORDERS, F_SALES]
SECRETS = (ACCESS_KEY, SECRET_KEY, "canary", "Signature", "AWS4-HMAC")


def fill(shop: Shop, suffix: str = "") -> None:
    for day in DAYS:
        shop.reports.increment(day, [Order(f"{day}{suffix}", day=day)])


def fetch_only(shop: Shop) -> str:
    """Fetch the days' files, as a run that died before staging did; gives the path of the second day's file."""
    fill(shop)
    shop.load(DAYS[0], DAYS[-1], selection=RAW)
    return str(shop.query("SELECT path FROM raw.fetch WHERE first_day = %s", DAYS[1])[0][0])


def replace_object(path: str, contents: bytes) -> None:
    filesystem, root = RawFiles()._location()
    filesystem.pipe_file(f"{root}/{path}", contents)


def test_days_are_loaded_from_object_storage(shop: Shop, front: Front) -> None:
    fill(shop)
    shop.load(DAYS[0], DAYS[-1])
    assert [name for name, _ in shop.sales()] == DAYS
    paths = [path for (path,) in shop.query("SELECT path FROM raw.fetch")]
    assert sorted(objects()) == sorted([*paths, *(f"{path}.json" for path in paths)])
    assert RawFiles().probe().startswith(f"s3://{BUCKET}/")


@pytest.mark.parametrize("how", [503, 403, "reset"])
def test_a_file_that_storage_refuses_fails_its_day_only(shop: Shop, front: Front, how: int | str) -> None:
    """While writing, then while reading: the day is named with a reason that holds no secret, and heals."""
    fill(shop)
    shop.fetch_report()
    front.failing = {f"/{DAYS[1]}/": how}
    told = shop.fail_to_load(DAYS[0], DAYS[-1])
    assert "1 of 3 days broke" in told
    (named,) = [line for line in told.splitlines() if line.startswith(f"{DAYS[1]}: ")]
    assert f"{DAYS[1]}: user_orders_log_inc/{DAYS[1]}: can't be written to s3://{BUCKET}/" in named
    assert [word for word in SECRETS if word in told] == []
    assert [name for name, _ in shop.sales()] == [DAYS[0], DAYS[2]]
    assert shop.materialized(F_SALES) == {DAYS[0], DAYS[2]}
    ((reason,),) = shop.query("SELECT reason FROM raw.delivery WHERE outcome = 'failed'")
    assert reason in told

    front.failing = {}
    shop.load(DAYS[1])
    assert [name for name, _ in shop.sales()] == DAYS


def test_a_kept_file_that_storage_does_not_give_fails_its_day_only(shop: Shop, front: Front) -> None:
    """Refused, then half of it: the others load, each of the two runs names the day, and it heals."""
    path = fetch_only(shop)
    for how in (503, "cut"):
        front.failing = {path: how}
        told = shop.fail_to_load(DAYS[0], DAYS[-1], selection=DOWNSTREAM)
        assert "1 of 3 days broke" in told
        assert f"\n{DAYS[1]}: {path}: can't be read from s3://{BUCKET}/" in told
        assert [name for name, _ in shop.sales()] == [DAYS[0], DAYS[2]]
        assert [word for word in SECRETS if word in told] == []
    front.failing = {}
    shop.load(DAYS[0], DAYS[-1], selection=DOWNSTREAM)
    assert [name for name, _ in shop.sales()] == DAYS


def test_storage_that_does_not_answer_fails_the_days_with_files(
    shop: Shop, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """botocore's own error, which is no OSError: the day that is NOT FOUND is done all the same."""
    fill(shop)
    shop.fetch_report()
    shop.reports.without_increment(DAYS[1])
    (port,) = free_ports(1)
    use_object_storage(monkeypatch, f"http://127.0.0.1:{port}", f"s3://{BUCKET}/raw")
    told = shop.fail_to_load(DAYS[0], DAYS[-1])
    assert "2 of 3 days broke" in told
    for day in (DAYS[0], DAYS[2]):
        refused = f"\n{day}: user_orders_log_inc/{day}: can't be written to s3://shop/raw"
        assert f"{refused}: EndpointConnectionError: Could not connect" in told
    assert shop.materialized(F_SALES) == {DAYS[1]}
    with pytest.raises(RawFilesError, match=r"^s3://shop/raw can't be written to: EndpointConnectionError: .*$"):
        RawFiles().probe()


def test_storage_lost_during_a_load_fails_the_days_after_it_only(shop: Shop, front: Front) -> None:
    """Six days are stored (12 requests), the first ones are read (2 each); the next load uploads nothing again."""
    days = days_between("2024-10-01", "2024-10-06")
    for day in days:
        shop.reports.increment(day, [Order(day, day=day)])
    shop.fetch_report()
    front.lost_after = len(front.requests) + 12 + 6
    told = shop.fail_to_load(days[0], days[-1])
    front.lost_after = None
    loaded = [name for name, _ in shop.sales()]
    assert 0 < len(loaded) < len(days)
    assert sorted({line[:10] for line in told.splitlines() if ": user_orders_log" in line}) == [
        day for day in days if day not in loaded
    ]
    front.requests.clear()
    shop.load(days[0], days[-1])
    assert [name for name, _ in shop.sales()] == days
    assert [request for request in front.requests if not request.startswith(("GET", "HEAD"))] == []


@pytest.mark.parametrize("change", ["shorter", "another", "empty", "garbage"])
def test_a_changed_object_is_not_loaded(shop: Shop, front: Front, change: str) -> None:
    """Its day is named in every run until the object is as it was; nothing about it is recorded as the delivery's."""
    path = fetch_only(shop)
    kept = objects()[path]
    changed = {"shorter": kept[:-1], "another": kept.replace(b",200,", b",900,"), "empty": b"", "garbage": b"\xff,\n"}
    replace_object(path, changed[change])
    for _ in range(2):
        told = shop.fail_to_load(DAYS[0], DAYS[-1], selection=DOWNSTREAM)
        assert "1 of 3 days broke" in told
        assert f"\n{DAYS[1]}: {path}: the raw file was changed or truncated since it was fetched (its SHA-256" in told
        assert [name for name, _ in shop.sales()] == [DAYS[0], DAYS[2]]
    assert shop.query("SELECT verdict FROM staging.fetch_reading") == [("usable",), ("usable",)]
    replace_object(path, kept)
    shop.load(DAYS[0], DAYS[-1], selection=DOWNSTREAM)
    assert shop.sales() == [(day, 200) for day in DAYS]


@pytest.mark.external
def test_a_missing_bucket_and_a_scheme_without_a_driver_are_told(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    use_object_storage(monkeypatch, front.url, "s3://nobody-made-this-one/raw")
    with pytest.raises(RawFilesError, match=r"^s3://nobody-made-this-one/raw can't be written to: .*bucket"):
        RawFiles().probe()
    for scheme, reason in (("gs", "ImportError: "), ("nonsense", "ValueError: Protocol not known: nonsense")):
        use_object_storage(monkeypatch, front.url, f"{scheme}://shop/raw")
        with pytest.raises(RawFilesError, match=f"^{scheme}://shop/raw can't be written to: {reason}"):
            RawFiles().probe()
