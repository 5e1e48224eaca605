"""Load report: metadata and failures of a load, by table and day."""

import datetime as dt

from sales_assets.pipeline.load_report import LoadReport, raw_table, staging_table
from sales_assets.schemas.report_files import PRICE_LOG

DAYS = [dt.date(2024, 10, day) for day in (1, 2, 3)]
TABLES = ["raw.a_inc", "staging.a", "mart.b"]


def test_tables_of_a_file() -> None:
    assert (raw_table(PRICE_LOG), staging_table(PRICE_LOG)) == ("raw.price_log_inc", "staging.price_log")


def test_a_day_is_good_for_a_table_unless_the_table_failed() -> None:
    report = LoadReport(iter(TABLES), DAYS)
    report.fail(DAYS[1], "no rows", ["staging.a", "mart.b", "mart.of_nobody"])
    report.fail(DAYS[1], "no rows", ["mart.b"])
    report.fail(DAYS[1], "no names", ["mart.b"])
    assert report.tables == tuple(TABLES)
    assert {table: report.good_days(table) for table in (*TABLES, "mart.of_nobody")} == {
        "raw.a_inc": DAYS,
        "staging.a": [DAYS[0], DAYS[2]],
        "mart.b": [DAYS[0], DAYS[2]],
        "mart.of_nobody": DAYS,
    }
    assert report.good_days("mart.b", DAYS[1:]) == [DAYS[2]]
    assert report.good_days("mart.b", []) == []
    assert report.failures == {DAYS[1]: ["no rows", "no names"]}


def test_metadata_of_a_day_is_merged() -> None:
    report = LoadReport(TABLES, DAYS)
    report.add("mart.b", DAYS[0], {"rows": 1, "amount": 2})
    report.add("mart.b", DAYS[0], {"rows": 3})
    assert report.facts == {("mart.b", DAYS[0]): {"rows": 3, "amount": 2}}
    assert report.verified == {}
    assert report.days == DAYS
    assert report.days is not DAYS
