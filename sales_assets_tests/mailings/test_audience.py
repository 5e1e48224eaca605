"""The audience: clients linked to customers by phone or by hand, and the tags that their sales make."""

import datetime as dt
import threading
from collections.abc import Callable
from typing import Any

import dagster as dg
import psycopg
import pytest

from sales_assets.dagster_internals import DATA_VERSION_TAG
from sales_assets.defs.automation.changed_audience import changed_audience
from sales_assets.defs.checking import evaluate
from sales_assets.defs.mailings.audience import CLIENT_CUSTOMER, CLIENT_TAG, audience_checks
from sales_assets.postgres.warehouse import Transaction, Warehouse
from sales_assets_tests.builders import Order, job
from sales_assets_tests.fixtures import F_SALES, Shop
from sales_assets_tests.mailings.conftest import Query, Run, failed_checks, metadata_of

Client = Callable[..., int]
Mapped = Callable[[str, int], None]
Sell = Callable[..., None]

LINKS = "SELECT client_id, customer_id, linked_by FROM mailings.client_customer ORDER BY client_id"
TAGS = "SELECT client_id, tag FROM mailings.client_tag ORDER BY client_id, tag"


def link(query: Query, client_id: int, customer_id: int) -> None:
    """As the API does."""
    query(
        "INSERT INTO mailings.client_customer VALUES (%s, %s, 'api') ON CONFLICT (client_id) "
        "DO UPDATE SET customer_id = EXCLUDED.customer_id, linked_by = 'api'",
        client_id,
        customer_id,
    )


# --- links ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "phone"),
    [
        ("79210000001", "79210000001"),
        ("+7 (921) 000-00-01", "79210000001"),
        ("8 921 000 00 01", "79210000001"),
        ("8(921)0000001", "79210000001"),
        ("921 000-00-01", "79210000001"),
        ("9210000001", "79210000001"),
        (" + 7 921 0000001 ", "79210000001"),
        ("+8 921 000 00 01", None),
        ("+921 000 00 01", None),
        ("+1 921 000 0001", None),
        ("17921000000", None),
        ("0000001", None),
        ("79210000001 доб. 5", None),
        ("٧٩٢١٠٠٠٠٠٠١", None),
        ("", None),
        ("no phone", None),
        ("79210000001\u00a0", "79210000001"),
        ("+7\u00a0921\u202f000\u201100\u201301", "79210000001"),
        ("8.921.000.00.01", "79210000001"),
        ("7.92100000E+10", None),
        ("79210000001.0", None),
        ("a79210000001", None),
    ],
)
def test_how_a_phone_is_read(query: Query, written: str, phone: str | None) -> None:
    assert query("SELECT mailings.phone_of(%s)", written) == [(phone,)]


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("8 (921) 000-00-01", "79210000001"),
        ("+7 921 000 00 01", "79210000001"),
        ("+375 (29) 123-45-67", "+375291234567"),
        ("\u00a0+1\u00a0921 000 0001", "+19210000001"),
        ("+7 921 000 00 0", None),
        ("375291234567", None),
        ("+375 29 1234567 доб. 5", None),
        ("+1", None),
        ("+1234567890123456", None),
        ("+", None),
        ("", None),
    ],
)
def test_the_key_of_a_phone(query: Query, written: str, key: str | None) -> None:
    assert query("SELECT mailings.phone_key(%s)", written) == [(key,)]


def test_clients_are_linked_by_phone(client: Client, mapped: Mapped, fill_audience: Run, query: Query) -> None:
    first, second, same, unknown = client(), client("79210000002"), client(), client("79210000009")
    mapped("+7 (921) 000-00-01", 51)
    mapped("89210000002", 52)
    mapped("79210000003", 53)
    mapped("not a phone", 54)
    query("INSERT INTO mart.d_customer (customer_id) VALUES (51), (52), (53), (60)")
    result = fill_audience()
    assert query(LINKS) == [(first, 51, "phone"), (second, 52, "phone"), (same, 51, "phone")]
    assert unknown not in {row[0] for row in query(LINKS)}
    assert metadata_of(result, CLIENT_CUSTOMER) == {
        "clients": 4,
        "linked by phone": 3,
        "linked by api": 0,
        "unlinked clients": 1,
        "unlinked customers": 2,
        "phones not understood": 1,
        "phones of two customers": 0,
        "links made or changed": 3,
        "links undone": 0,
    }


