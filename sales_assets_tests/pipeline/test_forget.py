"""Erasure of a person, verified by a search of every table and file for the names and the phone."""

import gzip
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from sales_assets.pipeline.forget import ForgetError, Forgetting, Forgotten, remove_from_disk
from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.postgres.explanation import explain
from sales_assets.postgres.resolutions import CORRECT, Resolution, ResolutionError, resolve
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources.raw_files import RawFiles
from sales_assets.schemas.calendar import day_of
from sales_assets.schemas.pseudonyms import Pseudonyms
from sales_assets.services.partner_orders.mapping import Mapping, store
from sales_assets.settings import settings
from sales_assets_tests.builders import Order, order_file
from sales_assets_tests.fixtures import Shop, change_stored_file, stored_files
from sales_assets_tests.resources.object_storage import StorageProxy, storage_proxy

__all__ = ["storage_proxy"]

DAY = "2024-10-02"
SECRET = "the key of the tests' pseudonyms"
PHONE, WRITTEN = "79997772211", "8 (999) 777-22-11"
SUMS = "SELECT date_id, status, source, count(*), sum(quantity), sum(amount) FROM mart.f_sales GROUP BY 1, 2, 3"
LINEAGE = "SELECT id, uniq_id, fetch_id, line_no FROM mart.f_sales_lines ORDER BY id"


@dataclass
class Person:
    """A customer with a phone, an order and a mailing, whose names occur in no other data."""

    shop: Shop
    query: Callable[..., list[tuple[Any, ...]]]
    first: str
    last: str

    def order(self, uniq_id: str, **changes: str) -> Order:
        return Order(uniq_id, day=DAY, first_name=self.first, last_name=self.last).but(**changes)

    def deliver(self, *more: Order | str) -> None:
        """Deliver an increment with rows of the person, of another customer, and rejected rows of the person."""
        rows: list[Order | str] = [
            self.order("u1"),
            Order("u2", day=DAY, customer_id="52"),
            self.order("u3", quantity="many"),
            f"9,u4,{DAY},1,Rostov,51,{self.first},de {self.last},3,Milk,2,200,shipped,",
            self.order("u5", amount="1"),
            self.order("u5", amount="2"),
        ]
        self.shop.reports.increment(DAY, [*rows, *more])

    def use_services(self) -> None:
        """Add an order at the partner and a mailing client for the person."""
        self.query("INSERT INTO staging.partner_customer VALUES (%s, 51), ('79990000000', 52)", WRITTEN)
        self.query("INSERT INTO staging.partner_customer VALUES ('+7 999 777-22-11', 51)")
        self._order_from_partner(1)
        self.query(
            "INSERT INTO staging.partner_order_event (message_id, kind, project_id, kodpost, order_id, their_order_id,"
            " their_pharmacy_id, phone, dated_at, lines)"
            " VALUES ('8-1-accepted', 'accepted', 8, 116897, 1, '777', '1086', %s, now(), '[]')",
            PHONE,
        )
        self.query(
            "INSERT INTO mailings.client (phone, operator_code, timezone)"
            " VALUES (%s, '999', 'UTC'), ('79990000000', '999', 'UTC')",
            PHONE,
        )
        self.query("INSERT INTO mailings.client_customer VALUES (1, 51, 'phone')")
        self.query("INSERT INTO mailings.suppression VALUES (%s, 'link')", PHONE)

    def order_again(self) -> None:
        """Add another partner order with the person's phone, as may happen after an erasure."""
        self._order_from_partner(2)

    def _order_from_partner(self, order_id: int) -> None:
        self.query(
            "INSERT INTO orders.partner_order (order_id, body_hash, order_date, order_type, their_pharmacy_id, phone,"
            " lines, state, refusal, cancel_answer)"
            " VALUES (%s, 'x', now(), 1, '1086', %s, '[]', 'creating', %s, %s)",
            order_id,
            WRITTEN,
            Jsonb({"message": f"the phone {WRITTEN} is blocked", "partner_error": True}),
            Jsonb({"result": "failed", "message": f"+{PHONE}: too late"}),
        )

    def found(self, *, phone: bool = True) -> list[str]:
        """Return the tables, statistics and files that contain a name or the phone."""
        searched = [self.first, self.last, *([PHONE[1:], WRITTEN, "999 777-22-11"] if phone else [])]
        return [
            place
            for place, text in contents(self.query)
            if any(one in text or "\0".join(one) in text for one in searched)  # as plain text, and in UTF-16
        ]


