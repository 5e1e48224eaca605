"""The steward's pages: rejected rows, resolutions and their progress, days, and the audit trail.

Handles requests and templates only; ``repository`` runs the statements. Rejected rows, file names and reasons are
external input: templates escape them, and they never become part of a URL.
"""

import datetime as dt
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette_admin.flash import flash
from starlette_admin.routing import route
from starlette_admin.views import CustomView

from sales_assets.postgres.resolutions import (
    CORRECT,
    DISCARD,
    PARSE_AGAIN,
    REOPEN,
    Resolution,
    ResolutionError,
    Resolved,
)
from sales_assets.schemas.line_rules import InvalidRecordError, split_record
from sales_assets.schemas.report_files import REPORT_FILES
from sales_assets.services.http.admin import user_of
from sales_assets.services.http.numbers import parse_integer
from sales_assets.services.steward.repository import (
    MOST_AT_ONCE,
    Action,
    Change,
    Filters,
    Row,
    State,
    StewardRepository,
    UnavailableError,
)

T = TypeVar("T")

_ROWS_PER_PAGE = 50
_LINES_PER_PAGE = 100
_MOST_PAGES = 1_000_000
_LONGEST_REASON = 500
# Messages are stored in the session cookie, which browsers reject above 4096 bytes.
_LONGEST_MESSAGE = 1000
_ACTIONS: Sequence[Action] = (CORRECT, DISCARD, PARSE_AGAIN, REOPEN)
_STATES: Sequence[State] = ("open", "corrected", "discarded", "resolved")
_INT64 = 2**63 - 1
_COLUMNS_OF_LINEAGE = ("fetch_id", "line_no", "sale_id")
# Refresh of a page that shows days which are being loaded.
_REFRESH_SECONDS = 5


class _Page(CustomView):
    """Base class of the steward's pages."""

    def __init__(self, repository: StewardRepository) -> None:
        super().__init__()
        self._repository = repository

    def is_active(self, request: Request) -> bool:
        path = f"{request.scope['root_path']}{self.path}"
        return bool(request.scope["path"] == path or request.scope["path"].startswith(f"{path}/"))

    def _render(self, request: Request, template: str, *, status: int = 200, **context: Any) -> Response:
        assert self._admin is not None
        return self._admin._template_response(
            request,
            f"steward/{template}.html",
            {"title": self.title(request), "root": f"{request.scope['root_path']}", "view": self, **context},
            status_code=status,
        )


