"""Identity by contents (docs/data-contracts/day-rules.md, "Raw file" and "Resolution"): repeated deliveries, and
permanent resolutions.
"""

import threading
from decimal import Decimal
from typing import Any

import dagster as dg
import pytest

from sales_assets.pipeline import extract, load
from sales_assets.pipeline.extract import known_contents
from sales_assets.pipeline.stage import stage_days
from sales_assets.postgres.warehouse import Transaction
from sales_assets_tests.builders import Order, load_days
from sales_assets_tests.fixtures import RAW, Shop, change_stored_file, failure_of, stored_files
from sales_assets_tests.staging.conftest import Replay

DAY, OTHER = "2024-10-01", "2024-10-02"
BAD = Order("b", amount="ten")


def stored(shop: Shop) -> list[str]:
    """Return the paths of the raw files; check that files and records correspond."""
    files = sorted(stored_files())
    recorded = [path for (path,) in shop.query("SELECT path FROM raw.fetch")]
    assert files == sorted([*recorded, *(f"{path}.json" for path in recorded)])
    return files


def stored_records(shop: Shop) -> list[tuple[Any, ...]]:
    """Return the records of all contents, their parse results and staged days, including the times."""
    return shop.query(
        "SELECT f.*, r.*, s.date_id, s.revision, s.staged_at FROM raw.fetch AS f"
        " LEFT JOIN staging.fetch_reading AS r USING (fetch_id) LEFT JOIN staging.staged_day AS s"
        " ON (s.file, s.fetch_id) = (f.file, f.fetch_id) ORDER BY f.fetch_id, s.date_id"
    )


def number(shop: Shop, line_no: int, *, fetch: int = -1, file: str = "user_orders_log") -> int:
    """Return the number of a rejected row in the n-th stored contents of a file."""
    fetches = shop.query("SELECT fetch_id FROM raw.fetch WHERE file = %s ORDER BY fetch_id", file)
    ((found,),) = shop.query(
        "SELECT quarantine_id FROM staging.quarantine WHERE (fetch_id, line_no) = (%s, %s)", fetches[fetch][0], line_no
    )
    return int(found)


def states(shop: Shop) -> list[tuple[Any, ...]]:
    """Return (n-th contents, line, state, whether inherited) of all rejected rows."""
    return shop.query(
        "SELECT dense_rank() OVER (ORDER BY fetch_id), line_no, state, inherited_from IS NOT NULL"
        " FROM staging.quarantine ORDER BY 1, 2"
    )


def sums(shop: Shop) -> dict[int, Decimal]:
    return dict(shop.query("SELECT date_id, sum(amount) FROM mart.f_sales GROUP BY date_id"))


def test_a_corrected_late_refund_stays_corrected(shop: Shop, replay: Replay) -> None:
    """Late refunds are delivered in the files of later days, whose period does not include the refund's day."""
    days = ["2024-10-01", "2024-10-02", "2024-10-03"]
    late = Order("a", day=days[0], quantity="1", amount="120", status="refunded")
    shop.reports.report([Order("x", day="2024-09-30", amount="240"), Order("y", day="2024-09-30", amount="50")])
    shop.reports.increment(
        days[0], [Order("a", day=days[0], amount="240"), Order("b", day=days[0], quantity="4", amount="200")]
    )
    shop.reports.increment(
        days[1],
        [
            Order("c", day=days[1], amount="120"),
            late,
            Order("b", day=days[1], quantity="4", amount="200", status="refunded"),
        ],
    )
    shop.reports.increment(days[2], [late, Order("d", day=days[2], amount="120")])
    shop.load("2024-09-30", days[2])
    assert sums(shop) == {20240930: 290, 20241001: 440, 20241002: -80, 20241003: 120}
    assert states(shop) == [(1, 3, "open", False), (2, 2, "open", False)]

    corrected = {number(shop, 3, fetch=2): late.but(day=days[1]).line(2, statuses=True)}
    assert replay(corrected).failures == []
    replayed = {20240930: 290, 20241001: 440, 20241002: -200, 20241003: 120}
    assert sums(shop) == replayed
    before, files, ids = stored_records(shop), stored(shop), shop.query("SELECT * FROM mart.f_sales ORDER BY id")
    for _ in range(2):
        shop.fetch_report()
        shop.load("2024-09-30", days[2])
        assert sums(shop) == replayed
        assert replay(corrected).failures == []
    assert shop.query("SELECT * FROM mart.f_sales ORDER BY id") == ids
    assert stored(shop) == files
    # Each delivery is recorded, but only the replays of the second day stored or parsed contents again.
    assert [row for row in stored_records(shop) if row[4] != before[2][4]] == [
        row for row in before if row[4] != before[2][4]
    ]
    assert shop.query("SELECT count(*), count(DISTINCT fetch_id) FROM raw.file_delivery") == [(12, 4)]
    assert states(shop) == [(1, 3, "corrected", False), (2, 2, "open", False)]