def contents(query: Callable[..., list[tuple[Any, ...]]]) -> Iterator[tuple[str, str]]:
    """Yield the text of every table, of the planner's statistics, and of every file in the home."""
    tables = query("SELECT schemaname, tablename FROM pg_tables WHERE schemaname !~ '^(pg_|information_schema)'")
    for schema, table in sorted(tables):
        rows = query(f'SELECT t::text FROM "{schema}"."{table}" AS t')
        yield f"{schema}.{table}", "\n".join(sorted(row[0] for row in rows))
    statistics = query("SELECT s::text FROM pg_stats AS s WHERE schemaname !~ '^(pg_|information_schema)'")
    yield "pg_stats", "\n".join(sorted(row[0] for row in statistics))
    raw_files = RawFiles()
    for path in raw_files.paths():
        yield path, b"".join(raw_files.chunks(path)).decode(errors="replace")
    for file in sorted(path for path in settings().sales_home.rglob("*") if path.is_file()):
        yield str(file), file.read_bytes().decode(errors="replace")


@pytest.fixture
def person(engine_shop: Shop, query: Callable[..., list[tuple[Any, ...]]]) -> Person:
    person = Person(engine_shop, query, f"Zoe{secrets.token_hex(4)}", f"Quill{secrets.token_hex(4)}")
    engine_shop.reports.report([Order("u0", day="2024-10-01", customer_id="52")])
    person.deliver()
    return person


def forget(**selector: Any) -> Forgotten:
    home = settings().sales_home / "tmp"
    pseudonyms = Pseudonyms(selector.pop("secret", SECRET))
    return Forgetting(Warehouse(), RawFiles(), pseudonyms, home, lambda _: None).forget(**selector)


def why() -> list[dict[str, Any]]:
    with Warehouse().transaction("an explanation of the test", read_only=True) as transaction:
        explanation = explain(transaction, day_of(20241002))
    return [{**row, "path": ""} for row in (*explanation.candidates, explanation.staged or {}, *explanation.mart)]


def test_an_erased_person_is_found_in_no_table_or_file_and_sums_and_lineage_stay(person: Person) -> None:
    person.shop.load(DAY)
    person.use_services()
    person.query("ANALYZE")
    assert len(person.found()) >= 10  # otherwise the search below would prove nothing
    before = [person.query(SUMS), person.query(LINEAGE), why()]
    quarantined = person.shop.quarantined()

    done = forget(customer_id=51)
    remove_from_disk(Warehouse(), is_embedded=False)
    assert person.found() == []
    assert done.left == []
    assert done.counts == {
        "partner orders": 1,
        "answers of the partner": 1,
        "staged order events": 1,
        "mappings of phones": 1,
        "suppressed phones": 1,
        "clients of mailings": 1,
        "names": 1,
        "rows of d_customer": 1,
        "raw files": 1,
        "rejected rows": 4,
        "unrecorded files": 0,
    }
    assert [person.query(SUMS), person.query(LINEAGE), why()] == before
    # A value that is invalid for its column is masked, because it may be a name.
    assert person.shop.quarantined() == [(line, reason.replace("'many'", "'x'")) for line, reason in quarantined]
    assert person.query("SELECT first_name, last_name, name_as_of FROM mart.d_customer WHERE customer_id = 51") == [
        ("", "", None)
    ]
    assert person.query("SELECT first_name FROM mart.d_customer WHERE customer_id = 52") == [("Anna",)]
    assert person.query("SELECT count(*) FROM mailings.client") == [(1,)]
    # The order and its event can still be joined to the customer.
    assert person.query(
        "SELECT c.customer_id FROM staging.partner_order_event AS e"
        " JOIN staging.customer_of_phone AS c ON c.phone = mailings.phone_key(e.phone)"
        " JOIN orders.partner_order AS o ON o.phone = e.phone"
    ) == [(51,)]
    raw_files = RawFiles()
    (path,) = person.query("SELECT path, sha256 FROM raw.fetch WHERE kind = 'increment'")
    manifest = raw_files.manifest(path[0])
    assert manifest["sha256"] == path[1]
    assert [note.keys() for note in manifest["names_erased"]] == [{"at", "sha256_before"}]  # type: ignore[attr-defined]

    everything = list(contents(person.query))
    assert not forget(customer_id=51).is_changed
    assert not forget(phone=WRITTEN).is_changed
    assert list(contents(person.query)) == everything


