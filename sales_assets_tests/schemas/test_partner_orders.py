"""Message ids and times of partner order events."""

import datetime as dt

import pytest

from sales_assets.schemas.partner_orders import message_id, utc


def test_a_message_id_consists_of_project_order_and_kind() -> None:
    assert message_id(8, 10, "accepted") == "8-10-accepted"


def test_a_time_is_converted_to_utc() -> None:
    noon = dt.datetime(2024, 6, 20, 12, tzinfo=dt.UTC)
    assert utc(noon.replace(tzinfo=None)) == noon
    east = utc(dt.datetime(2024, 6, 20, 15, tzinfo=dt.timezone(dt.timedelta(hours=3))))
    assert east == noon
    assert east.tzinfo is dt.UTC


def test_a_time_outside_the_calendar_is_refused() -> None:
    east = dt.timezone(dt.timedelta(hours=3))
    with pytest.raises(ValueError, match=r"^the date is outside the calendar$"):
        utc(dt.datetime(1, 1, 1, tzinfo=east))
