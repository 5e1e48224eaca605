"""The checks on staging and mart: each passes on a correct day and fails on a corrupted one.

Days are corrupted by SQL, because the loader would reject such rows.
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

# (check, severity, the statements that corrupt the day)
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
    """Deliver two days, each with a sale, a refund, a matching price list, an activity and a row of the research."""
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
    """Return a shop with the correct days loaded."""
    write_right_days(shop.reports)
    shop.load(DAY, OTHER)
    return shop


@pytest.fixture(scope="module")
def right_days(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the name of a database with the correct days, loaded once and copied, because a load takes long."""
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
    """Return a function that commits a statement on the configured warehouse, a copy of the correct days."""
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


def test_all_checks_pass_on_correct_days(loaded: Shop) -> None:
    results = evaluations([DAY, OTHER])
    assert set(results) == {name for name, _, _ in BREAKS}, "a check without a break below is a check that can't fail"
    assert [name for name, result in results.items() if not result.passed] == []


def test_a_fetched_but_unparsed_order_file_fails_the_check_of_requested_days(loaded: Shop) -> None:
    """One day has new contents after the loaded ones, the other was never loaded."""
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


def test_repeated_contents_have_the_verdict_of_their_first_delivery(loaded: Shop) -> None:
    """Usable contents pass without being parsed again; unusable contents fail however often they are delivered."""
    loaded.load(DAY, selection=RAW)
    assert evaluations([DAY])["asked_days_done"].passed
    loaded.reports.increment(DAY, None, user_orders_log="what is this\n")
    loaded.fail_to_load(DAY)
    loaded.load(DAY, selection=RAW)
    assert not evaluations([DAY])["asked_days_done"].passed


@pytest.mark.parametrize(("check", "severity", "statements"), BREAKS, ids=[name for name, _, _ in BREAKS])
def test_a_corrupted_day_is_named(
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


def test_days_that_were_not_requested_are_not_checked(statement: Callable[[str], object]) -> None:
    statement(f"UPDATE mart.f_sales SET amount = amount + 1 WHERE date_id = {DATE_ID}")
    assert evaluations([OTHER])["equal_to_staging"].passed


def test_a_day_is_compared_with_neighbouring_days_up_to_half_a_million_rows(
    statement: Callable[[str], object],
) -> None:
    """Without a limit, reloading a day would take longer with every row of the month around it."""
    copied = f"AS (SELECT (jsonb_populate_record(t, '%s')).* FROM %s AS t WHERE date_id = {OTHER_ID})"
    for day, uniq_id in ((20240929, "near"), (20240901, "far")):
        other = f'{{"date_id": {day}, "uniq_id": "{uniq_id}"}}'
        for table in ("staging.user_orders_log", "staging.staged_day"):
            statement(f"WITH c {copied % (other, table)} INSERT INTO {table} SELECT * FROM c")

    def is_reported(uniq_id: str) -> bool:
        statement(f"UPDATE staging.user_orders_log SET uniq_id = '{uniq_id}' WHERE date_id = {DATE_ID}")
        return not evaluations([DAY])["uniq_id_on_one_date"].passed

    assert not is_reported("nowhere")
    assert is_reported("near")
    assert is_reported("far")
    statement(f"UPDATE staging.staged_day SET rows = 500000 WHERE date_id = {OTHER_ID}")
    assert is_reported("c"), "the nearest day is among them, however many lines it has"
    assert not is_reported("near")
    assert not is_reported("far")


def test_days_counted_during_the_load_are_not_queried_again(statement: Callable[[str], object]) -> None:
    """The result states the method, counted or queried."""
    statement("UPDATE mart.f_sales SET amount = amount + 1")
    days = [dt.date.fromisoformat(day) for day in (DAY, OTHER)]
    check = next(check for check in all_checks().values() if check.name == "equal_to_staging")

    def failing(counted: list[dt.date]) -> tuple[list[str], object]:
        (result,) = evaluate(Warehouse(), [check], days, {check.name: counted})
        table: Any = result.metadata.get("first failing days")
        obtained: Any = result.metadata["method"]
        return [record.data["day"] for record in table.records] if table else [], obtained.value

    assert failing([]) == ([str(DATE_ID), str(OTHER_ID)], "queried")
    assert failing(days[:1]) == ([str(OTHER_ID)], "counted while loading; 1 of 2 days queried")
    assert failing(days) == ([], "counted while loading")


def obtained(shop: Shop) -> dict[str, object]:
    """Return the method by which the latest result of each check was obtained."""
    keys = list(all_checks())
    records = shop.instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    evaluated = [record.event.asset_check_evaluation for record in records.values() if record.event]
    return {check.check_name: check.metadata["method"].value for check in evaluated if check}


def test_a_load_reports_which_checks_it_counted(loaded: Shop) -> None:
    """Days loaded by the run are counted; days that the run did not change are queried."""
    counted = {name for name, how in obtained(loaded).items() if how == "counted while loading"}
    of_sales = {"equal_to_staging", "statuses", "signs", "legacy_rows_shipped"}
    assert counted == of_sales | {"equal_to_activity_log", "equal_to_research"}
    loaded.load(DAY, OTHER)
    assert set(obtained(loaded).values()) == {"queried"}


@pytest.mark.parametrize("shared", [False, True])
def test_a_large_first_load_counts_its_uniq_ids(shop: Shop, monkeypatch: pytest.MonkeyPatch, shared: bool) -> None:
    """If days share a uniq_id, the days are queried and named."""
    monkeypatch.setattr(stage, "_ROWS_PER_TRANSACTION", 2)
    lines = [
        Order(uniq_id, day=day) for day in (DAY, OTHER) for uniq_id in (f"{day}1", f"{day}2", "both" if shared else day)
    ]
    shop.reports.report(lines)
    shop.load(DAY, OTHER)
    assert obtained(shop)["uniq_id_on_one_date"] == ("queried" if shared else "counted while loading")
    assert evaluations([DAY, OTHER])["uniq_id_on_one_date"].passed is not shared
    # From now on, there are other days to compare with.
    shop.reports.report([*lines, Order("late", day="2024-10-03"), Order("later", day="2024-10-03")])
    shop.fetch_report()
    shop.load("2024-10-03")
    assert obtained(shop)["uniq_id_on_one_date"] == "queried"


def test_days_with_rows_of_other_sources_are_queried(loaded: Shop) -> None:
    """The load does not read the partner orders of its days."""
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


def test_a_run_records_its_checks_even_if_a_day_failed(loaded: Shop) -> None:
    """A check that did not run has no result; a check that ran has a result, whether the day passed or not."""
    (loaded.reports.folder / "inc" / OTHER / "user_orders_log_inc.csv").write_text("no header\n")
    loaded.fail_to_load(DAY, OTHER)
    checks = {key.name: key for key in all_checks()}
    records = loaded.instance.event_log_storage.get_latest_asset_check_execution_by_key(list(checks.values()))
    evaluated = {key.name: record.event.asset_check_evaluation for key, record in records.items() if record.event}
    assert evaluated["asked_days_done"] is not None
    assert not evaluated["asked_days_done"].passed
    assert evaluated["signs"] is not None
    assert evaluated["signs"].passed


def test_checks_can_be_run_without_a_load(loaded: Shop) -> None:
    """Like a run started by the button in the UI, the run has no partition and checks the whole history."""
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