class Quarantine(_Page):
    """Pages of rejected rows: a filtered list, and a page for each row."""

    menu_label = "Quarantine"
    icon = "fa fa-triangle-exclamation"
    path = "/quarantine"

    @route("")
    async def index(self, request: Request) -> Response:
        filters = _filters(request.query_params)
        page = _page(request)
        offset = (page - 1) * _ROWS_PER_PAGE
        found = await _available(self._repository.search(filters, limit=_ROWS_PER_PAGE, offset=offset))
        return self._render(
            request,
            "quarantine",
            found=found,
            filters=filters,
            files=list(REPORT_FILES),
            states=_STATES,
            most=MOST_AT_ONCE,
            query=request.url.query,
            pages=_Pages(request, page, found.count, _ROWS_PER_PAGE),
        )

    @route("/resolve", methods=["POST"])
    async def resolve(self, request: Request) -> Response:
        """Correct, discard, parse again or reopen several rows: those selected, or all that match the filters."""
        form = await request.form()
        given = {name: value for name, value in form.items() if isinstance(value, str)}
        change = Change(_action(given), _plain(given.get("find", "")), _plain(given.get("replacement", "")))
        filters = _filters(request.query_params)
        back = str(URL(f"{request.scope['root_path']}{self.path}").replace(query=request.url.query))
        try:
            if given.get("scope") == "matching":
                count = _number(given.get("count"))
                work = self._repository.change_matching(filters, count, change, by=user_of(request))
            else:
                numbers = [_number(value) for value in form.getlist("id") if isinstance(value, str)]
                numbers = list(dict.fromkeys(numbers))
                count = len(numbers)
                if not numbers:
                    flash(request, "Select rows first", "warning")
                    return RedirectResponse(back, 303)
                seen = _seen(value for value in form.getlist("seen") if isinstance(value, str))
                work = self._repository.change(numbers, change, by=user_of(request), seen=seen)
            resolved = await _available(work)
        except ResolutionError as error:
            flash(request, f"Nothing was changed: {error}"[:_LONGEST_MESSAGE], "error")
            return RedirectResponse(back, 303)
        return _to_progress(request, count, change.action, resolved)

    @route("/{quarantine_id:int}")
    async def row(self, request: Request) -> Response:
        return await self._row(request)

    @route("/{quarantine_id:int}", methods=["POST"])
    async def resolve_row(self, request: Request) -> Response:
        """Correct, discard or reopen a row, or parse it again; a refused correction is shown with its reason."""
        form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
        number = _number(request.path_params["quarantine_id"])
        action = _action(form)
        text = form.get("text", "") if action == CORRECT else None
        if text is not None and form.get("crlf") != "yes":
            # Browsers send line breaks as CRLF; those of the row are LF unless it has a CR.
            text = text.replace("\r\n", "\n")
        try:
            resolved = await _available(
                self._repository.resolve(
                    [Resolution(number, action, text)],
                    by=user_of(request),
                    seen={number: _moment(form.get("seen", ""))},
                )
            )
        except ResolutionError as error:
            return await self._row(request, text=text, error=str(error).removeprefix(f"{number}: "))
        return _to_progress(request, 1, action, resolved)

    async def _row(self, request: Request, *, text: str | None = None, error: str | None = None) -> Response:
        number = _number(request.path_params["quarantine_id"])
        try:
            found = await _available(self._repository.rejected_row(number))
        except ResolutionError as unknown:
            raise HTTPException(404, str(unknown)) from None
        row = found.row
        return self._render(
            request,
            "row",
            status=422 if error else 200,
            found=found,
            row=row,
            cells=_cells(row),
            neighbours=_neighbours(found.staged, found.rejected),
            text=text if text is not None else row["corrected_text"] or row["line_text"],
            error=error,
            seen=row["corrected_at"].isoformat() if row["corrected_at"] else "",
        )


class Resolutions(_Page):
    """Page of resolutions with the days that they change: totals before and after, and progress."""

    menu_label = "Resolutions"
    icon = "fa fa-list-check"
    path = "/resolutions"

    @route("")
    async def index(self, request: Request) -> Response:
        page = _page(request)
        found = await _available(self._repository.resolutions(limit=_ROWS_PER_PAGE, offset=(page - 1) * _ROWS_PER_PAGE))
        under_way = any(day["loaded_at"] is None for days in found.days.values() for day in days)
        return self._render(
            request,
            "resolutions",
            found=found,
            pages=_Pages(request, page, found.count, _ROWS_PER_PAGE),
            refresh=_REFRESH_SECONDS if under_way else None,
        )


class Days(_Page):
    """Page that explains a day's numbers: the stored files, the reason for the selection, and the line of each row."""

    menu_label = "Days"
    icon = "fa fa-calendar-day"
    path = "/days"

    @route("")
    async def index(self, request: Request) -> Response:
        given = request.query_params.get("day", "")
        if not given:
            return self._render(request, "day", day=None)
        day = _day(given)
        if day is None:
            return self._render(request, "day", day=None, error="Expected a day such as 2024-10-02", status=400)
        page = _page(request)
        explanation, lines = await _available(
            self._repository.explanation(day, limit=_LINES_PER_PAGE, offset=(page - 1) * _LINES_PER_PAGE)
        )
        count = sum(row["rows"] for row in explanation.mart)
        return self._render(
            request,
            "day",
            day=day,
            explanation=explanation,
            lines=lines,
            pages=_Pages(request, page, count, _LINES_PER_PAGE),
        )


class AuditTrail(_Page):
    """Page of the audit trail: actions of users with their time."""

    menu_label = "Audit trail"
    icon = "fa fa-clock-rotate-left"
    path = "/audit"

    @route("")
    async def index(self, request: Request) -> Response:
        page = _page(request)
        rows, count = await _available(
            self._repository.audit_trail(limit=_ROWS_PER_PAGE, offset=(page - 1) * _ROWS_PER_PAGE)
        )
        return self._render(request, "audit", rows=rows, pages=_Pages(request, page, count, _ROWS_PER_PAGE))