def test_a_later_delivery_does_not_restore_an_erased_person(person: Person) -> None:
    person.shop.load(DAY)
    forget(customer_id=51)
    fetches = person.query("TABLE raw.fetch")
    sums = person.query(SUMS)

    person.shop.load(DAY)  # the same file
    assert person.query("TABLE raw.fetch") == fetches
    assert person.query(SUMS) == sums
    assert person.found() == []

    person.deliver(person.order("u6", first_name=f"New{person.first}"))
    person.shop.load(DAY)  # another file, and another name
    assert len(person.query("TABLE raw.fetch")) == len(fetches) + 1
    assert person.shop.sales(DAY)[-1][0] == "u6"
    assert person.found() == []

    person.shop.reports.report([person.order("u7")])
    person.shop.fetch_report()
    person.shop.rebuild_dimensions()
    assert person.found() == []


def test_names_parsed_before_an_erasure_are_not_stored_after_it(person: Person) -> None:
    person.shop.load(DAY)
    person.query("INSERT INTO staging.erased_customer VALUES (51)")
    person.query("DELETE FROM staging.name")
    person.query("UPDATE mart.d_customer SET first_name = '', last_name = '', name_as_of = NULL")
    person.query("UPDATE staging.staged_day SET revision = 0")
    person.shop.load(DAY)
    assert not {"staging.name", "mart.d_customer"} & set(person.found())
    assert person.query("SELECT first, second FROM staging.name WHERE dimension = 'd_customer' AND id = 51") == [
        ("", "")
    ]


def test_erasure_follows_a_phone_to_its_customer_and_the_customer_to_all_phones(person: Person) -> None:
    person.shop.load(DAY)
    person.use_services()
    person.query("INSERT INTO mailings.client (phone, operator_code, timezone) VALUES ('79995550000', '999', 'UTC')")
    person.query("INSERT INTO mailings.client_customer VALUES (3, 51, 'api')")
    forget(phone="+7 999 555-00-00")
    assert person.found() == []
    assert person.query("SELECT count(*) FROM mailings.erased_phone") == [(2,)]
    assert person.query("SELECT customer_id FROM staging.erased_customer") == [(51,)]


@pytest.mark.parametrize("selector", [{"customer_id": 51}, {"phone": PHONE}])
def test_the_phone_of_a_new_order_is_erased_by_the_next_request(person: Person, selector: dict[str, Any]) -> None:
    """A new order is stored with its phone, which only the pseudonym stored by the first request identifies."""
    person.use_services()
    forget(**selector)
    assert person.found() == []
    person.order_again()
    assert person.found() == ["orders.partner_order"]
    assert forget(**selector).counts["partner orders"] == 1
    assert person.found() == []
    phones = person.query("SELECT DISTINCT phone FROM orders.partner_order")
    assert phones == person.query("SELECT pseudonym FROM mailings.erased_phone")
    assert not forget(**selector).is_changed


def test_answers_of_the_partner_are_erased_whatever_they_quote(person: Person) -> None:
    """An answer may quote the name that was sent with the order, which no table contains."""
    person.use_services()
    refusal, answer = Jsonb({"message": f"{person.first} {person.last} is blocked"}), Jsonb({"result": "failed"})
    person.query("UPDATE orders.partner_order SET refusal = %s, cancel_answer = %s", refusal, answer)
    person.order_again()
    person.query("UPDATE orders.partner_order SET phone = '79990000000', order_id = 3 WHERE order_id = 2")
    forget(customer_id=51)
    assert person.query("SELECT order_id, refusal ->> 'message' FROM orders.partner_order ORDER BY order_id") == [
        (1, "erased"),
        (3, f"the phone {WRITTEN} is blocked"),
    ]
    assert person.query("SELECT cancel_answer FROM orders.partner_order WHERE order_id = 1") == [
        ({"result": "failed"},)
    ]


