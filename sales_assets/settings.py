"""All settings: names, types, defaults and validation of the environment variables.

A malformed or unknown variable stops the program at startup with one line per fault, never with the value of a secret.
Loading the Dagster definitions reads only ``SALES_FIRST_DAY``, ``SALES_DAYS_PER_RUN`` and ``LAKE_URL``, so that a code
location loads without a configured database or API.
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
from pydantic import Field, SecretStr, field_validator, model_validator
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

# An unknown variable with one of these prefixes is a typing error that would otherwise be ignored. RABBITMQ_ alone is
# the broker's own prefix (RABBITMQ_NODENAME etc.), so it isn't among them.
OUR_PREFIXES = (
    *("SALES_", "SALE_", "WAREHOUSE_", "REPORT_API_", "RAW_FILES_", "PARTNERAPI_", "RABBITMQ_URL"),
    *("MAILINGS_", "SENDER_", "LAKE_"),
)

# Settings whose lines may have comments and quotes (docs/data-contracts/partner-orders.md, "Settings").
_SEED_SETTINGS = ("partnerapi_", "rabbitmq_", "sale_on", "sales_timezone")
_COMMENT = re.compile(r"(^|\s)#.*$")


class SettingsError(ValueError):
    """A setting is unknown, missing or malformed. The message has one line per fault and holds no secret."""


# Prefixes of variables that the libraries behind RAW_FILES_URL and WAREHOUSE_URL read themselves.
_SECRETS_OF_LIBRARIES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD")
_SHORTEST_SECRET = 4
_PASSWORD = re.compile(r"[?&]password=([^&]*)")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def env_file() -> Path | None:
    """Find the settings file (absolute path, or None). Raises `SettingsError` if SALES_ENV_FILE names a missing one."""
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
    """Return the line number of a statement, which the parser starts at the blank lines before it."""
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
    """The only settings that loading the definitions reads."""

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
        "engines, without credentials. Needs the extra [lake]. Empty: none.",
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

    @field_validator("lake_url")
    @classmethod
    def _lake(cls, value: str) -> str:
        """Make it the URL that the tables' metadata will hold: absolute, and without credentials."""
        _refuse_credentials(value)
        scheme, separator, _ = value.partition("://")
        if not separator:
            # Not percent-encoded: no reader of the metadata decodes it.
            return f"file://{_expanded(Path(value))}" if value else ""
        if scheme not in _LAKE_SCHEMES:
            raise ValueError(f"must be a folder or a URL of {', '.join(_LAKE_SCHEMES)}")
        return value.rstrip("/")


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
    report_api_key: SecretStr = Field(default=SecretStr(""), description="Sent as X-API-KEY.")
    report_api_nickname: str = Field(default="sales_assets", description="Sent as X-Nickname.")
    report_api_cohort: str = Field(default="1", description="Sent as X-Cohort.")
    report_api_file_hosts: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset(),
        description="Hosts, comma separated, from which files may be downloaded besides the API's own host.",
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
        description="Seconds without a byte before a request to the object store of RAW_FILES_URL counts as stuck; its "
        "driver repeats it.",
    )

    sales_trusted_proxies: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset(),
        description="Addresses or networks of reverse proxies, comma separated, whose X-Forwarded-Proto and "
        "X-Forwarded-For the services trust, such as 127.0.0.1 or 10.0.0.0/8. Empty: none.",
    )
    sales_timezone: str = Field(
        default="UTC", description="Time zone that determines the day of orders, cancellations and mailings."
    )
    sale_on: Literal["created", "done"] = Field(
        default="created", description="Which status of a partner order makes a sale: created (accepted) or done."
    )
    partnerapi_url: str = Field(
        default="", description="Base URL of the partner's API. Empty: not ready, orders return service_error."
    )
    partnerapi_http_timeout: _Seconds = Field(default=30, description="Seconds per attempt of a find or status call.")
    partnerapi_http_retries_count: _Count = Field(default=3, description="Total attempts of such a call; 0 means 1.")
    partnerapi_http_retries_sleep: _Pause = Field(default=30, description="Base pause between attempts, in seconds.")
    partnerapi_http_timeout_order: _Seconds = Field(
        default=10, description="Seconds per attempt of a create or cancel call."
    )
    partnerapi_http_retries_count_order: _Count = Field(
        default=1, description="Total attempts of such a call; above 1 the order is searched for before each create."
    )
    partnerapi_http_retries_sleep_order: _Pause = Field(
        default=0, description="Base pause between attempts, in seconds."
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
        description="Days after acceptance for which an open order is looked up; 0 = only when a caller asks.",
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
    partnerapi_rabbitmq_retries_sleep: _Pause = Field(default=30, description="Pause between attempts, in seconds.")
    partnerapi_source_project_id: int = Field(default=8, description="Our project's id, in every event.")
    partnerapi_kodpost: int = Field(
        default=116897, description="Supplier code of the partner's chain: key of the item and pharmacy mapping."
    )
    partnerapi_metrics_port: Annotated[int | None, annotated_types.Interval(ge=1, le=65_535)] = Field(
        default=None,
        description="Further port for Prometheus, on the address of `sales-assets api`. Empty: only /metrics on 8000.",
    )

    sender_url: str = Field(
        default="", description="Base URL of the service that sends messages. Empty: not ready, mailings wait."
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
    mailings_admin_user: str = Field(default="admin", description="User name for the admin page of the mailings.")
    mailings_admin_password: SecretStr = Field(
        default=SecretStr(""), description="Password for the admin page. Empty: the admin page is off."
    )
    mailings_admin_secret: SecretStr = Field(
        default=SecretStr(""),
        description="Key that signs the sessions of the admin page; required if several processes serve it. Empty: a "
        "new one at each start, which ends all sessions.",
    )
    mailings_metrics_port: Annotated[int | None, annotated_types.Interval(ge=1, le=65_535)] = Field(
        default=None, description="Port for the Prometheus metrics of a worker. Empty: none."
    )
    mailings_metrics_host: str = Field(
        default="127.0.0.1", description="Address of that port; in a container or pod 0.0.0.0."
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

    @field_validator("sales_home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return _expanded(value)

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

    @field_validator("partnerapi_url", "sender_url")
    @classmethod
    def _http_or_empty(cls, value: str) -> str:
        return cls._http(value) if value else ""

    @field_validator("sender_rate")
    @classmethod
    def _rate(cls, value: float) -> float:
        if 0 < value < _SLOWEST_RATE:
            raise ValueError(f"must be 0 (no limit) or at least {_SLOWEST_RATE:f} a second")
        return value

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
        # Imported here: loading the definitions, and most commands' help, do without libpq.
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
    def raw_files_location(self) -> str:
        return self.raw_files_url or str(self.sales_home / "raw")

    @property
    def dagster_home(self) -> Path:
        return self.sales_home / "dagster"


# Azure's URLs have the container before the account: abfs://container@account.dfs.core.windows.net/folder.
_CONTAINER_SCHEMES = ("abfs", "abfss", "az", "adl", "wasb", "wasbs")


# Those that PyIceberg's FileIO over fsspec knows.
_LAKE_SCHEMES = ("file", "s3", "s3a", "gs", "abfs", "abfss")


def _refuse_credentials(location: str) -> None:
    """Reject credentials: the location is shown by `doctor` and in every message about a file."""
    if any(_may_hold_credentials(url) for url in location.split("::")):  # fsspec chains URLs: simplecache::s3://...
        raise ValueError(
            "must be a folder or a URL without user name, password, key, query or fragment; storage libraries take "
            "credentials from their own environment variables, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )


def _may_hold_credentials(url: str) -> bool:
    """Whether a storage URL has more than scheme, host, port and path. A path without a scheme may hold anything."""
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
    """Whether a rejected value is never shown. Locations of files are rejected because of the credentials in them."""
    annotation = Settings.model_fields[field].annotation
    return "SecretStr" in str(annotation) or field in ("raw_files_url", "lake_url")


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
    """Whether an environment variable is UTF-8: Python keeps other bytes as surrogates, which can't be encoded."""
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
            # Of a URL only the password: messages need the rest.
            text = value.get_secret_value()
            found |= _passwords_of(text) if "://" in text else {text}
    # Shorter ones, and the public default password of RabbitMQ, occur in ordinary words.
    return {text for text in found if len(text) >= _SHORTEST_SECRET and text != "guest"}


def _passwords_of(url: str) -> set[str]:
    """Return the password of a URL, as written and percent-decoded."""
    userinfo = url.partition("://")[2].rpartition("@")[0].partition(":")[2]
    written = {userinfo, *_PASSWORD.findall(url)}
    return written | {unquote(text) for text in written}


@functools.cache
def definition_settings() -> DefinitionSettings:
    """Read the settings that decide what is defined, once per process. Raises `SettingsError`."""
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


def describe() -> list[tuple[str, str, str]]:
    """Return (variable, default, description) of every setting, in the order of `.env.example`."""
    rows = []
    for name, field in Settings.model_fields.items():
        default: Any = None if field.default_factory else field.default
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        if isinstance(default, frozenset):
            default = ",".join(sorted(cast("frozenset[str]", default)))
        rows.append((name.upper(), "" if default is None else str(default), field.description or ""))
    return rows
