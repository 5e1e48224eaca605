"""Responses of the report API: validation and stored fields."""

import datetime as dt

import pytest
from pydantic import ValidationError

from sales_assets.schemas.report_api import IncrementAnswer, ReportData, TaskAnswer, links_by_file

RESPONSE = {"report_id": "r", "date": "2023-09-07 00:00:00", "status": "SUCCESS", "data": {}}


@pytest.mark.parametrize("day", ["2023-09-07", "2023-09-07 00:00:00", "2023-09-07T23:59:59+03:00", dt.date(2023, 9, 7)])
def test_a_day_is_the_first_ten_characters(day: object) -> None:
    assert ReportData.model_validate({"start_day": day}).start_day == dt.date(2023, 9, 7)


@pytest.mark.parametrize("day", ["07.09.2023", "2023-09-7", "", 20230907.5])
def test_a_day_in_another_format_is_refused(day: object) -> None:
    with pytest.raises(ValidationError):
        ReportData.model_validate({"start_day": day})


@pytest.mark.parametrize("task_id", ["a\0b", "a\n"])
def test_an_id_with_unprintable_characters_is_refused(task_id: str) -> None:
    with pytest.raises(ValidationError, match=r"Value error, contains unprintable characters \["):
        TaskAnswer(task_id=task_id)


def test_unprintable_characters_are_replaced_and_long_texts_truncated() -> None:
    debug_info = "a\0\nb" + "x" * 3000
    shortened = IncrementAnswer.model_validate(RESPONSE | {"debug_info": debug_info}).debug_info
    assert shortened == "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}b" + "x" * 1996
    assert IncrementAnswer.model_validate(RESPONSE | {"debug_info": None}).debug_info is None
    with pytest.raises(ValidationError):
        IncrementAnswer.model_validate(RESPONSE | {"debug_info": 1})


def test_links_of_one_kind_are_returned_by_canonical_file_name() -> None:
    paths = {"user_order_log": "a", "price_log": "b", "user_order_log_inc": "c", "customer_research_inc": "d", "x": "e"}
    assert links_by_file(paths, increment=False) == {"user_orders_log": "a", "price_log": "b"}
    assert links_by_file(paths, increment=True) == {"user_orders_log": "c", "custom_research": "d"}
