"""Fixtures for tests of audience and deliveries: clients, sales, mailings and messages, inserted by SQL."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from sales_assets_tests.builders import job

Query = Callable[..., list[tuple[Any, ...]]]
Run = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def client(query: Query) -> Callable[..., int]:
    """Return a function that adds a client and returns its id."""

    def add(phone: str = "79210000001", tag: str | None = None, operator: str = "921") -> int:
        ((number,),) = query(
            "INSERT INTO mailings.client (phone, operator_code, tag, timezone) VALUES (%s, %s, %s, 'UTC') "
            "RETURNING client_id",
            phone,
            operator,
            tag,
        )
        assert isinstance(number, int)
        return number

    return add


@pytest.fixture
def mapped(query: Query) -> Callable[[str, int], None]:
    """Return a function that maps a phone of partner orders, in any spelling, to a customer."""

    def add(phone: str, customer: int) -> None:
        query("INSERT INTO staging.partner_customer VALUES (%s, %s)", phone, customer)

    return add


@pytest.fixture
def insert_sale(query: Query) -> Callable[..., None]:
    """Return a function that inserts a sale into the mart; a negative amount is a refund."""

    def add(customer: int, amount: float = 100, day: int = 20241001, source: str = "report_api") -> None:
        query(
            "INSERT INTO mart.f_sales (date_id, item_id, customer_id, city_id, quantity, amount, status, source) "
            "VALUES (%s, 7, %s, 1, 1, %s, %s, %s)",
            day,
            customer,
            amount,
            "refunded" if amount < 0 else "shipped",
            source,
        )

    return add


@pytest.fixture
def fill_audience(instance: dg.DagsterInstance, warehouse_url: str) -> Run:
    return lambda **more: job("fill_audience").execute_in_process(instance=instance, **more)


def failed_checks(result: dg.ExecuteInProcessResult) -> set[str]:
    return {check.check_name for check in result.get_asset_check_evaluations() if not check.passed}


def metadata_of(result: dg.ExecuteInProcessResult, key: dg.AssetKey, partition: str | None = None) -> dict[str, Any]:
    """Return the metadata of a run for an asset, or for one day of the asset."""
    found = [
        event.step_materialization_data.materialization
        for event in result.get_asset_materialization_events()
        if event.asset_key == key and event.partition == partition
    ]
    return {name: value.value for name, value in found[0].metadata.items()}
