"""`sales-assets alerts`: a test message to each receiver, and the open alerts of the last sensor tick."""

import pytest

from sales_assets_tests.cli.conftest import Run
from sales_assets_tests.resources.receivers import clear_settings_cache, mailbox, webhook


@pytest.mark.external
def test_each_receiver_gets_a_test_message(run_in_process: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with mailbox() as mail, webhook() as hook:
        monkeypatch.setenv("ALERT_URLS", f"{mail.url},{hook.url}")
        clear_settings_cache()
        done = run_in_process("alerts", "test")
        assert (done.returncode, done.stdout) == (0, "ok receiver 1 (mailto)\nok receiver 2 (json)\n"), done.stderr
        assert [subject for subject, _ in mail.mails] == ["sales_assets, test: this receiver gets alerts"]
        assert hook.titles == ["test: this receiver gets alerts"]
        hook.status = 403
        done = run_in_process("alerts", "test")
        assert done.returncode == 1
        well, ill = done.stdout.splitlines()
        assert well == "ok receiver 1 (mailto)"
        assert ill.startswith("!! receiver 2 (json): ")
        assert "error=403" in ill
        assert "t0ken" not in done.stdout + done.stderr
        assert len(mail.mails) == 2


@pytest.mark.parametrize("command", ["test", "list"])
def test_without_alert_urls_the_command_fails(run_in_process: Run, command: str) -> None:
    done = run_in_process("alerts", command)
    assert (done.returncode, done.stdout) == (1, "")
    assert "ALERT_URLS is not set: there are no alerts" in done.stderr


def test_list_before_the_first_sensor_tick(run_with_warehouse: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """`faults/test_ui_up.py` tests the list of alerts on a running platform."""
    monkeypatch.setenv("ALERT_URLS", "json://127.0.0.1:9")
    clear_settings_cache()
    done = run_with_warehouse("alerts", "list")
    assert done.returncode == 0, done.stderr
    assert "has not been evaluated yet" in done.stdout
