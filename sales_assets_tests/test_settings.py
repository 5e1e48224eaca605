"""Settings: sources, defaults, and messages about wrong values."""

import datetime as dt
import os
from pathlib import Path

import pytest

from sales_assets import settings as settings_module
from sales_assets.settings import (
    Settings,
    SettingsError,
    definition_settings,
    describe,
    first_day,
    secrets_in_force,
    settings,
)

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder of the test, without an .env file."""
    monkeypatch.chdir(tmp_path)
    for name in ("SALES_HOME", "REPORT_API_KEY", "REPORT_API_PATIENCE"):
        monkeypatch.delenv(name)
    return tmp_path


def env_file(text: str) -> None:
    Path(".env").write_text(text, encoding="utf-8")
    settings_module.settings.cache_clear()


def fault() -> str:
    with pytest.raises(SettingsError) as caught:
        settings()
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


def test_without_any_setting_everything_is_local() -> None:
    found = settings()
    assert found.sales_home == PROJECT / ".sales_assets"
    assert found.warehouse_url is None
    assert found.report_api_url == "http://127.0.0.1:8080"
    assert found.raw_files_location == str(PROJECT / ".sales_assets" / "raw")
    assert found.report_api_key.get_secret_value() == ""


def test_an_env_file_may_have_comments_quotes_and_empty_values() -> None:
    env_file(
        "# where\n"
        "SALES_HOME='my home' # kept here\n"
        'export REPORT_API_KEY="a#b c"\n'
        "REPORT_API_TIMEOUT=12.5 # seconds\n"
        "WAREHOUSE_URL=\n"
        "REPORT_API_FILE_HOSTS=a.example, B.example ,\n"
        "UNRELATED=1\n"
    )
    found = settings()
    assert found.sales_home == Path.cwd() / "my home"
    assert found.report_api_key.get_secret_value() == "a#b c"
    assert found.report_api_timeout == 12.5
    assert found.warehouse_url is None
    assert found.report_api_file_hosts == {"a.example", "b.example"}


def test_the_environment_overrides_the_env_file(monkeypatch: pytest.MonkeyPatch) -> None:
    env_file("REPORT_API_TIMEOUT=1\nREPORT_API_PATIENCE=2\n")
    monkeypatch.setenv("REPORT_API_TIMEOUT", "3")
    assert (settings().report_api_timeout, settings().report_api_patience) == (3, 2)


def test_an_unknown_setting_is_refused_in_the_env_file_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    env_file("REPORT_API_KYE=secret-one\n")
    assert fault() == ("REPORT_API_KYE: unknown setting; did you mean REPORT_API_KEY? (.env.example lists them all)")
    env_file("")
    monkeypatch.setenv("WAREHOUSE_HOST", "secret-two")
    assert fault().startswith("WAREHOUSE_HOST: unknown setting")
    assert "secret" not in fault()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("WAREHOUSE_URL", "mysql://u:secret@h/d", "must be a postgresql:// URL"),
        ("DAGSTER_STORAGE_URL", "secret", "must be a postgresql:// URL"),
        ("REPORT_API_URL", "ftp://host", "must be an http:// or https:// URL (found 'ftp://host')"),
        ("REPORT_API_TIMEOUT", "soon", "unable to parse string as a number (found 'soon')"),
        ("REPORT_API_TIMEOUT", "0", "Input should be greater than 0 (found '0')"),
        ("RAW_FILES_MAX_BYTES", "-1", "Input should be greater than 0 (found '-1')"),
        ("SALES_FIRST_DAY", "01.09.2024", "Invalid isoformat string: '01.09.2024'"),
        ("SALES_FIRST_DAY", "2999-01-01", "must be before today"),
    ],
)
def test_a_malformed_value_is_reported_by_name_and_a_secret_value_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    assert fault().startswith(f"{name}: ")
    assert message in fault()
    assert "secret" not in fault()


def test_all_faults_are_reported_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPORT_API_TIMEOUT", "x")
    monkeypatch.setenv("WAREHOUSE_URL", "x")
    assert sorted(line.partition(":")[0] for line in fault().splitlines()) == ["REPORT_API_TIMEOUT", "WAREHOUSE_URL"]


def test_loading_the_definitions_reads_only_the_first_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", "nonsense")
    monkeypatch.setenv("SALES_FIRST_DAY", "2024-09-08")
    definition_settings.cache_clear()
    try:
        assert first_day() == dt.date(2024, 9, 8)
    finally:
        definition_settings.cache_clear()


@pytest.mark.parametrize("given", ["postgresql://u@h/d", "postgres://u@h/d", "postgresql+psycopg2://u@h/d"])
def test_the_warehouse_url_is_normalized_for_psql(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", given)
    url = settings().warehouse_url
    assert url is not None
    assert url.get_secret_value() == "postgresql://u@h/d"
    assert "u@h" not in repr(settings())


def test_every_setting_has_a_description() -> None:
    assert [name for name, _, meaning in describe() if not meaning] == []
    assert len(describe()) == len(Settings.model_fields)


def test_the_example_file_lists_every_setting_with_its_default_and_meaning() -> None:
    text = (PROJECT / ".env.example").read_text(encoding="utf-8")
    listed, comment = [], ""
    for line in text.splitlines():
        if line.startswith("# ") and "=" in line and line[2:].partition("=")[0].isupper():
            name, _, default = line[2:].partition("=")
            listed.append((name, default, comment.strip()))
        comment = f"{comment} {line[2:]}" if line.startswith("# ") else ""
    assert [entry[:2] for entry in listed] == [entry[:2] for entry in describe()]
    assert listed == describe()


def test_the_defaults_in_the_example_file_equal_the_defaults() -> None:
    before = settings()
    text = (PROJECT / ".env.example").read_text(encoding="utf-8")
    env_file("\n".join(f"{name}={default}" for name, default, _ in describe()))
    assert settings() == before
    env_file(text)
    assert settings() == before


def test_the_original_env_file_of_the_partner_orders_is_accepted_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    seed = {
        "PARTNERAPI_URL": "''",
        "PARTNERAPI_RABBITMQ_TIMEOUT": "30 # Таймаут RabbitMQ",
        "PARTNERAPI_RABBITMQ_RETRIES_COUNT": "-1 # -1 для бесконечного количества попыток",
        "PARTNERAPI_HTTP_RETRIES_COUNT": "0",
        "PARTNERAPI_KODPOST": "116897 # Код поставщика, под которым зведена сеть Партнера",
        "PARTNERAPI_METRICS_PORT": "# Порт внутри контейнера для снятия метрик",
    }
    # As passed by `docker run --env-file`, and as an .env file that a shell could read.
    for name, value in seed.items():
        monkeypatch.setenv(name, value)
    from_environment = settings()
    for name in seed:
        monkeypatch.delenv(name)
    env_file("\n".join(f"{name}={value}" for name, value in seed.items()))
    for found in (from_environment, settings()):
        assert found.partnerapi_url == ""
        assert found.partnerapi_rabbitmq_timeout == 30
        assert found.partnerapi_rabbitmq_retries_count == -1
        assert found.partnerapi_kodpost == 116897
        assert found.partnerapi_metrics_port is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PARTNERAPI_URL", "partner.example", "must be an http:// or https:// URL"),
        ("PARTNERAPI_RABBITMQ_RETRIES_COUNT", "-2", "greater than or equal to -1"),
        ("RABBITMQ_URL", "http://u:secret@h", "must be an amqp:// or amqps:// URL"),
        ("SALES_TIMEZONE", "Moscow", "must be a zone of the IANA database"),
        ("SALE_ON", "paid", "Input should be 'created' or 'done'"),
        ("SENDER_RATE", "0.000001", "must be 0 (no limit) or at least 0.000010 a second"),
        ("SENDER_RATE", "nan", "less than or equal to 1000000"),
        ("MAILINGS_LEASE_SECONDS", "0.5", "greater than or equal to 1"),
    ],
)
def test_a_malformed_setting_of_the_services_is_reported(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    assert fault().startswith(f"{name}: ")
    assert message in fault()
    assert "secret" not in fault()


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:secret@bucket",
        "s3://key:sec/ret@bucket/raw",
        "s3://key:1/2secret@bucket/raw",
        "s3://secret@bucket/raw",
        "s3://key:secret",
        "s3://key%3Asecret%40bucket/raw",
        "S3://key:secret@bucket",
        " s3://key:secret@bucket",
        "simplecache::s3://key:secret@bucket/raw",
        "s3://bucket/raw?secret=secret",
        "s3://bucket/raw#secret=secret",
        "https://host/raw?sig=secret",
        "sftp://user:secret@host:22/raw",
        "ftp://secret@host/raw",
        "gs://secret@bucket",
        "abfs://container:secret@account.dfs.core.windows.net/raw",
        "abfs://container@account.dfs.core.windows.net/raw?sig=secret",
        "memory://x:secret@y",
    ],
)
def test_credentials_in_the_location_of_raw_files_are_rejected_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("RAW_FILES_URL", url)
    assert fault().startswith("RAW_FILES_URL: must be a folder or a URL without user name, password, key, query")
    assert "\n" not in fault()
    assert "found" not in fault()
    # The explanation contains the word in the name of a variable.
    assert "secret" not in fault().replace("AWS_SECRET_ACCESS_KEY", "")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "raw files",
        "/data/raw@home?yes#1:2",
        "file:///data/raw@home",
        "s3://bucket/raw@home",
        "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/raw",
        "gs://bucket/raw",
        "abfs://container@account.dfs.core.windows.net/raw",
        "sftp://host:22/raw",
        "simplecache::s3://bucket/raw",
    ],
)
def test_locations_of_raw_files_without_credentials_are_accepted(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("RAW_FILES_URL", url)
    assert settings().raw_files_url == url


def test_a_rejected_url_is_shown_without_its_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENDER_URL", "ftp://user:secret@sender/x?token=secret")
    assert fault() == "SENDER_URL: must be an http:// or https:// URL (found 'ftp://***')"
    monkeypatch.setenv("SENDER_URL", "ftp://user:secret@sender/x")
    assert fault() == "SENDER_URL: must be an http:// or https:// URL (found 'ftp://sender/x')"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("REPORT_API_KEY=x\r\n".encode("utf-16"), "line 1: the file is UTF-16, save it as UTF-8"),
        (b"\xfe\xff" + "REPORT_API_KEY=x\n".encode("utf-16-be"), "line 1: the file is UTF-16, save it as UTF-8"),
        (
            b"A=1\n" + "REPORT_API_KEY=x\n".encode("utf-16-le"),
            "line 2: NUL byte; if the file is UTF-16, save it as UTF-8",
        ),
        (
            "SALES_FIRST_DAY=2024-09-08\r\nREPORT_API_NICKNAME=Июнь\r\n".encode("cp1251"),
            "line 2: not UTF-8 (byte 0xc8), save it as UTF-8",
        ),
        (b'A=1\n\n\nREPORT_API_KEY="secret\nB=2\n', "line 4: not NAME=value, or a quote that is not closed"),
        (b"A=1\n=secret\n", "line 2: not NAME=value, or a quote that is not closed"),
    ],
    ids=["utf-16 with mark", "utf-16-be", "utf-16 without mark", "cp1251", "open quote", "no name"],
)
def test_an_unreadable_env_file_is_named_with_its_line(folder: Path, data: bytes, message: str) -> None:
    """Loading the definitions reports the same error, instead of a traceback of the library."""
    (folder / ".env").write_bytes(data)
    settings_module.settings.cache_clear()
    assert fault() == f"{folder / '.env'}, {message}"
    definition_settings.cache_clear()
    with pytest.raises(SettingsError, match=r"\.env, line"):
        first_day()
    assert "secret" not in fault()


def test_an_env_file_saved_by_windows_is_accepted(folder: Path) -> None:
    """A byte order mark is not part of the first name, and CR is not part of a value."""
    (folder / ".env").write_bytes(b"\xef\xbb\xbfSALES_FIRST_DAY=2024-09-08\r\nREPORT_API_NICKNAME=shop\r\n")
    settings_module.settings.cache_clear()
    assert settings().sales_first_day == dt.date(2024, 9, 8)
    assert settings().report_api_nickname == "shop"


def test_an_env_file_that_is_a_folder_is_named(folder: Path) -> None:
    (folder / ".env").mkdir()
    settings_module.settings.cache_clear()
    assert fault() == f"{folder / '.env'}: Is a directory"


def test_the_env_file_may_be_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "here").mkdir()
    (folder / "settings").write_text("REPORT_API_NICKNAME=there\n", encoding="utf-8")
    monkeypatch.setenv("SALES_ENV_FILE", str(folder / "settings"))
    monkeypatch.chdir(folder / "here")
    settings_module.settings.cache_clear()
    assert settings().report_api_nickname == "there"
    monkeypatch.setenv("SALES_ENV_FILE", str(folder / "nowhere"))
    settings_module.settings.cache_clear()
    assert fault() == f"SALES_ENV_FILE: {folder / 'nowhere'} does not exist"


def test_a_variable_that_is_not_utf_8_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPORT_API_KEY", "secret\udcc8")
    assert fault() == "REPORT_API_KEY: not UTF-8"


def test_an_unknown_home_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000)
    monkeypatch.setenv("SALES_HOME", "~/x")
    assert fault() == (
        f"SALES_HOME: HOME is not set and uid {os.geteuid()} has no passwd entry, so that ~ can't be resolved: "
        "set SALES_HOME to an absolute path (found '~/x')"
    )


def test_receivers_of_alerts_are_separated_by_spaces_or_commas() -> None:
    env_file('ALERT_URLS="mailto://u:p@h/?to=a@b.c,d@e.f slack://A/B/C,json://h/x,  tgram://1:2/3,"\n')
    urls = ["mailto://u:p@h/?to=a@b.c,d@e.f", "slack://A/B/C", "json://h/x", "tgram://1:2/3"]
    assert settings().alert_receivers == urls
    env_file("\n")
    assert settings().alert_receivers == []


@pytest.mark.parametrize("value", ["hush-hush", "json://h hush-hush", "json://"])
def test_a_malformed_receiver_url_is_not_shown(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ALERT_URLS", value)
    assert fault() == ("ALERT_URLS: must be URLs such as mailto://... or slack://..., separated by spaces or commas")


def test_parts_of_a_receivers_url_are_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = (
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
        "tgram://123456789:AAE-hush/42",
        "json://[::1/broken",
    )
    monkeypatch.setenv("ALERT_URLS", f"{' '.join(urls)} mailto://me:p%40ss@mail.example?to=ops@mail.example")
    found = secrets_in_force()
    assert {"T1JJ3T3L2", "A1BRTD4JD", "TIiajkdnlazkcOXrIdevi7FQ", "123456789:AAE-hush", "p%40ss", "p@ss"} <= found
    assert {*urls} <= found
    assert not {"42", "mail.example", "slack", "ops", ""} & found


@pytest.mark.parametrize(("value", "due"), [("07:30", dt.time(7, 30)), ("23:59:30", dt.time(23, 59, 30))])
def test_the_due_time_of_a_day_is_parsed(monkeypatch: pytest.MonkeyPatch, value: str, due: dt.time) -> None:
    monkeypatch.setenv("ALERT_DAY_DUE_AT", value)
    assert settings().alert_day_due_at == due


@pytest.mark.parametrize("value", ["9", "900", "25:00", "09:00+03:00", "noon"])
def test_malformed_due_times_are_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ALERT_DAY_DUE_AT", value)
    assert fault().startswith("ALERT_DAY_DUE_AT: ")
