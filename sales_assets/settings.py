"""All settings: names, types, defaults and validation of the environment variables.

A malformed or unknown variable stops the program at startup. The message has one line per fault and contains no secret.
Loading the Dagster definitions reads only ``SALES_FIRST_DAY``, ``SALES_DAYS_PER_RUN``, ``LAKE_URL``, ``ALERT_URLS`` and
``OPENLINEAGE_*``, so that a code location loads without a configured database or API.
"""

import datetime as dt
import difflib
import functools
import io
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

import annotated_types
import pydantic
from dotenv import dotenv_values
from dotenv.parser import Binding, parse_stream
from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings.sources.utils import parse_env_vars

from sales_assets.scrubbing import scrubbed

ENV_FILE = ".env"
# Path of the settings file, if not in the current folder: `sales-assets env` sets it for commands in other folders.
ENV_FILE_VARIABLE = "SALES_ENV_FILE"

# An unknown variable with one of these prefixes is probably a typo, which would otherwise be ignored. RABBITMQ_ alone
# is the broker's own prefix (RABBITMQ_NODENAME etc.), so it is not listed.
OUR_PREFIXES = (
    *("SALES_", "SALE_", "WAREHOUSE_", "REPORT_API_", "RAW_FILES_", "PARTNERAPI_", "RABBITMQ_URL"),
    *("MAILINGS_", "SENDER_", "LAKE_", "ALERT_"),
)

# Settings whose lines may have comments and quotes (docs/data-contracts/partner-orders.md, "Settings").
_SEED_SETTINGS = ("partnerapi_", "rabbitmq_", "sale_on", "sales_timezone")
_COMMENT = re.compile(r"(^|\s)#.*$")


class SettingsError(ValueError):
    """A setting is unknown, missing or malformed. The message has one line per fault and no secret."""


# Secret variables that the libraries behind RAW_FILES_URL and WAREHOUSE_URL read themselves.
_SECRETS_OF_LIBRARIES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD")
_SHORTEST_SECRET = 4
# Shorter parts of a receiver's URL are taken for folders or parameters.
_SHORTEST_TOKEN = 8
# Minimum length of a key that signs or hashes: it must withstand guessing.
_SHORTEST_KEY = 16
_LINK = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?")
_LONGEST_LINK = 200
_PASSWORD = re.compile(r"[?&]password=([^&]*)")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def env_file() -> Path | None:
    """Find the settings file (absolute path, or None). Raises `SettingsError` if SALES_ENV_FILE does not exist."""
    given = os.environ.get(ENV_FILE_VARIABLE)
    path = Path(given or ENV_FILE).absolute()
    if path.exists():
        return path
    if given:
        raise SettingsError(f"{ENV_FILE_VARIABLE}: {path} does not exist")
    return None


