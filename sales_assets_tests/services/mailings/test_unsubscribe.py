"""Opt-outs: the unsubscribe link of a message, its page, and that no message is sent to a suppressed phone."""

import asyncio
import re
from collections.abc import Iterator
from types import ModuleType

import pytest
import requests
import structlog
from structlog.testing import LogCapture

from sales_assets.schemas.pseudonyms import Pseudonyms
from sales_assets.services.http import application
from sales_assets.services.mailings import repository as mailings_repository
from sales_assets.services.mailings.unsubscribe import PLACEHOLDER, UnsubscribeLinks
from sales_assets_tests.services.mailings.fixtures import CLIENT, Api, api_running
from sales_assets_tests.services.mailings.worker import PHONES_FROM, TEXT, MailingsEnvironment, dispatcher

SECRET = "the key of the tests' links"
BASE = "https://shop.example/m"
SUPPRESSED = "SELECT phone, source FROM mailings.suppression ORDER BY phone"
OUTCOMES = "SELECT status, reason FROM mailings.message ORDER BY message_id"


@pytest.fixture(scope="module")
def links() -> UnsubscribeLinks:
    return UnsubscribeLinks(BASE, SECRET)


@pytest.fixture
def api(warehouse_url: str) -> Iterator[Api]:
    """The service with the unsubscribe page and the database of `mailings_env`."""
    with api_running(warehouse_url, mailings_unsubscribe_url=BASE, mailings_unsubscribe_secret=SECRET) as api:
        yield api


def sent_texts(mailings_env: MailingsEnvironment, mailing_id: int, links: UnsubscribeLinks | None) -> list[str]:
    """Send the due messages with links; return the texts that arrived at the sender."""
    mailings_env.dispatch(mailing_id, links=links)
    return [arrival.text for arrival in sorted(mailings_env.sender.arrivals, key=lambda arrival: arrival.message_id)]


def path_of(link: str) -> str:
    assert link.startswith(f"{BASE}/unsubscribe/")
    return link.removeprefix(BASE)