def test_repeated_contents_are_neither_stored_nor_parsed_again(shop: Shop) -> None:
    """Repeated contents of all four files, in reports and increments, are skipped; new contents are processed."""
    files: dict[str, Any] = {
        "price_log": "Milk,100\n",
        "custom_research": f"date_id,category_id,geo_id,sales_qty,sales_amt\n{DAY},1,2,3,4.5\n",
        "user_activity_log": f"id,uniq_id,date_time,action_id,customer_id,quantity\n1,u,{DAY},1,51,0\n",
    }
    shop.reports.report([Order("r", day="2024-09-30"), Order("s")], **files)
    shop.reports.increment(DAY, [Order("a"), BAD], **files)
    shop.load("2024-09-30", DAY)
    before, on_disk = stored_records(shop), stored(shop)
    assert len(on_disk) == 16
    shop.fetch_report()
    shop.load("2024-09-30", DAY)
    assert stored_records(shop) == before
    assert stored(shop) == on_disk
    repeated = shop.query("SELECT count(*), count(DISTINCT fetch_id) FROM raw.file_delivery")
    assert repeated == [(16, 8)]
    assert shop.query("SELECT count(*) FROM raw.file_delivery WHERE number = fetch_id") == [(8,)]
    shop.reports.increment(DAY, [Order("a")], **{**files, "price_log": "Milk,101\n"})
    shop.load(DAY)
    assert len(stored(shop)) == 20
    assert shop.query("SELECT price FROM staging.price_log WHERE date_id = 20241001") == [(101,)]


def test_equal_contents_of_different_days_or_files_are_stored_separately(shop: Shop) -> None:
    for day in (DAY, OTHER):
        shop.reports.increment(day, [], price_log="Milk,100\n", custom_research="Milk,100\n")
    assert "custom_research_inc/2024-10-01" in shop.fail_to_load(DAY, OTHER)
    assert shop.query("SELECT file, count(*) FROM raw.fetch WHERE kind = 'increment' GROUP BY 1 ORDER BY 1") == [
        ("custom_research", 2),
        ("price_log", 2),
        ("user_orders_log", 2),
    ]
    assert shop.query("SELECT date_id FROM staging.price_log ORDER BY 1") == [(20241001,), (20241002,)]


@pytest.mark.parametrize("reissued", ["increment", "report"])
def test_the_latest_delivery_counts_even_if_its_contents_were_delivered_first(
    shop: Shop, replay: Replay, reissued: str
) -> None:
    """After contents A, B and A again, the day has A, with its former fetch number, lineage and resolution."""

    def deliver(*orders: Order) -> None:
        if reissued == "increment":
            shop.reports.increment(DAY, orders)
        else:
            shop.reports.report(orders)
            shop.fetch_report()
        shop.load(DAY)

    statuses = reissued == "increment"
    shop.fetch_report() if statuses else None
    deliver(Order("a", amount="10"), BAD)
    replay({number(shop, 3): BAD.but(amount="1").line(2, statuses=statuses)})
    assert shop.sales() == [("a", 10), ("b", 1)]
    lineage = shop.query("SELECT uniq_id, fetch_id, file, line_no FROM mart.f_sales_lines ORDER BY 1")
    deliver(Order("a", amount="20"))
    assert shop.sales() == [("a", 20)]
    for _ in range(2):
        deliver(Order("a", amount="10"), BAD)
        assert shop.sales() == [("a", 10), ("b", 1)]
    assert shop.query("SELECT uniq_id, fetch_id, file, line_no FROM mart.f_sales_lines ORDER BY 1") == lineage
    deliver(Order("a", amount="20"))
    assert shop.sales() == [("a", 20)]
    assert len(stored(shop)) == 4
    deliveries = shop.query("SELECT number, fetch_id FROM raw.file_delivery ORDER BY delivery_id")
    first, second = (fetch for (fetch,) in shop.query("SELECT fetch_id FROM raw.fetch ORDER BY fetch_id"))
    assert [fetch for _, fetch in deliveries] == [first, second, first, first, second]
    assert [given for given, _ in deliveries] == sorted(given for given, _ in deliveries)


