"""Integers and decimals of both API versions: parsed from their literal text, in every body, path and query."""

import json
from typing import Any

import pytest
import requests

from sales_assets_tests.services.partner_orders.fixtures import Service, order, order_v1

NOT_INTEGERS = (
    "9007199254740993.0",
    "9.007199254740993e15",
    "10.0",
    "10.5",
    "1e1",
    "1E1",
    "true",
    '"1_0"',
    '" 10"',
    '"10 "',
    '"10\\n"',
    '"+10"',
    '"-10"',
    '"10.0"',
    '"1e1"',
    '"１０"',
    '"١٠"',
    '"0x10"',
    '""',
    '"' + "1" * 5000 + '"',
    "null",
    "[10]",
)
NOT_DECIMALS = (
    "1e1",
    "1.0e1",
    "1E+2",
    "true",
    '"1e1"',
    '"1_0"',
    '" 10 "',
    '"+10"',
    '"-10"',
    '"10."',
    '".5"',
    '"１０"',
    '"10,5"',
    '"1 641.52"',
    '"NaN"',
    '"Infinity"',
    "NaN",
    "1e400",
    '"' + "0" * 5000 + '1"',
    "null",
)


def send(service: Service, method: str, path: str, body: Any, spelling: str) -> requests.Response:
    """Send the body with the text HERE replaced by a number in this spelling."""
    raw = json.dumps(body).replace('"HERE"', spelling)
    return requests.request(
        method, service.url + path, data=raw.encode(), headers={"Content-Type": "application/json"}, timeout=30
    )


def line(**changes: Any) -> list[dict[str, Any]]:
    return [{"their_id": "58", "price": 10, "count": 10, **changes}]


INTEGERS: dict[str, tuple[str, str, Any, list[Any]]] = {
    "v2 order_id": ("POST", "/v2/orders/", order("HERE"), ["body", "order_id"]),
    "v2 order_type": ("POST", "/v2/orders", order(1, order_type="HERE"), ["body", "order_type"]),
    "v2 count": ("POST", "/v2/orders/", order(1, items=line(count="HERE")), ["body", "items", 0, "count"]),
    "v2 cancel": ("DELETE", "/v2/orders/", {"order_id": "HERE", "their_order_id": "1"}, ["body", "order_id"]),
    "v1 OrderId": ("POST", "/SendOrder", order_v1() | {"OrderId": "HERE"}, ["body", "OrderId"]),
    "v1 Count": (
        "POST",
        "/SendOrder",
        order_v1(Items=[{"TheirId": "58", "Price": 10, "Count": "HERE"}]),
        ["body", "Items", 0, "Count"],
    ),
    "v1 status": ("POST", "/GetOrderStatus", {"OrderId": "HERE", "TheirOrderId": "1"}, ["body", "OrderId"]),
    "v1 cancel": ("POST", "/cancel_order", {"order_ID": "HERE", "their_order_ID": "1"}, ["body", "order_ID"]),
}


@pytest.mark.parametrize("place", INTEGERS)
def test_integers_must_be_integer_literals_or_digits(shared: Service, new_id: int, place: str) -> None:
    method, path, body, loc = INTEGERS[place]
    for spelling in NOT_INTEGERS:
        response = send(shared, method, path, body, spelling)
        assert response.status_code == 422, spelling
        assert [detail["loc"] for detail in response.json()["detail"]] == [loc], spelling
    assert not shared.partner.seen


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/orders/", order(1, items=line(price="HERE"))),
        ("/SendOrder", order_v1(Items=[{"TheirId": "58", "Price": "HERE", "Count": 1}])),
    ],
)
def test_prices_must_be_plain_decimals(shared: Service, new_id: int, path: str, body: Any) -> None:
    for spelling in NOT_DECIMALS:
        response = send(shared, "POST", path, body, spelling)
        assert response.status_code == 422, spelling
        assert [str(detail["loc"][-1]).lower() for detail in response.json()["detail"]] == ["price"], spelling
    assert not shared.partner.seen


