"""Scheduling of the tests: which files start first, and the number of processes.

A pytest plugin. The tests of a file run in one process (`--dist loadfile`): while a file that takes minutes runs last,
all other processes would be idle. pytest-randomly shuffles all files first; the files not listed here keep that order.
"""

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent

# The slowest files, slowest first. An outdated list only costs time.
SLOWEST = (
    "cli/test_documented.py",
    "deploy/test_distributed_runs.py",
    "faults/test_ui_up.py",
    "ui/test_dagster_ui.py",
    "services/mailings/test_worker_faults.py",
    "deploy/test_topology.py",
    "cli/test_demo.py",
    "deploy/test_daemon.py",
    "faults/test_servers.py",
    "postgres/embedded/test_postgres.py",
    "automation/test_new_increments.py",
    "faults/test_kills.py",
    "cli/test_api_workers.py",
    "ui/test_mailings_admin.py",
    "checks/test_report_checks.py",
    "security/test_secrets.py",
    "test_migrations.py",
    "architecture/test_definitions.py",
    "cli/test_doctor.py",
    "services/partner_orders/test_events.py",
    "faults/test_soak.py",
    "cli/test_quarantine.py",
    "staging/test_repeated_contents.py",
    "mart/test_f_mailing_deliveries.py",
    "automation/test_housekeeping.py",
    "faults/test_contention.py",
    "services/mailings/test_dispatch.py",
    "staging/test_thresholds.py",
    "cli/test_dev.py",
    "security/test_injection.py",
    "staging/test_fetch_reading.py",
    "mart/test_f_customer_retention.py",
    "mart/test_f_sales_partner_orders.py",
    "services/mailings/endpoints/test_mailings.py",
    "faults/test_hostile_api.py",
    "ui/test_docs.py",
    "cli/test_sessions.py",
    "services/partner_orders/test_faults.py",
    "pipeline/test_derive.py",
    "services/mailings/test_openapi.py",
    "resources/test_report_api.py",
    "services/partner_orders/test_unresolved.py",
    "mailings/test_audience.py",
    "deploy/test_storage.py",
    "faults/test_disks.py",
    "faults/test_malformed_files.py",
    "architecture/test_packaging.py",
)
_RANK = {TESTS / name: rank for rank, name in enumerate(SLOWEST)}


def longest_first(items: list[pytest.Item]) -> None:
    """Move the slowest files to the front; all other files keep their order."""
    items.sort(key=lambda item: _RANK.get(item.path, len(_RANK)))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the slowest files to the front, after pytest-randomly has shuffled all files."""
    longest_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of processors, plus one because tests often wait, except if only unit tests run."""
    return len(os.sched_getaffinity(0)) + int(config.option.markexpr != "unit")