def test_contents_without_statuses_are_never_preferred_after_repeated_deliveries(shop: Shop) -> None:
    """The latest delivery is the last selection rule, not the first."""
    editions: list[tuple[list[Order | str], bool]] = [
        ([Order("old")], False),
        ([Order("new", status="refunded")], True),
        ([Order("old")], False),
    ]
    for orders, statuses in editions:
        shop.reports.increment(DAY, orders, statuses=statuses)
        shop.load(DAY)
    assert shop.sales() == [("new", -200)]
    shop.reports.report([Order("report"), Order("x", day="2024-09-30")], statuses=True)
    shop.fetch_report()
    shop.load(DAY)
    assert shop.sales() == [("new", -200)]


@pytest.mark.parametrize("choice", ["corrected", "discarded"])
def test_new_contents_inherit_the_resolution_of_an_identical_row(shop: Shop, replay: Replay, choice: str) -> None:
    duplicate = Order("a", amount="999").line(9, statuses=True)
    shop.reports.increment(DAY, [Order("a"), BAD, duplicate, Order("z")])
    shop.load(DAY)
    assert shop.sales() == [("z", 200)]
    replay(discard=number(shop, 4))
    if choice == "corrected":
        replay({number(shop, 3): BAD.but(amount="10").line(2, statuses=True)})
    else:
        replay(discard=number(shop, 3))
    own = [("b", 10)] if choice == "corrected" else []
    assert shop.sales() == [("a", 200), *own, ("z", 200)]
    origin = [number(shop, 3), number(shop, 4)]

    # The same two rejected rows, on other lines of different contents.
    shop.reports.increment(
        DAY, [Order("new"), duplicate, BAD.line(2, statuses=True), Order("a").line(1, statuses=True)]
    )
    shop.load(DAY)
    assert shop.sales() == [("a", 200), *own, ("new", 200)]
    rows = "SELECT line_no, state, inherited_from FROM staging.quarantine ORDER BY fetch_id, line_no OFFSET 3"
    assert shop.query(rows) == [(3, "discarded", origin[1]), (4, choice, origin[0]), (5, "resolved", None)]
    assert shop.quarantined() == []


def test_a_row_corrected_at_the_second_attempt_passes_on_its_resolution(shop: Shop, replay: Replay) -> None:
    """The first correction had the key of another line."""
    shop.reports.increment(DAY, [Order("a"), BAD])
    shop.load(DAY)
    replay({number(shop, 3): BAD.but(uniq_id="a", amount="10").line(2, statuses=True)})
    assert (shop.sales(), len(shop.quarantined())) == ([("a", 200)], 2)
    replay({number(shop, 3): BAD.but(amount="10").line(2, statuses=True)})
    shop.reports.increment(DAY, [Order("new"), BAD])
    shop.load(DAY)
    assert shop.sales() == [("b", 10), ("new", 200)]


def test_a_changed_rejected_row_inherits_no_resolution(shop: Shop, replay: Replay) -> None:
    shop.reports.increment(DAY, [Order("a"), BAD])
    shop.load(DAY)
    replay({number(shop, 3): BAD.but(amount="10").line(2, statuses=True)})
    for changed in (BAD.but(amount="eleven"), BAD.but(city_name="Rostov "), BAD.but(day=OTHER)):
        shop.reports.increment(DAY, [Order("a"), changed])
        shop.load(DAY)
        assert shop.sales() == [("a", 200)]
        assert len(shop.quarantined()) == 1
        shop.query("UPDATE staging.quarantine SET state = 'resolved' WHERE state = 'open'")