@pytest.mark.parametrize(
    "spelling", ["1_0", "%2010", "10%20", "%2B10", "+10", "-10", "10.0", "1e1", "%EF%BC%91%EF%BC%90", "true", "0x10"]
)
def test_only_digits_are_ids_in_paths_and_queries(shared: Service, new_id: int, spelling: str) -> None:
    for method, path in (
        ("GET", f"/v2/orders/{spelling}"),
        ("GET", f"/v2/orders/{spelling}/"),
        ("GET", f"/v2/orders/?order_id={spelling}"),
        ("DELETE", f"/v2/orders/?order_id={spelling}&their_order_id=1"),
    ):
        assert requests.request(method, shared.url + path, timeout=30).status_code == 422, path
    assert not shared.partner.seen


def test_float_never_matches_a_neighbouring_order_id(service: Service) -> None:
    """The nearest floats to 9007199254740993 are ...992 and ...994, which could be the order_ids of other customers."""
    neighbours = (9007199254740992, 9007199254740994)
    for number in neighbours:
        assert service.post(order(number)).json()["result"] == "success"
    for spelling in ("9007199254740993.0", "9.007199254740993e15", "9007199254740992.0"):
        cancel = {"order_id": "HERE", "their_order_id": "777"}
        assert send(service, "DELETE", "/v2/orders/", cancel, spelling).status_code == 422
        assert send(service, "POST", "/v2/orders/", order("HERE"), spelling).status_code == 422
    assert service.post(order(9007199254740993)).json()["their_order_id"] == "779"
    assert service.partner.seen["cancel"] == 0


@pytest.mark.parametrize(
    ("spelling", "price"),
    [
        ("10", "10"),
        ('"10"', "10"),
        ("10.5", "10.5"),
        ('"10.50"', "10.50"),
        ("10.50", "10.50"),
        # Prices are never converted to a float.
        ("12345678.10", "12345678.10"),
        ('"007.10"', "7.10"),
    ],
)
def test_decimals_are_parsed_without_a_float(shared: Service, new_id: int, spelling: str, price: str) -> None:
    response = send(shared, "POST", "/v2/orders/", order(new_id, items=line(price="HERE", count="7")), spelling)
    assert response.json()["items"] == [{"their_id": "58", "price": price, "count": 7, "part": None}]
    assert shared.partner.forms[-1]["prices[]"] == [price]


def test_strings_of_digits_are_the_same_order(shared: Service, new_id: int) -> None:
    first = send(shared, "POST", "/v2/orders/", order("HERE", order_type="2"), str(new_id))
    again = send(shared, "POST", "/v2/orders/", order("HERE"), f'"00{new_id}"')
    assert first.json()["result"] == "success"
    assert (again.status_code, again.json()) == (200, first.json())
    assert shared.partner.seen["create"] == 1


@pytest.mark.parametrize(
    ("spelling", "part"), [("5", 5), ('"5"', "5"), ('"5.0"', "5.0"), ("null", None), ("9007199254740993", 2**53 + 1)]
)
def test_a_part_is_an_integer_or_a_text(shared: Service, new_id: int, spelling: str, part: Any) -> None:
    response = send(shared, "POST", "/v2/orders/", order(new_id, items=line(part="HERE")), spelling)
    assert response.json()["items"][0]["part"] == part


@pytest.mark.parametrize("spelling", ["5.0", "5e0", "true", "9223372036854775808", "[5]"])
def test_part_that_is_neither_an_integer_nor_a_text_is_malformed(shared: Service, new_id: int, spelling: str) -> None:
    response = send(shared, "POST", "/v2/orders/", order(new_id, items=line(part="HERE")), spelling)
    assert response.status_code == 422
    status = {"OrderId": 1, "TheirOrderId": "1", "TheirStatusId": "HERE"}
    assert send(shared, "POST", "/GetOrderStatus", status, spelling).status_code == 422
    assert not shared.partner.seen


@pytest.mark.parametrize("spelling", ["1718853284", "1718853284.5", "true", '"1718853284"', '"1e9"', '" 1718853284"'])
def test_a_number_is_not_a_date(shared: Service, new_id: int, spelling: str) -> None:
    response = send(shared, "POST", "/v2/orders/", order(new_id, date="HERE"), spelling)
    assert [detail["loc"] for detail in response.json()["detail"]] == [["body", "date"]]
    assert response.status_code == 422
