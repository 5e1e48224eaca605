"""Fixtures: a mart in an old state and files in a new state, for tests that kill loads."""

from pathlib import Path

import pytest

from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets_tests.builders import ReportFolderBuilder
from sales_assets_tests.faults.subprocess_targets import KillScenario


@pytest.fixture
def scenario(
    server: EmbeddedPostgres,
    reports: ReportFolderBuilder,
    report_api: ReportApi,
    tmp_path: Path,
) -> KillScenario:
    return KillScenario(server, reports, tmp_path / "raw")
