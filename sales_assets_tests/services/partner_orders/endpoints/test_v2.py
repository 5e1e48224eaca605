"""Version 2 endpoints, row by row of docs/data-contracts/partner-orders.md: exact JSON for each partner response."""

import json
from typing import Any

import pytest
import requests

from sales_assets.simulators.partner_api import Answer, PartnerApi, Stock
from sales_assets_tests.services.partner_orders.conftest import Start
from sales_assets_tests.services.partner_orders.fixtures import Service, order

SUCCESS = (
    '{"result":"success","their_order_id":"777","items":[{"their_id":"58","price":"10","count":10,"part":null},'
    '{"their_id":"21737","price":"10","count":12,"part":null}]}'
)
PARTNER_ERROR = (
    '{"result":"error","data":{"partner_error":true,"service_error":null,"quantity_errors":null,"price_errors":null}}'
)
SERVICE_ERROR = (
    '{"result":"error","data":{"partner_error":null,"service_error":true,"quantity_errors":null,"price_errors":null}}'
)


def quantity(available: int | None, their_id: str = "21737", ordered: int = 12) -> dict[str, Any]:
    return {"items": [{"their_id": their_id, "ordered": ordered, "available": available}]}


def price(available: str, their_id: str = "21737") -> dict[str, Any]:
    return {"items": [{"their_id": their_id, "ordered": "10", "available": available}]}


def errors(partner: bool | None = None, quantities: Any = None, prices: Any = None) -> dict[str, Any]:
    return {
        "result": "error",
        "data": {
            "partner_error": partner,
            "service_error": None,
            "quantity_errors": quantities,
            "price_errors": prices,
        },
    }


WRONG_58 = quantity(None, "58", 10)


# --- placing --------------------------------------------------------------------------------------------------


def test_an_order_is_placed_as_the_contract_shows(service: Service) -> None:
    response = service.post(order())
    assert (response.status_code, response.text) == (200, SUCCESS)
    assert service.partner.forms[0] == {
        "shop_id": ["1086"],
        "phone": ["79997772211"],
        "first_name": ["Test"],
        "email": ["example@example.com"],
        "external_id": ["10"],
        "ids[]": ["58", "21737"],
        "quantity[]": ["10", "12"],
        "prices[]": ["10", "10"],
    }


@pytest.mark.parametrize(
    "response",
    [
        Answer(404, {"status": "ok", "order_id": 1}),
        Answer(500, "Internal Server Error"),
        Answer(429, "Too Many Requests"),
        Answer(302, ""),
        Answer(200, "<html>Scheduled maintenance</html>"),
        Answer(200, '{"status":"ok"'),
        Answer(200, {"status": "perhaps"}),
        Answer(200, {"status": "ok"}),
        Answer(200, {"status": "ok", "order_id": True}),
        Answer(200, []),
        Answer(200, {"status": "error"}),
        Answer(200, {"status": "error", "errors": ["phone is blocked"]}),
        Answer(200, {"status": "error", "errors": {"21737": "Out of fashion"}}),
        Answer(200, {"status": "error", "errors": {"999": "Item not found"}}),
        Answer(200, {"status": "error", "errors": {"58": "Wrong price: current price is cheap or NONE"}}),
        Answer(200, {"status": "ok", "order_id": 1, "padding": "x" * (20 << 20)}),
        Answer(200, '{"status":"error","errors":' + "[" * 900 + "]" * 900 + "}"),
        Answer(cut=True),
    ],
    ids=lambda response: f"{response.status} {str(response.body)[:50]}",
)
def test_unreadable_partner_response_is_a_partner_error(shared: Service, new_id: int, response: Answer) -> None:
    shared.partner.answer("create", response)
    caller_response = shared.post(order(new_id))
    assert (caller_response.status_code, caller_response.text) == (200, PARTNER_ERROR)


def test_a_create_that_takes_too_long_is_a_partner_error(start: Start) -> None:
    service = start(partnerapi_http_timeout_order=0.3)
    service.partner.answer("create", Answer(delay=2))
    assert service.post(order()).text == PARTNER_ERROR


