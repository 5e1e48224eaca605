"""Which test files start first, and how many processes share them.

A pytest plugin. A file stays in one process (`--dist loadfile`): one that takes minutes and started last would be
waited for by all others. pytest-randomly has shuffled files and tests before; the order stays random but for this.
"""

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent

# The files that take longest, the longest first. An outdated list costs time and nothing else.
SLOWEST = (
    "cli/test_documented.py",
    "deploy/test_distributed_runs.py",
    "ui/test_dagster_ui.py",
    "faults/test_ui_up.py",
    "deploy/test_topology.py",
    "deploy/test_daemon.py",
    "cli/test_demo.py",
    "services/mailings/test_worker_faults.py",
    "postgres/embedded/test_postgres.py",
    "automation/test_new_increments.py",
    "cli/test_api_workers.py",
    "faults/test_servers.py",
    "test_migrations.py",
    "ui/test_mailings_admin.py",
    "services/partner_orders/test_events.py",
    "checks/test_report_checks.py",
    "faults/test_soak.py",
    "services/mailings/test_dispatch.py",
    "security/test_injection.py",
    "staging/test_repeated_contents.py",
    "staging/test_fetch_reading.py",
    "cli/test_quarantine.py",
    "mart/test_f_sales_partner_orders.py",
    "services/mailings/endpoints/test_mailings.py",
    "faults/test_hostile_api.py",
    "ui/test_docs.py",
    "services/partner_orders/test_faults.py",
    "staging/test_thresholds.py",
    "services/mailings/test_openapi.py",
    "resources/test_report_api.py",
    "services/partner_orders/test_unresolved.py",
    "cli/test_doctor.py",
    "faults/test_disks.py",
)
_RANK = {TESTS / name: rank for rank, name in enumerate(SLOWEST)}


def longest_first(items: list[pytest.Item]) -> None:
    """Move the slowest files to the front; all else stays in the order it has."""
    items.sort(key=lambda item: _RANK.get(item.path, len(_RANK)))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Undo as much of the shuffling as `longest_first` says."""
    longest_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One process more than there are processors, because tests often wait; unit tests don't."""
    return len(os.sched_getaffinity(0)) + int(config.option.markexpr != "unit")
