"""The audience: clients linked to customers by phone or manually, and the tags that follow from their sales."""

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
InsertSale = Callable[..., None]

LINKS = "SELECT client_id, customer_id, linked_by FROM mailings.client_customer ORDER BY client_id"
TAGS = "SELECT client_id, tag FROM mailings.client_tag ORDER BY client_id, tag"


def link(query: Query, client_id: int, customer_id: int) -> None:
    """Link a client to a customer, like the API."""
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
def test_spellings_of_a_phone_have_the_same_digits(query: Query, written: str, phone: str | None) -> None:
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
        "links added or changed": 3,
        "links removed": 0,
    }


def test_a_phone_of_two_customers_links_no_client(
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


def test_links_made_by_the_api_are_kept_regardless_of_the_phone(
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


def test_a_link_changes_with_the_phone(client: Client, mapped: Mapped, fill_audience: Run, query: Query) -> None:
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
    assert metadata_of(result, CLIENT_CUSTOMER)["links removed"] == 1


# --- tags -------------------------------------------------------------------------------------------------------


def test_customers_are_tagged_by_their_sales(
    client: Client, mapped: Mapped, insert_sale: InsertSale, fill_audience: Run, query: Query
) -> None:
    clients = {customer: client(f"792100000{customer}", tag="VIP") for customer in range(10, 17)}
    for customer in clients:
        mapped(f"792100000{customer}", customer)
    insert_sale(10)
    insert_sale(11, day=20230101, source="legacy")
    insert_sale(11, source="partner_orders")
    insert_sale(12)
    insert_sale(12, -100)
    insert_sale(13, -5)
    insert_sale(14)
    insert_sale(14, 7)
    insert_sale(14, -100)
    insert_sale(14, -7)
    insert_sale(16, 0)
    insert_sale(99)
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
    tag_metadata = metadata_of(result, CLIENT_TAG)
    assert {
        name: tag_metadata[name] for name in ("new", "returning", "refunded", "clients with tags", "tags added")
    } == {
        "new": 3,
        "returning": 2,
        "refunded": 3,
        "clients with tags": 6,
        "tags added": 8,
    }


def test_only_differences_are_written(
    client: Client, mapped: Mapped, insert_sale: InsertSale, fill_audience: Run, query: Query
) -> None:
    first, second = client(), client("79210000002")
    mapped("79210000001", 51)
    mapped("79210000002", 52)
    for customer in (51, 52):
        insert_sale(customer)
        insert_sale(customer, -100)
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
    assert metadata_of(result, CLIENT_TAG)["tags added"] == metadata_of(result, CLIENT_TAG)["tags removed"] == 0
    insert_sale(51)
    query("DELETE FROM mart.f_sales WHERE customer_id = 52 AND status = 'refunded'")
    result = fill_audience()
    assert query(TAGS) == [(first, "refunded"), (first, "returning"), (second, "new")]
    remaining = [row for row in query(rows) if row[1] != "returning"]
    assert remaining == [before[1], before[2]]
    assert (metadata_of(result, CLIENT_TAG)["tags added"], metadata_of(result, CLIENT_TAG)["tags removed"]) == (1, 2)


def test_a_client_without_a_link_loses_its_tags(
    client: Client, mapped: Mapped, insert_sale: InsertSale, fill_audience: Run, query: Query
) -> None:
    client()
    mapped("79210000001", 51)
    insert_sale(51)
    fill_audience()
    query("DELETE FROM staging.partner_customer")
    assert failed_checks(fill_audience()) == {"clients_linked"}
    assert query(TAGS) == []


def test_a_client_deleted_during_a_run_does_not_break_the_run(
    client: Client,
    mapped: Mapped,
    insert_sale: InsertSale,
    fill_audience: Run,
    query: Query,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    removed_client, remaining_client = client(), client("79210000002")
    mapped("79210000001", 51)
    mapped("79210000002", 52)
    insert_sale(51)
    insert_sale(52)
    run = Transaction.run

    def delete_first(self: Any, file: str, name: str, /, **parameters: object) -> int:
        if name == "hold_clients":
            query("DELETE FROM mailings.client WHERE client_id = %s", removed_client)
        return run(self, file, name, **parameters)

    monkeypatch.setattr(Transaction, "run", delete_first)
    fill_audience()
    assert query(TAGS) == [(remaining_client, "new")]


def test_a_deletion_waits_for_the_commit_and_removes_links_and_tags(
    client: Client,
    mapped: Mapped,
    insert_sale: InsertSale,
    fill_audience: Run,
    query: Query,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    removed_client = client()
    mapped("79210000001", 51)
    insert_sale(51)
    run = Transaction.run
    deletion = threading.Thread(target=query, args=("DELETE FROM mailings.client WHERE client_id = %s", removed_client))

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


def test_a_link_changed_manually_during_a_run_is_used_by_the_next_run(
    client: Client, insert_sale: InsertSale, fill_audience: Run, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = client()
    link(query, number, 51)
    insert_sale(51)
    insert_sale(52, -1)
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


def test_removing_a_link_manually_during_a_run_removes_its_tags(
    client: Client, insert_sale: InsertSale, fill_audience: Run, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = client()
    link(query, number, 51)
    insert_sale(51)
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


@pytest.mark.parametrize("phone", ["79210000001", "79990000000"], ids=["new link by phone", "removed link by phone"])
def test_links_made_manually_during_a_run_are_kept(
    client: Client,
    mapped: Mapped,
    insert_sale: InsertSale,
    fill_audience: Run,
    query: Query,
    monkeypatch: pytest.MonkeyPatch,
    phone: str,
) -> None:
    number = client(phone)
    if phone != "79210000001":
        query("INSERT INTO mailings.client_customer VALUES (%s, 51, 'phone')", number)
    mapped("79210000001", 51)
    insert_sale(51)
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
def test_two_runs_are_serialized(warehouse_url: str, fill_audience: Run, query: Query) -> None:
    with psycopg.connect(warehouse_url) as other:
        other.execute("SELECT pg_advisory_xact_lock(7205007)")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            fill_audience()


# --- recipients -------------------------------------------------------------------------------------------------


def test_a_refund_leads_to_a_message_and_its_row_in_the_mart(
    shop: Shop, client: Client, mapped: Mapped, query: Query, today: dt.date
) -> None:
    """A refund is followed from the report file to its message's row in the mart, with the planner's statements."""
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
    (request,) = sensor_requests(shop.instance)
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
    deliveries = job("load_mailing_deliveries").execute_in_process(
        instance=shop.instance, partition_key=today.isoformat()
    )
    assert failed_checks(deliveries) == set()
    assert query("SELECT customer_id, status FROM mart.f_mailing_deliveries WHERE tag_filter = 'refunded'") == [
        (51, "SENT")
    ]


# --- checks -----------------------------------------------------------------------------------------------------


def test_checks_detect_damage(
    client: Client, mapped: Mapped, insert_sale: InsertSale, fill_audience: Run, query: Query
) -> None:
    def failing() -> dict[str, str]:
        results = evaluate(Warehouse(), audience_checks(), [])
        tables: dict[str, Any] = {str(r.check_name): r.metadata["first failing days"] for r in results if not r.passed}
        return {name: table.records[0].data["example"] for name, table in tables.items()}

    number, other = client(), client("79210000002")
    mapped("79210000001", 51)
    insert_sale(51)
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


def sensor_requests(instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    tick_result = changed_audience(dg.build_sensor_context(instance=instance, resources={"warehouse": Warehouse()}))
    return list(tick_result.run_requests or ()) if isinstance(tick_result, dg.SensorResult) else []


def record_materialization(instance: dg.DagsterInstance) -> None:
    """Record a materialization of a day's sales, without loading it."""
    instance.report_runless_asset_event(dg.AssetMaterialization(F_SALES, partition="2024-10-01"))


def test_the_sensor_requests_a_run_when_sales_or_links_change(
    client: Client, mapped: Mapped, fill_audience: Run, query: Query, instance: dg.DagsterInstance
) -> None:
    def client_with_phone() -> None:
        client()
        mapped("79210000001", 51)

    assert sensor_requests(instance) == [], "no sales and no clients"
    news: list[Callable[[], object]] = [
        lambda: record_materialization(instance),
        client_with_phone,
        lambda: query("UPDATE staging.partner_customer SET customer_id = 52"),
        lambda: link(query, 1, 53),
        lambda: query("DELETE FROM mailings.client_customer"),
        lambda: query("UPDATE mailings.client SET phone = '79990000000'"),
        lambda: record_materialization(instance),
    ]
    run_keys = set()
    for happens in news:
        happens()
        (request,) = sensor_requests(instance)
        run_keys.add(request.run_key)
        fill_audience()
        assert sensor_requests(instance) == []
    assert len(run_keys) == len(news)


def test_a_day_loaded_during_a_run_requests_another_run(
    instance: dg.DagsterInstance, fill_audience: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_materialization(instance)
    run = Transaction.run

    def record_first(self: Any, file: str, name: str, /, **parameters: object) -> int:
        if name == "take_tags":
            record_materialization(instance)
        return run(self, file, name, **parameters)

    monkeypatch.setattr(Transaction, "run", record_first)
    fill_audience()
    assert len(sensor_requests(instance)) == 1


def test_the_sensor_waits_during_a_run_and_after_a_failed_one(
    instance: dg.DagsterInstance, warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_materialization(instance)
    (first,) = sensor_requests(instance)
    made = instance.create_run_for_job(job("fill_audience"), tags=dict(first.tags), status=dg.DagsterRunStatus.STARTED)
    assert sensor_requests(instance) == []
    instance.report_run_failed(made)
    assert sensor_requests(instance) == [], "not at once"
    monkeypatch.setattr("sales_assets.defs.automation.run_requests.LONGEST_PAUSE", dt.timedelta(0))
    (again,) = sensor_requests(instance)
    assert again.run_key != first.run_key


def test_manually_reported_tags_are_computed_again(instance: dg.DagsterInstance, warehouse_url: str) -> None:
    record_materialization(instance)
    instance.report_runless_asset_event(dg.AssetMaterialization(CLIENT_TAG, tags={DATA_VERSION_TAG: "by hand"}))
    assert len(sensor_requests(instance)) == 1
