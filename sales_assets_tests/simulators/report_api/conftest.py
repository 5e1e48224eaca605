"""Report API simulator that serves a folder filled by the tests, and a plain client that knows only the wire format."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import requests

from sales_assets.services.http.server import running
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets.simulators.report_api.faults import Faults

KEY = "a-key-for-tests"
HEADERS = {"X-Nickname": "tester", "X-Cohort": "1", "X-Project": "True", "X-API-KEY": KEY}
ORDERS_HEADER = (
    "id,uniq_id,date_time,city_id,city_name,customer_id,first_name,last_name,item_id,item_name,quantity,payment_amount"
)


def orders(*days: str) -> str:
    """Return an order file with one line per day."""
    lines = [f"{n},{n:032x},{day}T00:00:00,0,Москва,7,Анна,Орлова,6,Яблоко,2,280" for n, day in enumerate(days, 1)]
    return "\n".join([ORDERS_HEADER, *lines, ""])


def write(path: Path, text: str) -> Path:
    """Write a file, and create its parent folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="")
    return path


class Client:
    """HTTP client of the report API, as documented."""

    def __init__(self, api: ReportApi, url: str) -> None:
        self.api = api
        self.url = url

    def post(self, path: str, *, headers: dict[str, str] = HEADERS, timeout: float = 10) -> requests.Response:
        return requests.post(self.url + path, headers=headers, timeout=timeout)

    def get(self, path: str, params: dict[str, str], *, headers: dict[str, str] = HEADERS) -> requests.Response:
        return requests.get(self.url + path, params=params, headers=headers, timeout=10)

    def task(self) -> str:
        task_id = self.post("/generate_report").json()["task_id"]
        assert isinstance(task_id, str)
        return task_id

    def report(self) -> dict[str, Any]:
        """Generate a report and return its `data`; the server must finish reports at once."""
        response = self.get("/get_report", {"task_id": self.task()}).json()
        assert response["status"] == "SUCCESS", response
        data = response["data"]
        assert isinstance(data, dict)
        return data

    def increment(self, report_id: str, day: str | date) -> dict[str, Any]:
        response = self.get("/get_increment", {"report_id": report_id, "date": f"{day}T00:00:00"})
        assert response.status_code == 200, response.text
        body = response.json()
        assert isinstance(body, dict)
        return body


Start = Callable[..., Client]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Yield a function that starts a simulator of tmp_path or another folder and returns a client for it."""
    with ExitStack() as stack:

        def start_one(folder: Path = tmp_path, *, wait: float = 0.0, faults: Faults | None = None) -> Client:
            api = ReportApi(folder, api_key=KEY, report_seconds=wait, faults=faults)
            return Client(api, stack.enter_context(running(api)))

        yield start_one