def test_a_row_of_another_day_inherits_no_resolution(shop: Shop, replay: Replay) -> None:
    """An identical text without a date, or with a date outside the period of both files, is a different row."""
    outside = Order("o", day="2024-09-20").line(7, statuses=True)
    shop.reports.increment(DAY, [Order("a"), "what is this", outside], price_log="Milk,1\nBread,dear\n")
    shop.load(DAY)
    for line_no in (3, 4):
        replay(discard=number(shop, line_no))
    replay({number(shop, 2, file="price_log"): "Bread,7"})
    shop.reports.increment(OTHER, [Order("b", day=OTHER), "what is this", outside], price_log="Milk,1\nBread,dear\n")
    shop.load(OTHER)
    assert [line_no for line_no, _ in shop.quarantined()] == [3, 4, 2]
    assert shop.query("SELECT date_id, item_name, price FROM staging.price_log ORDER BY 1, 2") == [
        (20241001, "Bread", 7),
        (20241001, "Milk", 1),
        (20241002, "Milk", 1),
    ]
    # Another price list of the same day inherits the resolution.
    shop.reports.increment(DAY, [Order("a")], price_log="Milk,2\nBread,dear\n")
    shop.load(DAY)
    assert shop.query("SELECT item_name, price FROM staging.price_log WHERE date_id = 20241001 ORDER BY 1") == [
        ("Bread", 7),
        ("Milk", 2),
    ]


def test_each_of_two_identical_rejected_rows_has_a_separate_resolution(shop: Shop, replay: Replay) -> None:
    """When other contents repeat both rows, each row keeps its resolution."""
    twice = [BAD.line(2, statuses=True)] * 2
    shop.reports.increment(DAY, [Order("a"), *twice])
    shop.load(DAY)
    replay({number(shop, 4): BAD.but(amount="10").line(2, statuses=True)})
    for extra in range(3):
        assert shop.sales() == [("a", 200), ("b", 10)] + [("n", 200)] * bool(extra)
        assert [state for *_, state, _ in states(shop)[-2:]] == ["open", "corrected"]
        shop.reports.increment(DAY, [Order("a"), *twice, *[Order("n")] * (extra + 1)])
        shop.load(DAY)
    # If the second row is corrected too, it is an exact duplicate; a third copy was never resolved.
    replay({number(shop, 3): BAD.but(amount="10").line(2, statuses=True)})
    shop.reports.increment(DAY, [Order("a"), *twice, twice[0]])
    shop.load(DAY)
    assert shop.sales() == [("a", 200), ("b", 10)]
    assert [line_no for line_no, _ in shop.quarantined()] == [5]


def test_the_latest_resolution_counts_in_all_contents_with_the_row(shop: Shop, replay: Replay) -> None:
    """A row resolved in the second contents is also resolved in the first, once these are delivered again."""
    editions = [[Order("a"), BAD], [Order("a"), BAD, Order("c")]]
    for orders in editions:
        shop.reports.increment(DAY, orders)
        shop.load(DAY)
    done = replay({number(shop, 3, fetch=1): BAD.but(amount="10").line(2, statuses=True)})
    assert done.also == [number(shop, 3, fetch=0)]
    shop.reports.increment(DAY, editions[0])
    shop.load(DAY)
    assert shop.sales() == [("a", 200), ("b", 10)]
    # Change the decision on the row that inherited it.
    replay(discard=number(shop, 3, fetch=0))
    assert shop.sales() == [("a", 200)]
    assert states(shop) == [(1, 3, "discarded", False), (2, 3, "discarded", True)]
    shop.reports.increment(DAY, editions[1])
    shop.load(DAY)
    assert shop.sales() == [("a", 200), ("c", 200)]
    assert states(shop) == [(1, 3, "discarded", False), (2, 3, "discarded", True)]


def test_contents_with_only_resolved_rows_do_not_fail_their_day(shop: Shop, replay: Replay) -> None:
    """Before the resolutions are inherited, every row of the contents is rejected."""
    shop.reports.increment(DAY, [Order("a"), BAD])
    shop.load(DAY)
    replay({number(shop, 3): BAD.but(amount="10").line(2, statuses=True)})
    shop.reports.increment(DAY, [BAD.line(2, statuses=True)])
    shop.load(DAY)
    assert shop.sales() == [("b", 10)]


