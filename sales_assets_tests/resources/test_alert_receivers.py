"""Receivers of alerts: mail server and webhook; a receiver that fails or hangs delays no other receiver."""

import importlib.util
from collections.abc import Iterator

import pytest

from sales_assets.resources.alert_receivers import Delivery, Message, Receivers
from sales_assets.settings import SettingsError
from sales_assets_tests.resources.receivers import Mailbox, Webhook, clear_settings_cache, mailbox, webhook

pytestmark = pytest.mark.external

FAILED = Message("load_days failed", "2024-10-01: no header\nSince then.", "failure")
RESOLVED = Message("resolved", "It is well.", "success")


@pytest.fixture
def mail() -> Iterator[Mailbox]:
    with mailbox() as mail_box:
        yield mail_box


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as made:
        yield made


def receivers(monkeypatch: pytest.MonkeyPatch, *urls: str) -> Receivers:
    monkeypatch.setenv("ALERT_URLS", ", ".join(urls))
    clear_settings_cache()
    return Receivers()


def test_messages_reach_mail_and_webhook_in_order(
    mail: Mailbox, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = receivers(monkeypatch, mail.url, hook.url)
    assert made.names == ["1 (mailto)", "2 (json)"]
    assert made.send({"1 (mailto)": [FAILED], "2 (json)": [FAILED, RESOLVED]}, 60) == {
        "1 (mailto)": Delivery(1),
        "2 (json)": Delivery(2),
    }
    ((subject, text),) = mail.mails
    assert subject == "load_days failed"
    assert "2024-10-01: no header" in text
    assert [(message["title"], message["type"]) for message in hook.messages] == [
        ("load_days failed", "failure"),
        ("resolved", "success"),
    ]
    assert hook.messages[0]["message"] == FAILED.text
    assert made.send({"1 (mailto)": []}, 60) == {}


def test_a_receiver_that_refuses_is_unreachable_or_unknown_delays_no_other(
    mail: Mailbox, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook.status = 500
    gone, unknown = "json://127.0.0.1:9/s3cret-path", "nonsense://t0ken-0f-nobody"
    made = receivers(monkeypatch, hook.url, gone, unknown, mail.url)
    found = made.send({name: [FAILED, RESOLVED] for name in made.names}, 60)
    assert found["4 (mailto)"] == Delivery(2)
    assert [delivery.delivered for delivery in found.values()] == [0, 0, 0, 2]
    errors = [found[name].error or "" for name in made.names[:3]]
    assert "error=500" in errors[0]
    assert "onnection" in errors[1]
    assert errors[2] == "Apprise can't read the URL"
    for secret in ("t0ken", "s3cret"):
        assert secret not in str(found)


def test_a_receiver_that_never_ends_its_response_times_out(
    mail: Mailbox, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook.status = None
    made = receivers(monkeypatch, hook.url, mail.url)
    found = made.send({name: [FAILED] for name in made.names}, 10)
    assert found == {"1 (json)": Delivery(0, "no response within 10 s"), "2 (mailto)": Delivery(1)}


def test_a_message_contains_no_secret_and_is_truncated(hook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    made = receivers(monkeypatch, hook.url)
    monkeypatch.setenv("REPORT_API_KEY", "k3y-0f-the-shop")
    clear_settings_cache()
    text = f"sent k3y-0f-the-shop to {hook.url} " + "x" * 9000
    assert made.send({"1 (json)": [Message("k3y-0f-the-shop", text)]}, 60) == {"1 (json)": Delivery(1)}
    (message,) = hook.messages
    assert message["title"] == "***"
    assert "k3y" not in message["message"]
    assert "t0ken" not in message["message"]
    assert len(message["message"]) < 4000


def test_without_the_extra_the_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"ALERT_URLS needs the extra \[alerts\]"):
        receivers(monkeypatch, "json://127.0.0.1")


def test_the_identity_of_a_receiver_ignores_its_position_and_reveals_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    mail, hook = "mailtos://anna:hunter2@mail.example.com", "json://127.0.0.1/t0ken"
    one = receivers(monkeypatch, mail, hook).identities("a salt")
    other = receivers(monkeypatch, hook, mail).identities("a salt")
    assert one.keys() == other.keys()
    assert list(one.values()) == ["1 (mailtos)", "2 (json)"]
    assert list(other.values()) == ["1 (json)", "2 (mailtos)"]
    assert one.keys().isdisjoint(receivers(monkeypatch, mail, hook).identities("another salt"))
    for secret in ("anna", "hunter2", "example", "t0ken"):
        assert secret not in str(one)
    assert list(receivers(monkeypatch, hook, hook).identities("a salt").values()) == ["2 (json)"]
