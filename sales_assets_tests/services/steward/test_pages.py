"""Steward's pages without a browser: filters, paging, forged and hostile requests.
``sales_assets_tests/ui/test_steward_pages.py`` tests how people use the pages.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from sales_assets_tests.builders import Order
from sales_assets_tests.fixtures import Shop
from sales_assets_tests.services.steward.fixtures import Steward, file_of_users, pages_running

DAY = "2024-10-02"
Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def users(tmp_path: Path) -> Path:
    return file_of_users(tmp_path, "anna", "boris")


@pytest.fixture
def steward(warehouse_url: str, users: Path) -> Iterator[Steward]:
    with pages_running(warehouse_url, users) as url:
        steward = Steward(url)
        assert steward.log_in().status_code == 303
        yield steward


@pytest.fixture
def rejected(engine_shop: Shop) -> Shop:
    """A day with one valid and three rejected orders, and a price list with one rejected row."""
    orders = [
        Order("a", day=DAY),
        Order("b", day=DAY, amount="1e2"),
        Order("c", day=DAY, amount="100%"),
        Order("d", day=DAY, quantity="-1"),
    ]
    engine_shop.reports.increment(DAY, orders, price_log="Milk,1\nBread,dear\n")
    engine_shop.load(DAY)
    return engine_shop


def numbers_in(page: requests.Response) -> set[int]:
    assert page.status_code == 200, page.text
    return {int(piece.split('"')[0]) for piece in page.text.split('name="id" value="')[1:]}


def test_filters_by_day_file_reason_and_state(rejected: Shop, steward: Steward) -> None:
    ids = {line: number for number, line in rejected.query("SELECT quarantine_id, line_text FROM staging.quarantine")}
    price = ids["Bread,dear"]
    amounts = {number for text, number in ids.items() if ",b," in text or ",c," in text}
    percent = next(number for text, number in ids.items() if "100%" in text)
    everything = set(ids.values())
    for query, expected in (
        ("", everything),
        (f"day={DAY}", everything),
        ("day=2024-10-03", set()),
        ("file=price_log", {price}),
        ("file=user_orders_log&reason=payment_amount+…+plain", amounts),
        ("reason=100%25'", {percent}),
        ("reason=%25", {percent}),  # not a wildcard
        ("reason=_", amounts),  # matches payment_amount
        ("state=all&day=&file=&reason=", everything),
    ):
        assert numbers_in(steward.get(f"/quarantine?{query}")) == expected, query
    steward.post(f"/quarantine/{price}", action="discard", seen="")
    assert numbers_in(steward.get("/quarantine")) == everything - {price}
    assert numbers_in(steward.get("/quarantine?state=all")) == everything
    # The page offers the reasons without their values, with the number of rows per reason.
    offered = steward.get("/quarantine").text
    assert '<option value="payment_amount … is not a plain decimal number">2 rows</option>' in offered


def test_invalid_filter_is_400_instead_of_matching_every_row(steward: Steward) -> None:
    """Unknown row numbers return 404."""
    for path in (
        *(
            "/quarantine?state=lost",
            "/quarantine?day=soon",
            "/quarantine?day=0000-00-00",
            "/days?day=2024-1-1",
            "/quarantine?file=passwd",
        ),
        *("/quarantine?page=0", "/quarantine?page=x", "/resolutions?page=-1", f"/quarantine?page={'9' * 20}"),
    ):
        assert steward.get(path).status_code == 400, path
    for number in ("4711", "0", "9" * 30, "-1", "1;DROP", "1%00"):
        assert steward.get(f"/quarantine/{number}").status_code == 404, number


def test_one_hundred_thousand_rows_are_paged_by_the_server(rejected: Shop, steward: Steward) -> None:
    rejected.query(
        "INSERT INTO staging.quarantine (fetch_id, line_no, date_id, reason, line_text)"
        " SELECT min(fetch_id), n, 20241002, 'made ' || n, repeat('x', 100)"
        " FROM raw.fetch, generate_series(10, 100009) AS n GROUP BY n RETURNING 1"
    )
    first = steward.get("/quarantine")
    assert "Page 1 of 2001, 100004 in all" in first.text
    assert len(numbers_in(first)) == 50
    assert len(first.content) < 200_000
    last = steward.get("/quarantine?page=2001&reason=&day=")
    assert "Page 2001 of 2001" in last.text
    assert len(numbers_in(last)) == 4
    assert "?reason=&amp;day=&amp;page=2000" in last.text
    assert "Page 1 of 2000, 100000 in all" in steward.get("/quarantine?reason=made+…").text


def test_selected_rows_are_resolved_all_or_none(rejected: Shop, steward: Steward, query: Query) -> None:
    numbers = sorted(numbers_in(steward.get("/quarantine?file=user_orders_log")))
    refused = steward.post("/quarantine/resolve", action="discard", id=[*numbers, 4711])
    assert refused.headers["location"].endswith("/admin/quarantine")
    assert "not in quarantine: 4711" in steward.get("/quarantine").text
    assert query("SELECT count(*) FROM staging.resolution") == [(0,)]
    done = steward.post("/quarantine/resolve", action="parse again", id=numbers)
    assert done.headers["location"].endswith("/admin/resolutions")
    assert query("SELECT action, resolved_by, count(*) FROM staging.resolution GROUP BY 1, 2") == [
        ("parse again", "anna", 3)
    ]
    steward.post("/quarantine/resolve", action="discard")
    assert "Select rows first" in steward.get("/quarantine").text
    assert steward.post("/quarantine/resolve", action="forget", id=numbers).status_code == 400


def many_rejected(shop: Shop, count: int = 120) -> None:
    """Load a day with one valid row and `count` rows rejected for a wrong status."""
    wrong = [Order(f"w{number}", day=DAY, status="refnuded") for number in range(count)]
    shop.reports.increment(DAY, [Order("a", day=DAY), *wrong], price_log="Milk,1\nBread,dear\n")
    shop.load(DAY)


def test_all_rows_that_match_are_resolved_in_one_transaction(engine_shop: Shop, steward: Steward, query: Query) -> None:
    """Resolving all matching rows includes rows of other pages; tested with discard, reopen and correct."""
    many_rejected(engine_shop)
    matching = "/quarantine/resolve?file=user_orders_log&state="

    def states() -> list[tuple[object, ...]]:
        return query("SELECT state, count(*) FROM staging.quarantine GROUP BY 1 ORDER BY 1")

    page = steward.get("/quarantine?file=user_orders_log").text
    assert "All 120 rows that match the filter" in page
    assert "Reopen selected" not in page
    assert "that match the filter" not in steward.get("/quarantine?file=price_log").text, "they are on the page"
    steward.post(f"{matching}open", action="discard", scope="matching", count=120, id=[])
    assert states() == [("discarded", 120), ("open", 1)]
    assert "120 rows resolved" in steward.get("/resolutions").text
    assert "Reopen selected" in steward.get("/quarantine?state=discarded").text
    steward.post(f"{matching}discarded", action="reopen", scope="matching", count=120)
    assert states() == [("open", 121)]
    assert "120 rows reopened" in steward.get("/resolutions").text
    steward.post(
        f"{matching}open", action="correct", scope="matching", count=120, find="refnuded", replacement="shipped"
    )
    assert states() == [("corrected", 120), ("open", 1)]
    engine_shop.load(DAY)
    assert query("SELECT count(*), sum(amount) FROM mart.f_sales") == [(121, 121 * 200)]
    trail = "SELECT action, resolved_by, count(*), count(DISTINCT xmin::text) FROM staging.resolution GROUP BY 1, 2"
    assert query(f"{trail} ORDER BY 1") == [(action, "anna", 120, 1) for action in ("correct", "discard", "reopen")]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"action": "discard", "count": 119}, "120 rows match the filter now, 119 when the page was shown"),
        (
            {"action": "correct", "find": "nonesuch", "replacement": "x"},
            "does not contain the text to replace",
        ),
        ({"action": "correct", "find": "", "replacement": "x"}, "does not contain the text to replace"),
        ({"action": "correct", "find": "refnuded", "replacement": "lost"}, "status &#39;lost&#39; is unknown"),
        ({"action": "reopen"}, "was neither corrected nor discarded"),
    ],
)
def test_bulk_resolution_changes_nothing_if_one_row_is_refused(
    engine_shop: Shop, steward: Steward, query: Query, fields: dict[str, Any], message: str
) -> None:
    many_rejected(engine_shop)
    done = steward.post("/quarantine/resolve?file=user_orders_log", **{"scope": "matching", "count": 120, **fields})
    assert done.headers["location"].endswith("/admin/quarantine?file=user_orders_log")
    page = steward.get("/quarantine?file=user_orders_log").text
    assert "Nothing was changed: " in page
    assert message in page
    assert query("SELECT count(*) FROM staging.resolution") == [(0,)]
    assert steward.get("/quarantine").status_code == 200, "the cookie of the session was not too long"


def test_more_than_10000_rows_are_refused_and_10000_are_resolved(
    engine_shop: Shop, steward: Steward, query: Query
) -> None:
    many_rejected(engine_shop, 1)
    query(
        "INSERT INTO staging.quarantine (fetch_id, line_no, date_id, reason, line_text)"
        " SELECT fetch_id, n, date_id, 'made', line_text || n FROM staging.quarantine, generate_series(10, 10009) AS n"
        " WHERE line_text LIKE '%refnuded' RETURNING 1"
    )
    assert "(at most 10000 at once: narrow the filter)" in steward.get("/quarantine?file=user_orders_log").text
    steward.post("/quarantine/resolve?file=user_orders_log", action="discard", scope="matching", count=10001)
    assert "More than 10000 rows match: narrow the filter" in steward.get("/quarantine").text
    assert query("SELECT count(*) FROM staging.resolution") == [(0,)]
    steward.post("/quarantine/resolve?reason=made", action="discard", scope="matching", count=10000)
    assert "10000 rows resolved; 1 day is loaded again" in steward.get("/resolutions").text
    assert query("SELECT count(*) FROM staging.quarantine WHERE state = 'discarded'") == [(10000,)]


def test_row_is_reopened_on_its_page(rejected: Shop, steward: Steward, query: Query) -> None:
    number = min(numbers_in(steward.get("/quarantine")))
    assert "Reopen the row" not in steward.get(f"/quarantine/{number}").text
    refused = steward.post(f"/quarantine/{number}", action="reopen", seen="")
    assert refused.status_code == 422
    assert "was neither corrected nor discarded" in refused.text
    steward.post(f"/quarantine/{number}", action="discard", seen="")
    assert "Reopen the row" in steward.get(f"/quarantine/{number}").text
    (seen,) = query("SELECT corrected_at FROM staging.quarantine WHERE quarantine_id = %s", number)[0]
    assert steward.post(f"/quarantine/{number}", action="reopen", seen=seen.isoformat()).status_code == 303
    assert "1 row reopened; 1 day is loaded again" in steward.get("/resolutions").text
    assert "reopen (page)" in steward.get("/audit").text
    assert number in numbers_in(steward.get("/quarantine"))


def test_audit_page_shows_changes_of_mailings(steward: Steward, query: Query) -> None:
    query(
        "INSERT INTO ops.admin_change (user_name, action, object, object_id, detail)"
        " VALUES ('boris', 'edit', 'mailing', 7, %s) RETURNING 1",
        '{"text": ["hello", "<script>"]}',
    )
    page = steward.get("/audit").text
    assert "boris" in page
    assert "edit mailing 7" in page
    assert "&lt;script&gt;" in page
    assert "2 in all" in page, "and the login"


def test_row_resolved_by_another_user_is_not_resolved_again(rejected: Shop, steward: Steward, query: Query) -> None:
    number = min(numbers_in(steward.get("/quarantine")))
    boris = Steward(steward.url.removesuffix("/admin"))
    boris.log_in("boris")
    assert boris.post(f"/quarantine/{number}", action="discard", seen="").status_code == 303
    late = steward.post(f"/quarantine/{number}", action="discard", seen="")
    assert late.status_code == 422
    assert "was resolved by another user meanwhile" in late.text
    assert query("SELECT resolved_by FROM staging.resolution") == [("boris",)]


def test_selected_row_resolved_by_another_user_is_not_resolved_again(
    rejected: Shop, steward: Steward, query: Query
) -> None:
    page = steward.get("/quarantine?file=user_orders_log")
    numbers = sorted(numbers_in(page))
    seen = re.findall(r'name="seen" value="([^"]*)"', page.text)
    boris = Steward(steward.url.removesuffix("/admin"))
    boris.log_in("boris")
    boris.post("/quarantine/resolve", action="discard", id=numbers[:1])
    steward.post("/quarantine/resolve", action="correct", find="1e2", replacement="100", id=numbers[:1], seen=seen)
    assert f"Nothing was changed: {numbers[0]}: was resolved by another user" in steward.get("/quarantine").text
    steward.post("/quarantine/resolve", action="discard", id=numbers[1:], seen=seen)
    assert query("SELECT resolved_by, count(*) FROM staging.resolution GROUP BY 1 ORDER BY 1") == [
        ("anna", 2),
        ("boris", 1),
    ]
    again = steward.get("/quarantine?state=discarded")
    seen = re.findall(r'name="seen" value="([^"]*)"', again.text)
    steward.post("/quarantine/resolve", action="reopen", id=numbers, seen=seen)
    assert numbers_in(steward.get("/quarantine?file=user_orders_log")) == set(numbers)
    assert steward.post("/quarantine/resolve", action="discard", id=numbers, seen="1 x").status_code == 400


def test_forged_forms_are_refused(rejected: Shop, steward: Steward, query: Query) -> None:
    """Forms without a page's CSRF token (as from another site) and forms without a session are refused."""
    number = min(numbers_in(steward.get("/quarantine")))
    for path in (f"/quarantine/{number}", "/quarantine/resolve"):
        fields = {"action": "discard", "id": number, "seen": ""}
        forged = steward.session.post(steward.url + path, data=fields, timeout=60, allow_redirects=False)
        assert forged.status_code == 403
        stranger = requests.post(steward.url + path, data=fields, timeout=60, allow_redirects=False)
        assert stranger.status_code in (303, 403)
    assert query("SELECT count(*) FROM staging.resolution") == [(0,)]


