"""`sales-assets load`: its output, its exit code, and failures of the report API."""

import socket
from collections.abc import Callable

import pytest

from sales_assets import settings as settings_module
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets_tests.builders import Order, ReportFolderBuilder
from sales_assets_tests.cli.conftest import Run
from sales_assets_tests.cli.processes import Command
from sales_assets_tests.conftest import KEY
from sales_assets_tests.fixtures import Shop

Query = Callable[..., list[tuple[object, ...]]]

DAYS = ("--from", "2024-10-01", "--to", "2024-10-02")


@pytest.fixture
def two_days(reports: ReportFolderBuilder) -> ReportFolderBuilder:
    """A report for 30 September and an increment for 1 October; the API returns NOT FOUND for 2 October."""
    reports.report([Order("a" * 32, day="2024-09-30")])
    reports.increment("2024-10-01", [Order("b" * 32), Order("c" * 32, amount="50.25", status="refunded")])
    return reports


def test_results_go_to_stdout_and_the_rest_to_stderr(
    loading: Command, two_days: ReportFolderBuilder, report_api: ReportApi
) -> None:
    done = loading("load", *DAYS)
    assert done.returncode == 0, done.stderr
    cells = {line.split("│")[1].strip(): line.split("│")[2].strip() for line in done.stdout.splitlines() if "│" in line}
    assert cells == {
        "days requested": "2",
        "of them without increment": "1",
        "days with rows": "1",
        "rows": "2 (1 refunded)",
        "net quantity": "0.00",
        "net amount": "149.75",
        "rows in quarantine": "0",
    }
    assert "requesting a report" in done.stderr
    assert "increments" in done.stderr
    assert loading.files_outside() == []


def test_a_report_is_requested_if_none_is_stored_or_by_option(
    run_with_warehouse: Run, two_days: ReportFolderBuilder, report_api: ReportApi, query: Query
) -> None:
    made = []
    for arguments in (["--to", "2024-10-01"], DAYS, ["--report", *DAYS]):
        done = run_with_warehouse("load", *arguments)
        assert done.returncode == 0, done.stderr
        made.append(report_api.count("/generate_report"))
    assert made == [1, 1, 2]
    # Without --from the first load starts with the first day of the report.
    assert query("SELECT date_id, count(*) FROM mart.f_sales GROUP BY 1 ORDER BY 1") == [(20240930, 1), (20241001, 2)]


def test_failing_day_is_named_and_does_not_block_the_other(
    run_with_warehouse: Run, two_days: ReportFolderBuilder, report_api: ReportApi, query: Query
) -> None:
    two_days.increment("2024-10-02", None, user_orders_log="<html>[/bold] :boom:</html>\n")
    done = run_with_warehouse("load", *DAYS)
    assert done.returncode == 1
    assert "1 of 2 days failed" in done.stderr
    assert "2024-10-02: " in done.stderr
    assert "2024-10-01: " not in done.stderr
    assert "Traceback" not in done.stderr
    assert query("SELECT count(*) FROM mart.f_sales WHERE date_id = 20241001") == [(2,)]


def test_load_waits_for_a_report_api_that_starts_later(
    loading: Command, two_days: ReportFolderBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("REPORT_API_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("REPORT_API_PATIENCE", "60")
    load = loading.start("load", *DAYS)
    assert load.stderr is not None
    while "requesting a report" not in load.stderr.readline():
        assert load.poll() is None
    api = loading.start("report-api", "--data", str(two_days.folder), "--port", str(port))
    out, errors = load.communicate(timeout=100)
    api.terminate()
    api.communicate(timeout=10)
    assert load.returncode == 0, errors
    assert "149.75" in out


def test_an_unreachable_api_is_reported_without_a_traceback(
    run_with_warehouse: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPORT_API_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("REPORT_API_PATIENCE", "0.3")
    done = run_with_warehouse("load", *DAYS)
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: POST /generate_report: connection refused (`sales-assets doctor` checks" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_key_is_reported_with_the_name_of_its_setting(
    run_with_warehouse: Run, two_days: ReportFolderBuilder, report_api: ReportApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPORT_API_KEY", "not-the-key-of-the-api")
    settings_module.settings.cache_clear()
    done = run_with_warehouse("load", *DAYS)
    assert (done.returncode, done.stdout) == (1, "")
    assert "check REPORT_API_KEY" in done.stderr
    assert "not-the-key-of-the-api" not in done.stderr
    assert KEY not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--from", "2019-12-31", "--to", "2020-01-02"),
            "2019-12-31 is before the first day, 2020-01-01: set",
        ),
        (("--from", "2024-10-01", "--to", "2999-01-01"), "2999-01-01 has not ended yet"),
        (("--from", "2024-10-02", "--to", "2024-10-01"), "the range is reversed: 2024-10-02 is after 2024-10-01"),
    ],
)
def test_invalid_range_requests_no_report(
    run_with_warehouse: Run, report_api: ReportApi, arguments: tuple[str, ...], message: str
) -> None:
    done = run_with_warehouse("load", "--report", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"error: {message}" in done.stderr
    assert report_api.count("/generate_report") == 0


def test_an_unreachable_report_api_is_reported_with_the_command(
    run_with_warehouse: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report is stored, so that none is requested."""
    shop.reports.report([Order("a")])
    shop.load("2024-10-01")
    monkeypatch.setenv("REPORT_API_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("REPORT_API_PATIENCE", "1")
    done = run_with_warehouse("load", *DAYS)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: GET /get_increment: connection refused (`sales-assets doctor` checks the report API and its settings)\n"
    )


def test_an_outdated_schema_is_reported_with_the_command(
    run_in_process: Run, new_database: Callable[..., str], dagster_storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", new_database("template1"))
    monkeypatch.setenv("DAGSTER_STORAGE_URL", dagster_storage)
    done = run_in_process("load", *DAYS)
    assert done.returncode == 1
    assert "error: the warehouse is at revision none" in done.stderr
    assert "run `sales-assets migrate`" in done.stderr


@pytest.mark.parametrize("name", ["WAREHOUSE_URL", "DAGSTER_STORAGE_URL"])
def test_a_refused_login_is_reported_at_once_and_without_the_password(
    run_with_warehouse: Run, warehouse_url: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, warehouse_url.replace("user=sales", "user=nobody&password=hush"))
    done = run_with_warehouse("load", *DAYS)
    assert done.returncode == 1
    assert "error: connection failed" in done.stderr
    assert 'role "nobody" does not exist (`sales-assets doctor` checks the databases and their settings)' in done.stderr
    assert "hush" not in done.stderr
    assert "Traceback" not in done.stderr