def test_a_mapping_file_does_not_restore_an_erased_phone(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    person.use_services()
    forget(customer_id=51)
    mapped = person.query("TABLE staging.partner_customer")
    monkeypatch.setenv("SALES_ERASURE_SECRET", SECRET)
    settings.cache_clear()
    store(Warehouse(), [Mapping("customer", WRITTEN, 51)])
    assert person.query("TABLE staging.partner_customer") == mapped
    monkeypatch.setenv("SALES_ERASURE_SECRET", "another key of the tests")
    settings.cache_clear()
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="SALES_ERASURE_SECRET"):
        store(Warehouse(), [Mapping("customer", WRITTEN, 51)])
    assert person.found() == []


def test_nothing_is_erased_if_the_phone_cannot_be_identified(person: Person) -> None:
    person.shop.load(DAY)
    person.use_services()
    everything = list(contents(person.query))
    with pytest.raises(ForgetError, match="SALES_ERASURE_SECRET is not set"):
        forget(customer_id=51, secret="")
    with pytest.raises(ForgetError, match="not a phone number"):
        forget(phone="7.99977722E+10")
    person.query("INSERT INTO staging.partner_customer VALUES ('89997772211', 53)")
    with pytest.raises(ForgetError, match=r"several customers \(51, 53\)"):
        forget(phone=PHONE)
    person.query("DELETE FROM staging.partner_customer WHERE customer_id = 53")
    assert list(contents(person.query)) == everything
    forget(phone="79990000000")
    for secret, complaint in (
        ("another key of the tests", "another SALES_ERASURE_SECRET"),
        ("", "SALES_ERASURE_SECRET is not set here"),
    ):
        for customer in (51, 52, 77):  # 77 has no phone
            with pytest.raises(ForgetError, match=complaint):
                forget(customer_id=customer, secret=secret)


