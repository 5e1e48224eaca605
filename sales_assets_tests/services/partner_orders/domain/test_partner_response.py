"""Conversion of partner responses to values: what each response means, and that no information is lost."""

import datetime as dt
import time
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from sales_assets.services.partner_orders.domain.orders import (
    Accepted,
    Client,
    Item,
    Order,
    PriceError,
    QuantityError,
    Refused,
)
from sales_assets.services.partner_orders.domain.partner_response import (
    CancelRefusal,
    UnreadableAnswer,
    cancel_refusal,
    create_outcome,
    error_text,
    is_id,
    parse_price,
)

ORDER = Order(
    10,
    dt.datetime(2024, 6, 20, tzinfo=dt.UTC),
    Client("Test", "79997772211", "example@example.com"),
    "1086",
    2,
    (Item("58", Decimal(10), 10),),
    None,
    {},
)
NOT_FOUND = QuantityError("58", 10, 0)
WRONG_QUANTITY = QuantityError("58", 10, None)
PRICE_MESSAGE = "Wrong price: current price is"


def price(available: str) -> PriceError:
    return PriceError("58", "10", available)


def refused(errors: Any, order: Order = ORDER) -> Refused:
    outcome = create_outcome(order, {"status": "error", "errors": errors})
    assert isinstance(outcome, Refused)
    return outcome


@pytest.mark.parametrize("number", ["a", "7", 7, "x" * 256])
def test_ok_response_is_an_accepted_order(number: str | int) -> None:
    assert create_outcome(ORDER, {"status": "ok", "order_id": number}) == Accepted(str(number), ORDER.items)


@pytest.mark.parametrize("number", [None, True, 1.5, "", "x" * 257, "a\n", "a\N{REPLACEMENT CHARACTER}", []])
def test_ok_response_without_an_order_id_is_unreadable(number: Any) -> None:
    with pytest.raises(UnreadableAnswer, match=r"^the order was made, but the answer has no order_id$"):
        create_outcome(ORDER, {"status": "ok", "order_id": number})


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ([], "the answer is not an object"),
        ({}, "the answer's status is neither ok nor error"),
        ({"status": "OK", "order_id": "7"}, "the answer's status is neither ok nor error"),
    ],
)
def test_response_without_a_valid_status_is_unreadable(response: Any, reason: str) -> None:
    with pytest.raises(UnreadableAnswer, match=f"^{reason}$"):
        create_outcome(ORDER, response)


@pytest.mark.parametrize(
    ("errors", "error"),
    [
        ({"58": "Item not found"}, NOT_FOUND),
        ({"58": " ITEM NOT FOUND.. "}, NOT_FOUND),
        ({"58": "Wrong quantity."}, WRONG_QUANTITY),
        ({"58": f" {PRICE_MESSAGE} 641.52 "}, price("641.52")),
        ({"58": f"{PRICE_MESSAGE} none or 5"}, NOT_FOUND),
        ([{"their_id": "58", "item_id": "9", "id": "8", "error": "Wrong quantity"}], WRONG_QUANTITY),
        ([{"item_id": 58, "id": "9", "text": "Wrong quantity"}], WRONG_QUANTITY),
        ([{"id": 58, "message": "Wrong quantity", "text": "no idea"}], WRONG_QUANTITY),
        ({"id": "58", "more": {"deep": ["Wrong quantity"]}}, WRONG_QUANTITY),
        ("58: Wrong quantity", WRONG_QUANTITY),
        ("58 :Wrong quantity", WRONG_QUANTITY),
        (f"58: {PRICE_MESSAGE} 12", price("12")),
        ({"order": {"58": {"count": "Wrong quantity"}}}, WRONG_QUANTITY),
    ],
)
def test_item_error_is_recognized_in_every_shape(errors: Any, error: QuantityError | PriceError) -> None:
    quantities = (error,) if isinstance(error, QuantityError) else ()
    prices = (error,) if isinstance(error, PriceError) else ()
    assert refused(errors) == Refused(str(errors), False, quantities, prices, in_words=True)


@pytest.mark.parametrize(
    "errors",
    [
        {"58": "no idea"},
        {"58": "Wrong quantityX"},
        {"58": f"{PRICE_MESSAGE} cheap"},
        {"59": "Wrong quantity"},
        {"id": "59", "more": {"deep": "Wrong quantity"}},
        {"58": {"id": "59", "error": "Wrong quantity"}},
        {"id": "58", "7": "Wrong quantity"},
        "Wrong quantity",
        "58, Wrong quantity",
        ["59: Wrong quantity"],
        {"58": "Wrong quantity" + " " * 487},
        {"58": 7},
    ],
)
def test_unknown_error_is_a_partner_error(errors: Any) -> None:
    outcome = refused(errors)
    assert (outcome.partner_error, outcome.quantity_errors, outcome.price_errors) == (True, (), ())


