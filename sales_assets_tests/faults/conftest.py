"""A mart in an old state and files in a new one, to kill loads over."""

from pathlib import Path

import pytest

from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets_tests.builders import ReportFolderBuilder
from sales_assets_tests.faults.subprocess_targets import World


@pytest.fixture
def world(
    server: EmbeddedPostgres,
    reports: ReportFolderBuilder,
    report_api: ReportApi,
    tmp_path: Path,
) -> World:
    return World(server, reports, tmp_path / "raw")
