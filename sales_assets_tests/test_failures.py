"""The sentence that describes an exception: for every kind of exception, short, and without secrets."""

import csv
import json

import psycopg
import pytest
import requests
import sqlalchemy as sa

from sales_assets import settings as settings_module
from sales_assets.failures import details, is_bug, sentence
from sales_assets.postgres.embedded import EmbeddedPostgresError
from sales_assets.settings import SettingsError

LIBPQ = 'relation "x" does not exist\nLINE 1: SELECT * FROM x\n                      ^'


def raised(call: str) -> Exception:
    """Return the exception raised by an expression."""
    try:
        eval(call, {"json": json, "csv": csv, "fsspec": __import__("fsspec"), "int": int})
    except Exception as error:  # noqa: BLE001  of any kind
        return error
    raise AssertionError(call)


@pytest.mark.parametrize(
    ("error", "description"),
    [
        (SettingsError("A: wrong\nB: wrong"), "A: wrong\nB: wrong"),
        (EmbeddedPostgresError("no room"), "no room"),
        (FileNotFoundError(2, "No such file or directory", "/a"), "/a: No such file or directory"),
        (OSError(98, "Address already in use"), "[Errno 98] Address already in use"),
        (psycopg.errors.UndefinedTable(LIBPQ), 'relation "x" does not exist'),
        (sa.exc.ProgrammingError("SELECT", {}, psycopg.errors.UndefinedTable(LIBPQ)), 'relation "x" does not exist'),
        (requests.ConnectionError("refused\nand more"), "refused"),
        (ExceptionGroup("several", [OSError("the first"), OSError("the second")]), "the first"),
        (csv.Error("line contains NUL"), "Error: line contains NUL"),
        (MemoryError(), "MemoryError"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_external_error_is_described_in_one_sentence(error: BaseException, description: str) -> None:
    assert sentence(error) == description
    assert not is_bug(error)


def test_a_decoding_error_is_described_in_one_sentence() -> None:
    assert sentence(raised("b'\\xcc\\xee'.decode()")) == (
        "text that can't be encoded or decoded: 'utf-8' codec can't decode byte 0xcc in position 0: "
        "invalid continuation byte"
    )


def test_an_error_of_a_storage_library_is_not_a_bug() -> None:
    """fsspec raises plain ValueErrors, so a bug is recognised by the place that raised the error, not by its type."""
    error = raised("fsspec.filesystem('nonsense')")
    assert type(error) is ValueError
    assert sentence(error).startswith("ValueError: Protocol not known: nonsense")


@pytest.mark.parametrize("call", ["{}['x']", "int('x')", "1 / 0", "None.y"])
def test_a_bug_is_described_as_such_with_a_hint_to_debug(call: str) -> None:
    error = raised(call)
    assert is_bug(error)
    description = sentence(error)
    assert description.startswith(f"unexpected error, probably a bug in sales_assets: {type(error).__name__}: ")
    assert description.endswith("(`sales-assets --debug ...` shows where)")
    assert "\n" not in description


@pytest.mark.parametrize("ours", [True, False])
def test_secrets_are_removed_from_sentences(monkeypatch: pytest.MonkeyPatch, ours: bool) -> None:
    monkeypatch.setenv("REPORT_API_KEY", "k3y-of-mine")
    monkeypatch.setenv("WAREHOUSE_URL", "postgresql://u:p%23ss!word@h/d")
    settings_module.settings.cache_clear()
    kind = SettingsError if ours else psycopg.OperationalError
    text = "k3y-of-mine at http://u:hush@h/f.csv and /f.csv?sig=hush p#ss!word or p%23ss!word"
    assert sentence(kind(text)) == "*** at http://h/f.csv and /f.csv?*** *** or ***"
    named = "REPORT_API_KEY: not a key"
    assert sentence(SettingsError(named)) == named


def test_a_traceback_contains_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENDER_TOKEN", "t0ken-of-mine")
    settings_module.settings.cache_clear()
    description = details(raised("{}['t0ken-of-mine']"))
    assert "Traceback" in description
    assert "KeyError: '***'" in description
    assert "t0ken-of-mine" not in description
