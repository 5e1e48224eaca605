"""`sales-assets suppressions`: import, export and remove."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sales_assets_tests.cli.conftest import Run

TIMES = "SELECT phone, source, suppressed_at FROM mailings.suppression ORDER BY phone"
ALL = "SELECT phone, source FROM mailings.suppression ORDER BY phone"


def test_exported_file_can_be_imported(
    run_with_warehouse: Run, query: Callable[..., list[tuple[object, ...]]], tmp_path: Path
) -> None:
    file, exported = tmp_path / "stop.csv", tmp_path / "all.csv"
    file.write_text("note,phone\nx,+7 (999) 777-22-11\ny,8 999 777 22 12\nz,79997772211\n")
    assert run_with_warehouse("suppressions", "import", str(file)).stdout == "2 phones; 2 were not suppressed before\n"
    assert query(ALL) == [("79997772211", "import"), ("79997772212", "import")]
    assert run_with_warehouse("suppressions", "export", str(exported)).returncode == 0
    assert [line.split(",")[:2] for line in exported.read_text().splitlines()] == [
        ["phone", "source"],
        ["79997772211", "import"],
        ["79997772212", "import"],
    ]
    assert exported.stat().st_mode & 0o077 == 0
    before = query(TIMES)
    query("DELETE FROM mailings.suppression WHERE phone = '79997772212'")
    assert (
        run_with_warehouse("suppressions", "import", str(exported)).stdout == "2 phones; 1 were not suppressed before\n"
    )
    assert query(TIMES) == before
    assert run_with_warehouse("suppressions", "remove", "8 (999) 777-22-11").stdout == "removed\n"
    assert run_with_warehouse("suppressions", "remove", "8 (999) 777-22-11").stdout == "the phone is not suppressed\n"
    assert query(ALL) == [("79997772212", "import")]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"79997772211\n", "line 1: expected a header with the column phone"),
        (b"phone\n79997772211\n12\n", "line 3: '12' is not a Russian phone number"),
        (b"phone,suppressed_at\n79997772211,yesterday\n", "line 2: 'yesterday' is not an ISO 8601 time"),
        (b"phone,suppressed_at\n79997772211,0001-01-01T00:00+03\n", "line 2: '0001-01-01T00:00+03' is not an ISO 8601"),
        (b"phone\n7999777\x002211\n", "line 2: '7999777\\x002211' is not a Russian phone number"),
        (b'phone\n79997772211\n"7\n', "line 3: unexpected end of data"),
        (b"phone\n\xcc\n", "not UTF-8 at byte 6"),
    ],
)
def test_rejected_file_stores_no_rows(
    run_with_warehouse: Run, query: Callable[..., list[tuple[object, ...]]], tmp_path: Path, content: bytes, reason: str
) -> None:
    file = tmp_path / "stop.csv"
    file.write_bytes(content)
    done = run_with_warehouse("suppressions", "import", str(file))
    assert done.returncode == 1
    assert reason in done.stderr.replace("\n", " ")
    assert query(ALL) == []
