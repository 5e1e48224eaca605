"""Validation rules between the fields of a mailing: each error has the documented field and text."""

import datetime as dt
from typing import Any

import pytest

from sales_assets.services.mailings.domain import check_change, check_mailing
from sales_assets.services.mailings.errors import Invalid

NOW = dt.datetime(2024, 6, 1, 12, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1)
MAILING = {"start_time": NOW + SECOND, "end_time": NOW + 2 * SECOND, "text": "hello"}


def errors(check: Any, *values: Any, **options: Any) -> dict[str, list[str]]:
    with pytest.raises(Invalid) as caught:
        check(*values, **options)
    return {field: list(texts) for field, texts in caught.value.errors.items()}


CLOCK = dt.time(9)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"start_time": NOW, "end_time": NOW},
        {"send_from": CLOCK, "send_until": dt.time(8)},
        {"send_from": None, "send_until": None},
    ],
)
def test_valid_mailing_passes(change: dict[str, Any]) -> None:
    check_mailing(MAILING | change, NOW)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"start_time": NOW + 3 * SECOND}, {"end_time": ["end must occur after start"]}),
        ({"start_time": NOW - 2 * SECOND, "end_time": NOW - SECOND}, {"end_time": ["end time cannot be in the past"]}),
        (
            {"send_from": CLOCK},
            {"non_field_errors": ["send_from and send_until are given together or not at all"]},
        ),
        (
            {"send_from": None, "send_until": CLOCK},
            {"non_field_errors": ["send_from and send_until are given together or not at all"]},
        ),
        ({"send_from": CLOCK, "send_until": CLOCK}, {"send_until": ["a window must not end when it begins"]}),
    ],
)
def test_invalid_mailing_is_reported(change: dict[str, Any], expected: dict[str, list[str]]) -> None:
    assert errors(check_mailing, MAILING | change, NOW) == expected


def test_change_is_checked_against_the_stored_mailing() -> None:
    stored = MAILING | {"state": "scheduled"}
    check_change(stored, MAILING | {"start_time": NOW - SECOND}, NOW)
    start_time_error = {"start_time": ["unable to update mailing with start time in the past"]}
    assert errors(check_change, stored | {"start_time": NOW}, MAILING, NOW) == start_time_error
    assert errors(check_change, stored | {"state": "running"}, MAILING, NOW) == start_time_error
    assert set(errors(check_change, stored, MAILING | {"end_time": NOW - SECOND}, NOW)) == {"end_time"}
