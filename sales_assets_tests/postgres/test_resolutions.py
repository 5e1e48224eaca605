"""Resolutions of rejected rows: rejected resolutions, the audit trail, and the days with their totals and progress.

The effects on the data are tested in ``staging/test_quarantine.py``.
"""

import datetime as dt
from typing import Any

import pytest

from sales_assets.defs.load_daily_sales import stored_specs
from sales_assets.pipeline import load, publish
from sales_assets.postgres.resolutions import (
    CORRECT,
    DISCARD,
    PARSE_AGAIN,
    REOPEN,
    Resolution,
    ResolutionError,
    Resolved,
    resolve,
)
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources.raw_files import RawFiles, RawFilesError
from sales_assets_tests.builders import Order
from sales_assets_tests.fixtures import Shop

DAY = "2024-10-01"
BAD = Order("b", amount="ten")
GOOD_LINE = BAD.but(amount="10").line(2, statuses=True)
STORED = [spec.key for spec in stored_specs()]


@pytest.fixture
def shop(engine_shop: Shop) -> Shop:
    return engine_shop


def run(*resolutions: Resolution, **options: Any) -> Resolved:
    with Warehouse().transaction("test") as transaction:
        return resolve(transaction, resolutions, **{"by": "anna", "via": "page", **options})


def days(shop: Shop) -> list[tuple[Any, ...]]:
    return shop.query(
        "SELECT date_id, rows_before::int, amount_before::int, loaded_at IS NOT NULL, rows_after::int,"
        " amount_after::int, run_id IS NOT NULL, failure FROM staging.resolution_day ORDER BY resolution_id, date_id"
    )


@pytest.fixture
def number(shop: Shop) -> int:
    """Load a day with a valid and a rejected row; return the number of the rejected row."""
    shop.reports.increment(DAY, [Order("a"), BAD])
    shop.load(DAY)
    return int(shop.query("SELECT quarantine_id FROM staging.quarantine")[0][0])


def test_a_resolution_is_recorded_with_its_user_and_day(shop: Shop, number: int) -> None:
    """The load of the day records the totals after the load; a further load changes nothing."""
    resolved = run(Resolution(number, CORRECT, GOOD_LINE))
    assert resolved == Resolved([dt.date(2024, 10, 1)], [])
    assert shop.query("SELECT quarantine_id, action, corrected_text, resolved_by, via FROM staging.resolution") == [
        (number, "correct", GOOD_LINE, "anna", "page")
    ]
    assert days(shop) == [(20241001, 1, 200, False, None, None, False, None)]
    assert Warehouse().rows("staging/resolution_day", "due") == [{"day": DAY, "latest": 1}]
    for _ in range(2):
        shop.load(DAY, selection=STORED)
        assert days(shop) == [(20241001, 1, 200, True, 2, 210, True, None)]
    assert Warehouse().rows("staging/resolution_day", "due") == []


def test_any_load_of_the_day_completes_its_resolutions(shop: Shop, number: int) -> None:
    """A backfill or a run of the sensor completes resolutions too, but a load of another day does not."""
    run(Resolution(number, DISCARD))
    shop.reports.increment("2024-10-02", [Order("c", day="2024-10-02")])
    shop.load("2024-10-02")
    assert days(shop) == [(20241001, 1, 200, False, None, None, False, None)]
    shop.load(DAY)
    assert days(shop) == [(20241001, 1, 200, True, 1, 200, True, None)]


def test_a_load_without_the_mart_does_not_complete_the_resolutions(shop: Shop, number: int) -> None:
    """The day is staged but not published."""
    run(Resolution(number, CORRECT, GOOD_LINE))
    shop.load(DAY, selection=[key for key in STORED if key.path == ["staging", "user_orders_log"]])
    assert [row[3] for row in days(shop)] == [False]
    shop.load(DAY, selection=STORED)
    assert [row[3:6] for row in days(shop)] == [(True, 2, 210)]