@pytest.mark.parametrize("other", [{"59": "Wrong quantity"}, {"phone": "bad"}, {"58": ["Wrong quantity", "no idea"]}])
def test_unknown_error_is_reported_next_to_known_item_errors(other: dict[str, Any]) -> None:
    outcome = refused({"58": "Wrong quantity"} | other)
    assert (outcome.partner_error, outcome.quantity_errors) == (True, (WRONG_QUANTITY,))


def test_error_text_of_the_maximum_length_is_understood() -> None:
    assert refused({"58": "Wrong quantity" + " " * 486}).quantity_errors == (WRONG_QUANTITY,)


def test_item_error_applies_once_to_each_line_of_the_item() -> None:
    items = (Item("58", Decimal(10), 10), Item("58", Decimal(11), 1), Item("21", Decimal(5), 1))
    order = replace(ORDER, items=items)
    errors = {"58": ["Wrong quantity", "Wrong quantity", f"{PRICE_MESSAGE} 12"], "21": "no idea"}
    assert refused(errors, order) == Refused(
        str(errors),
        True,
        (WRONG_QUANTITY, QuantityError("58", 1, None)),
        (price("12"), PriceError("58", "11", "12")),
        in_words=True,
    )


def test_delivered_order_uses_the_second_price() -> None:
    delivery_order = replace(ORDER, order_type=1)
    assert refused({"58": f"{PRICE_MESSAGE} 1 or 750.00"}, delivery_order).price_errors == (price("750.00"),)
    assert refused({"58": f"{PRICE_MESSAGE} 1 or None "}, delivery_order).quantity_errors == (NOT_FOUND,)
    assert refused({"58": f"{PRICE_MESSAGE} 1"}, delivery_order).partner_error


@pytest.mark.parametrize("errors", [None, [], {}, "", "  ", ["", {"58": " "}], 7])
def test_errors_without_a_text(errors: Any) -> None:
    assert refused(errors) == Refused("HTTP response error", partner_error=True, in_words=False)
    assert error_text(errors) == "HTTP response error"


def test_errors_are_quoted_in_the_message() -> None:
    assert error_text([{"a": "", "b": ["x"]}]) == "[{'a': '', 'b': ['x']}]"


@pytest.mark.parametrize(
    ("errors", "final"),
    [
        ("Cancellation is not allowed", True),
        ({"order": ["sorry", "cancelation  NOT allowed now"]}, True),
        ("cancel is not allowed", False),
        (["later"], False),
    ],
)
def test_refused_cancel_is_final_only_if_not_allowed(errors: Any, final: bool) -> None:
    assert cancel_refusal({"status": "error", "errors": errors}) == CancelRefusal(str(errors), final)


def test_other_responses_to_a_cancel() -> None:
    assert cancel_refusal({"status": "ok", "more": 1}) is None
    assert cancel_refusal({"status": "error"}) == CancelRefusal("HTTP response error", final=False)
    others: list[Any] = [{}, [], {"status": "OK"}]
    for other in others:
        with pytest.raises(UnreadableAnswer, match=r"^the answer's status is neither ok nor error$"):
            cancel_refusal(other)


@pytest.mark.parametrize(("text", "good"), [("a", True), ("x" * 256, True), ("", False), ("x" * 257, False)])
def test_partner_id_has_1_to_256_characters(text: str, good: bool) -> None:
    assert is_id(text) is good


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("1 641,52", "1641.52"),
        (" 750.00 ", "750.00"),
        ("12'345'678.9", "12345678.9"),
        ("1,641", "1641"),
        ("1234", "1234"),
        ("1234,5", "1234.5"),
        ("1,234.567", None),
        ("1 23", None),
        ("NONE", None),
        ("1.234", "1234"),
        ("-1", None),
        ("", None),
    ],
)
def test_price_is_parsed(text: str, digits: str | None) -> None:
    assert parse_price(text) == digits


@pytest.mark.parametrize(
    "errors",
    [
        [" " * 900_000],
        ["58" + " " * 900_000],
        {"58": "Wrong price: current price is " + " or x" * 180_000 + "\n"},
        {"58": "Wrong price: current price is " + "1 " * 450_000},
        {"58": "Wrong price: current price is " + "1" * 900_000},
    ],
    ids=["blanks", "an id and blanks", "many alternatives", "many groups", "many digits"],
)
def test_long_error_is_parsed_in_linear_time(errors: Any) -> None:
    start_time = time.thread_time()
    outcome = create_outcome(ORDER, {"status": "error", "errors": errors})
    # CPU time of this thread: quadratic time would take minutes.
    assert time.thread_time() - start_time < 2
    assert isinstance(outcome, Refused)
    assert (outcome.partner_error, outcome.quantity_errors, outcome.price_errors) == (True, (), ())