@pytest.mark.parametrize("step", ["add", "delete", "manifest"])
def test_repeating_a_failed_erasure_completes_it(person: Person, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    person.shop.load(DAY)
    before = [person.query(SUMS), person.query(LINEAGE), why()]

    def fail(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RawFiles, step, fail)
        with pytest.raises(KeyboardInterrupt):
            forget(customer_id=51)
    assert person.found()
    forget(customer_id=51)
    assert person.found() == []
    assert [person.query(SUMS), person.query(LINEAGE), why()] == before
    stored = {path.removesuffix(".json") for path in RawFiles().paths()}
    assert stored == {path for (path,) in person.query("SELECT path FROM raw.fetch")}


def test_a_changed_raw_file_is_reported_and_not_erased(person: Person) -> None:
    person.shop.load(DAY)
    (path,) = person.query("SELECT path FROM raw.fetch WHERE file = 'user_orders_log' AND kind = 'increment'")[0]
    change_stored_file(str(path), b"something else")
    done = forget(customer_id=51)
    assert len(done.left) == 1
    assert "was changed or truncated" in done.left[0]


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-be"])
def test_a_file_in_utf_16_is_blanked_although_no_load_can_parse_it(person: Person, codec: str) -> None:
    """If the service delivers the file again, it is recognised and stored without the names."""
    rows = order_file([person.order("u1"), Order("u2", day=DAY, customer_id="52")], statuses=True)
    person.shop.reports.increment(DAY, None, user_orders_log=rows.encode(codec))
    person.shop.fail_to_load(DAY)
    assert person.found()
    assert forget(customer_id=51).left == []
    assert person.found() == []
    fetches = person.query("TABLE raw.fetch")
    [(path,)] = person.query("SELECT path FROM raw.fetch WHERE file = 'user_orders_log' AND kind = 'increment'")
    blanked = b"".join(RawFiles().chunks(path)).decode(codec)
    assert blanked == rows.replace(f"51,{person.first},{person.last},", "51,,,")
    assert "the file is UTF-16" in person.shop.fail_to_load(DAY)
    assert person.query("TABLE raw.fetch") == fetches
    assert person.found() == []


def test_a_file_that_cannot_be_searched_is_reported_until_it_is_deleted(person: Person) -> None:
    rows = order_file([person.order("u1")], statuses=True)
    names = {}
    for day, contents in (
        ("2024-10-03", gzip.compress(rows.encode())),
        ("2024-10-04", rows.replace(",", ";").encode()),
    ):
        person.shop.reports.increment(day, None, user_orders_log=contents)
        person.shop.fail_to_load(day)
        [(names[day],)] = person.query("SELECT path FROM raw.fetch WHERE first_day = %s AND kind = 'increment'", day)
    person.shop.reports.increment("2024-10-05", None, user_orders_log="\n")
    person.shop.fail_to_load("2024-10-05")
    for _ in range(2):
        left = forget(customer_id=51).left
        assert [sentence.partition(": ")[0] for sentence in left] == list(names.values())
        assert left[0].endswith(f"delete the file and {names['2024-10-03'].rpartition('/')[2]}.json")
        assert person.first not in str(left)
    # Only the uncompressed file shows the names. If it is in the home, it is listed twice, also with its full path.
    assert len({place.rpartition("/")[2] for place in person.found()}) == 1
    RawFiles().delete([name for path in names.values() for name in (path, f"{path}.json")])
    assert forget(customer_id=51).left == []
    assert person.found() == []


def test_files_of_killed_processes_are_deleted(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Partially written files exist on disks only, not in an object store."""
    monkeypatch.delenv("RAW_FILES_URL", raising=False)
    settings.cache_clear()
    person.shop.load(DAY)
    home = settings().sales_home
    folder = next((home / "raw" / "user_orders_log_inc").iterdir())
    (folder / ".0123.part").write_text(f"half of {person.first}")
    unrecorded = person.order("u9").line(1, statuses=True)
    (folder / "0123.csv").write_text(f"{folder.parent.parent.name}\n{unrecorded}\n")
    (folder / "4567.csv").write_bytes(gzip.compress(unrecorded.encode()))  # can't be searched
    (home / "tmp" / "spilled").mkdir(parents=True, exist_ok=True)
    (home / "tmp" / "spilled" / "rows-1").write_text(person.last)
    assert forget(customer_id=51).counts["unrecorded files"] == 3
    assert person.found() == []


def test_two_files_with_equal_contents_after_an_erasure_stay_separate(person: Person) -> None:
    person.shop.load(DAY)
    other = replace(person, first=f"Zoe{secrets.token_hex(4)}")
    other.deliver()
    person.shop.load(DAY)
    forget(customer_id=51)
    assert person.found() == other.found() == []
    hashes = person.query("SELECT sha256 FROM raw.fetch WHERE file = 'user_orders_log' AND kind = 'increment'")
    assert len(hashes) == 2
    assert len(set(hashes)) == 1
    person.shop.load(DAY)
    assert person.found() == other.found() == []


def test_a_correction_is_erased_from_the_audit_trail_too(person: Person) -> None:
    person.shop.load(DAY)
    number = person.shop.quarantined()[0][0]
    [(quarantine_id,)] = person.query("SELECT quarantine_id FROM staging.quarantine WHERE line_no = %s", number)
    names = {"first_name": person.first, "last_name": person.last}
    for uniq_id in ("wrong", "right"):  # the second correction replaces the first, which stays in the trail
        text = Order(uniq_id, day=DAY, customer_id="51", **names).line(number, statuses=True)
        with Warehouse().transaction("a steward of the test") as transaction:
            resolve(transaction, [Resolution(quarantine_id, CORRECT, text)], by="a steward", via="page")
    assert "staging.resolution" in person.found()
    forget(customer_id=51)
    assert person.found() == []
    trail = person.query("SELECT corrected_text FROM staging.resolution ORDER BY resolution_id")
    assert ["wrong" in trail[0][0], "right" in trail[1][0]] == [True, True]


@pytest.mark.parametrize("uniq_id", ["u3", "u8"])
def test_a_correction_does_not_restore_an_erased_name(person: Person, uniq_id: str) -> None:
    """A steward may submit a text from before the erasure, or correct a customer_id to that of an erased customer."""
    person.deliver(person.order("u8", customer_id="5l"))
    person.shop.load(DAY)
    [(number, line)] = person.query(
        "SELECT quarantine_id, line_no FROM staging.quarantine WHERE line_text LIKE %s", f"%,{uniq_id},%"
    )
    forget(customer_id=51)
    before = person.found()

    def correct(**names: str) -> None:
        text = Order(uniq_id, day=DAY, customer_id="51", **names).line(line, statuses=True)
        with Warehouse().transaction("a steward of the test") as transaction:
            resolve(transaction, [Resolution(number, CORRECT, text)], by="a steward", via="page")

    with pytest.raises(ResolutionError, match="names of customer 51 were erased: leave first_name, last_name empty"):
        correct(first_name=person.first, last_name=person.last)
    correct(first_name="", last_name="")
    person.shop.load(DAY)
    assert uniq_id in [sale[0] for sale in person.shop.sales(DAY)]
    assert person.found() == before


def test_no_file_of_the_database_server_contains_the_person(person: Person, server: EmbeddedPostgres) -> None:
    """The names are also absent from deleted rows and the write-ahead log, including segments kept for later use."""
    person.shop.load(DAY)
    person.query("SELECT pg_switch_wal()")
    person.query("CHECKPOINT")  # keeps the segment with the names, under the name of a later one
    unreadable = order_file([person.order("u1")], statuses=True).encode("utf-16")
    person.shop.reports.increment("2024-10-03", None, user_orders_log=unreadable)
    person.shop.fail_to_load("2024-10-03")
    person.query("UPDATE staging.fetch_reading SET reason = %s WHERE verdict = 'failed'", f"found {person.last}")
    person.query("ANALYZE")
    person.query("CHECKPOINT")

    def files() -> list[Path]:
        searched = [person.first.encode(), person.last.encode()]
        found = [path for path in (server.home / "data").rglob("*") if path.is_file()]
        return [path for path in found if any(one in path.read_bytes() for one in searched)]

    assert files()
    forget(customer_id=51)
    assert remove_from_disk(Warehouse(), is_embedded=True) == []
    assert files() == []


def test_an_interrupted_erasure_in_object_storage_is_completed_by_repeating_it(
    person: Person, storage_proxy: StorageProxy
) -> None:
    """A failing store keeps the old file or the new one; after the repetition, nothing of the old file is left."""
    person.shop.load(DAY)
    before = [person.query(SUMS), person.query(LINEAGE), why()]
    (path,) = person.query("SELECT path FROM raw.fetch WHERE file = 'user_orders_log' AND kind = 'increment'")[0]
    for failing in ("PUT ", "DELETE "):
        storage_proxy.failing = {failing: 503}
        assert forget(customer_id=51).left != []
        assert [person.query(SUMS), person.query(LINEAGE), why()] == before
    storage_proxy.failing = {}
    forget(customer_id=51)
    assert path not in stored_files()
    assert person.found() == []
    person.shop.load(DAY)
    assert person.found() == []
    assert set(stored_files()) == {
        stored for (path,) in person.query("SELECT path FROM raw.fetch") for stored in (path, f"{path}.json")
    }


def test_an_erasure_and_a_load_wait_for_each_other(person: Person, no_waiting_for_locks: None) -> None:
    person.shop.load(DAY)
    with (
        Warehouse().reading_raw_files("a load of the test"),
        Warehouse().reading_raw_files("another load of the test"),
        pytest.raises(psycopg.errors.LockNotAvailable),
    ):
        forget(customer_id=51)
    with (
        Warehouse().rewriting_raw_files("an erasure of the test"),
        pytest.raises(psycopg.errors.LockNotAvailable),
    ):
        person.shop.load(DAY)
