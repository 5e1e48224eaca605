"""Simulated partner API: its calls (docs/data-contracts/partner-orders.md, "Calls to the partner") and its faults."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from sales_assets.services.http.server import running
from sales_assets.simulators.partner_api import Faults, PartnerApi

pytestmark = pytest.mark.external

Call = Callable[..., Any]
FORM = {
    "shop_id": "1086",
    "phone": "79997772211",
    "first_name": "Test",
    "email": "a@b.c",
    "external_id": "10",
    "ids[]": ["58", "21737"],
    "quantity[]": ["10", "12"],
    "prices[]": ["10", "10.50"],
}


@pytest.fixture
def partner() -> PartnerApi:
    return PartnerApi()


@pytest.fixture
def url(partner: PartnerApi) -> Iterator[str]:
    with running(partner) as url:
        yield url


@pytest.fixture
def get(url: str) -> Call:
    return lambda path, **query: requests.get(url + path, params=query, timeout=5).json()


@pytest.fixture
def post(url: str) -> Call:
    return lambda path, form: requests.post(url + path, data=form, timeout=5).json()


@pytest.fixture
def put(url: str) -> Call:
    return lambda path, body: requests.put(url + path, json=body, timeout=5)


def test_an_order_from_create_to_cancel(get: Call, post: Call) -> None:
    assert get("/find-orders", external_id="10") == {"data": {"ids": []}}
    assert post("/create", FORM) == {"status": "ok", "order_id": 777}
    assert post("/create", FORM) == {"status": "ok", "order_id": 778}
    assert get("/find-orders", external_id="10") == {"data": {"ids": [777, 778]}}
    assert get("/orders-data", order_ids="777") == {"status": "ok", "data": {"777": {"status": "created"}}}
    assert post("/cancel", {"order_id": "777"}) == {"status": "ok", "data": []}
    assert post("/cancel", {"order_id": "777"}) == {"status": "error", "errors": ["cancellation not allowed"]}
    assert get("/orders-data", order_ids="777") == {"status": "ok", "data": {"777": {"status": "cancelled"}}}
    assert get("/orders-data", order_ids="1") == {"status": "ok", "data": []}


def test_orders_are_checked_against_the_stock(get: Call, post: Call, put: Call) -> None:
    put("/_stock/58", {"quantity": 9})
    put("/_stock/21737", {"price": "641.52"})
    assert post("/create", FORM) == {
        "status": "error",
        "errors": {"58": "Wrong quantity", "21737": "Wrong price: current price is 641.52 or NONE"},
    }
    put("/_stock/58", {"known": False})
    put("/_stock/21737", {"price": "10.50"})
    assert post("/create", FORM) == {"status": "error", "errors": {"58": "Item not found"}}
    assert get("/find-orders", external_id="10") == {"data": {"ids": []}}


def test_the_status_of_an_order_can_be_set(get: Call, post: Call, put: Call) -> None:
    post("/create", FORM)
    put("/_orders/777", {"status": "done", "status_id": 5})
    assert get("/orders-data", order_ids="777") == {
        "status": "ok",
        "data": {"777": {"status": "done", "status_id": 5}},
    }
    assert put("/_orders/1", {"status": "done"}).status_code == 404


@pytest.mark.parametrize(("faults", "status"), [({"server_error": 1}, 500), ({"too_many": 1}, 429), ({"html": 1}, 200)])
def test_faults_can_be_set_while_the_server_runs(url: str, put: Call, faults: dict[str, float], status: int) -> None:
    assert put("/_faults", faults).status_code == 200
    response = requests.get(f"{url}/find-orders", params={"external_id": "1"}, timeout=5)
    assert (response.status_code, response.headers["Content-Type"].split(";")[0]) == (status, "text/html")


def test_an_order_with_a_lost_response_exists(url: str, post: Call, partner: PartnerApi) -> None:
    partner.faults = Faults(lost=1)
    with pytest.raises(requests.exceptions.RequestException):
        post("/create", FORM)
    assert partner.orders_of(10) == [777]


def test_prepared_responses(url: str, get: Call, put: Call) -> None:
    put("/_answers/find", [{"status": 503, "body": {"a": 1}}, {"body": "<html>"}])
    responses = [requests.get(f"{url}/find-orders", params={"external_id": "1"}, timeout=5) for _ in range(3)]
    assert [response.status_code for response in responses] == [503, 200, 200]
    assert responses[0].json() == {"a": 1}
    assert responses[1].text == "<html>"
    assert responses[2].json() == {"data": {"ids": []}}
    assert get("/_seen") == {"find": 3}


def test_invalid_control_requests_are_refused(put: Call) -> None:
    assert put("/_answers/sing", []).status_code == 404
    assert put("/_faults", {"nonsense": 1}).status_code == 400
