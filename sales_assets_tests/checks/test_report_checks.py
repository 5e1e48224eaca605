"""The checks on staging and mart: each passes on a right day and fails on one that is broken by hand.

The break goes past the loader, by SQL, because the loader would not let it through.
"""

import datetime as dt
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import psycopg
import pytest

from sales_assets.defs.checking import evaluate
from sales_assets.defs.load_daily_sales import all_checks, load_daily_sales
from sales_assets.pipeline import stage
from sales_assets.pipeline.progress import Progress
from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources.raw_files import RawFiles
from sales_assets.resources.report_api import ReportApi
from sales_assets.services.http.server import running
from sales_assets.settings import settings
from sales_assets.simulators.report_api.app import ReportApi as Simulator
from sales_assets_tests.builders import Order, ReportFolderBuilder, fetch_report, load_days
from sales_assets_tests.conftest import KEY, copy_database
from sales_assets_tests.fixtures import RAW, Shop

DAY, OTHER = "2024-10-01", "2024-10-02"
DATE_ID, OTHER_ID = 20241001, 20241002
ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN

# (check, how bad it is, the statements that break the day)
BREAKS = [
    (
        "statuses",
        ERROR,
        [
            "ALTER TABLE mart.f_sales DROP CONSTRAINT f_sales_status",
            f"UPDATE mart.f_sales SET status = 'lost' WHERE date_id = {DATE_ID}",
        ],
    ),
    ("signs", ERROR, [f"UPDATE mart.f_sales SET amount = 5 WHERE date_id = {DATE_ID} AND status = 'refunded'"]),
    ("signs", ERROR, [f"UPDATE mart.f_sales SET quantity = -1 WHERE date_id = {DATE_ID} AND status = 'shipped'"]),
    (
        "legacy_rows_shipped",
        ERROR,
        [
            (
                "INSERT INTO mart.f_sales (date_id, item_id, customer_id, city_id, quantity, amount, status)"
                f" VALUES ({DATE_ID}, 1, 1, 1, 1, 1, 'refunded')"
            )
        ],
    ),
    ("equal_to_staging", ERROR, [f"UPDATE mart.f_sales SET amount = amount + 0.01 WHERE date_id = {DATE_ID}"]),
    ("equal_to_staging", ERROR, [f"DELETE FROM mart.f_sales WHERE date_id = {DATE_ID} AND status = 'refunded'"]),
    ("equal_to_staging", ERROR, [f"DELETE FROM staging.user_orders_log WHERE date_id = {DATE_ID}"]),
    ("no_orphan_keys", ERROR, ["DELETE FROM mart.d_customer"]),
    ("no_orphan_keys", ERROR, ["DELETE FROM mart.d_city"]),
    ("no_orphan_keys", ERROR, ["DELETE FROM mart.d_item"]),
    ("no_orphan_keys", ERROR, [f"DELETE FROM mart.d_calendar WHERE date_id = {DATE_ID}"]),
    (
        "no_key_twice",
        ERROR,
        [f"INSERT INTO staging.user_orders_log SELECT * FROM staging.user_orders_log WHERE date_id = {DATE_ID}"],
    ),
    (
        "asked_days_done",
        ERROR,
        [
            (
                "INSERT INTO raw.delivery (kind, first_day, last_day, outcome, reason)"
                f" VALUES ('increment', '{DAY}', '{DAY}', 'failed', 'answered 502')"
            )
        ],
    ),
    (
        "asked_days_done",
        ERROR,
        [
            (
                "UPDATE staging.fetch_reading SET verdict = 'failed', reason = 'every row rejected' WHERE fetch_id ="
                f" (SELECT max(fetch_id) FROM raw.fetch WHERE file = 'user_orders_log' AND first_day = '{DAY}')"
            )
        ],
    ),
    (
        "uniq_id_on_one_date",
        WARN,
        [f"UPDATE staging.user_orders_log SET uniq_id = 'a' WHERE date_id = {OTHER_ID}"],
    ),
    (
        "day_not_halved",
        WARN,
        [
            (
                "UPDATE staging.staged_day SET former_rows = rows * 2 + 1"
                f" WHERE date_id = {DATE_ID} AND file = 'user_orders_log'"
            )
        ],
    ),
    (
        "amount_is_quantity_times_price",
        WARN,
        [f"UPDATE staging.price_log SET price = price + 1 WHERE date_id = {DATE_ID}"],
    ),
    (
        "quarantine_empty",
        WARN,
        [
            (
                "INSERT INTO staging.quarantine (fetch_id, line_no, date_id, reason, line_text)"
                f" SELECT max(fetch_id), 9, {DATE_ID}, 'unknown status', 'x' FROM raw.fetch WHERE first_day = '{DAY}'"
            )
        ],
    ),
    ("equal_to_activity_log", ERROR, [f"UPDATE mart.f_activity SET events = 2 WHERE date_id = {DATE_ID}"]),
    ("equal_to_activity_log", ERROR, [f"UPDATE mart.f_activity SET action_id = 9 WHERE date_id = {DATE_ID}"]),
    ("equal_to_activity_log", ERROR, [f"DELETE FROM staging.user_activity_log WHERE date_id = {DATE_ID}"]),
    ("equal_to_research", ERROR, [f"UPDATE mart.f_research SET sales_amt = 1 WHERE date_id = {DATE_ID}"]),
    ("equal_to_research", ERROR, [f"DELETE FROM mart.f_research WHERE date_id = {DATE_ID}"]),
    ("amounts_with_pieces", WARN, [f"UPDATE mart.f_research SET sales_amt = 0 WHERE date_id = {DATE_ID}"]),
]


