"""The partner's answers as values: what is too long for any known error costs no time, and is not understood."""

import datetime as dt
import time
from decimal import Decimal
from typing import Any

import pytest

from sales_assets.services.partner_orders.domain.orders import Client, Item, Order, Refused
from sales_assets.services.partner_orders.domain.partner_response import create_outcome

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
def test_a_long_error_is_not_understood_in_linear_time(errors: Any) -> None:
    began = time.thread_time()
    outcome = create_outcome(ORDER, {"status": "error", "errors": errors})
    # CPU time of this thread: quadratic time would be minutes.
    assert time.thread_time() - began < 2
    assert isinstance(outcome, Refused)
    assert (outcome.partner_error, outcome.quantity_errors, outcome.price_errors) == (True, (), ())