def _env_file_values() -> dict[str, str | None]:
    """Read the variables of the settings file by python-dotenv's rules. Raises `SettingsError` with file and line.

    python-dotenv alone would make a byte order mark part of the first name, raise a bare UnicodeDecodeError, and skip a
    line that it can't parse.
    """
    path = env_file()
    if path is None:
        return {}
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    if data.startswith(_UTF16):
        raise SettingsError(f"{path}, line 1: the file is UTF-16, save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsError(
            f"{path}, line {line}: not UTF-8 (byte 0x{data[error.start]:02x}), save it as UTF-8"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise SettingsError(f"{path}, line {line}: NUL byte; if the file is UTF-16, save it as UTF-8")
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            # The text of the line may be a password.
            raise SettingsError(f"{path}, line {_line_of(binding)}: not NAME=value, or a quote that is not closed")
    return dotenv_values(stream=io.StringIO(text))


def _line_of(binding: Binding) -> int:
    """Return the line number of a statement; the parser's own number is that of the blank lines before it."""
    text = binding.original.string
    blank = text[: len(text) - len(text.lstrip())]
    return binding.original.line + len(blank.splitlines())


class _EnvFile(EnvSettingsSource):
    def _load_env_vars(self) -> Mapping[str, str | None]:
        return parse_env_vars(_env_file_values(), self.case_sensitive, self.env_ignore_empty, self.env_parse_none_str)


def _default_home() -> Path:
    """Return ``.sales_assets`` beside workspace.yaml in a checkout, else in the user's home folder."""
    project = Path(__file__).resolve().parent.parent
    if (project / "workspace.yaml").exists():
        return project / ".sales_assets"
    try:
        return _expanded(Path("~/.sales_assets"))
    except ValueError as error:
        raise SettingsError(f"SALES_HOME: {error}") from None


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError:
        raise ValueError(
            f"HOME is not set and uid {os.geteuid()} has no passwd entry, so that ~ can't be resolved: "
            "set SALES_HOME to an absolute path"
        ) from None


def _without_comment(value: str) -> str:
    """Strip quotes and the inline comment from the value of an env file's line.

    A shell and python-dotenv strip both; `docker run --env-file` passes "30 # seconds" and "''" on unchanged.
    """
    text = value.strip()
    if text[:1] in ("'", '"') and (end := text.find(text[0], 1)) > 0 and not _COMMENT.sub("", text[end + 1 :]).strip():
        return text[1:end]
    return _COMMENT.sub("", text).strip()


_Seconds = Annotated[float, annotated_types.Gt(0), annotated_types.Le(86_400)]
_Pause = Annotated[float, annotated_types.Ge(0), annotated_types.Le(86_400)]
_SLOWEST_RATE = 0.00001
_Count = Annotated[int, annotated_types.Ge(0)]
_QueueName = Annotated[str, pydantic.StringConstraints(pattern=r"^[a-zA-Z0-9_.-]{1,60}$")]


class DefinitionSettings(BaseSettings):
    """Settings that loading the Dagster definitions needs; no other setting is read then."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  replaced: it would read the file by its own rules
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  secrets come from the environment
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment override the file."""
        return init_settings, env_settings, _EnvFile(settings_cls)

    sales_first_day: dt.date = Field(
        default=dt.date(2020, 1, 1),
        description="First daily partition. Report lines before it are counted and shown, never loaded.",
    )
    sales_days_per_run: Annotated[int, annotated_types.Ge(1)] | None = Field(
        default=None,
        description="Maximum days per run of a backfill, so that several workers share a range; 30 and more are "
        "worthwhile, since a run takes some seconds to start. Empty: a range is one run.",
    )
    lake_url: str = Field(
        default="",
        description="Folder or s3://, gs:// or abfs:// URL of the lake, an Iceberg copy of the sales for other "
        "engines, without credentials. Needs the extra [lake]. Empty: no lake.",
    )
    alert_urls: SecretStr = Field(
        default=SecretStr(""),
        description="Apprise URLs that alerts are sent to, separated by spaces or commas: mailto://, slack://, "
        "msteams://, tgram://, json:// and others. They are secret. Needs the extra [alerts]. Empty: no alerts.",
    )

    openlineage_url: str = Field(
        default="",
        description="Base URL of an OpenLineage receiver such as Marquez, to which the sensor `openlineage` sends the "
        "events of runs and assets. Needs the extra [openlineage]. Empty: no events are sent.",
    )
    openlineage_api_key: SecretStr = Field(
        default=SecretStr(""), description="Sent to the OpenLineage receiver as a bearer token."
    )

    @field_validator("sales_first_day", mode="before")
    @classmethod
    def _calendar_date(cls, value: object) -> object:
        if isinstance(value, str):
            return dt.date.fromisoformat(value.strip())
        return value

    @field_validator("sales_first_day")
    @classmethod
    def _has_a_partition(cls, value: dt.date) -> dt.date:
        if value >= dt.datetime.now(dt.UTC).date():
            raise ValueError("must be before today: the last partition is yesterday's")
        return value

    @field_validator("openlineage_url")
    @classmethod
    def _receiver(cls, value: str) -> str:
        _refuse_credentials(value)
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must be an http:// or https:// URL")
        return value.rstrip("/")

    @field_validator("lake_url")
    @classmethod
    def _lake(cls, value: str) -> str:
        """Normalize LAKE_URL to the URL stored in the tables' metadata: absolute, without credentials."""
        _refuse_credentials(value)
        scheme, separator, _ = value.partition("://")
        if not separator:
            # Not percent-encoded: no reader of the metadata decodes it.
            return f"file://{_expanded(Path(value))}" if value else ""
        if scheme not in _LAKE_SCHEMES:
            raise ValueError(f"must be a folder or a URL of {', '.join(_LAKE_SCHEMES)}")
        return value.rstrip("/")

    @field_validator("alert_urls")
    @classmethod
    def _apprise_urls(cls, value: SecretStr) -> SecretStr:
        # Apprise validates the rest of a URL, but is loaded only by the process that sends a message.
        if not all(_ALERT_URL.match(url) for url in _split_alert_urls(value)):
            raise ValueError("must be URLs such as mailto://... or slack://..., separated by spaces or commas")
        return value

    @property
    def alert_receivers(self) -> list[str]:
        """The URLs of ALERT_URLS, which hold tokens and passwords."""
        return _split_alert_urls(self.alert_urls)


class Settings(DefinitionSettings):
    """All settings, each with unit and default; ``.env.example`` lists them too."""

    sales_home: Path = Field(
        default_factory=_default_home,
        description="Folder of the embedded server, the raw files and Dagster's home. Nothing is written elsewhere. "
        "Empty: '.sales_assets' in the checkout, else in the user's home folder.",
    )
    warehouse_url: SecretStr | None = Field(
        default=None,
        description="Connection string of the warehouse, as libpq reads it: postgresql://user:password@host/database. "
        "Empty: the embedded PostgreSQL.",
    )
    dagster_storage_url: SecretStr | None = Field(
        default=None,
        description="Database of Dagster's own storage. Empty: database 'dagster' of the embedded server, or the "
        "warehouse's database name with '_dagster' appended on the server of WAREHOUSE_URL.",
    )
    report_api_url: str = Field(
        default="http://127.0.0.1:8080",
        description="Base URL of the report API; the default is where `sales-assets report-api` listens.",
    )
    report_api_key: SecretStr = Field(default=SecretStr(""), description="Key of the report API, sent as X-API-KEY.")
    report_api_nickname: str = Field(default="sales_assets", description="Sent as X-Nickname.")
    report_api_cohort: str = Field(default="1", description="Sent as X-Cohort.")
    report_api_file_hosts: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset(),
        description="Hosts, comma separated, from which files may be downloaded in addition to the API's own host.",
    )
    report_api_timeout: Annotated[float, annotated_types.Gt(0)] = Field(
        default=30, description="Seconds without a received byte after which a call or a download times out."
    )
    report_api_patience: Annotated[float, annotated_types.Gt(0)] = Field(
        default=30, description="Seconds for which a call is retried after refused connections and 5xx."
    )
    report_api_report_deadline: Annotated[float, annotated_types.Gt(0)] = Field(
        default=600,
        description="Seconds to wait for a report to be generated (the real API takes 63 to 80).",
    )
    raw_files_url: str = Field(
        default="",
        description="Folder or fsspec URL of the raw files, without credentials. Empty: SALES_HOME/raw.",
    )
    raw_files_max_bytes: Annotated[int, annotated_types.Gt(0)] = Field(
        default=4 * 1024**3, description="Maximum size of a raw file, in bytes."
    )
    raw_files_timeout: _Seconds = Field(
        default=15,
        description="Seconds without a received byte after which a request to the object store of RAW_FILES_URL times "
        "out; its driver repeats it.",
    )

    sales_trusted_proxies: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset(),
        description="Addresses or networks of reverse proxies, comma separated, whose X-Forwarded-Proto and "
        "X-Forwarded-For the services trust, such as 127.0.0.1 or 10.0.0.0/8. Empty: none.",
    )
    sales_users_file: Path | None = Field(
        default=None,
        description="File of the users of the admin pages, written by `sales-assets users`. Empty: SALES_HOME/users.",
    )
    sales_erasure_secret: SecretStr = Field(
        default=SecretStr(""),
        description="Key of the hashes by which erased phones are recognized, at least 16 characters; required to "
        "erase a phone. Must be the same for all processes and never change.",
    )
    sales_timezone: str = Field(
        default="UTC", description="Time zone that determines the day of orders, cancellations and mailings."
    )
    sales_currency: Annotated[str, pydantic.StringConstraints(strip_whitespace=True, max_length=12)] = Field(
        default="", description="Currency of the amounts, such as EUR, shown on charts. Empty: not shown."
    )
    sales_overview_days: Annotated[int, annotated_types.Interval(ge=1, le=36_500)] = Field(
        default=90,
        description="Days shown by the asset reports/sales_overview, up to the latest day with sales. Needs the extra "
        "[reports].",
    )
    sales_overview_file: Path | None = Field(
        default=None,
        description="HTML file that the asset reports/sales_overview writes, in an existing folder. Empty: "
        "SALES_HOME/sales_overview.html.",
    )
    sale_on: Literal["created", "done"] = Field(
        default="created", description="Status of a partner order that makes it a sale: created (accepted) or done."
    )
    partnerapi_url: str = Field(
        default="",
        description="Base URL of the partner's API. Empty: the service is not ready, and orders return service_error.",
    )
    partnerapi_http_timeout: _Seconds = Field(default=30, description="Seconds per attempt of a find or status call.")
    partnerapi_http_retries_count: _Count = Field(
        default=3, description="Total attempts of a find or status call; 0 means 1."
    )
    partnerapi_http_retries_sleep: _Pause = Field(
        default=30, description="Base pause between attempts of a find or status call, in seconds."
    )
    partnerapi_http_timeout_order: _Seconds = Field(
        default=10, description="Seconds per attempt of a create or cancel call."
    )
    partnerapi_http_retries_count_order: _Count = Field(
        default=1,
        description="Total attempts of a create or cancel call; above 1, the order is searched for before each create.",
    )
    partnerapi_http_retries_sleep_order: _Pause = Field(
        default=0, description="Base pause between attempts of a create or cancel call, in seconds."
    )
    partnerapi_deadline: _Seconds = Field(
        default=180, description="Seconds for one incoming request, including the partner's calls and pauses."
    )
    partnerapi_breaker_failures: Annotated[int, annotated_types.Ge(1)] = Field(
        default=5, description="Consecutive failed calls after which further ones fail at once (circuit breaker)."
    )
    partnerapi_breaker_seconds: _Seconds = Field(
        default=10, description="Seconds after which the open circuit breaker lets one call through."
    )
    partnerapi_reconcile_seconds: _Seconds = Field(
        default=10,
        description="Seconds after which an unresolved or open order is looked up at the partner; the pause doubles, "
        "up to 600 for an unresolved one and 3600 for an open one.",
    )
    partnerapi_poll_days: Annotated[float, annotated_types.Interval(ge=0, le=365)] = Field(
        default=14,
        description="Days after acceptance for which an open order is looked up; 0 = only when a caller requests it.",
    )
    rabbitmq_url: SecretStr = Field(
        default=SecretStr("amqp://guest:guest@127.0.0.1:5672//"),
        description="amqp:// or amqps:// URL of the broker, shared with Celery.",
    )
    sales_runs_queue: _QueueName = Field(
        default="sales_assets.runs",
        description="RabbitMQ queue of the runs for Celery workers; platforms that share a broker need different ones.",
    )
    partnerapi_rabbitmq_timeout: _Seconds = Field(
        default=30, description="Seconds to connect to the broker, and to wait for a publisher confirm."
    )
    partnerapi_rabbitmq_retries_count: Annotated[int, annotated_types.Ge(-1)] = Field(
        default=3, description="Attempts per cycle of the relay; -1 = unlimited. The outbox row is kept in any case."
    )
    partnerapi_rabbitmq_retries_sleep: _Pause = Field(
        default=30, description="Pause between attempts of the relay, in seconds."
    )
    partnerapi_source_project_id: int = Field(default=8, description="Our project's id, in every event.")
    partnerapi_kodpost: int = Field(
        default=116897, description="Supplier code of the partner's chain: key of the item and pharmacy mapping."
    )
    partnerapi_metrics_port: Annotated[int | None, annotated_types.Interval(ge=1, le=65_535)] = Field(
        default=None,
        description="Additional port for Prometheus, at the address of `sales-assets api`. Empty: only /metrics on "
        "8000.",
    )

    sender_url: str = Field(
        default="",
        description="Base URL of the service that sends messages. Empty: the service is not ready, and mailings wait.",
    )
    sender_token: SecretStr = Field(default=SecretStr(""), description="Sent as Authorization: Bearer.")
    sender_timeout: _Seconds = Field(default=10, description="Seconds for one send, connecting included.")
    sender_rate: Annotated[float, annotated_types.Ge(0), annotated_types.Le(1_000_000)] = Field(
        default=1000,
        description="Maximum sends per second of all workers together, from 0.00001 (about one a day); 0 = no limit.",
    )
    sender_retry_seconds: _Pause = Field(
        default=10,
        description="Maximum pause after the first failed send, in seconds; it doubles with each failure, up to 600. "
        "The fifth attempt is the last.",
    )
    mailings_queue_prefix: _QueueName = Field(
        default="mailings", description="Prefix of the names of the Celery queues."
    )
    mailings_tick_seconds: Annotated[float, annotated_types.Interval(ge=0.1, le=3600)] = Field(
        default=2, description="Seconds between runs of the planner, which starts, continues and ends mailings."
    )
    mailings_lease_seconds: Annotated[float, annotated_types.Interval(ge=1, le=86_400)] = Field(
        default=20,
        description="Seconds beyond SENDER_TIMEOUT after which the messages of a dead worker are taken over.",
    )
    mailings_in_flight: Annotated[int, annotated_types.Interval(ge=1, le=10_000)] = Field(
        default=100, description="Concurrent sends of a worker process; after kill -9 at most this many are repeated."
    )
    mailings_admin_user: str = Field(
        default="admin", description="Name of the user whose password is MAILINGS_ADMIN_PASSWORD."
    )
    mailings_admin_password: SecretStr = Field(
        default=SecretStr(""),
        description="Password of a single user of the admin pages. Deprecated: `sales-assets users add` adds named "
        "users.",
    )
    mailings_admin_secret: SecretStr = Field(
        default=SecretStr(""),
        description="Key that signs the sessions of the admin pages. Empty: the key of the users file; without "
        "users, a new key at each start, which ends all sessions.",
    )
    mailings_unsubscribe_url: str = Field(
        default="",
        description="Public base URL of the mailings service, for the unsubscribe link of each message. Empty: "
        "messages have no link, and the page is off.",
    )
    mailings_unsubscribe_secret: SecretStr = Field(
        default=SecretStr(""),
        validate_default=True,
        description="Key that signs the unsubscribe links, at least 16 characters; required with "
        "MAILINGS_UNSUBSCRIBE_URL. Links signed with another key are invalid.",
    )
    mailings_metrics_port: Annotated[int | None, annotated_types.Interval(ge=1, le=65_535)] = Field(
        default=None, description="Port for the Prometheus metrics of a worker. Empty: no metrics."
    )
    mailings_metrics_host: str = Field(
        default="127.0.0.1", description="Address of the metrics port; 0.0.0.0 in a container or pod."
    )

    alert_day_due_at: dt.time = Field(
        default=dt.time(9, 0),
        description="Time of day in SALES_TIMEZONE, such as 09:00, by which the previous day has to be loaded.",
    )
    alert_quarantine_rows: Annotated[int, annotated_types.Ge(1)] = Field(
        default=10, description="Number of unresolved rows, rejected within 24 hours, from which an alert is sent."
    )
    alert_outbox_seconds: _Seconds = Field(
        default=300, description="Seconds that an order event may wait in the outbox before an alert is sent."
    )
    alert_failed_messages: Annotated[float, annotated_types.Interval(gt=0, le=1)] = Field(
        default=0.1, description="Share of a mailing's finished messages that may fail before an alert is sent."
    )
    alert_ui_url: str = Field(
        default="http://127.0.0.1:3000",
        description="Base URL of the Dagster UI, for the links in alerts. Empty: no links.",
    )

    @model_validator(mode="before")
    @classmethod
    def _env_file_lines(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name, value in list(values.items()):
            if isinstance(value, str) and name.startswith(_SEED_SETTINGS):
                values[name] = _without_comment(value)
                if not values[name]:
                    del values[name]
        return values

    @field_validator("sales_home", "sales_overview_file")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value and _expanded(value)

    @field_validator("sales_users_file", mode="before")
    @classmethod
    def _absolute_or_none(cls, value: object) -> object:
        return _expanded(Path(value)) if isinstance(value, str) and value else value or None

    @field_validator("report_api_url")
    @classmethod
    def _http(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http:// or https:// URL")
        return value.rstrip("/")

    @field_validator("raw_files_url")
    @classmethod
    def _without_credentials(cls, value: str) -> str:
        _refuse_credentials(value)
        return value

    @field_validator("mailings_unsubscribe_url")
    @classmethod
    def _link(cls, value: str) -> str:
        # The link becomes part of each text and of its JSON: no braces or quotes.
        if value and (not _LINK.fullmatch(value) or len(value) > _LONGEST_LINK):
            raise ValueError(f"must be an http:// or https:// URL without query, of at most {_LONGEST_LINK} characters")
        return value.rstrip("/")

    @field_validator("mailings_unsubscribe_secret", "sales_erasure_secret")
    @classmethod
    def _key(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        length = len(value.get_secret_value())
        if (
            not length
            and info.field_name == "mailings_unsubscribe_secret"
            and info.data.get("mailings_unsubscribe_url")
        ):
            raise ValueError("required with MAILINGS_UNSUBSCRIBE_URL")
        if 0 < length < _SHORTEST_KEY:
            raise ValueError(f"must have at least {_SHORTEST_KEY} characters")
        return value

    @field_validator("partnerapi_url", "sender_url", "alert_ui_url")
    @classmethod
    def _http_or_empty(cls, value: str) -> str:
        return cls._http(value) if value else ""

    @field_validator("sender_rate")
    @classmethod
    def _rate(cls, value: float) -> float:
        if 0 < value < _SLOWEST_RATE:
            raise ValueError(f"must be 0 (no limit) or at least {_SLOWEST_RATE:f} a second")
        return value

    @field_validator("alert_day_due_at", mode="before")
    @classmethod
    def _time_of_day(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        # pydantic would take 900 for fifteen minutes after midnight.
        found = dt.time.fromisoformat(value.strip())
        if found.tzinfo is not None:
            raise ValueError("must be a time of day without a zone, such as 09:00; SALES_TIMEZONE is its zone")
        return found

    @field_validator("sales_timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            return ZoneInfo(value).key
        except (KeyError, ValueError, OSError):
            raise ValueError("must be a zone of the IANA database, such as Europe/Moscow") from None

    @field_validator("rabbitmq_url")
    @classmethod
    def _amqp(cls, value: SecretStr) -> SecretStr:
        if urlsplit(value.get_secret_value()).scheme not in ("amqp", "amqps"):
            raise ValueError("must be an amqp:// or amqps:// URL")
        return value

    @field_validator("warehouse_url", "dagster_storage_url")
    @classmethod
    def _postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        # Imported here, because loading the definitions and most commands' help don't need libpq.
        from sales_assets.connection_strings import normalize, parse

        parse(value.get_secret_value())
        return SecretStr(normalize(value.get_secret_value()))

    @field_validator("report_api_file_hosts", mode="before")
    @classmethod
    def _hosts(cls, value: object) -> object:
        if isinstance(value, str):
            return frozenset(host.strip().lower() for host in value.split(",") if host.strip())
        return value

    @field_validator("sales_trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        found = frozenset(part.strip() for part in value.split(",") if part.strip())
        for part in found:
            try:
                ipaddress.ip_network(part)
            except ValueError:
                raise ValueError("must be IP addresses or networks such as 10.0.0.0/8, comma separated") from None
        return found

    @property
    def overview_location(self) -> Path:
        """File that the asset reports/sales_overview writes."""
        return self.sales_overview_file or self.sales_home / "sales_overview.html"

    @property
    def raw_files_location(self) -> str:
        return self.raw_files_url or str(self.sales_home / "raw")

    @property
    def users_file(self) -> Path:
        return self.sales_users_file or self.sales_home / "users"

    @property
    def dagster_home(self) -> Path:
        return self.sales_home / "dagster"


# Azure's URLs have the container before the account: abfs://container@account.dfs.core.windows.net/folder.
_CONTAINER_SCHEMES = ("abfs", "abfss", "az", "adl", "wasb", "wasbs")


# Schemes that PyIceberg's FileIO over fsspec supports.
_LAKE_SCHEMES = ("file", "s3", "s3a", "gs", "abfs", "abfss")


_ALERT_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S", re.IGNORECASE)
# A comma may be part of a URL, such as between the addresses of ?to=. Before a space or a scheme it separates URLs.
_BETWEEN_ALERT_URLS = re.compile(r"\s+|,(?=\s|[a-z][a-z0-9+.-]*://)", re.IGNORECASE)


def _split_alert_urls(value: SecretStr) -> list[str]:
    return [url for part in _BETWEEN_ALERT_URLS.split(value.get_secret_value()) if (url := part.strip(","))]


def _refuse_credentials(location: str) -> None:
    """Reject credentials: the location is shown by `doctor` and in every message about a file."""
    if any(_may_hold_credentials(url) for url in location.split("::")):  # fsspec chains URLs: simplecache::s3://...
        raise ValueError(
            "must be a folder or a URL without user name, password, key, query or fragment; storage libraries take "
            "credentials from their own environment variables, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )


def _may_hold_credentials(url: str) -> bool:
    """Return whether a URL has more than scheme, host, port and path. A path without a scheme is never rejected."""
    scheme, separator, rest = url.strip().partition("://")
    if not separator:
        return False
    rest = unquote(rest)
    authority = rest.partition("/")[0]
    user, at, host = authority.rpartition("@")
    named, colon, port = host.rpartition(":")
    return (
        "?" in rest
        or "#" in rest
        # A secret may contain a slash, which ends the authority before the @.
        or bool(colon and "@" in rest.partition(":")[2])
        or bool(at and (":" in user or scheme.lower() not in _CONTAINER_SCHEMES))
        # Not a port: key:secret without a bucket. A bucket can be an ARN.
        or bool(colon and not port.isdigit() and not named.startswith("arn:"))
    )


def _is_secret(field: str) -> bool:
    """Return whether a rejected value must not be shown: a secret, or a location rejected for its credentials."""
    annotation = Settings.model_fields[field].annotation
    return "SecretStr" in str(annotation) or field in ("raw_files_url", "lake_url", "openlineage_url")


def _explain(error: pydantic.ValidationError) -> str:
    lines = []
    for fault in error.errors():
        field = str(fault["loc"][0])
        shown = "" if _is_secret(field) else f" (found {scrubbed(str(fault['input']))[:80]!r})"
        lines.append(f"{field.upper()}: {fault['msg'].removeprefix('Value error, ')}{shown}")
    return "\n".join(lines)


def _refuse_unknown() -> None:
    known = {ENV_FILE_VARIABLE, *(name.upper() for name in Settings.model_fields)}
    faults = []
    for name in sorted({*os.environ, *_env_file_values()}):
        if name in known and not _is_text(os.environ.get(name, "")):
            faults.append(f"{name}: not UTF-8")
        elif name.startswith(OUR_PREFIXES) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            faults.append(f"{name}: unknown setting{hint} (.env.example lists them all)")
    if faults:
        raise SettingsError("\n".join(faults))


def _is_text(value: str) -> bool:
    """Return whether a variable is UTF-8: Python keeps other bytes as surrogates, which can't be encoded."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


@functools.cache
def settings() -> Settings:
    """Read all settings, once per process. Raises `SettingsError`."""
    _refuse_unknown()
    try:
        return Settings()
    except pydantic.ValidationError as error:
        # `from None`: pydantic's own text repeats the input, which may be a password.
        raise SettingsError(_explain(error)) from None


def secrets_in_force() -> set[str]:
    """Collect values that no message may show: secret settings, passwords inside URLs, keys of object storage."""
    try:
        values = settings().model_dump().values()
    except SettingsError:
        return set()
    found = {os.environ.get(name, "") for name in _SECRETS_OF_LIBRARIES}
    for value in values:
        if isinstance(value, SecretStr):
            # Only the password of a URL is hidden: messages need the rest.
            text = value.get_secret_value()
            found |= _passwords_of(text) if "://" in text else {text}
    for url in settings().alert_receivers:
        found |= secret_parts(url)
    # Shorter ones, and the public default password of RabbitMQ, occur in ordinary words.
    return {text for text in found if len(text) >= _SHORTEST_SECRET and text != "guest"}


def _passwords_of(url: str) -> set[str]:
    """Return the password of a URL, as written and percent-decoded."""
    userinfo = url.partition("://")[2].rpartition("@")[0].partition(":")[2]
    written = {userinfo, *_PASSWORD.findall(url)}
    return written | {unquote(text) for text in written}


def secret_parts(url: str) -> set[str]:
    """Return the parts of a receiver's URL that may be tokens: all except the scheme and a host name."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return {url}
    userinfo, _, host = parts.netloc.rpartition("@")
    found = {
        url,
        parts.path,
        parts.query,
        userinfo,
        *userinfo.split(":"),
        *re.split(r"[/&=?,]", parts.path + parts.query),
    }
    if "." not in host and not host.startswith("localhost"):
        found.add(host)
    found = {text for text in found if len(text) >= _SHORTEST_TOKEN}
    password = userinfo.partition(":")[2]
    if len(password) >= _SHORTEST_SECRET:
        found.add(password)
    return found | {unquote(text) for text in found}


@functools.cache
def definition_settings() -> DefinitionSettings:
    """Read the settings that loading the definitions needs, once per process. Raises `SettingsError`."""
    try:
        return DefinitionSettings()
    except pydantic.ValidationError as error:
        raise SettingsError(_explain(error)) from None


def first_day() -> dt.date:
    """Return the first daily partition. Raises `SettingsError`."""
    return definition_settings().sales_first_day


def days_per_run() -> int | None:
    """Return the maximum number of days per run of a backfill; None: no limit. Raises `SettingsError`."""
    return definition_settings().sales_days_per_run


class _Given(Settings):
    """Settings read from the constructor's arguments only, to validate a value."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  the base class's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def fault_of(variable: str, value: str) -> str | None:
    """Explain why a value of a setting is invalid, without quoting a secret; None if it is valid."""
    given: dict[str, Any] = {variable.lower(): value}
    try:
        _Given(**given)
    except pydantic.ValidationError as error:
        return _explain(error)
    return None


def describe() -> list[tuple[str, str, str]]:
    """Return (variable, default, description) of every setting, in the order of `.env.example`."""
    rows = []
    for name, field in Settings.model_fields.items():
        default: Any = None if field.default_factory else field.default
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        if isinstance(default, dt.time):
            default = default.isoformat("minutes")
        if isinstance(default, frozenset):
            default = ",".join(sorted(cast("frozenset[str]", default)))
        rows.append((name.upper(), "" if default is None else str(default), field.description or ""))
    return rows