@pytest.mark.parametrize(
    ("order_type", "partner_errors", "expected"),
    [
        (2, {"21737": "Item not found"}, errors(quantities=quantity(0))),
        (2, {"21737": ["Item not found"]}, errors(quantities=quantity(0))),
        (2, [{"id": 21737, "error": "Item not found"}], errors(quantities=quantity(0))),
        (2, {"items": [{"their_id": "21737", "message": "Item not found"}]}, errors(quantities=quantity(0))),
        (2, ["21737: Item not found"], errors(quantities=quantity(0))),
        (2, {"items": {"21737": {"quantity": ["Wrong quantity"]}}}, errors(quantities=quantity(None))),
        (2, [{"item_id": 21737, "errors": ["Item not found"]}], errors(quantities=quantity(0))),
        (2, {"21737": [{"message": "Item not found"}]}, errors(quantities=quantity(0))),
        (2, {"21737": "Wrong quantity"}, errors(quantities=quantity(None))),
        (2, {"21737": "Wrong price: current price is 641.52 or NONE"}, errors(prices=price("641.52"))),
        (1, {"21737": "Wrong price: current price is 641.52 or NONE"}, errors(quantities=quantity(0))),
        (1, {"21737": "Wrong price: current price is 641.52 or 750.00"}, errors(prices=price("750.00"))),
        (2, {"21737": "Wrong price: current price is 1 641,52 or NONE"}, errors(prices=price("1641.52"))),
        (1, {"21737": "Wrong price: current price is 1 or 12\u00a0641,5"}, errors(prices=price("12641.5"))),
        (2, {"21737": "Wrong price: current price is 1,641.52 or NONE"}, errors(prices=price("1641.52"))),
        (2, {"21737": "Wrong price: current price is 1.234.567,80 or NONE"}, errors(prices=price("1234567.80"))),
        (
            2,
            {"58": "Wrong quantity", "21737": "Wrong price: current price is 641.52 or NONE"},
            errors(quantities=quantity(None, "58", 10), prices=price("641.52")),
        ),
        (2, {"58": "Wrong quantity", "21737": "no idea"}, errors(True, quantity(None, "58", 10))),
        (2, {"58": "Wrong quantity", "999": "Item not found"}, errors(True, quantity(None, "58", 10))),
        (2, {"58": "Wrong quantity", "phone": "bad"}, errors(True, quantity(None, "58", 10))),
        (2, [{"id": "58", "error": "Wrong quantity"}, {"id": 9, "error": "Item not found"}], errors(True, WRONG_58)),
        (2, {"58": ["Wrong quantity", "no idea"]}, errors(True, WRONG_58)),
        (2, {"items": {"58": "Wrong quantity", "999": "Item not found"}}, errors(True, WRONG_58)),
    ],
)
def test_item_errors_are_mapped_to_quantity_and_price_errors(
    shared: Service, new_id: int, order_type: int, partner_errors: Any, expected: dict[str, Any]
) -> None:
    before = shared.metric("partner_errors_not_understood_total")
    failed = shared.metric("orders_creating_errors_counter_total", service="PartnerAPI")
    shared.partner.answer("create", Answer(200, {"status": "error", "errors": partner_errors}))
    response = shared.post(order(new_id, order_type=order_type))
    assert (response.status_code, response.json()) == (200, expected)
    assert shared.metric("orders_creating_errors_counter_total", service="PartnerAPI") == failed + 1
    not_understood = shared.metric("partner_errors_not_understood_total") - before
    assert not_understood == bool(expected["data"]["partner_error"])


def test_item_on_two_lines_has_an_error_for_each_line(service: Service) -> None:
    lines = [{"their_id": "58", "price": price, "count": count} for price, count in ((10, 1), (20, 2))]
    service.partner.answer("create", Answer(200, {"status": "error", "errors": {"58": "Item not found"}}))
    item_errors = service.post(order(items=lines)).json()["data"]["quantity_errors"]["items"]
    assert item_errors == [{"their_id": "58", "ordered": count, "available": 0} for count in (1, 2)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("10", "10"),
        ("10.0", "10.0"),
        ("10.5", "10.5"),
        ('"10.50"', "10.50"),
        ("10.50", "10.50"),
        ("99999999.99", "99999999.99"),
    ],
)
def test_prices_keep_their_literal_form(shared: Service, new_id: int, given: str, expected: str) -> None:
    body = (
        json.dumps(items())
        .replace('"price": 10', f'"price": {given}')
        .replace('"order_id": 10', f'"order_id": {new_id}')
    )
    response = requests.post(f"{shared.url}/v2/orders/", data=body, timeout=10).json()
    assert response["items"][0]["price"] == expected
    assert shared.partner.forms[-1]["prices[]"] == [expected]


