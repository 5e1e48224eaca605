"""Malformed files: all cases in one load, a day for each; valid rows are loaded, faults are reported.

The cases are those of the reader (`pipeline/test_csv_reader`). Here each case is placed between two valid lines of a
day's file, or is the header of that file, and is processed from download to mart.
"""

import datetime as dt

import pytest

from sales_assets_tests.fixtures import Shop
from sales_assets_tests.pipeline.test_csv_reader import BAD, GOOD, HEADER, HEADER_FAULTS, order

_FIRST = dt.date(2023, 1, 1)
_DATE = b"2024-09-08"  # the date in the lines of the cases


@pytest.fixture
def shop(engine_shop: Shop) -> Shop:
    """Return a shop that loads without Dagster runs; tests of Dagster's records use `dagster_shop`."""
    return engine_shop


def test_more_than_two_hundred_malformed_files_affect_only_their_own_lines(shop: Shop) -> None:
    files: dict[dt.date, tuple[str, bytes]] = {}

    def add(kind: str, data: bytes) -> None:
        day = _FIRST + dt.timedelta(days=len(files))
        files[day] = kind, data.replace(_DATE, day.isoformat().encode())

    def between(line: bytes, end: bytes = b"\n") -> bytes:
        return end.join([HEADER, order(uniq_id="first"), line, order(uniq_id="last"), b""])

    for cells, _ in GOOD.values():
        if not cells.get("date_time", "2024-09-08").startswith("2024-09-08"):
            continue  # a line of another day, which is rejected in this file
        add("good", between(order(**({"uniq_id": "nasty"} | cells))))
    for line, _ in BAD.values():
        for end in (b"\n", b"\r\n"):
            add("bad line", between(line, end))
    for data, _ in HEADER_FAULTS.values():
        add("bad file", data)
    assert len(files) >= 200
    for day, (_, data) in files.items():
        folder = shop.reports.folder / "inc" / day.isoformat()
        folder.mkdir(parents=True)
        (folder / "user_orders_log_inc.csv").write_bytes(data)

    error = shop.fail_to_load(_FIRST.isoformat(), max(files).isoformat())

    days = {
        kind: [day for day, (found, _) in files.items() if found == kind] for kind in ("good", "bad line", "bad file")
    }
    assert f"{len(days['bad file'])} of {len(files)} days failed" in error
    rows = dict(shop.query("SELECT date_id, count(*) FROM mart.f_sales GROUP BY date_id"))
    expected = {"good": 3, "bad line": 2}
    assert rows == {int(day.isoformat().replace("-", "")): expected[kind] for kind in expected for day in days[kind]}
    quarantined = dict(
        shop.query("SELECT first_day, count(*) FROM staging.quarantine JOIN raw.fetch USING (fetch_id) GROUP BY 1")
    )
    assert quarantined == dict.fromkeys(days["bad line"], 1)
    # No line is lost: each line of a readable file is counted as kept, duplicate or rejected.
    lost = shop.query("SELECT fetch_id FROM staging.fetch_reading WHERE lines <> kept + repeats + bad")
    assert lost == []
