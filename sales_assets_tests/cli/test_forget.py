"""`sales-assets forget`; `pipeline/test_forget.py` tests what is erased."""

import gzip
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from sales_assets import settings as settings_module
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.services.partner_orders.mapping import Mapping, store
from sales_assets_tests.builders import order_file
from sales_assets_tests.cli.conftest import Run
from sales_assets_tests.fixtures import EngineShop
from sales_assets_tests.pipeline.test_forget import DAY, PHONE, WRITTEN, Person

FOLLOWING = ("2024-10-03", "2024-10-04", "2024-10-05")


@pytest.fixture
def client(query: Callable[..., list[tuple[object, ...]]]) -> None:
    query("INSERT INTO mailings.client (phone, operator_code, timezone) VALUES (%s, '999', 'UTC')", PHONE)


def test_output_contains_no_personal_data(
    run_with_warehouse: Run,
    client: None,
    query: Callable[..., list[tuple[object, ...]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = run_with_warehouse("forget", "--phone", PHONE)
    assert done.returncode == 1
    assert "SALES_ERASURE_SECRET is not set" in done.stderr
    assert query("SELECT phone FROM mailings.client") == [(PHONE,)]
    monkeypatch.setenv("SALES_ERASURE_SECRET", "the key of the tests' pseudonyms")
    settings_module.settings.cache_clear()
    done = run_with_warehouse("forget", "--phone", "+7 999 777-22-11")
    assert (done.returncode, done.stdout) == (0, "clients of mailings: 1\n")
    assert query("SELECT phone FROM mailings.client") == []
    assert run_with_warehouse("forget", "--phone", PHONE).stdout == "nothing to erase\n"
    assert PHONE[1:] not in done.stderr
    assert run_with_warehouse("forget", "--customer", "51").stdout == "nothing to erase\n"
    assert query("SELECT customer_id FROM staging.erased_customer") == [(51,)]


def test_exactly_one_valid_customer_or_phone_is_required(run_with_warehouse: Run) -> None:
    for arguments in ((), ("--customer", "51", "--phone", PHONE), ("--customer", "2147483648")):
        assert run_with_warehouse("forget", *arguments).returncode == 2


def forms(value: str) -> set[bytes]:
    """Return a text in every escaping and encoding that files and dumps may use."""
    written = {value, quote(value), json.dumps(value)[1:-1], json.dumps(json.dumps(value)[1:-1])[1:-1]}
    codecs = ("utf-8", "utf-16-le", "utf-16-be", "latin-1")
    return {one.encode(codec) for one in written for codec in codecs}


def found_in(folder: Path, searched: set[bytes]) -> Iterator[str]:
    """Yield the files that contain one of the values; compressed files of a dump are decompressed first."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        contents = file.read_bytes()
        if contents.startswith(b"\x1f\x8b"):
            contents = gzip.decompress(contents)
        if any(one in contents for one in searched):
            yield str(file.relative_to(folder))


def test_no_database_dump_and_no_file_contains_the_erased_person(
    run_with_warehouse: Run,
    engine_shop: EngineShop,
    query: Callable[..., list[tuple[Any, ...]]],
    new_database: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dagster's database must never contain personal data, because `forget` does not change it. The loads include
    failing runs and checks on values of the person.
    """
    monkeypatch.setenv("DAGSTER_STORAGE_URL", new_database("template1"))
    monkeypatch.setenv("SALES_ERASURE_SECRET", "the key of the tests' pseudonyms")
    person = Person(engine_shop, query, f"Zoë{secrets.token_hex(4)}", f"Quill{secrets.token_hex(4)}")
    searched = {
        form for value in (person.first, person.last, PHONE[1:], WRITTEN, "999 777-22-11") for form in forms(value)
    }
    shop, (no_header, wide, broken) = engine_shop, FOLLOWING
    shop.reports.report([person.order("r", quantity="0")])
    # Personal data in wrong columns, and amounts that fail a check.
    person.deliver(
        person.order("u6", quantity=person.first),
        person.order("u7", city_id=f"51,{person.last}"),
        person.order("u8", status=person.last),
        person.order("u9", amount=PHONE),
        person.order("u10", quantity="3", amount="0.01"),
    )
    rows = order_file([person.order("x", day=no_header)], statuses=True)
    shop.reports.increment(no_header, None, user_orders_log=rows.partition("\n")[2])
    shop.reports.increment(wide, None, user_orders_log=rows.encode("utf-16"))
    shop.reports.increment(broken, [person.order("y", day=broken, quantity=person.first)])  # every row is rejected

    done = run_with_warehouse("load", "--report", "--from", DAY, "--to", broken)
    assert done.returncode == 1
    assert person.last not in done.stdout + done.stderr
    person.use_services()
    settings_module.settings.cache_clear()
    store(Warehouse(), [Mapping("customer", WRITTEN, 51)])
    assert run_with_warehouse("backup", str(tmp_path / "before")).returncode == 0
    before = [path.partition("/")[0] for path in found_in(tmp_path / "before", searched)]
    assert {*before} == {"warehouse", "raw"}
    assert [*found_in(settings_module.settings().sales_home / "dagster", searched)] == []

    done = run_with_warehouse("forget", "--phone", WRITTEN)
    assert done.returncode == 1
    (left,) = done.stderr.replace("\n", "").split("not erased: ")[1:]  # a file without a header can't be erased
    assert left.startswith(f"user_orders_log_inc/{no_header}/")
    assert run_with_warehouse("backup", str(tmp_path / "after")).returncode == 0
    assert [*found_in(tmp_path / "after", searched)] == []
    assert [*found_in(settings_module.settings().sales_home, searched)] == []

    # A repeated delivery of the files does not restore the person's data.
    assert run_with_warehouse("load", "--report", "--from", DAY, "--to", broken).returncode == 1
    assert run_with_warehouse("backup", str(tmp_path / "again")).returncode == 0
    assert [*found_in(tmp_path / "again", searched)] == []
    assert [*found_in(settings_module.settings().sales_home, searched)] == []
