"""Responses of the report API (docs/data-contracts/report-api.md): models and their validation.

HTTP is in `sales_assets.resources.report_api`, the linked files are in `report_files`.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from sales_assets.schemas.report_files import canonical_name

_LONGEST_TEXT = 2000


def _calendar_day(value: object) -> object:
    """Take the day of ``2023-09-07 00:00:00`` (or with a T): the first ten characters; the rest is ignored."""
    return dt.date.fromisoformat(value[:10]) if isinstance(value, str) else value


def _plain(value: str) -> str:
    """Reject ids and links with NUL or line ends: they can't be valid, nor stored in a database."""
    if not value.isprintable():
        raise ValueError("contains unprintable characters")
    return value


def _readable(value: object) -> object:
    """Make free text safe to store and show: replace unprintable characters, and shorten it."""
    if not isinstance(value, str):
        return value
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value[:_LONGEST_TEXT])


Day = Annotated[dt.date, BeforeValidator(_calendar_day)]
Plain = Annotated[str, AfterValidator(_plain)]
Text = Annotated[str, BeforeValidator(_readable)]


class _Answer(BaseModel):
    # The API has added keys before (debug_info); a new key must not fail a day.
    model_config = ConfigDict(extra="ignore", frozen=True)


class TaskAnswer(_Answer):
    """Response of ``POST /generate_report``."""

    task_id: Plain = Field(min_length=1)


class ReportData(_Answer):
    """Field `data` of a report: its period and the links of its files, once it is ready."""

    report_id: Plain | None = None
    start_day: Day | None = None
    end_date: Day | None = None
    s3_path: Mapping[str, Plain] = Field(default_factory=dict)


class ReportAnswer(_Answer):
    """Response of ``GET /get_report``: RUNNING with empty data, then SUCCESS."""

    task_id: str
    status: str
    data: ReportData | None = None


class IncrementData(_Answer):
    """Field `data` of an increment: the links of its files; empty for NOT FOUND."""

    increment_id: Plain | None = None
    s3_path: Mapping[str, Plain] = Field(default_factory=dict)


class IncrementAnswer(_Answer):
    """Response of ``GET /get_increment``: SUCCESS, or NOT FOUND with HTTP 200 and sometimes a reason."""

    report_id: Plain
    date: Day
    status: Literal["SUCCESS", "NOT FOUND"]
    data: IncrementData
    debug_info: Text | None = None


class Report(_Answer):
    """A finished report: its period (both ends inclusive) and the link of each delivered file."""

    task_id: str
    report_id: str
    first_day: dt.date
    last_day: dt.date
    links: Mapping[str, str]


class Increment(_Answer):
    """The increment of a day, or the reason why it has none."""

    report_id: str
    day: dt.date
    increment_id: str | None
    links: Mapping[str, str]
    reason: str | None = None

    @property
    def found(self) -> bool:
        return self.increment_id is not None


def links_by_file(s3_path: Mapping[str, str], *, increment: bool) -> dict[str, str]:
    """Map links to {canonical file name: URL}; unknown keys and files of the other kind are left out.

    Both spellings of the names are accepted (``user_order_log`` and ``user_orders_log``).
    """
    links = {}
    for key, url in s3_path.items():
        known = canonical_name(key)
        if known is not None and known[1] is increment:
            links[known[0]] = url
    return links