def test_a_phone_that_leads_to_two_customers_links_nobody(
    client: Client, mapped: Mapped, fill_audience: Run, query: Query
) -> None:
    number = client()
    mapped("+7 921 000-00-01", 51)
    fill_audience()
    assert query(LINKS) == [(number, 51, "phone")]
    mapped("8 921 000-00-01", 52)
    result = fill_audience()
    assert query(LINKS) == []
    assert metadata_of(result, CLIENT_CUSTOMER)["phones of two customers"] == 1
    query("UPDATE staging.partner_customer SET customer_id = 52")
    fill_audience()
    assert query(LINKS) == [(number, 52, "phone")]


def test_links_of_the_api_stay_whatever_the_phone_says(
    client: Client, mapped: Mapped, fill_audience: Run, query: Query
) -> None:
    by_hand, without_phone, by_phone = client(), client("79210000002"), client("79210000003")
    link(query, by_hand, 7)
    link(query, without_phone, 8)
    mapped("79210000001", 51)
    mapped("79210000003", 53)
    everything = "SELECT * FROM mailings.client_customer ORDER BY client_id"
    before = query(everything)
    fill_audience()
    assert query(everything)[:2] == before
    assert query(LINKS) == [(by_hand, 7, "api"), (without_phone, 8, "api"), (by_phone, 53, "phone")]
    query("DELETE FROM mailings.client_customer WHERE client_id = %s", by_hand)
    fill_audience()
    assert query(LINKS)[0] == (by_hand, 51, "phone")


def test_a_link_follows_its_phone(client: Client, mapped: Mapped, fill_audience: Run, query: Query) -> None:
    number, other = client(), client("79210000002")
    mapped("79210000001", 51)
    mapped("79210000002", 52)
    fill_audience()
    ((since,),) = query("SELECT linked_at FROM mailings.client_customer WHERE client_id = %s", other)
    query("UPDATE staging.partner_customer SET customer_id = 61 WHERE customer_id = 51")
    fill_audience()
    assert query(LINKS) == [(number, 61, "phone"), (other, 52, "phone")]
    query("UPDATE mailings.client SET phone = '79990000000' WHERE client_id = %s", number)
    result = fill_audience()
    assert query(LINKS) == [(other, 52, "phone")]
    assert query("SELECT linked_at FROM mailings.client_customer") == [(since,)]
    assert metadata_of(result, CLIENT_CUSTOMER)["links undone"] == 1


# --- tags -------------------------------------------------------------------------------------------------------


def test_who_is_tagged_with_what(client: Client, mapped: Mapped, sell: Sell, fill_audience: Run, query: Query) -> None:
    clients = {customer: client(f"792100000{customer}", tag="VIP") for customer in range(10, 17)}
    for customer in clients:
        mapped(f"792100000{customer}", customer)
    sell(10)
    sell(11, day=20230101, source="legacy")
    sell(11, source="partner_orders")
    sell(12)
    sell(12, -100)
    sell(13, -5)
    sell(14)
    sell(14, 7)
    sell(14, -100)
    sell(14, -7)
    sell(16, 0)
    sell(99)
    result = fill_audience()
    named = {number: customer for customer, number in clients.items()}
    assert [(named[number], tag) for number, tag in query(TAGS)] == [
        (10, "new"),
        (11, "returning"),
        (12, "new"),
        (12, "refunded"),
        (13, "refunded"),
        (14, "refunded"),
        (14, "returning"),
        (16, "new"),
    ]
    assert query("SELECT DISTINCT tag FROM mailings.client") == [("VIP",)], "the client's own is never touched"
    told = metadata_of(result, CLIENT_TAG)
    assert {name: told[name] for name in ("new", "returning", "refunded", "clients with tags", "tags given")} == {
        "new": 3,
        "returning": 2,
        "refunded": 3,
        "clients with tags": 6,
        "tags given": 8,
    }


