"""Loading days: the load report of each day, and the effects of a failing day."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from sales_assets.pipeline import load, stage
from sales_assets.pipeline.load import NoReportError, batched
from sales_assets.pipeline.load_report import F_SALES, LoadReport, staging_table
from sales_assets.pipeline.sums import Sums
from sales_assets.resources.raw_files import RawFilesError
from sales_assets.schemas.report_files import REPORT_FILES, USER_ACTIVITY_LOG, USER_ORDERS_LOG
from sales_assets_tests.builders import Order
from sales_assets_tests.fixtures import change_stored_file, stored_files
from sales_assets_tests.pipeline.conftest import DERIVED, RAW, TABLES, Engine

FIRST, SECOND, THIRD = TEXTS = ("2024-10-01", "2024-10-02", "2024-10-03")
DAYS = [dt.date.fromisoformat(text) for text in TEXTS]
ORDERS = staging_table(USER_ORDERS_LOG)
ACTIVITY_HEADER = "id,uniq_id,date_time,action_id,customer_id,quantity"
RULES = {"equal_to_staging", "no_key_twice", "uniq_id_on_one_date", "statuses", "signs", "legacy_rows_shipped"}
EQUAL_TO_ACTIVITY = next(derived.reconciliation for derived in DERIVED if derived.file is USER_ACTIVITY_LOG)
ROWS = "SELECT f.date_id, uniq_id, amount FROM mart.f_sales AS f JOIN mart.f_sales_lines USING (id) ORDER BY 1, 2"


def activity(day: str, *customers: int) -> str:
    lines = [f"{n},{day}{n},{day},1,{customer},2" for n, customer in enumerate(customers)]
    return "\n".join([ACTIVITY_HEADER, *lines, ""])


def refuse(engine: Engine, table: str, condition: str) -> None:
    """Add a trigger that refuses some rows of a table."""
    engine.query(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN IF {condition} THEN RAISE 'refused'; END IF; RETURN NEW; END $$"
    )
    engine.query(f"CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION public.refuse()")


def good(report: LoadReport, table: str) -> list[str]:
    return [str(day) for day in report.good_days(table)]


def test_the_report_of_a_load(engine: Engine) -> None:
    """The load covers a day of a report, an increment with duplicate, rejected row and refund, and an empty day."""
    engine.reports.report([Order("r"), Order("last", day="2024-10-04")])
    orders = [Order("a"), Order("a"), Order("b", quantity="x"), Order("c", status="refunded", amount="50")]
    increment = [order.but(day=SECOND) for order in orders]
    engine.reports.increment(SECOND, increment, user_activity_log=activity(SECOND, 51, 52, 51))
    engine.reports.increment(THIRD, [])
    report = engine.load(*TEXTS)
    assert report.failures == {}
    fetches = {
        (kind, str(day), file): (number, path)
        for number, kind, day, file, path in engine.query("SELECT fetch_id, kind, first_day, file, path FROM raw.fetch")
    }
    of_report, of_second, of_third = (
        fetches[key]
        for key in (
            ("report", FIRST, "user_orders_log"),
            ("increment", SECOND, "user_orders_log"),
            ("increment", THIRD, "user_orders_log"),
        )
    )
    assert [report.facts[ORDERS, day] for day in DAYS] == [
        {"rows": rows, "duplicates": duplicates, "rejected rows": rejected, "fetch number": number}
        | {"selected file": f"{kind} {path}"}
        for rows, duplicates, rejected, kind, (number, path) in (
            (1, 0, 0, "report", of_report),
            (2, 1, 1, "increment", of_second),
            (0, 0, 0, "increment", of_third),
        )
    ]
    names = ("rows", "refunded_rows", "net_amount", "net_quantity", "refunded_amount")
    sales = [(1, 0, 200, 2, 0), (2, 1, 150, 0, -50), (0, 0, 0, 0, 0)]
    assert [report.facts[F_SALES, day] for day in DAYS] == [dict(zip(names, day, strict=True)) for day in sales]
    assert report.facts["mart.f_activity", DAYS[1]] == {"rows": 2, "customers": 2, "events": 3, "quantity": Decimal(6)}
    raw = report.facts["raw.user_orders_log_inc", DAYS[1]]
    assert (raw["response"], raw["fetch number"], raw["path"], raw["lines"]) == ("delivered", *of_second, 5)
    assert report.facts["raw.price_log_inc", DAYS[1]] == {"response": "not listed in the response"}
    assert report.facts["raw.price_log_inc", DAYS[0]]["response"].startswith("NOT FOUND: ")
    assert {table for table, _ in report.facts} == {
        *RAW,
        ORDERS,
        F_SALES,
        "staging.user_activity_log",
        "mart.f_activity",
    }


def test_rules_proven_by_a_load_are_left_out_of_its_checks(engine: Engine) -> None:
    """The load verifies rules for the days that it replaces; the second load replaces no day."""
    engine.reports.report([Order("r"), Order("last", day="2024-10-04")])
    engine.reports.increment(SECOND, [Order("a", day=SECOND)], user_activity_log=activity(SECOND, 51))
    report = engine.load(FIRST, SECOND)
    proven = {rule: {*DAYS[:2]} for rule in RULES} | {"uniq_id_on_one_date": set()}
    assert {rule: report.verified[rule] for rule in RULES} == proven
    assert report.verified[EQUAL_TO_ACTIVITY] == {DAYS[1]}
    again = engine.load(FIRST, SECOND)
    assert set(again.verified) == set(report.verified)
    assert set().union(*again.verified.values()) == set(), "nothing was replaced"
    assert again.facts[F_SALES, DAYS[0]] == report.facts[F_SALES, DAYS[0]]


def test_the_steps_of_a_load_are_shown(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "DAYS_TOGETHER", 2)
    engine.reports.report([Order("r")])
    engine.fetch_report()
    engine.progress.steps.clear()
    engine.load(*TEXTS)
    files = [f"{file}: reports and newly selected files" for file in REPORT_FILES]
    assert (engine.progress.steps, engine.progress.ahead, engine.progress.done) == (["increments", *files], 3, [2, 1])
    assert engine.query("SELECT min(date_id), max(date_id) FROM mart.d_calendar") == [(20241001, 20241003)]


@pytest.mark.parametrize("together", [1, 2, 30])
def test_a_day_refused_by_the_database_does_not_block_the_others(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    """An increment day fails in staging and mart, but not in raw or in the other tables of the day."""
    monkeypatch.setattr(load, "DAYS_TOGETHER", together)
    engine.reports.report([Order("r", day="2024-09-30")], price_log="Milk,100\n")
    for day in TEXTS:
        engine.reports.increment(day, [Order(day, day=day)], user_activity_log=activity(day, 51))
    refuse(engine, ORDERS, "NEW.date_id = 20241002")
    report = engine.load(*TEXTS)
    assert {day: [reason.splitlines()[0] for reason in reasons] for day, reasons in report.failures.items()} == {
        DAYS[1]: ["user_orders_log: refused"]
    }
    for table in TABLES:
        assert good(report, table) == ([FIRST, THIRD] if table in (ORDERS, F_SALES) else [*TEXTS])
    assert [day for day, *_ in engine.query(ROWS)] == [20241001, 20241003]
    assert report.verified["equal_to_staging"] == report.verified["no_key_twice"] == {DAYS[0], DAYS[2]}
    assert report.verified[EQUAL_TO_ACTIVITY] == set(DAYS)
    assert (ORDERS, DAYS[1]) not in report.facts


def test_a_failing_derived_table_fails_only_with_its_file(engine: Engine) -> None:
    engine.reports.report([Order("r", day="2024-09-30")])
    for day in TEXTS[:2]:
        engine.reports.increment(day, [Order(day, day=day)], user_activity_log=activity(day, 51))
    refuse(engine, "mart.f_activity", "NEW.date_id = 20241002")
    report = engine.load(FIRST, SECOND)
    assert [reason.splitlines()[0] for reason in report.failures[DAYS[1]]] == ["user_activity_log: refused"]
    failed = {"staging.user_activity_log", "mart.f_activity"}
    assert {table for table in TABLES if good(report, table) != [FIRST, SECOND]} == failed
    assert engine.query("SELECT date_id FROM staging.user_activity_log") == [(20241001,)]


def test_a_file_that_cannot_be_parsed_keeps_the_rows_of_its_day(engine: Engine) -> None:
    """Neighbouring days and the other files of the day are loaded."""
    engine.reports.report([Order("r", day="2024-09-30")])
    for day in TEXTS:
        engine.reports.increment(day, [Order(day, day=day)])
    engine.load(*TEXTS)
    engine.reports.increment(SECOND, None, user_orders_log="no header\n", price_log="Milk,100\n")
    engine.reports.increment(THIRD, [Order("new", day=THIRD)])
    report = engine.load(*TEXTS)
    ((failed, (reason,)),) = report.failures.items()
    assert failed == DAYS[1]
    assert reason.startswith(f"user_orders_log_inc/{SECOND}/")
    assert "there is no header: found '?'" in reason
    assert {table for table in TABLES if good(report, table) != [*TEXTS]} == {ORDERS, F_SALES}
    assert [uniq_id for _, uniq_id, _ in engine.query(ROWS)] == [FIRST, SECOND, "new"]
    assert engine.query("SELECT date_id, price FROM staging.price_log") == [(20241002, 100)]


def test_a_changed_raw_file_is_not_loaded(engine: Engine) -> None:
    """If a report file was changed, the days served by an increment are still loaded.

    Each file is read once per load.
    """
    engine.reports.report([Order(day, day=day) for day in TEXTS])
    engine.reports.increment(THIRD, [Order("i", day=THIRD)])
    engine.fetch_report()
    ((path,),) = engine.query("SELECT path FROM raw.fetch")
    contents = stored_files()[path]
    change_stored_file(path, contents.replace(b"Milk", b"Silk"))
    report = engine.load(*TEXTS)
    assert set(report.failures) == {*DAYS[:2]}
    ((reason,),) = {tuple(reasons) for reasons in report.failures.values()}
    assert reason.startswith(f"{path}: ")
    assert [uniq_id for _, uniq_id, _ in engine.query(ROWS)] == ["i"]
    assert good(report, F_SALES) == good(report, ORDERS) == [THIRD]
    change_stored_file(path, contents)
    assert engine.load(*TEXTS).failures == {}
    assert [uniq_id for _, uniq_id, _ in engine.query(ROWS)] == [FIRST, SECOND, "i"]


def test_a_report_refused_by_the_database_fails_the_days_without_another_file(engine: Engine) -> None:
    """A day before the period of the report is loaded."""
    engine.reports.report([Order(day, day=day, city_name="Refused") for day in TEXTS])
    engine.reports.increment(SECOND, [Order("i", day=SECOND)])
    refuse(engine, "staging.name", "NEW.first = 'Refused'")
    report = engine.load("2024-09-30", *TEXTS)
    ((path,),) = engine.query("SELECT path FROM raw.fetch WHERE kind = 'report'")
    assert {day: [reason.splitlines()[0] for reason in reasons] for day, reasons in report.failures.items()} == {
        day: [f"{path}: refused"] for day in (DAYS[0], DAYS[2])
    }
    assert good(report, ORDERS) == good(report, F_SALES) == ["2024-09-30", SECOND]
    assert [uniq_id for _, uniq_id, _ in engine.query(ROWS)] == ["i"]


def test_a_day_that_cannot_be_fetched_fails_for_all_tables(engine: Engine) -> None:
    engine.reports.report([Order("r", day="2024-09-30")])
    engine.reports.increment(FIRST, [Order("a")])
    engine.fetch_report()
    engine.reports.increment(SECOND, [Order("b", day=SECOND)])
    fetch = engine.pipeline.report_api.increment

    def broken(report_id: str, day: dt.date) -> Any:
        if day == DAYS[1]:
            raise RawFilesError("no space left")
        return fetch(report_id, day)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(engine.pipeline.report_api), "increment", lambda _, *given: broken(*given))
        report = engine.load(FIRST, SECOND)
    assert report.failures == {DAYS[1]: ["no space left"]}
    assert all(good(report, table) == [FIRST] for table in TABLES)
    recorded = "SELECT first_day::text, outcome, reason, run_id FROM raw.delivery WHERE kind = 'increment' ORDER BY 1"
    assert engine.query(recorded) == [
        (FIRST, "delivered", None, "load run"),
        (SECOND, "failed", "no space left", "load run"),
    ]


def test_without_a_report_nothing_can_be_fetched(engine: Engine) -> None:
    with pytest.raises(NoReportError, match=r"^no report was fetched yet, and increments are requested by its id: "):
        load.load_days(engine.pipeline, DAYS, TABLES, "run")
    report = load.load_days(engine.pipeline, DAYS, [ORDERS, F_SALES], "run")
    assert report.failures == {}


@pytest.mark.parametrize("tables", [[ORDERS, F_SALES], [F_SALES]])
def test_a_mart_that_differs_from_staging_is_published_again(engine: Engine, tables: list[str]) -> None:
    """If staging is loaded too, only the differing days are published again."""
    engine.reports.report([Order(f"{day}{n}", day=day) for day in TEXTS for n in "ab"])
    engine.load(*TEXTS)
    rows = engine.query(ROWS)
    engine.query("DELETE FROM mart.f_sales WHERE date_id = 20241002 AND id % 2 = 0")
    ids = dict(engine.query("SELECT date_id, min(id) FROM mart.f_sales GROUP BY 1"))
    before = engine.query("SELECT date_id, xmin::text FROM mart.f_sales WHERE date_id <> 20241002 ORDER BY 1, 2")
    assert engine.load(*TEXTS, tables=tables).failures == {}
    assert engine.query(ROWS) == rows
    assert ids.items() <= set(engine.query("SELECT date_id, id FROM mart.f_sales"))
    untouched = engine.query("SELECT date_id, xmin::text FROM mart.f_sales WHERE date_id <> 20241002 ORDER BY 1, 2")
    assert (untouched == before) is (ORDERS in tables)


@pytest.mark.parametrize("tables", [[staging_table(USER_ACTIVITY_LOG), "mart.f_activity"], ["mart.f_activity"]])
def test_a_derived_table_that_differs_from_staging_is_derived_again(engine: Engine, tables: list[str]) -> None:
    engine.reports.report([Order("r")])
    for day in TEXTS:
        engine.reports.increment(day, [Order(day, day=day)], user_activity_log=activity(day, 51, 52))
    engine.load(*TEXTS)
    rows = engine.query("SELECT * FROM mart.f_activity ORDER BY 1, 2")
    engine.query("DELETE FROM mart.f_activity WHERE date_id = 20241002 AND customer_id = 51")
    before = engine.query("SELECT date_id, xmin::text FROM mart.f_activity WHERE date_id <> 20241002 ORDER BY 1, 2")
    assert engine.load(*TEXTS, tables=tables).failures == {}
    assert engine.query("SELECT * FROM mart.f_activity ORDER BY 1, 2") == rows
    untouched = engine.query("SELECT date_id, xmin::text FROM mart.f_activity WHERE date_id <> 20241002 ORDER BY 1, 2")
    assert (untouched == before) is (len(tables) == 2)


def test_a_large_file_is_loaded_in_several_transactions(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids are unique, and the load proves for each day whether it shares a uniq_id with another day."""
    monkeypatch.setattr(stage, "_ROWS_PER_TRANSACTION", 2)
    orders = [Order("a"), Order("b"), *(Order(u, day=day) for day in TEXTS[1:] for u in ("shared", day))]
    engine.reports.report(orders)
    report = engine.load(*TEXTS)
    assert report.verified["uniq_id_on_one_date"] == {DAYS[0]}
    assert report.verified["no_key_twice"] == set(DAYS)
    ids = engine.query("SELECT date_id, id FROM mart.f_sales ORDER BY id")
    assert ids == [(day, n + 1) for n, day in enumerate(d for d in (20241001, 20241002, 20241003) for _ in range(2))]
    engine.reports.report([*orders, Order("a", day="2024-10-04")])
    engine.fetch_report()
    again = engine.load(*TEXTS, "2024-10-04")
    assert again.verified["uniq_id_on_one_date"] <= set(DAYS[:1]), "a is on the first and the fourth day"
    assert DAYS[0] not in again.verified["uniq_id_on_one_date"]
    assert engine.query("SELECT date_id, id FROM mart.f_sales ORDER BY id")[:6] == ids
    assert {name for name, _ in engine.query("SELECT state, count(*) FROM staging.quarantine GROUP BY 1")} == set()