def test_hostile_texts_are_escaped_on_every_page(engine_shop: Shop, steward: Steward) -> None:
    """HTML in a row, its rejection reason, a correction or the header of its file is escaped on every page."""
    hostile = "<script>alert(1)</script>"
    engine_shop.reports.increment(
        DAY, None, price_log=f"Milk,1\n{hostile},dear\n", user_orders_log=hostile_orders(hostile)
    )
    engine_shop.load(DAY)
    numbers = numbers_in(steward.get("/quarantine"))
    assert len(numbers) == 2
    steward.post(f"/quarantine/{min(numbers)}", action="correct", seen="", text=f"{hostile},7")
    steward.post(f"/quarantine/{max(numbers)}", action="correct", seen="", text=f"{hostile},7")
    paths = [f"/quarantine?reason={hostile}", "/quarantine?state=all", "/resolutions", "/audit", f"/days?day={DAY}"]
    for path in [*paths, *(f"/quarantine/{number}" for number in numbers)]:
        page = steward.get(path)
        assert page.status_code == 200
        assert hostile not in page.text, path
        assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "&lt;script&gt;" in steward.get("/quarantine?state=all").text


def hostile_orders(text: str) -> str:
    columns = (
        "id,uniq_id,date_time,city_id,city_name,customer_id,first_name,last_name,item_id,item_name",
        "quantity,payment_amount",
        text,
    )
    header = ",".join(columns)
    good = f"1,a,{DAY}T00:00:00,1,{text},51,Anna,Orlova,3,Milk,2,200,x"
    return f"{header}\n{good}\n{good.replace(',a,', ',b,').replace('200', text)}\n"


def test_line_break_in_a_corrected_value_is_stored_as_lf(engine_shop: Shop, steward: Steward, query: Query) -> None:
    """Browsers submit line breaks as CRLF; the file has LF."""
    engine_shop.reports.increment(DAY, [Order("a", day=DAY)], price_log='Milk,1\n"two\nlines",dear\n')
    engine_shop.load(DAY)
    (number,) = numbers_in(steward.get("/quarantine"))
    done = steward.post(f"/quarantine/{number}", action="correct", seen="", crlf="no", text='"two\r\nlines",5')
    assert done.status_code == 303, done.text
    assert query("SELECT corrected_text FROM staging.quarantine") == [('"two\nlines",5',)]


def test_day_without_a_stored_file(steward: Steward) -> None:
    page = steward.get("/days?day=9999-12-31")
    assert page.status_code == 200
    assert "No stored file covers the day" in page.text
