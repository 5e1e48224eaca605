"""`sales-assets backfill` without execution of runs; `deploy/test_distributed_runs.py` tests complete backfills."""

from collections.abc import Callable, Iterator

import dagster as dg
import pytest

from sales_assets.cli import backfill
from sales_assets.dagster_internals import request_backfill
from sales_assets.defs.mart.f_sales import F_SALES
from sales_assets.deploy import backfills
from sales_assets.deploy.backfills import BackfillReader
from sales_assets.deploy.instance import prepare_dagster_home
from sales_assets_tests.builders import definitions
from sales_assets_tests.cli.conftest import Run
from sales_assets_tests.fixtures import Shop

DAY = "2024-10-02"


@pytest.fixture
def storage(run_with_warehouse: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of the command, with the loaded definitions."""
    monkeypatch.setattr(backfill, "defs", definitions)
    monkeypatch.setenv("DAGSTER_HOME", "")
    prepare_dagster_home()
    with dg.DagsterInstance.get() as instance:
        yield instance


def with_a_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfills, "seconds_without_daemon", lambda _instance: None)


def test_backfill_that_cannot_be_loaded_is_refused(
    run_with_warehouse: Run, storage: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = storage.get_backfills()  # backfills of other tests in this file
    refused = {
        ("--from", DAY): "no daemon is running on Dagster's storage",
        ("--from", "2019-01-01"): "before the first day",
        ("--from", DAY, "--to", "2024-10-01"): "the range is reversed",
        ("--follow", "unknown"): "no backfill unknown of assets in Dagster's storage",
        ("--cancel", "unknown"): "no backfill unknown of assets in Dagster's storage",
    }
    for arguments, reason in refused.items():
        done = run_with_warehouse("backfill", *arguments)
        assert (done.returncode, reason in done.stderr) == (1, True), (arguments, done.stderr)
    for arguments in ((), ("--from", DAY, "--follow", "x"), ("--to", DAY)):
        assert run_with_warehouse("backfill", *arguments).returncode == 2
    with_a_daemon(monkeypatch)
    assert "no report is stored" in run_with_warehouse("backfill", "--from", DAY).stderr
    assert storage.get_backfills() == before


def test_canceled_backfill_is_a_failure(run_with_warehouse: Run, storage: dg.DagsterInstance) -> None:
    number = request_backfill(storage, definitions(), [F_SALES], [DAY])
    done = run_with_warehouse("backfill", "--cancel", number)
    assert (done.returncode, f"--follow {number}" in done.stdout) == (0, True)
    backfill_now = storage.get_backfill(number)
    assert backfill_now is not None
    assert backfill_now.status.value == "CANCELING"
    # The daemon does this when the runs have ended.
    storage.update_backfill(backfill_now._replace(status=type(backfill_now.status)("CANCELED")))
    done = run_with_warehouse("backfill", "--follow", number)
    assert (done.returncode, f"backfill {number} ended as CANCELED" in done.stderr) == (1, True)


def test_failures_name_days_and_reasons(shop: Shop, query: Callable[..., object]) -> None:
    """The reason of a lost process is listed with its day; a run that will be retried is not a failure."""
    number = request_backfill(shop.instance, definitions(), [F_SALES], [DAY])
    tags = {"dagster/backfill": number, "dagster/partition": DAY}
    for lost in ({}, {"dagster/will_retry": "true"}):
        run = shop.instance.create_run_for_job(definitions().resolve_job_def("load_days"), tags=tags | lost)
        shop.instance.report_run_failed(run, "the process of the run was lost")
    progress = BackfillReader(shop.instance, number, F_SALES).read()
    assert progress.failures == [f"{DAY}: the process of the run was lost"]
    assert (progress.runs, progress.finished_runs, len(progress.run_ids)) == (1, 1, 2)