def write_right_days(reports: ReportFolderBuilder) -> None:
    """Two days with a sale and a refund each, a price list that agrees, an action and a row of the research."""
    for day, sale, refund in ((DAY, "a", "b"), (OTHER, "c", "d")):
        reports.increment(
            day,
            [Order(sale, day=day), Order(refund, day=day, quantity="1", amount="100", status="refunded")],
            price_log="Milk,100\n",
            user_activity_log=f"id,uniq_id,date_time,action_id,customer_id,quantity\n1,e,{day},1,51,3\n",
            custom_research=f"date_id,category_id,geo_id,sales_qty,sales_amt\n{day},1001,1,2,200\n",
        )


@pytest.fixture
def loaded(shop: Shop) -> Shop:
    """A shop with the right days loaded."""
    write_right_days(shop.reports)
    shop.load(DAY, OTHER)
    return shop


@pytest.fixture(scope="module")
def right_days(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database with the right days, loaded once to be copied: a load for each break would be most of its test."""
    name, folder = f"right_days_{secrets.token_hex(4)}", tmp_path_factory.mktemp("right_days")
    reports = ReportFolderBuilder(folder / "reports")
    write_right_days(reports)
    with psycopg.connect(server.url("sales"), autocommit=True) as connection:
        copy_database(server, "migrated_template", name)
        with (
            pytest.MonkeyPatch.context() as patched,
            dg.DagsterInstance.ephemeral() as instance,
            running(Simulator(reports.folder, api_key=KEY, report_seconds=0)) as url,
        ):
            for variable, value in (
                ("SALES_HOME", str(folder / "home")),
                ("WAREHOUSE_URL", server.url(name)),
                ("REPORT_API_URL", url),
                ("REPORT_API_KEY", KEY),
            ):
                patched.setenv(variable, value)
            settings.cache_clear()
            assert fetch_report(instance).success
            assert load_days(instance, DAY, OTHER).success
        yield name
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def statement(
    right_days: str, new_database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], object]:
    """Run a statement, committed, on a copy of the right days, which the settings point at."""
    url = new_database(right_days)
    monkeypatch.setenv("WAREHOUSE_URL", url)
    settings.cache_clear()

    def run(text: str) -> None:
        with psycopg.connect(url) as connection:
            connection.execute(text.encode())

    return run


def evaluations(days: list[str]) -> dict[str, dg.AssetCheckResult]:
    results = evaluate(Warehouse(), all_checks().values(), [dt.date.fromisoformat(day) for day in days])
    return {str(result.check_name): result for result in results}


def test_all_checks_pass_on_right_days(loaded: Shop) -> None:
    results = evaluations([DAY, OTHER])
    assert set(results) == {name for name, _, _ in BREAKS}, "a check without a break below is a check that can't fail"
    assert [name for name, result in results.items() if not result.passed] == []


def test_an_order_file_that_was_fetched_and_never_parsed_is_not_done(loaded: Shop) -> None:
    """New contents after those that were loaded, and contents of a day that was never loaded."""
    loaded.reports.increment(DAY, [Order("new")])
    loaded.reports.increment("2024-10-03", [Order("e", day="2024-10-03")])
    for day in (DAY, "2024-10-03"):
        loaded.load(day, selection=RAW)
    result = evaluations([DAY, "2024-10-03"])["asked_days_done"]
    assert not result.passed
    table = result.metadata["first failing days"]
    assert isinstance(table, dg.TableMetadataValue)
    assert [record.data for record in table.records] == [
        {"day": day, "offending": 1, "example": "user_orders_log of the increment: it was not parsed yet"}
        for day in (str(DATE_ID), "20241003")
    ]
    loaded.load(DAY, "2024-10-03")
    assert evaluations([DAY, "2024-10-03"])["asked_days_done"].passed


def test_the_verdict_of_repeated_contents_is_that_of_their_first_delivery(loaded: Shop) -> None:
    """Usable contents are done without parsing them again; contents of no use are not done however often they come."""
    loaded.load(DAY, selection=RAW)
    assert evaluations([DAY])["asked_days_done"].passed
    loaded.reports.increment(DAY, None, user_orders_log="what is this\n")
    loaded.fail_to_load(DAY)
    loaded.load(DAY, selection=RAW)
    assert not evaluations([DAY])["asked_days_done"].passed


@pytest.mark.parametrize(("check", "severity", "statements"), BREAKS, ids=[name for name, _, _ in BREAKS])
def test_a_broken_day_is_named(
    statement: Callable[[str], object], check: str, severity: dg.AssetCheckSeverity, statements: list[str]
) -> None:
    for text in statements:
        statement(text)
    result = evaluations([DAY, OTHER])[check]
    assert not result.passed
    assert result.severity == severity
    table: Any = result.metadata["first failing days"]
    assert str(DATE_ID) in [record.data["day"] for record in table.records]
    assert evaluations([])[check].passed is False, "without days the whole history is asked"


def test_days_that_were_not_asked_for_do_not_count(statement: Callable[[str], object]) -> None:
    statement(f"UPDATE mart.f_sales SET amount = amount + 1 WHERE date_id = {DATE_ID}")
    assert evaluations([OTHER])["equal_to_staging"].passed


def test_a_day_is_compared_with_days_around_it_as_far_as_half_a_million_lines(
    statement: Callable[[str], object],
) -> None:
    """Or a day's reload would take longer with every line of the month around it."""
    copied = f"AS (SELECT (jsonb_populate_record(t, '%s')).* FROM %s AS t WHERE date_id = {OTHER_ID})"
    for day, uniq_id in ((20240929, "near"), (20240901, "far")):
        other = f'{{"date_id": {day}, "uniq_id": "{uniq_id}"}}'
        for table in ("staging.user_orders_log", "staging.staged_day"):
            statement(f"WITH c {copied % (other, table)} INSERT INTO {table} SELECT * FROM c")

    def is_found(uniq_id: str) -> bool:
        statement(f"UPDATE staging.user_orders_log SET uniq_id = '{uniq_id}' WHERE date_id = {DATE_ID}")
        return not evaluations([DAY])["uniq_id_on_one_date"].passed

    assert not is_found("nowhere")
    assert is_found("near")
    assert is_found("far")
    statement(f"UPDATE staging.staged_day SET rows = 500000 WHERE date_id = {OTHER_ID}")
    assert is_found("c"), "the nearest day is among them, however many lines it has"
    assert not is_found("near")
    assert not is_found("far")


def test_days_that_were_counted_while_loading_are_not_queried_again(statement: Callable[[str], object]) -> None:
    """And the result says how it was obtained."""
    statement("UPDATE mart.f_sales SET amount = amount + 1")
    days = [dt.date.fromisoformat(day) for day in (DAY, OTHER)]
    check = next(check for check in all_checks().values() if check.name == "equal_to_staging")

    def failing(counted: list[dt.date]) -> tuple[list[str], object]:
        (result,) = evaluate(Warehouse(), [check], days, {check.name: counted})
        table: Any = result.metadata.get("first failing days")
        obtained: Any = result.metadata["obtained"]
        return [record.data["day"] for record in table.records] if table else [], obtained.value

    assert failing([]) == ([str(DATE_ID), str(OTHER_ID)], "queried")
    assert failing(days[:1]) == ([str(OTHER_ID)], "counted while loading; 1 of 2 days queried")
    assert failing(days) == ([], "counted while loading")


def obtained(shop: Shop) -> dict[str, object]:
    """How the latest result of each check was obtained."""
    keys = list(all_checks())
    records = shop.instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    evaluated = [record.event.asset_check_evaluation for record in records.values() if record.event]
    return {check.check_name: check.metadata["obtained"].value for check in evaluated if check}


def test_a_load_says_which_checks_it_has_counted(loaded: Shop) -> None:
    """What was loaded just now is counted; a day that a run leaves as it is, is queried."""
    counted = {name for name, how in obtained(loaded).items() if how == "counted while loading"}
    of_sales = {"equal_to_staging", "statuses", "signs", "legacy_rows_shipped"}
    assert counted == of_sales | {"equal_to_activity_log", "equal_to_research"}
    loaded.load(DAY, OTHER)
    assert set(obtained(loaded).values()) == {"queried"}


@pytest.mark.parametrize("shared", [False, True])
def test_a_first_load_of_many_rows_counts_its_uniq_ids(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """Unless days share one: then they are queried, and named."""
    monkeypatch.setattr(stage, "_ROWS_PER_TRANSACTION", 2)
    lines = [
        Order(uniq_id, day=day) for day in (DAY, OTHER) for uniq_id in (f"{day}1", f"{day}2", "both" if shared else day)
    ]
    shop.reports.report(lines)
    shop.load(DAY, OTHER)
    assert obtained(shop)["uniq_id_on_one_date"] == ("queried" if shared else "counted while loading")
    assert evaluations([DAY, OTHER])["uniq_id_on_one_date"].passed is not shared
    # From now on there are other days to compare with.
    shop.reports.report([*lines, Order("late", day="2024-10-03"), Order("later", day="2024-10-03")])
    shop.fetch_report()
    shop.load("2024-10-03")
    assert obtained(shop)["uniq_id_on_one_date"] == "queried"


def test_rows_of_other_sources_are_queried(loaded: Shop) -> None:
    """The load has not seen the partner orders of its days."""
    loaded.query(
        "INSERT INTO mart.f_sales (date_id, item_id, customer_id, city_id, quantity, amount, status, source)"
        f" VALUES ({DATE_ID}, 3, 1, 1, -1, 1, 'shipped', 'partner_orders')"
    )
    loaded.query(
        "INSERT INTO staging.partner_order_line (uniq_id, date_id, status, message_id, project_id, order_id, line_no,"
        " item_id, customer_id, city_id, quantity, amount, sale_id)"
        f" SELECT 'p', {DATE_ID}, 'shipped', gen_random_uuid(), 1, 1, 1, 3, 1, 1, 1, 1, max(id) FROM mart.f_sales"
    )
    for day in (DAY, OTHER):
        loaded.reports.increment(day, [Order(f"new {day}", day=day)], price_log="Milk,100\n")
    loaded.load(DAY, OTHER)
    assert obtained(loaded)["signs"] == "counted while loading; 1 of 2 days queried"
    records = loaded.instance.event_log_storage.get_latest_asset_check_execution_by_key(list(all_checks()))
    passed = {
        key.name: evaluation.passed
        for key, record in records.items()
        if record.event and (evaluation := record.event.asset_check_evaluation)
    }
    assert passed["signs"] is False
    assert passed["equal_to_staging"] is True


def test_a_run_records_its_checks_also_when_a_day_broke(loaded: Shop) -> None:
    """A check that did not run must not look as if it had; one that ran is told, green day or not."""
    (loaded.reports.folder / "inc" / OTHER / "user_orders_log_inc.csv").write_text("no header\n")
    loaded.fail_to_load(DAY, OTHER)
    checks = {key.name: key for key in all_checks()}
    records = loaded.instance.event_log_storage.get_latest_asset_check_execution_by_key(list(checks.values()))
    evaluated = {key.name: record.event.asset_check_evaluation for key, record in records.items() if record.event}
    assert evaluated["asked_days_done"] is not None
    assert not evaluated["asked_days_done"].passed
    assert evaluated["signs"] is not None
    assert evaluated["signs"].passed


def test_checks_can_be_run_alone(loaded: Shop) -> None:
    """As the button in the UI does: without a partition, over the whole history."""
    loaded.query(f"UPDATE mart.f_sales SET quantity = -1 WHERE date_id = {OTHER_ID} AND status = 'shipped'")
    resources = {
        "warehouse": Warehouse(),
        "raw_files": RawFiles(),
        "report_api": ReportApi(),
        "progress": Progress(),
    }
    run = dg.materialize(
        [load_daily_sales],
        selection=dg.AssetSelection.checks(*all_checks()),
        instance=loaded.instance,
        resources=resources,
    )
    results = {evaluation.check_name: evaluation.passed for evaluation in run.get_asset_check_evaluations()}
    assert results["signs"] is False
    assert results["statuses"] is True