def test_only_what_differs_is_written(
    client: Client, mapped: Mapped, sell: Sell, fill_audience: Run, query: Query
) -> None:
    first, second = client(), client("79210000002")
    mapped("79210000001", 51)
    mapped("79210000002", 52)
    for customer in (51, 52):
        sell(customer)
        sell(customer, -100)
    fill_audience()
    rows = "SELECT client_id, tag, since, xmin::text FROM mailings.client_tag ORDER BY client_id, tag"
    before = query(rows)
    assert [row[:2] for row in before] == [
        (first, "new"),
        (first, "refunded"),
        (second, "new"),
        (second, "refunded"),
    ]
    result = fill_audience()
    assert query(rows) == before, "nothing was written, though it ran"
    assert metadata_of(result, CLIENT_TAG)["tags given"] == metadata_of(result, CLIENT_TAG)["tags taken"] == 0
    sell(51)
    query("DELETE FROM mart.f_sales WHERE customer_id = 52 AND status = 'refunded'")
    result = fill_audience()
    assert query(TAGS) == [(first, "refunded"), (first, "returning"), (second, "new")]
    kept = [row for row in query(rows) if row[1] != "returning"]
    assert kept == [before[1], before[2]]
    assert (metadata_of(result, CLIENT_TAG)["tags given"], metadata_of(result, CLIENT_TAG)["tags taken"]) == (1, 2)


def test_a_lost_link_loses_the_tags(
    client: Client, mapped: Mapped, sell: Sell, fill_audience: Run, query: Query
) -> None:
    client()
    mapped("79210000001", 51)
    sell(51)
    fill_audience()
    query("DELETE FROM staging.partner_customer")
    assert failed_checks(fill_audience()) == {"clients_linked"}
    assert query(TAGS) == []