class _Pages:
    """Links to the neighbouring pages of a list, with its filters."""

    def __init__(self, request: Request, number: int, count: int, size: int) -> None:
        self.number = number
        self.count = count
        self.last = max(1, -(-count // size))
        self._parameters = {name: value for name, value in request.query_params.items() if name != "page"}

    def link(self, number: int) -> str:
        return f"?{urlencode({**self._parameters, 'page': number})}"


def _to_progress(request: Request, rows: int, action: Action, resolved: Resolved) -> Response:
    """Redirect to the page of resolutions, which shows the progress of the days."""
    days = f"{len(resolved.days)} days are loaded again" if len(resolved.days) != 1 else "1 day is loaded again"
    also = f", and {len(resolved.inherited)} identical rows of other contents" if resolved.inherited else ""
    done = "reopened" if action == REOPEN else "resolved"
    flash(request, f"{rows} {'rows' if rows > 1 else 'row'} {done}{also}; {days}", "success")
    return RedirectResponse(f"{request.scope['root_path']}{Resolutions.path}", 303)


async def _available(work: Awaitable[T]) -> T:
    try:
        return await work
    except UnavailableError:
        raise HTTPException(503, "The warehouse is unavailable, try again later.") from None


def _filters(parameters: Mapping[str, str]) -> Filters:
    """Read the filters of a request. Raises `HTTPException` for an invalid filter, instead of ignoring it."""
    day = _day(parameters["day"]) if parameters.get("day") else None
    file = parameters.get("file") or None
    if (parameters.get("day") and day is None) or (file is not None and file not in REPORT_FILES):
        raise HTTPException(400, "Expected a day such as 2024-10-02, and one of the files")
    reason = parameters.get("reason", "").replace("\0", "")[:_LONGEST_REASON].strip() or None
    state = parameters.get("state") or "open"
    if state != "all" and state not in _STATES:
        raise HTTPException(400, "Unknown state")
    return Filters(day, file, reason, next((known for known in _STATES if known == state), None))


def _action(form: Mapping[str, str]) -> Action:
    action = next((known for known in _ACTIONS if known == form.get("action")), None)
    if action is None:
        raise HTTPException(400, "Unknown action")
    return action


def _plain(text: str) -> str:
    """Return a single-line text unchanged. Raises `HTTPException` for line breaks: the row's page can edit those."""
    if any(character in "\0\r\n" for character in text):
        raise HTTPException(400, "Expected a text of one line")
    return text


def _page(request: Request) -> int:
    try:
        number = parse_integer(request.query_params.get("page", "1"))
    except ValueError:
        number = 0
    if not 1 <= number <= _MOST_PAGES:
        raise HTTPException(400, "There is no such page")
    return number


def _number(value: object) -> int:
    try:
        number = parse_integer(str(value))
    except ValueError:
        number = -1
    if not 0 < number <= _INT64:
        raise HTTPException(404, "There is no such row")
    return number


def _day(text: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text) if len(text) == len("2024-10-02") else None
    except ValueError:
        return None


def _moment(text: str) -> dt.datetime | None:
    if not text:
        return None
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        raise HTTPException(400, "The form was changed") from None


def _seen(fields: Iterable[str]) -> dict[int, dt.datetime | None]:
    """Read the rows that a list showed, each with the time of its latest resolution, if any."""
    shown = (field.partition(" ") for field in fields)
    return {_number(number): _moment(moment) for number, _, moment in shown}


def _cells(row: Row) -> list[tuple[str, str]]:
    """Return the (column, cell) pairs of a rejected row; none if it can't be split or has a wrong number of cells."""
    if row["header"] is None:
        return []
    try:
        cells = split_record(row["line_text"])
    except InvalidRecordError:
        return []
    return list(zip(row["header"], cells, strict=True)) if len(cells) == len(row["header"]) else []


def _neighbours(staged: Sequence[Row], rejected: Sequence[Row]) -> list[Row]:
    """Merge the neighbours of a row by line: {line_no, quarantine_id, state, reason, text}."""
    found: dict[int, Row] = {}
    for row in staged:
        values = (f"{name}={value}" for name, value in row.items() if name not in _COLUMNS_OF_LINEAGE)
        found[row["line_no"]] = {"quarantine_id": None, "state": "valid", "reason": "", "text": ", ".join(values)}
    for row in rejected:
        found[row["line_no"]] = {**row, "text": row["line_text"]}
    return [{**found[line], "line_no": line} for line in sorted(found)]
