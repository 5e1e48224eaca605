"""Every environment variable of the platform, typed, in one place.

Belongs here: names, types, defaults and what a value must look like. A malformed or unknown variable stops the
program at its start with one line per fault; values of secrets are never part of a message.
Does not belong here: opening anything. Loading the Dagster definitions reads ``SALES_FIRST_DAY`` and nothing
else, so that a code location also loads where no database and no API are configured.
"""

import datetime as dt
import difflib
import functools
import os
from pathlib import Path
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

import annotated_types
import pydantic
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ENV_FILE = ".env"

# A variable that starts like ours but is not one of ours is a typing error that would otherwise be ignored.
OUR_PREFIXES = ("SALES_", "WAREHOUSE_", "REPORT_API_", "RAW_FILES_")


class SettingsError(ValueError):
    """A setting is unknown, missing or malformed. The message has one line per fault and holds no secret."""


def _default_home() -> Path:
    """``.sales_assets`` beside workspace.yaml in a checkout, else in the user's home folder."""
    project = Path(__file__).resolve().parent.parent
    base = project if (project / "workspace.yaml").exists() else Path.home()
    return base / ".sales_assets"


class FirstDay(BaseSettings):
    """The one setting that loading the definitions reads."""

    model_config = SettingsConfigDict(env_file=ENV_FILE, extra="ignore", env_ignore_empty=True)

    sales_first_day: dt.date = Field(
        default=dt.date(2020, 1, 1),
        description="First daily partition. Report lines before it are counted and shown, never loaded.",
    )

    @field_validator("sales_first_day", mode="before")
    @classmethod
    def _calendar_date(cls, value: object) -> object:
        if isinstance(value, str):
            return dt.date.fromisoformat(value.strip())
        return value


class Settings(FirstDay):
    """All settings. Shapes, units and defaults stand with each field; ``.env.example`` mirrors them."""

    sales_home: Path = Field(
        default_factory=_default_home,
        description="Folder of the embedded server, the raw files and Dagster's home. Nothing is written elsewhere.",
    )
    warehouse_url: SecretStr | None = Field(
        default=None,
        description="postgresql://user:password@host/database of the warehouse. Empty: the embedded PostgreSQL.",
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
        description="Storage hosts, comma separated, that files may come from besides the API's own host.",
    )
    report_api_timeout: Annotated[float, annotated_types.Gt(0)] = Field(
        default=30, description="Seconds without a byte before a call or a download counts as stuck."
    )
    report_api_patience: Annotated[float, annotated_types.Gt(0)] = Field(
        default=30, description="Seconds in which one call is retried after refused connections and 5xx."
    )
    report_api_report_deadline: Annotated[float, annotated_types.Gt(0)] = Field(
        default=600,
        description="Seconds that a report may take to be made (the real service needs 63 to 80).",
    )
    raw_files_url: str = Field(
        default="",
        description="Folder or fsspec URL where every fetched file is kept. Empty: SALES_HOME/raw.",
    )
    raw_files_max_bytes: Annotated[int, annotated_types.Gt(0)] = Field(
        default=4 * 1024**3, description="Largest file that is accepted, in bytes."
    )

    @field_validator("sales_home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("report_api_url")
    @classmethod
    def _http(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http:// or https:// URL")
        return value.rstrip("/")

    @field_validator("warehouse_url", "dagster_storage_url")
    @classmethod
    def _postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        scheme, separator, rest = value.get_secret_value().partition("://")
        if not separator or scheme.split("+")[0] not in ("postgresql", "postgres"):
            raise ValueError("must be a postgresql:// URL")
        # A driver suffix is SQLAlchemy's business; psql and libpq know the plain scheme only.
        return SecretStr(f"postgresql://{rest}")

    @field_validator("report_api_file_hosts", mode="before")
    @classmethod
    def _hosts(cls, value: object) -> object:
        if isinstance(value, str):
            return frozenset(host.strip().lower() for host in value.split(",") if host.strip())
        return value

    @property
    def raw_files_location(self) -> str:
        return self.raw_files_url or str(self.sales_home / "raw")

    @property
    def dagster_home(self) -> Path:
        return self.sales_home / "dagster"


def _is_secret(field: str) -> bool:
    annotation = Settings.model_fields[field].annotation
    return "SecretStr" in str(annotation)


def _explain(error: pydantic.ValidationError) -> str:
    lines = []
    for fault in error.errors():
        field = str(fault["loc"][0])
        shown = "" if _is_secret(field) else f" (found {str(fault['input'])[:80]!r})"
        lines.append(f"{field.upper()}: {fault['msg'].removeprefix('Value error, ')}{shown}")
    return "\n".join(lines)


def _refuse_unknown() -> None:
    known = {name.upper() for name in Settings.model_fields}
    faults = []
    for name in sorted(os.environ):
        if name.startswith(OUR_PREFIXES) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            faults.append(f"{name}: there is no such setting{hint} (.env.example lists them all)")
    if faults:
        raise SettingsError("\n".join(faults))


@functools.cache
def settings() -> Settings:
    """Read all settings, once per process. Raises `SettingsError`."""
    _refuse_unknown()
    try:
        return Settings()
    except pydantic.ValidationError as error:
        # `from None`: pydantic's own text repeats the input, and the input may be a password.
        raise SettingsError(_explain(error)) from None


@functools.cache
def first_day() -> dt.date:
    """First daily partition; the only setting read while definitions load. Raises `SettingsError`."""
    try:
        return FirstDay().sales_first_day
    except pydantic.ValidationError as error:
        raise SettingsError(_explain(error)) from None


def describe() -> list[tuple[str, str, str]]:
    """(variable, default, meaning) of every setting, in the order of `.env.example`."""
    rows = []
    for name, field in Settings.model_fields.items():
        default: Any = field.get_default(call_default_factory=False)
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        if isinstance(default, frozenset):
            default = ",".join(sorted(cast("frozenset[str]", default)))
        rows.append((name.upper(), "" if default is None else str(default), field.description or ""))
    return rows