def test_a_client_that_is_deleted_in_the_middle_does_not_break_the_run(
    client: Client, mapped: Mapped, sell: Sell, fill_audience: Run, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, stays = client(), client("79210000002")
    mapped("79210000001", 51)
    mapped("79210000002", 52)
    sell(51)
    sell(52)
    run = Transaction.run

    def delete_first(self: Any, file: str, name: str, /, **parameters: object) -> int:
        if name == "hold_clients":
            query("DELETE FROM mailings.client WHERE client_id = %s", gone)
        return run(self, file, name, **parameters)

    monkeypatch.setattr(Transaction, "run", delete_first)
    fill_audience()
    assert query(TAGS) == [(stays, "new")]


def test_a_deletion_waits_for_the_commit_and_takes_everything_along(
    client: Client, mapped: Mapped, sell: Sell, fill_audience: Run, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = client()
    mapped("79210000001", 51)
    sell(51)
    run = Transaction.run
    deletion = threading.Thread(target=query, args=("DELETE FROM mailings.client WHERE client_id = %s", gone))

    def delete_meanwhile(self: Any, file: str, name: str, /, **parameters: object) -> int:
        if name == "unlink":
            deletion.start()
            wait = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=30)
            while query("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(0,)]:
                assert dt.datetime.now(dt.UTC) < wait, "the deletion does not wait"
        return run(self, file, name, **parameters)

    monkeypatch.setattr(Transaction, "run", delete_meanwhile)
    fill_audience()
    deletion.join(30)
    assert (query(TAGS), query(LINKS)) == ([], [])


def test_a_link_that_is_changed_by_hand_in_the_middle_waits_for_the_next_run(
    client: Client, sell: Sell, fill_audience: Run, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = client()
    link(query, number, 51)
    sell(51)
    sell(52, -1)
    run = Transaction.run

    def link_first(self: Any, file: str, name: str, /, **parameters: object) -> int:
        if name == "hold_clients":
            link(query, number, 52)
        return run(self, file, name, **parameters)

    monkeypatch.setattr(Transaction, "run", link_first)
    fill_audience()
    assert query(TAGS) == [], "not those of the former customer"
    monkeypatch.undo()
    fill_audience()
    assert query(TAGS) == [(number, "refunded")]


def test_a_link_that_is_taken_by_hand_in_the_middle_takes_its_tags_along(
    client: Client, sell: Sell, fill_audience: Run, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = client()
    link(query, number, 51)
    sell(51)
    fill_audience()
    assert query(TAGS) == [(number, "new")]
    run = Transaction.run

    def unlink_first(self: Any, file: str, name: str, /, **parameters: object) -> int:
        if name == "hold_clients":
            query("DELETE FROM mailings.client_customer")
        return run(self, file, name, **parameters)

    monkeypatch.setattr(Transaction, "run", unlink_first)
    assert failed_checks(fill_audience()) == {"clients_linked"}
    assert query(TAGS) == []


@pytest.mark.parametrize("phone", ["79210000001", "79990000000"], ids=["new link by phone", "link by phone that goes"])
def test_what_is_linked_by_hand_in_the_middle_stays(
    client: Client,
    mapped: Mapped,
    sell: Sell,
    fill_audience: Run,
    query: Query,
    monkeypatch: pytest.MonkeyPatch,
    phone: str,
) -> None:
    number = client(phone)
    if phone != "79210000001":
        query("INSERT INTO mailings.client_customer VALUES (%s, 51, 'phone')", number)
    mapped("79210000001", 51)
    sell(51)
    run = Transaction.run

    def link_first(self: Any, file: str, name: str, /, **parameters: object) -> int:
        if name == "hold_clients":
            link(query, number, 77)
        return run(self, file, name, **parameters)

    monkeypatch.setattr(Transaction, "run", link_first)
    fill_audience()
    assert query(LINKS) == [(number, 77, "api")]
    assert query(TAGS) == []


@pytest.mark.usefixtures("no_waiting_for_locks")
def test_two_runs_come_one_after_the_other(warehouse_url: str, fill_audience: Run, query: Query) -> None:
    with psycopg.connect(warehouse_url) as other:
        other.execute("SELECT pg_advisory_xact_lock(7205007)")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            fill_audience()


# --- who a mailing goes to --------------------------------------------------------------------------------------


def test_a_refund_in_the_sales_leads_to_a_message_and_back_to_the_mart(
    shop: Shop, client: Client, mapped: Mapped, query: Query
) -> None:
    """From the shop's file to a message's row in the mart; the mailing starts by the planner's own statements."""
    refunded, other = client("79210000051"), client("79210000052")
    mapped("+7 921 000-00-51", 51)
    mapped("+7 921 000-00-52", 52)
    day = "2024-10-01"
    shop.reports.increment(
        day,
        [
            Order("a", day=day, customer_id="51"),
            Order("b", day=day, customer_id="51", status="refunded"),
            Order("c", day=day, customer_id="52"),
        ],
    )
    shop.load(day)
    (request,) = ask(shop.instance)
    assert job("fill_audience").execute_in_process(instance=shop.instance, tags=dict(request.tags)).success
    query(
        "INSERT INTO mailings.mailing (text, tag_filter, start_time, end_time) "
        "SELECT 'hello', tag, now(), now() + interval '1 day' FROM unnest(ARRAY['refunded', 'new']) AS tag"
    )
    for _ in range(2):
        with Warehouse().transaction("planner") as planner:
            started = planner.row("mailings/message", "start")
            assert started is not None
            planner.run("mailings/message", "write_recipients", **started)
    recipients = "SELECT mailing_id, client_id FROM mailings.message ORDER BY mailing_id, client_id"
    assert query(recipients) == [(1, refunded), (2, refunded), (2, other)]

    query("UPDATE mailings.message SET status = 'SENT', attempts = 1, finished_at = now()")
    today = dt.datetime.now(dt.UTC).date().isoformat()
    deliveries = job("load_mailing_deliveries").execute_in_process(instance=shop.instance, partition_key=today)
    assert failed_checks(deliveries) == set()
    assert query("SELECT customer_id, status FROM mart.f_mailing_deliveries WHERE tag_filter = 'refunded'") == [
        (51, "SENT")
    ]


# --- checks -----------------------------------------------------------------------------------------------------


def test_checks_see_harm(client: Client, mapped: Mapped, sell: Sell, fill_audience: Run, query: Query) -> None:
    def failing() -> dict[str, str]:
        results = evaluate(Warehouse(), audience_checks(), [])
        tables: dict[str, Any] = {str(r.check_name): r.metadata["first failing days"] for r in results if not r.passed}
        return {name: table.records[0].data["example"] for name, table in tables.items()}

    number, other = client(), client("79210000002")
    mapped("79210000001", 51)
    sell(51)
    assert failed_checks(fill_audience()) == set()
    assert failing() == {}
    query("INSERT INTO mailings.client_tag VALUES (%s, 'refunded')", other)
    assert failing() == {"tags_linked": f"client {other}: refunded"}
    query("DELETE FROM mailings.client_tag WHERE client_id = %s", other)
    client("79210000003")
    assert failing() == {"clients_linked": "2 of 3 clients"}
    query("DELETE FROM mailings.client WHERE client_id <> %s", number)
    query("DELETE FROM mailings.client_customer")
    assert set(failing()) == {"clients_linked", "tags_linked"}


# --- the sensor -------------------------------------------------------------------------------------------------


def ask(instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    answer = changed_audience(dg.build_sensor_context(instance=instance, resources={"warehouse": Warehouse()}))
    return list(answer.run_requests or ()) if isinstance(answer, dg.SensorResult) else []


def told(instance: dg.DagsterInstance) -> None:
    """A day's sales were loaded, as far as Dagster is concerned."""
    instance.report_runless_asset_event(dg.AssetMaterialization(F_SALES, partition="2024-10-01"))


def test_the_sensor_asks_when_sales_or_links_are_others(
    client: Client, mapped: Mapped, fill_audience: Run, query: Query, instance: dg.DagsterInstance
) -> None:
    def client_with_phone() -> None:
        client()
        mapped("79210000001", 51)

    assert ask(instance) == [], "no sales and no clients"
    news: list[Callable[[], object]] = [
        lambda: told(instance),
        client_with_phone,
        lambda: query("UPDATE staging.partner_customer SET customer_id = 52"),
        lambda: link(query, 1, 53),
        lambda: query("DELETE FROM mailings.client_customer"),
        lambda: query("UPDATE mailings.client SET phone = '79990000000'"),
        lambda: told(instance),
    ]
    run_keys = set()
    for happens in news:
        happens()
        (request,) = ask(instance)
        run_keys.add(request.run_key)
        fill_audience()
        assert ask(instance) == []
    assert len(run_keys) == len(news)


def test_a_day_that_is_loaded_in_the_middle_brings_another_run(
    instance: dg.DagsterInstance, fill_audience: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(instance)
    run = Transaction.run

    def tell_first(self: Any, file: str, name: str, /, **parameters: object) -> int:
        if name == "take_tags":
            told(instance)
        return run(self, file, name, **parameters)

    monkeypatch.setattr(Transaction, "run", tell_first)
    fill_audience()
    assert len(ask(instance)) == 1


def test_the_sensor_waits_for_a_run_and_after_a_failed_one(
    instance: dg.DagsterInstance, warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(instance)
    (first,) = ask(instance)
    made = instance.create_run_for_job(job("fill_audience"), tags=dict(first.tags), status=dg.DagsterRunStatus.STARTED)
    assert ask(instance) == []
    instance.report_run_failed(made)
    assert ask(instance) == [], "not at once"
    monkeypatch.setattr("sales_assets.defs.automation.run_requests.LONGEST_PAUSE", dt.timedelta(0))
    (again,) = ask(instance)
    assert again.run_key != first.run_key


def test_tags_that_somebody_reported_by_hand_are_made_anew(instance: dg.DagsterInstance, warehouse_url: str) -> None:
    told(instance)
    instance.report_runless_asset_event(dg.AssetMaterialization(CLIENT_TAG, tags={DATA_VERSION_TAG: "by hand"}))
    assert len(ask(instance)) == 1
