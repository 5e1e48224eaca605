"""`sales-assets metrics` as a process."""

import pytest
import requests

from sales_assets.services.pipeline_metrics import PREFIX
from sales_assets_tests.cli.processes import Command
from sales_assets_tests.cli.test_api import ended, first_line


def test_metrics_are_served_until_the_end(
    command: Command, warehouse_url: str, dagster_storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", warehouse_url)
    monkeypatch.setenv("DAGSTER_STORAGE_URL", dagster_storage)
    process = command.start("metrics", "--port", "0")
    url = first_line(process).removeprefix("metrics: ")
    assert f"{PREFIX}_days_behind +Inf" in requests.get(url, timeout=30).text
    ended(process)
    assert command.processes() == {}
