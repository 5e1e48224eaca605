"""Version 1 endpoints, row by row of docs/data-contracts/partner-orders.md: the operations of version 2, renamed."""

from typing import Any

import pytest

from sales_assets.simulators.partner_api import Answer
from sales_assets_tests.services.partner_orders.conftest import Start
from sales_assets_tests.services.partner_orders.fixtures import Service, order, order_v1

TRANSIENT = '{"Result":"transient_error","Message":"HTTP response error"}'


def test_an_order_is_placed_as_the_contract_shows(service: Service) -> None:
    response = service.post(order_v1(), "/SendOrder")
    assert (response.status_code, response.text) == (
        200,
        '{"Result":"success","TheirOrderId":"777","Items":[{"TheirId":"58","Price":"10","Count":10}]}',
    )
    assert service.post(order_v1(), "/SendOrder/").text == response.text
    assert service.partner.seen["create"] == 1


def test_versions_1_and_2_share_their_orders(service: Service) -> None:
    items = [{"their_id": "58", "price": 10, "count": 10}]
    service.post(order_v1(), "/SendOrder")
    assert service.post(order(items=items, comment=None)).json()["their_order_id"] == "777"
    assert service.post(order(items=items, comment=None, order_type=1)).status_code == 409
    other = service.post(order_v1(Reserve=False), "/SendOrder")
    assert (other.status_code, other.json()["Result"]) == (409, "order_rejected")


def test_a_refused_order(service: Service) -> None:
    service.partner.answer("create", Answer(200, {"status": "error", "errors": {"58": "Item not found"}}))
    response = service.post(order_v1(), "/SendOrder")
    assert (response.status_code, response.json()) == (
        200,
        {"Result": "order_rejected", "Message": "{'58': 'Item not found'}"},
    )


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        (["phone is blocked"], "['phone is blocked']"),
        ("pharmacy is closed", "pharmacy is closed"),
        ({"58": "Out of fashion"}, "{'58': 'Out of fashion'}"),
        ({"999": "Item not found"}, "{'999': 'Item not found'}"),
        (["try later"], "['try later']"),
    ],
)
def test_refusal_with_a_reason_is_a_rejection(shared: Service, new_id: int, errors: Any, message: str) -> None:
    shared.partner.answer("create", Answer(200, {"status": "error", "errors": errors}))
    response = shared.post(order_v1(new_id), "/SendOrder")
    assert (response.status_code, response.json()) == (200, {"Result": "order_rejected", "Message": message})


@pytest.mark.parametrize("errors", [[], None, "", {}, [""]])
def test_refusal_without_a_reason_is_a_transient_error(shared: Service, new_id: int, errors: Any) -> None:
    shared.partner.answer("create", Answer(200, {"status": "error", "errors": errors}))
    assert shared.post(order_v1(new_id), "/SendOrder").text == TRANSIENT


@pytest.mark.parametrize(("reserve", "order_type"), [(True, 2), (False, 1), (1, 1), (2, 2)])
def test_reserve_is_an_order_type_or_a_boolean(service: Service, reserve: Any, order_type: int) -> None:
    items = [{"their_id": "58", "price": 10, "count": 10}]
    assert service.post(order_v1(Reserve=reserve), "/SendOrder").json()["Result"] == "success"
    # Version 2 recognizes the same order: the order types match.
    assert service.post(order(items=items, comment=None, order_type=order_type)).json()["result"] == "success"
    assert service.partner.seen["create"] == 1


@pytest.mark.parametrize("reserve", [0, 3, -1, 1.5, 2.0, None, "true", "yes", [], {}])
def test_other_values_of_reserve_are_malformed(shared: Service, new_id: int, reserve: Any) -> None:
    response = shared.post(order_v1(new_id, Reserve=reserve), "/SendOrder")
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["body", "Reserve"]
    assert not shared.partner.seen


@pytest.mark.parametrize("fault", [Answer(500), Answer(404), Answer(200, "<html>"), Answer(cut=True)])
def test_a_failing_partner(shared: Service, new_id: int, fault: Answer) -> None:
    shared.partner.answer("create", fault)
    response = shared.post(order_v1(new_id), "/SendOrder")
    assert (response.status_code, response.text) == (200, TRANSIENT)


def test_status(service: Service) -> None:
    service.post(order_v1(), "/SendOrder")
    service.partner.set_status(777, "in_shop", items=[{"their_item_id": "58", "bought_count": 1}])
    for body in ({"OrderId": 10, "TheirOrderId": "777", "TheirStatusId": 1}, {"OrderId": 10, "TheirOrderId": ""}):
        assert service.post(body, "/GetOrderStatus").text == (
            '{"Result":"success","StatusId":4,"TheirStatusId":4,"TheirItems":[{"TheirItemId":"58","BoughtCount":1}]}'
        )
    service.partner.set_status(777, "in_shop")
    assert service.post({"OrderId": 10, "TheirOrderId": "777"}, "/GetOrderStatus").text == (
        '{"Result":"success","StatusId":4,"TheirStatusId":4,"TheirItems":null}'
    )
    assert service.post({"OrderId": 11, "TheirOrderId": "1"}, "/GetOrderStatus").text == (
        '{"Result":"error","Message":"order not found"}'
    )


def test_cancel(service: Service) -> None:
    service.post(order_v1(), "/SendOrder")
    body = {"order_ID": 10, "their_order_ID": "777", "TheirPharmacyId": "1086", "client_phone": "79997772211"}
    assert service.post(body, "/cancel_order").json()["Result"] == "success"
    assert service.post({"order_ID": 1, "their_order_ID": "1"}, "/cancel_order").json() == {
        "Result": "order_cancel_rejected",
        "Message": "['cancellation not allowed']",
    }
    service.partner.answer("cancel", Answer(500))
    assert service.post({"order_ID": 1, "their_order_ID": "1"}, "/cancel_order").text == TRANSIENT


def test_missing_partner_url_is_503(start: Start) -> None:
    service = start(partnerapi_url="")
    for path, body in (
        ("/SendOrder", order_v1()),
        ("/GetOrderStatus", {"OrderId": 1, "TheirOrderId": "1"}),
        ("/cancel_order", {"order_ID": 1, "their_order_ID": "1"}),
    ):
        response = service.post(body, path)
        assert (response.status_code, response.json()["Message"]) == (503, "PARTNERAPI_URL is not set")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/SendOrder", {}),
        ("/SendOrder", order_v1(Items=[])),
        ("/SendOrder", order_v1(OrderId=2**63)),
        ("/SendOrder", order_v1(TheirPharmacyId=1086)),
        ("/GetOrderStatus", {"TheirOrderId": "1"}),
        ("/cancel_order", {"order_id": 1, "their_order_id": "1"}),
        ("/cancel_order", {"order_ID": 1, "their_order_ID": 1}),
    ],
)
def test_malformed_input(shared: Service, new_id: int, path: str, body: Any) -> None:
    response = shared.post(body, path)
    assert response.status_code == 422
    assert {"type", "loc", "msg"} <= response.json()["detail"][0].keys()
    assert not shared.partner.seen
