"""A lake on a real S3 server: days are replaced, failures name the days and no secret, old files are deleted."""

import datetime as dt
from collections.abc import Callable, Iterator

import pytest

from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources.lake import Lake, LakeError
from sales_assets_tests.lake.conftest import DAYS, Query, copy, lake_rows, mart_rows, use_lake
from sales_assets_tests.resources.object_storage import (
    ACCESS_KEY,
    BUCKET,
    SECRET_KEY,
    run_storage_proxy,
    s3_server,
    use_object_storage,
)

SECRETS = (ACCESS_KEY, SECRET_KEY, "canary", "Signature", "AWS4-HMAC")


@pytest.fixture
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("s3")) as url:
        yield url


@pytest.mark.external
def test_days_are_replaced_in_object_storage(
    storage: str, warehouse_url: str, query: Query, insert_sale: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in DAYS[:3]:
        insert_sale(day)
    with run_storage_proxy(storage) as storage_proxy:
        use_object_storage(monkeypatch, storage_proxy.url, f"s3://{BUCKET}/raw")
        use_lake(monkeypatch, f"s3://{BUCKET}/lake")
        lake = Lake(Warehouse())
        copy(lake, *DAYS[:3])
        assert lake_rows(lake) == mart_rows(query)

        before = lake_rows(lake)
        query("DELETE FROM mart.f_sales WHERE date_id = 20240916 OR item_id = 2")
        storage_proxy.failing["/data/day"] = 403
        with pytest.raises(LakeError, match=r"^lake.f_sales, 2024-09-15 to 2024-09-17: ") as caught:
            copy(lake, *DAYS[:3])
        assert not [secret for secret in SECRETS if secret in str(caught.value)]
        assert caught.value.__cause__ is None
        storage_proxy.failing.clear()
        assert lake_rows(lake) == before

        copy(lake, *DAYS[:3])
        assert lake_rows(lake) == mart_rows(query)
        done = lake.maintain(dt.datetime.now(dt.UTC) + dt.timedelta(days=8))
        assert {table.table: table.deleted_files for table in done}["f_sales"] >= 3
        assert lake_rows(lake) == mart_rows(query)