def captured(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> LogCapture:
    """Capture the log of a module, even if another test of this process has frozen the loggers."""
    log = LogCapture()
    made = structlog.wrap_logger(None, processors=[log], wrapper_class=structlog.make_filtering_bound_logger(0))
    monkeypatch.setattr(module, "_log", made)
    return log


def test_link_of_a_message_suppresses_its_phone(
    mailings_env: MailingsEnvironment, api: Api, links: UnsubscribeLinks, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = captured(application, monkeypatch)
    mailings_env.clients(2)
    mailing_id = mailings_env.mailing()
    mailings_env.plan()
    texts = sent_texts(mailings_env, mailing_id, links)
    found = [re.fullmatch(rf"{TEXT}\n(https://\S+)", text) for text in texts]
    assert all(found)
    address = api.url + path_of(found[1][1])  # type: ignore[index]

    # A link scanner follows links: reading the page must change nothing.
    shown = requests.get(address, timeout=60)
    assert shown.status_code == 200
    assert '<form method="post">' in shown.text
    assert "default-src 'none'" in shown.headers["Content-Security-Policy"]
    assert (shown.headers["Referrer-Policy"], shown.headers["Cache-Control"]) == ("no-referrer", "no-store")
    assert mailings_env.query(SUPPRESSED) == []

    # RFC 8058: a single POST with this body, without cookies. A repeated request changes nothing.
    for spelled in (address, f"{address}/"):
        done = requests.post(spelled, data={"List-Unsubscribe": "One-Click"}, timeout=60)
        assert done.status_code == 200
        assert "unsubscribed" in done.text
        assert mailings_env.query(SUPPRESSED) == [(str(PHONES_FROM + 2), "link")]

    assert str(PHONES_FROM)[:4] not in shown.text + done.text
    assert {entry["path"].rstrip("/") for entry in log.entries} == {"/unsubscribe/..."}
    assert address.rpartition(".")[2] not in str(log.entries)
    again = mailings_env.mailing()
    mailings_env.plan()
    assert mailings_env.query("SELECT client_id FROM mailings.message WHERE mailing_id = %s", again) == [(1,)]


def test_link_replaces_the_placeholder_in_the_text(mailings_env: MailingsEnvironment, links: UnsubscribeLinks) -> None:
    mailings_env.clients(1)
    mailing_id = mailings_env.mailing()
    mailings_env.query("UPDATE mailings.mailing SET text = %s", f'"No more" at {PLACEHOLDER}, {{sic}}\n')
    mailings_env.plan()
    (text,) = sent_texts(mailings_env, mailing_id, links)
    assert text == f'"No more" at {links.link(1, str(PHONES_FROM + 1))}, {{sic}}\n'


def test_text_with_the_placeholder_waits_until_links_are_configured(
    mailings_env: MailingsEnvironment, links: UnsubscribeLinks
) -> None:
    mailings_env.clients(1)
    mailing_id = mailings_env.mailing()
    mailings_env.query("UPDATE mailings.mailing SET text = %s", f"stop: {PLACEHOLDER}")
    mailings_env.plan()
    assert sent_texts(mailings_env, mailing_id, None) == []
    assert mailings_env.query(OUTCOMES) == [("Pending", None)]
    assert len(sent_texts(mailings_env, mailing_id, links)) == 1


def test_forged_or_outdated_link_suppresses_no_phone(
    mailings_env: MailingsEnvironment, api: Api, links: UnsubscribeLinks
) -> None:
    mailings_env.clients(2)
    mailings_env.mailing()
    mailings_env.plan()
    right = path_of(links.link(1, str(PHONES_FROM + 1)))
    signature = right.partition(".")[2]
    stranger = UnsubscribeLinks(BASE, "another key of the tests")
    for path in (
        f"/unsubscribe/2.{signature}",  # signature of another message
        path_of(links.link(1, str(PHONES_FROM + 2))),  # the client had another phone when the message was sent
        path_of(stranger.link(1, str(PHONES_FROM + 1))),
        right[:-1],
        "/unsubscribe/1",
        f"/unsubscribe/-1.{signature}",
        f"/unsubscribe/{10**30}.{signature}",
        f"/unsubscribe/%00.{signature}",
    ):
        assert requests.post(api.url + path, timeout=60).status_code == 404, path
    assert mailings_env.query(SUPPRESSED) == []
    mailings_env.query("DELETE FROM mailings.client")
    assert requests.post(api.url + right, timeout=60).status_code == 404


def test_without_the_setting_the_unsubscribe_page_is_404(shared_api: Api) -> None:
    assert requests.get(f"{shared_api.url}/unsubscribe/1.x", timeout=60).status_code == 404


@pytest.mark.parametrize("rate", [0, 1000])
def test_opt_out_after_the_start_of_a_mailing_is_respected(mailings_env: MailingsEnvironment, rate: int) -> None:
    mailings_env.clients(2)
    mailing_id = mailings_env.mailing()
    mailings_env.plan()
    mailings_env.query("INSERT INTO mailings.suppression (phone, source) VALUES (%s, 'import')", str(PHONES_FROM + 1))
    mailings_env.dispatch(mailing_id, rate=rate)
    assert [arrival.phone for arrival in mailings_env.sender.arrivals] == [PHONES_FROM + 2]
    assert mailings_env.query(OUTCOMES) == [("FAILED", "opted out"), ("SENT", None)]


def test_opt_out_between_claim_and_send_is_respected(mailings_env: MailingsEnvironment) -> None:
    mailings_env.clients(1)
    mailing_id = mailings_env.mailing()
    mailings_env.plan()

    async def run() -> None:
        async with dispatcher(mailings_env) as (one, _):
            authorize = one._authorize

            async def late(message: object) -> object:
                mailings_env.query("INSERT INTO mailings.suppression VALUES (%s, 'admin')", str(PHONES_FROM + 1))
                return await authorize(message)  # type: ignore[arg-type]

            one._authorize = late  # type: ignore[assignment]
            await one.dispatch(mailing_id)

    asyncio.run(run())
    assert not mailings_env.sender.arrivals
    assert mailings_env.query(OUTCOMES) == [("FAILED", "opted out")]


def test_recipients_exclude_suppressed_phones(api: Api) -> None:
    first, second = api.client(phone="79000000001"), api.client(phone="79000000002")
    api.query("INSERT INTO mailings.suppression VALUES ('79000000001', 'admin')")
    response = api.send("GET", f"/mailings/{api.mailing()}/recipients/").json()
    assert first != second
    assert (response["count"], response["client_ids"]) == (1, [second])


def test_a_client_with_an_erased_phone_is_refused(warehouse_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Erased phones are refused, also by a service without the secret, which can't tell which phones were erased."""
    pseudonyms = Pseudonyms(SECRET)
    (pseudonym,) = pseudonyms.of(["79997772211"])
    with api_running(warehouse_url, sales_erasure_secret=SECRET) as api:
        client_id = api.client(phone="79990000000")
        api.query("INSERT INTO mailings.erased_phone VALUES (%s, %s)", pseudonym, pseudonyms.key_id)
        body = CLIENT | {"phone": "79997772211"}
        for method, path in (
            ("POST", "/clients/"),
            ("PUT", f"/clients/{client_id}"),
            ("PATCH", f"/clients/{client_id}"),
        ):
            response = api.send(method, path, body)
            assert (response.status_code, response.json()) == (400, {"phone": ["The person of this phone was erased"]})
        assert api.send("PATCH", f"/clients/{client_id}", {"tag": "VIP"}).json() == {
            "id": client_id, **CLIENT, "phone": "79990000000", "tag": "VIP"}  # fmt: skip
        assert api.send("PATCH", "/clients/99", {"tag": "VIP"}).status_code == 404
    log = captured(mailings_repository, monkeypatch)
    with api_running(warehouse_url) as api:
        assert api.send("POST", "/clients/", body).status_code == 503
        (dropped,) = [entry for entry in log.entries if entry["event"] == "phone not stored"]
        assert "another SALES_ERASURE_SECRET" in dropped["reason"]
        assert "9997772211" not in str(dropped)
        assert api.query("SELECT phone, tag FROM mailings.client") == [{"phone": "79990000000", "tag": "VIP"}]
