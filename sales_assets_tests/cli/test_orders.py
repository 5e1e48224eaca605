"""`sales-assets orders map` and `orders waiting`."""

from collections.abc import Callable
from pathlib import Path

from sales_assets_tests.cli.conftest import Run


def test_a_phone_of_two_customers_is_reported_by_map_and_doctor(
    run_with_warehouse: Run, query: Callable[..., list[tuple[object, ...]]], tmp_path: Path
) -> None:
    file = tmp_path / "mapping.csv"
    file.write_text("kind,theirs,ours\nitem,58,3\ncustomer,+7 (999) 777-22-11,51\ncustomer,8 999 777 22 11,52\n")
    done = run_with_warehouse("orders", "map", str(file))
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "3 mapped; 0 events will be loaded again",
        "phone 79997772211 is mapped to several customers (51, 52), so it is not used",
    ]
    lines = run_with_warehouse("doctor").stdout.splitlines()
    assert "   orders: 1 phones are mapped to several customers and therefore unused" in lines


def test_rejected_mapping_file_stores_no_rows(
    run_with_warehouse: Run, query: Callable[..., list[tuple[object, ...]]], tmp_path: Path
) -> None:
    file = tmp_path / "mapping.csv"
    for content, reason in (
        (b"kind,theirs,ours\nitem,58,3\nitem,5\x008,3\n", "line 3: holds a character that is not text"),
        (b"kind,theirs,ours\nitem,58,3\ncustomer,no phone,3\n", "line 3: 'no phone' is not a phone number"),
        (b"kind,theirs,ours\nitem,58,3\nitem,\xcc\xee\xeb,3\n", "line 3: not UTF-8"),
    ):
        file.write_bytes(content)
        done = run_with_warehouse("orders", "map", str(file))
        assert done.returncode == 1
        assert reason in done.stderr.replace("\n", " ")
        assert "Traceback" not in done.stderr
        assert query("SELECT count(*) FROM staging.partner_item") == [(0,)]


def test_waiting_shows_the_normalized_phone(
    run_with_warehouse: Run, query: Callable[..., list[tuple[object, ...]]]
) -> None:
    query(
        """INSERT INTO staging.partner_order_event (message_id, kind, project_id, kodpost, order_id, their_order_id,
               their_pharmacy_id, phone, dated_at, lines)
           VALUES ('8-1-accepted', 'accepted', 8, 116897, 1, '777', '1086', '8 (999) 777-22-11', now(), '[]')"""
    )
    query(
        "INSERT INTO staging.partner_order_quarantine"
        " VALUES ('8-1-accepted', 1, 'shipped', 20240620, 'the customer''s phone has no mapping')"
    )
    assert "79997772211" in run_with_warehouse("orders", "waiting").stdout