def test_days_with_rows_of_other_sources_are_summarized_by_the_database(engine: Engine) -> None:
    engine.reports.report([Order("r"), Order("s", day=SECOND)])
    engine.query(
        "INSERT INTO mart.f_sales (date_id, item_id, customer_id, city_id, quantity, amount, source)"
        " VALUES (20241001, 3, 51, 1, 1, 5, 'partner_orders')"
    )
    engine.query(
        "INSERT INTO staging.partner_order_line (uniq_id, date_id, status, message_id, project_id, order_id, line_no,"
        " item_id, customer_id, city_id, quantity, amount, sale_id)"
        " SELECT 'p', 20241001, 'shipped', gen_random_uuid(), 1, 1, 1, 3, 51, 1, 1, 5, id FROM mart.f_sales"
    )
    report = engine.load(FIRST, SECOND)
    assert report.failures == {}
    assert [report.facts[F_SALES, day]["rows"] for day in DAYS[:2]] == [2, 1]
    assert report.facts[F_SALES, DAYS[0]].keys() == report.facts[F_SALES, DAYS[1]].keys()
    assert report.facts[F_SALES, DAYS[0]]["net_amount"] == 205
    assert report.verified["statuses"] == {DAYS[1]}
    assert report.verified["equal_to_staging"] == set(DAYS[:2])


def test_a_day_with_a_wrong_sign_is_checked_by_a_query(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.reports.report([Order("r"), Order("s", day=SECOND)])
    count = Sums.count

    def miscount(sums: Sums, rows: pa.RecordBatch) -> pa.RecordBatch:
        sums.days_of_wrong_sign.add(20241001)
        return count(sums, rows)

    monkeypatch.setattr(Sums, "count", miscount)
    report = engine.load(FIRST, SECOND)
    assert report.verified["signs"] == {DAYS[1]}
    assert report.verified["equal_to_staging"] == set(DAYS[:2])


def test_items_are_divided_into_lists() -> None:
    assert [*batched([1, 2, 3], 2)] == [[1, 2], [3]]
    assert [*batched([], 2)] == []
