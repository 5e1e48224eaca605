"""Injection: no name, row or argument from outside is interpreted as SQL, a template, markup or a formula."""

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sales_assets.postgres.queries import sql_folder
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets_tests.architecture.modules import PACKAGE
from sales_assets_tests.builders import Order, ReportFolderBuilder
from sales_assets_tests.cli.conftest import Run, run_in_process, run_with_warehouse
from sales_assets_tests.services.partner_orders.conftest import start
from sales_assets_tests.services.partner_orders.fixtures import Service, order

__all__ = ["run_in_process", "run_with_warehouse", "start"]

Query = Callable[..., list[tuple[object, ...]]]
DAY = "2024-10-01"

HOSTILE = [
    "'; DROP TABLE mart.f_sales; --",
    "%(day)s %s %% %(nothing)d",
    "{} {0} {name!r} ${HOME} {{ }}",
    "\\' \\\\ \\n \\x00 \\N",
    "\\.",
    "a\n\\.\nb",
    '"; SELECT pg_sleep(60); --',
    "$$; DROP SCHEMA staging CASCADE; $$",
    ":name [bold] :boom: [/]",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd",
    "\t=1+1",
]
TABLES = "SELECT count(*) FROM information_schema.tables WHERE table_schema IN ('raw', 'staging', 'mart', 'orders')"


def quoted(text: str) -> str:
    return '"{}"'.format(text.replace('"', '""'))


def hostile_order(number: int, text: str) -> Order:
    cell = quoted(text)
    return Order(cell, city_name=cell, first_name=cell, last_name=cell, item_name=cell, item_id=str(number))


def test_names_in_files_are_not_interpreted(
    run_with_warehouse: Run, reports: ReportFolderBuilder, report_api: ReportApi, query: Query
) -> None:
    """Load hostile names, replay them from quarantine, and print them with every command."""
    tables = query(TABLES)
    good = [hostile_order(number, text) for number, text in enumerate(HOSTILE)]
    bad = [hostile_order(number, text).but(status=quoted(text)) for number, text in enumerate(HOSTILE, start=100)]
    prices = "".join(f"{quoted(text)},1\n" for text in HOSTILE)
    reports.increment(DAY, [*good, *bad], price_log=prices)
    done = run_with_warehouse("load", "--from", DAY, "--to", DAY)
    assert done.returncode == 0, done.stderr

    stdout = run_with_warehouse("quarantine", "list", "--json").stdout
    waiting = [json.loads(line) for line in stdout.split("\n") if line]
    assert len(waiting) == len(HOSTILE)
    for row, text in zip(waiting, HOSTILE, strict=True):
        corrected = (
            hostile_order(200 + row["line_no"], text).but(uniq_id=quoted(f"corrected {text}")).line(1, statuses=True)
        )
        done = run_with_warehouse("quarantine", "replay", str(row["quarantine_id"]), "--line", corrected)
        assert (done.returncode, done.stdout) == (0, f"{row['quarantine_id']}: corrected\n"), done.stderr
    for words in (("why", DAY), ("quarantine", "list", "--all"), ("quarantine", "show", str(row["quarantine_id"]))):
        assert run_with_warehouse(*words).returncode == 0

    names = sorted([*HOSTILE, *HOSTILE])
    for dimension, parts in (("d_city", "first"), ("d_customer", "first, second"), ("d_item", "first")):
        stored = query(f"SELECT DISTINCT {parts} FROM staging.name WHERE dimension = %s", dimension)
        assert sorted(stored) == sorted((text,) * len(parts.split()) for text in HOSTILE)
    sold = query("SELECT uniq_id FROM mart.f_sales_lines")
    assert sorted(sold) == sorted((name,) for text in HOSTILE for name in (text, f"corrected {text}"))
    assert query("SELECT count(*) FROM mart.f_sales") == [(len(names),)]
    assert sorted(query("SELECT item_name FROM staging.price_log")) == sorted((text,) for text in HOSTILE)
    known = query("SELECT item_name FROM mart.d_item WHERE item_id < %s ORDER BY item_id", len(HOSTILE))
    assert known == [(text,) for text in HOSTILE]
    assert query(TABLES) == tables


@pytest.mark.parametrize("text", HOSTILE)
def test_command_line_arguments_are_not_interpreted(run_with_warehouse: Run, query: Query, text: str) -> None:
    tables = query(TABLES)
    for words in (
        ("why", text),
        ("load", "--from", text),
        ("quarantine", "list", "--day", text),
        ("quarantine", "show", text),
        ("quarantine", "replay", "1", "--line", text),
        ("migrate", "--to", text),
    ):
        done = run_with_warehouse(*words)
        assert done.returncode in (1, 2), (words, done.stdout)
        assert "Traceback" not in done.stderr
        assert "syntax error" not in done.stderr
    assert query(TABLES) == tables


def test_fields_of_an_order_are_not_interpreted(start: Callable[..., Service], query: Query) -> None:
    tables = query(TABLES)
    service = start()
    for number, text in enumerate(HOSTILE, start=1):
        body = order(
            number,
            client={"name": text, "phone": "79997772211", "email": "example@example.com"},
            their_pharmacy_id=text,
            items=[{"their_id": text, "price": 10, "count": 1}],
            comment=text,
            extra={text: text},
        )
        assert service.post(body).status_code == 200
        for response in (service.get("/v2/orders/", order_id=text), service.delete({"order_id": text})):
            assert response.status_code == 422, response.text
    stored_orders = query(
        "SELECT their_pharmacy_id, lines -> 0 ->> 'their_id' FROM orders.partner_order ORDER BY order_id"
    )
    assert stored_orders == [(text, text) for text in HOSTILE]
    assert query(TABLES) == tables


# --- formulas ----------------------------------------------------------------------------------------------


def test_no_unlisted_code_writes_csv() -> None:
    """Spreadsheets evaluate cells that begin with = + - or @ as formulas; files written here are not meant for them.

    A new export fails this test: cells from outside must be made harmless before they are exported.
    """
    writes = re.compile(r"csv\.(writer|DictWriter)\(|\.to_csv\(|write_csv\(|CSVWriter")
    writers = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if writes.search(ast.unparse(ast.parse(path.read_text(encoding="utf-8"))))
    }
    # The generated data of the demo; rows written to COPY.
    assert writers == {"demo/services.py", "pipeline/publish.py"}
    copies = re.compile(r"\bTO\s+(STDOUT|PROGRAM)\b", re.IGNORECASE)
    files = {path.stem for path in sql_folder().rglob("*.sql") if copies.search(path.read_text(encoding="utf-8"))}
    # Ids and staged rows that the load itself reads; the export, whose own test covers such names; rows copied to the
    # Parquet files of the lake.
    assert files == {"user_orders_log", "f_sales", "d_calendar", "d_city", "d_customer", "d_item"}


def test_lists_of_rejected_rows_have_no_line_that_starts_a_formula(
    run_with_warehouse: Run, reports: ReportFolderBuilder, report_api: ReportApi, tmp_path: Path
) -> None:
    reports.increment(DAY, [Order("a"), *(text for text in HOSTILE if "\n" not in text)])
    assert run_with_warehouse("load", "--from", DAY, "--to", DAY).returncode == 0
    for words in (("quarantine", "list", "--json"), ("quarantine", "list"), ("why", DAY)):
        stdout = run_with_warehouse(*words).stdout
        assert stdout
        assert not [line for line in stdout.splitlines() if line.lstrip("\t")[:1] in tuple("=+-@")]