def test_a_resolution_in_an_increment_applies_to_a_report_of_the_day(shop: Shop, replay: Replay) -> None:
    bad = BAD.line(2, statuses=True)
    shop.reports.increment(DAY, [Order("a").line(1, statuses=True), bad])
    shop.load(DAY)
    replay({number(shop, 3): BAD.but(amount="10").line(2, statuses=True)})
    shop.reports.without_increment(DAY)
    shop.reports.report([Order("x", day="2024-09-30"), bad, Order("a")], statuses=True)
    shop.fetch_report()
    shop.load("2024-09-30", DAY)
    report = (
        "SELECT state, inherited_from FROM staging.quarantine JOIN raw.fetch USING (fetch_id) WHERE kind = 'report'"
    )
    assert shop.query(report) == [("corrected", number(shop, 3, fetch=0))]


def test_a_day_is_never_staged_without_its_inherited_resolutions(
    shop: Shop, replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers see the former rows of the day, then the complete new rows."""
    shop.reports.increment(DAY, [Order("a"), BAD])
    shop.load(DAY)
    replay({number(shop, 3): BAD.but(amount="10").line(2, statuses=True)})
    staged: list[int] = []

    def counted(transaction: Transaction, *arguments: Any) -> None:
        stage_days(transaction, *arguments)
        (rows,) = transaction.connection.execute("SELECT count(*) AS n FROM staging.user_orders_log").fetchall()
        staged.append(rows["n"])

    monkeypatch.setattr(load, "stage_days", counted)
    shop.reports.increment(DAY, [Order("a"), BAD, Order("c")])
    shop.load(DAY)
    assert staged == [3]


def test_two_loads_of_the_same_new_contents_store_one_copy(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two loads look for the contents before either records them."""
    shop.fetch_report()
    shop.reports.increment(DAY, [Order("a"), BAD], price_log="Milk,1\n")
    barrier = threading.Barrier(2)
    failures: list[str] = []

    def known_contents_at_barrier(*arguments: Any) -> Any:
        found = known_contents(*arguments)
        barrier.wait(timeout=120)
        return found

    def load() -> None:
        with dg.DagsterInstance.ephemeral() as instance:
            run = load_days(instance, DAY)
            failures.extend([] if run.success else [failure_of(run)])

    monkeypatch.setattr(extract, "known_contents", known_contents_at_barrier)
    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=180)
    assert failures == []
    assert len(stored(shop)) == 4
    assert shop.query("SELECT count(*), count(DISTINCT fetch_id) FROM raw.file_delivery") == [(4, 2)]
    assert shop.sales() == [("a", 200)]
    assert len(shop.quarantined()) == 1


def test_delivered_but_unstaged_contents_are_staged_by_the_next_load(shop: Shop) -> None:
    """A load may die between recording and staging, with repeated or new contents."""
    for name in ("a", "b"):
        shop.reports.increment(DAY, [Order(name)])
        shop.load(DAY)
    for name in ("a", "c"):
        shop.reports.increment(DAY, [Order(name)])
        shop.load(DAY, selection=RAW)
        assert shop.sales() != [(name, 200)]
        shop.reports.without_increment(DAY)
        shop.load(DAY)
        assert shop.sales() == [(name, 200)]


def test_unusable_contents_fail_their_day_again(shop: Shop) -> None:
    """A repeated delivery never turns a failure into success."""
    shop.reports.increment(DAY, [Order("a")])
    shop.load(DAY)
    shop.reports.increment(DAY, None, user_orders_log="what is this\n")
    errors = [shop.fail_to_load(DAY) for _ in range(2)]
    assert errors[0] == errors[1]
    assert shop.sales() == [("a", 200)]
    assert shop.query("SELECT count(*) FROM raw.fetch WHERE kind = 'increment'") == [(2,)]


@pytest.mark.parametrize("damage", ["gone", "damaged"])
def test_a_lost_raw_file_is_restored_by_its_next_delivery(shop: Shop, damage: str) -> None:
    shop.reports.increment(DAY, [Order("a")])
    shop.load(DAY)
    ((path,),) = shop.query("SELECT path FROM raw.fetch")
    contents = stored_files()[path]
    change_stored_file(path, None if damage == "gone" else b"x" * len(contents))
    shop.load(DAY)
    assert stored_files()[path] == contents
    assert len(stored(shop)) == 2
    assert shop.query("SELECT count(*) FROM raw.file_delivery") == [(2,)]
