"""`sales-assets warehouse`: the connection URL, and start and stop of the embedded server."""

import psycopg
import pytest

from sales_assets_tests.cli.processes import Command


def test_the_embedded_server_outlives_the_command_that_started_it(command: Command) -> None:
    url = command("warehouse", "url")  # reads the output to the end: the server must not keep it open
    assert url.returncode == 0, url.stderr
    assert url.stdout.count("\n") == 1
    with psycopg.connect(url.stdout.strip()) as connection:
        assert connection.info.dbname == "sales"
    stopped = [command("warehouse", "stop").stdout for _ in range(2)]
    assert stopped == ["the embedded server was stopped\n", "no embedded server is running\n"]
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url.stdout.strip())
    assert command.files_outside() == []


def test_url_of_a_configured_warehouse_starts_no_server(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", "postgresql+psycopg2://u@h/d")
    assert command("warehouse", "url").stdout == "postgresql://u@h/d\n"
    assert not (command.home / "postgres").exists()