def test_a_failed_load_is_recorded_and_the_next_one_completes_the_resolution(
    shop: Shop, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(Resolution(number, CORRECT, GOOD_LINE))

    def refuse(*_: object) -> None:
        raise RawFilesError("the store is away")

    with monkeypatch.context() as patched:
        patched.setattr(RawFiles, "verified_chunks", refuse)
        assert "the store is away" in shop.fail_to_load(DAY, selection=STORED)
    (failed,) = days(shop)
    assert (failed[3], failed[6]) == (False, True)
    assert "the store is away" in failed[7]
    assert [row["day"] for row in Warehouse().rows("staging/resolution_day", "due")] == [DAY]
    shop.load(DAY, selection=STORED)
    assert days(shop) == [(20241001, 1, 200, True, 2, 210, True, None)]


def test_a_row_resolved_during_the_load_waits_for_the_next(
    shop: Shop, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(Resolution(number, CORRECT, GOOD_LINE))
    published = publish.days_of_other_sources

    def resolve_and_return(*arguments: Any) -> Any:
        run(Resolution(number, DISCARD), by="boris")
        return published(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(load, "days_of_other_sources", resolve_and_return)  # the last step of the load
        shop.load(DAY, selection=STORED)
    assert [row[3] for row in days(shop)] == [False, False]
    shop.load(DAY, selection=STORED)
    assert [row[3:6] for row in days(shop)] == [(True, 1, 200), (True, 1, 200)]
    assert shop.sales() == [("a", 200)]


def test_a_row_without_a_date_affects_all_days_of_its_file(shop: Shop) -> None:
    """Days before the calendar and after yesterday are excluded."""
    shop.reports.report([Order("a", day="2024-09-01"), Order("b", day="2024-09-03"), Order("x", day="soon")])
    shop.load("2024-09-01", "2024-09-03")
    (row,) = shop.query(
        "SELECT quarantine_id, first_day, last_day FROM staging.quarantine JOIN raw.fetch USING (fetch_id)"
    )
    resolved = run(Resolution(row[0], PARSE_AGAIN))
    assert (resolved.days[0], resolved.days[-1]) == (row[1], row[2])
    assert len(days(shop)) == len(resolved.days) == (row[2] - row[1]).days + 1


def test_the_day_is_loaded_from_newer_contents_that_inherit_the_resolution(shop: Shop, number: int) -> None:
    """A newer file of the day contains the same row, and the day is loaded from that file."""
    shop.reports.increment(DAY, [Order("c"), BAD])
    shop.load(DAY)
    assert shop.sales() == [("c", 200)]
    resolved = run(Resolution(number, CORRECT, GOOD_LINE))
    assert len(resolved.inherited) == 1
    assert len(days(shop)) == 2
    shop.load(DAY, selection=STORED)
    assert shop.sales() == [("b", 10), ("c", 200)]
    assert all(row[3] for row in days(shop))


def test_a_resolution_is_refused_if_another_user_resolved_the_row_meanwhile(shop: Shop, number: int) -> None:
    run(Resolution(number, DISCARD), by="boris")
    with pytest.raises(ResolutionError, match="was resolved by another user meanwhile"):
        run(Resolution(number, CORRECT, GOOD_LINE), seen={number: None})
    (seen,) = shop.query("SELECT corrected_at FROM staging.quarantine")[0]
    run(Resolution(number, CORRECT, GOOD_LINE), seen={number: seen})
    assert shop.query("SELECT resolved_by FROM staging.resolution ORDER BY 1") == [("anna",), ("boris",)]


@pytest.mark.parametrize(
    "text", ["", "1,2", GOOD_LINE.replace("10", "1\0"), GOOD_LINE + "\n" + GOOD_LINE, "x" * (1 << 21)]
)
def test_corrections_that_are_not_one_line_of_the_file_are_refused(shop: Shop, number: int, text: str) -> None:
    with pytest.raises(ResolutionError, match=f"^{number}: "):
        run(Resolution(number, CORRECT, text))
    assert days(shop) == []


def test_a_correction_in_a_file_without_a_recorded_header_is_checked_by_the_load(shop: Shop, number: int) -> None:
    """Older versions recorded no header; the load records it and checks the rules. All days of the file may change."""
    shop.query("UPDATE staging.fetch_reading SET header = NULL RETURNING 1")
    with pytest.raises(ResolutionError, match="NUL"):
        run(Resolution(number, CORRECT, "1\0"))
    run(Resolution(number, CORRECT, BAD.but(amount="eleven").line(2, statuses=True)))
    shop.load(DAY, selection=STORED)
    assert shop.query("SELECT state, reason FROM staging.quarantine") == [
        ("open", "payment_amount 'eleven' is not a plain decimal number")
    ]
    assert shop.query("SELECT header IS NOT NULL FROM staging.fetch_reading") == [(True,)]


def test_days_resolved_by_the_command_are_due_after_ten_minutes(shop: Shop, number: int) -> None:
    run(Resolution(number, DISCARD), via="command")
    assert Warehouse().rows("staging/resolution_day", "due") == []
    shop.query("UPDATE staging.resolution SET resolved_at = now() - interval '11 minutes' RETURNING 1")
    assert [row["day"] for row in Warehouse().rows("staging/resolution_day", "due")] == [DAY]


@pytest.mark.parametrize("loaded", [True, False])
@pytest.mark.parametrize("resolution", [(DISCARD, None), (CORRECT, GOOD_LINE)])
def test_a_reopened_row_is_rejected_again(
    shop: Shop, number: int, resolution: tuple[Any, str | None], loaded: bool
) -> None:
    """The mart is again as before the resolution, whether or not the day was loaded in between."""
    action, text = resolution
    run(Resolution(number, action, text))
    if loaded:
        shop.load(DAY, selection=STORED)
        assert shop.sales() == [("a", 200), *([("b", 10)] if text else [])]
    resolved = run(Resolution(number, REOPEN), by="boris")
    assert resolved == Resolved([dt.date(2024, 10, 1)], [])
    assert [row["day"] for row in Warehouse().rows("staging/resolution_day", "due")] == [DAY]
    for _ in range(2):
        shop.load(DAY, selection=STORED)
        assert shop.sales() == [("a", 200)]
    assert shop.query("SELECT state, corrected_text, reason FROM staging.quarantine") == [
        ("open", None, "payment_amount 'ten' is not a plain decimal number")
    ]
    assert Warehouse().rows("staging/resolution_day", "due") == []
    assert shop.query("SELECT action, resolved_by FROM staging.resolution ORDER BY resolution_id") == [
        (action, "anna"),
        ("reopen", "boris"),
    ]
    run(Resolution(number, CORRECT, GOOD_LINE))  # the row can be resolved again
    shop.load(DAY, selection=STORED)
    assert shop.sales() == [("a", 200), ("b", 10)]


def test_a_row_that_was_not_resolved_cannot_be_reopened(shop: Shop, number: int) -> None:
    with pytest.raises(ResolutionError, match=f"^{number}: was neither corrected nor discarded"):
        run(Resolution(number, REOPEN))
    run(Resolution(number, PARSE_AGAIN))
    with pytest.raises(ResolutionError, match="was neither"):
        run(Resolution(number, REOPEN))


@pytest.mark.parametrize("by_inheriting_row", [False, True])
def test_identical_rows_are_reopened_together(shop: Shop, number: int, by_inheriting_row: bool) -> None:
    """If only one of them were reopened, it would inherit the resolution of the other at the next load."""
    run(Resolution(number, CORRECT, GOOD_LINE))
    shop.reports.increment(DAY, [Order("c"), BAD])
    shop.load(DAY)
    assert shop.sales() == [("b", 10), ("c", 200)]
    (inheriting_row,) = (
        row[0] for row in shop.query("SELECT quarantine_id FROM staging.quarantine WHERE inherited_from > 0")
    )
    one, other = (inheriting_row, number) if by_inheriting_row else (number, inheriting_row)
    assert run(Resolution(one, REOPEN)).inherited == [other]
    assert len(days(shop)) == 3
    for _ in range(2):
        shop.load(DAY)
        assert shop.sales() == [("c", 200)]
    assert shop.query("SELECT DISTINCT state, corrected_text, inherited_from FROM staging.quarantine") == [
        ("open", None, None)
    ]


def test_reopening_a_discarded_row_restores_its_conflict_with_another_row(shop: Shop) -> None:
    shop.reports.increment(DAY, [Order("a"), Order("b"), Order("b", amount="300")])
    shop.load(DAY)
    first, second = (row[0] for row in shop.query("SELECT quarantine_id FROM staging.quarantine ORDER BY line_no"))
    run(Resolution(second, DISCARD))
    shop.load(DAY, selection=STORED)
    assert shop.sales() == [("a", 200), ("b", 200)]
    run(Resolution(second, REOPEN))
    shop.load(DAY, selection=STORED)
    assert shop.sales() == [("a", 200)]
    assert shop.query("SELECT quarantine_id, state FROM staging.quarantine ORDER BY 1") == [
        (first, "open"),
        (second, "open"),
    ]


@pytest.mark.parametrize("action", [REOPEN, CORRECT])
def test_the_day_of_a_former_correction_is_loaded_again(shop: Shop, action: Any) -> None:
    """A row of a report was corrected to another day, and then reopened or corrected to a third day."""
    orders = [Order("a", day="2024-09-01"), Order("b", day="2024-09-01", amount="ten"), Order("c", day="2024-09-03")]
    shop.reports.report(orders)
    shop.load("2024-09-01", "2024-09-03")
    (number,) = (row[0] for row in shop.query("SELECT quarantine_id FROM staging.quarantine"))

    def line(day: str) -> str:
        return Order("b", day=day, amount="10").line(2, statuses=False)

    run(Resolution(number, CORRECT, line("2024-09-02")))
    shop.load("2024-09-01", "2024-09-03", selection=STORED)
    assert shop.sales("2024-09-02") == [("b", 10)]
    resolved = run(Resolution(number, action, line("2024-09-03") if action == CORRECT else None))
    assert dt.date(2024, 9, 2) in resolved.days
    for day in resolved.days:
        shop.load(str(day), selection=STORED)
    assert shop.sales("2024-09-02") == []
    assert shop.sales("2024-09-03") == [*([("b", 10)] if action == CORRECT else []), ("c", 200)]