def test_refused_order_is_refused_again_without_a_partner_call(service: Service) -> None:
    service.partner.stock["21737"] = Stock(known=False)
    first, second = service.post(order()), service.post(order())
    assert first.json() == second.json() == errors(quantities=quantity(0))
    assert service.partner.seen["create"] == 1


def test_repeated_order_returns_the_stored_response(service: Service) -> None:
    assert service.post(order()).text == SUCCESS
    again = service.post(order(date="2024-06-20T06:14:44.615+03:00", unknown="key"))
    assert (again.status_code, again.text) == (200, SUCCESS)
    assert service.partner.seen["create"] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"comment": "other"},
        {"extra": {"a": 1}},
        {"client": {"name": "Other", "phone": "79997772211", "email": "example@example.com"}},
        {"items": [{"their_id": "58", "price": 10, "count": 11}]},
    ],
)
def test_different_body_with_a_used_order_id_is_a_conflict(service: Service, changes: dict[str, Any]) -> None:
    service.post(order())
    other = service.post(order(**changes))
    assert (other.status_code, other.text) == (409, SERVICE_ERROR)
    assert service.post(order()).text == SUCCESS
    assert service.partner.seen["create"] == 1


def test_missing_partner_url_is_a_service_error(start: Start) -> None:
    service = start(partnerapi_url="")
    response = service.post(order())
    assert (response.status_code, response.text) == (503, SERVICE_ERROR)
    assert service.get("/v2/orders/10").json() == {"result": "error", "message": "PARTNERAPI_URL is not set"}
    assert service.delete({"order_id": 10, "their_order_id": "1"}).status_code == 503
    ready = service.get("/ready")
    assert ready.status_code == 503
    assert ready.json()["checks"]["partner"] == "PARTNERAPI_URL is not set"


def test_smallest_of_several_found_order_ids_is_used(service: Service) -> None:
    service.partner.answer("find", Answer(200, {"data": {"ids": ["1000", 999, "9999"]}}))
    assert service.post(order()).json()["their_order_id"] == "999"
    assert service.partner.seen["create"] == 0


# --- malformed input --------------------------------------------------------------------------------------------


def items(**changes: Any) -> dict[str, Any]:
    return order(items=[{"their_id": "58", "price": 10, "count": 10, **changes}])


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({key: value for key, value in order().items() if key != "order_id"}, ["body", "order_id"]),
        ({key: value for key, value in order().items() if key != "comment"}, ["body", "comment"]),
        (order(order_type=3), ["body", "order_type"]),
        (order(order_type=True), ["body", "order_type"]),
        (order(their_pharmacy_id=1086), ["body", "their_pharmacy_id"]),
        (order(items=[]), ["body", "items"]),
        (order(order_id=2**63), ["body", "order_id"]),
        (order(order_id=True), ["body", "order_id"]),
        (order(date="yesterday"), ["body", "date"]),
        (order(date="0001-01-01T00:00:00+10:00"), ["body", "date"]),
        (order(client={"name": "a", "phone": "7\x00", "email": ""}), ["body", "client", "phone"]),
        (order(client={"name": "a", "phone": "\ud800", "email": ""}), ["body", "client", "phone"]),
        (items(count=0), ["body", "items", 0, "count"]),
        (items(count=2**31), ["body", "items", 0, "count"]),
        (items(price=0), ["body", "items", 0, "price"]),
        (items(price=-1), ["body", "items", 0, "price"]),
        (items(price=10.001), ["body", "items", 0, "price"]),
        (items(price=1e8), ["body", "items", 0, "price"]),
        (items(price=float("nan")), ["body", "items", 0, "price"]),
        (items(price=float("inf")), ["body", "items", 0, "price"]),
        (items(price=True), ["body", "items", 0, "price"]),
        (items(their_id=None), ["body", "items", 0, "their_id"]),
        (items(part=True), ["body", "items", 0, "part"]),
        (order(extra=None), ["body", "extra"]),
        (order(extra={"a": [{"b": float("nan")}]}), ["body", "extra"]),
        (order(extra={"a": float("-inf")}), ["body", "extra"]),
        ([], ["body"]),
    ],
    ids=str,
)
def test_malformed_orders(shared: Service, new_id: int, body: Any, where: list[Any]) -> None:
    response = requests.post(
        f"{shared.url}/v2/orders/", data=json.dumps(body), headers={"Content-Type": "application/json"}, timeout=10
    )
    assert response.status_code == 422
    details = response.json()["detail"]
    assert [detail["loc"] for detail in details] == [where]
    assert all({"type", "loc", "msg"} <= detail.keys() for detail in details)
    assert not shared.partner.seen


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"order_id": 1e400}', b"\xff", b'{"order_id": ' + b"9" * 5000 + b"}", b"[" * 100_000],
    ids=["empty", "open", "1e400", "no UTF-8", "5000 digits", "deep"],
)
def test_broken_json(shared: Service, body: bytes) -> None:
    for path, call in (("/v2/orders/", requests.post), ("/v2/orders", requests.delete), ("/SendOrder", requests.post)):
        response = call(shared.url + path, data=body, headers={"Content-Type": "application/json"}, timeout=10)
        assert response.status_code == 422, path
        assert {"type", "loc", "msg"} <= response.json()["detail"][0].keys()


def test_digits_as_text_and_unknown_keys_are_accepted(service: Service) -> None:
    response = service.post(order(order_id="10", colour="red"))
    assert (response.status_code, response.text) == (200, SUCCESS)
    assert service.post(order()).text == SUCCESS
    assert service.partner.seen["create"] == 1


# --- status requests --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "number"),
    [("created", 0), ("accepted", 1), ("delivery", 1), ("in_shop", 4), ("done", 2), ("cancelled", 3), ("lost", -1)],
)
def test_statuses(service: Service, status: str, number: int) -> None:
    service.post(order())
    service.partner.set_status(777, status)
    for response in (
        service.get("/v2/orders/10"),
        service.get("/v2/orders/10/", their_order_id="777"),
        service.get("/v2/orders/", order_id=10, their_order_id="777"),
        service.get("/v2/orders", order_id=10),
    ):
        assert response.status_code == 200
        assert (
            response.text
            == f'{{"result":"success","status_id":{number},"their_status_id":{number},"their_items":null}}'
        )
    assert service.metric("order_status_mapping_error_total", service="PartnerAPI") == (4 if number == -1 else 0)
    assert service.metric("order_changing_status_counter_total", service="PartnerAPI") == (number != 0)


def test_status_has_the_status_id_and_items_of_the_partner(service: Service) -> None:
    service.post(order())
    service.partner.set_status(777, "cancelled", status_id=2, items=[{"their_item_id": "58", "bought_count": 3}])
    assert service.get("/v2/orders/10").text == (
        '{"result":"success","status_id":3,"their_status_id":2,"their_items":[{"their_item_id":"58","bought_count":3}]}'
    )


def test_status_of_an_order_known_only_to_the_partner(service: Service) -> None:
    requests.post(
        f"{service.partner_url}/create", data={"external_id": "5", "ids[]": "58", "quantity[]": "1"}, timeout=5
    )
    assert service.get("/v2/orders/5").json()["result"] == "success"
    assert service.partner.seen["find"] == 1


def test_unknown_orders_and_faults(service: Service) -> None:
    assert service.get("/v2/orders/6").text == '{"result":"error","message":"order not found"}'
    assert service.get("/v2/orders/6", their_order_id="1").text == '{"result":"error","message":"order not found"}'
    for response in (Answer(404, {}), Answer(200, "<html>"), Answer(200, {"status": "ok", "data": {"1": {}}})):
        service.partner.answer("status", response)
        not_found = service.get("/v2/orders/6", their_order_id="1")
        assert (not_found.status_code, not_found.text) == (200, '{"result":"error","message":"HTTP response error"}')


@pytest.mark.parametrize("path", ["/v2/orders/abc", f"/v2/orders/{2**63}", "/v2/orders", "/v2/orders/?order_id=x"])
def test_malformed_status_requests(shared: Service, new_id: int, path: str) -> None:
    response = shared.get(path)
    assert response.status_code == 422
    assert {"type", "loc", "msg"} <= response.json()["detail"][0].keys()


# --- cancelling -------------------------------------------------------------------------------------------------


def test_cancelled_order_is_cancelled_once(service: Service) -> None:
    service.post(order())
    response = service.delete({"order_id": 10, "their_order_id": "777"})
    assert (response.status_code, response.text) == (200, '{"result":"success"}')
    assert service.delete({"order_id": 10, "their_order_id": "777"}).text == '{"result":"success"}'
    assert service.partner.seen["cancel"] == 1


def test_a_cancel_by_parameters(service: Service) -> None:
    service.post(order())
    assert service.delete(order_id=10, their_order_id="777", path="/v2/orders").text == '{"result":"success"}'


def test_a_rejected_cancel(service: Service) -> None:
    response = service.delete({"order_id": 1, "their_order_id": "1"})
    assert response.text == '{"result":"order_cancel_rejected","message":"[\'cancellation not allowed\']"}'
    assert response.status_code == 200


@pytest.mark.parametrize("fault", [Answer(500), Answer(404), Answer(200, "<html>"), Answer(200, {}), Answer(cut=True)])
def test_cancel_without_a_readable_response_is_a_transient_error(shared: Service, new_id: int, fault: Answer) -> None:
    shared.partner.answer("cancel", fault)
    response = shared.delete({"order_id": 1, "their_order_id": "1"})
    assert (response.status_code, response.text) == (
        200,
        '{"result":"transient_error","message":"HTTP response error"}',
    )


@pytest.mark.parametrize(
    "body", [None, {}, {"order_id": 1}, {"order_id": 1, "their_order_id": 1}, {"order_id": "x", "their_order_id": "1"}]
)
def test_malformed_cancels(shared: Service, new_id: int, body: Any) -> None:
    response = shared.delete(body)
    assert response.status_code == 422
    assert {"type", "loc", "msg"} <= response.json()["detail"][0].keys()
    assert not shared.partner.seen


# --- the rest of the application ---------------------------------------------------------------------------------


def test_paths_with_and_without_a_slash_work_without_a_redirect(service: Service) -> None:
    service.post(order(), path="/v2/orders")
    for path in ("/docs", "/health", "/metrics", "/v2/orders/10", "/GetOrderStatus"):
        for spelling in (path, f"{path}/"):
            assert service.get(spelling).status_code == (405 if path == "/GetOrderStatus" else 200), spelling


def test_the_documentation_has_examples(service: Service) -> None:
    openapi = service.get("/openapi.json").json()
    assert {"/v2/orders/", "/v2/orders/{order_id}", "/SendOrder", "/GetOrderStatus", "/cancel_order"} <= set(
        openapi["paths"]
    )
    created = openapi["paths"]["/v2/orders/"]["post"]["responses"]["200"]["content"]["application/json"]["examples"]
    assert created["success"]["value"]["their_order_id"] == "777"
    bodies = [schema for name, schema in openapi["components"]["schemas"].items() if name.endswith("OrderBody")]
    assert len(bodies) == 2
    assert all(body["examples"] for body in bodies)


def test_ready_reports_the_missing_broker(service: Service) -> None:
    ready = service.get("/ready")  # no broker listens on the port of these tests
    assert (ready.status_code, ready.json()["degraded"]) == (200, ["broker"])
    checks = ready.json()["checks"]
    assert (checks["database"], checks["partner"]) == ("ok", "ok")
    assert checks["broker"] != "ok"


def test_every_metric_of_the_contract_exists_from_the_start(service: Service) -> None:
    for name in (
        "orders_created_counter_total",
        "orders_creating_errors_counter_total",
        "order_changing_status_counter_total",
        "order_status_mapping_error_total",
    ):
        assert f'\n{name}{{service="PartnerAPI"}} 0.0\n' in service.get("/metrics").text
    service.post(order())
    service.delete({"order_id": 10, "their_order_id": "777"})
    assert service.metric("orders_created_counter_total", service="PartnerAPI") == 1
    assert service.metric("order_changing_status_counter_total", service="PartnerAPI") == 1
    for operation in ("find", "create", "cancel"):
        assert service.metric("partner_call_seconds_count", operation=operation, outcome="ok") == 1
    assert service.metric("orders_outbox_depth") == 2


def test_simulated_partner_with_stock_refuses_orders(start: Start) -> None:
    partner = PartnerApi()
    partner.stock |= {
        "58": Stock(quantity=3),
        "21737": Stock(price="641.52", preorder_price="750.00"),
    }
    service = start(partner=partner)
    assert service.post(order()).json() == errors(quantities=quantity(None, "58", 10), prices=price("641.52"))
    assert service.post(order(11, order_type=1)).json()["data"]["price_errors"] == price("750.00")
