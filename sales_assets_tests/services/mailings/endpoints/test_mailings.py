"""Mailing endpoints, row by row of docs/data-contracts/mailings.md: exact JSON, changes that compete with the start of
a mailing, and the endpoints beyond the contract.
"""

import datetime as dt
import json
import threading
import time
from typing import Any

import psycopg
import pytest
import requests

from sales_assets import settings as settings_module
from sales_assets.postgres.queries import statements
from sales_assets.services.mailings.celery_app import enqueue_planner
from sales_assets.services.mailings.schemas import DATETIME_FORMAT as WRONG_MOMENT
from sales_assets_tests.services.mailings.fixtures import Api, api_running, mailing, moment

REQUIRED = ["This field is required."]
NOT_FOUND = '{"detail":"Not found."}'
STARTED = '{"start_time":["unable to update mailing with start time in the past"]}'
KEYS = ["id", "start_time", "text", "client_operator_code_filter", "client_tag_filter", "end_time"]


def status_and_text(response: requests.Response) -> tuple[int, str]:
    return response.status_code, response.text


# --- docs/data-contracts/mailings.md ------------------------------------------------------------------------------


def test_a_mailing_is_added_as_the_contract_shows(api: Api) -> None:
    body = {
        "start_time": "2022-12-02T16:50:00Z",
        "text": "hello",
        "client_tag_filter": "VIP",
        "end_time": "2128-11-20",
    }
    for number, path in ((1, "/mailings/"), (2, "/mailings")):
        expected = (
            f'{{"id":{number},"start_time":"2022-12-02T16:50:00Z","text":"hello","client_operator_code_filter":null,'
            '"client_tag_filter":"VIP","end_time":"2128-11-20T00:00:00Z"}'
        )
        assert status_and_text(api.send("POST", path, body)) == (201, expected)
    assert len(api.enqueued) == 2


@pytest.mark.parametrize(
    ("given", "answered"),
    [
        ("2128-11-20", "2128-11-20T00:00:00Z"),
        ("2128-11-20T16:50", "2128-11-20T16:50:00Z"),
        ("2128-11-20T16:50:00", "2128-11-20T16:50:00Z"),
        ("2128-11-20 16:50:00", "2128-11-20T16:50:00Z"),
        ("21281120", "2128-11-20T00:00:00Z"),
        ("2128-11-20T16:50:00+03:00", "2128-11-20T13:50:00Z"),
        ("2128-11-20T16:50:00-0530", "2128-11-20T22:20:00Z"),
        ("2128-11-20T00:30:00+03", "2128-11-19T21:30:00Z"),
        ("2128-11-20T16:50:00.123456Z", "2128-11-20T16:50:00.123456Z"),
        ("2128-11-20T16:50:00.5Z", "2128-11-20T16:50:00.500000Z"),
        ("2128-11-20T16:50:00,5 +03:00", "2128-11-20T13:50:00.500000Z"),
        ("2128-1-2 3:04", "2128-01-02T03:04:00Z"),
        ("2128-11-20T16:50:00Z\n", "2128-11-20T16:50:00Z"),
        ("2128-02-29", "2128-02-29T00:00:00Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_times_are_returned_in_utc(shared_api: Api, given: str, answered: str) -> None:
    response = shared_api.send("POST", "/mailings/", mailing(end_time=given))
    assert (response.status_code, response.json().get("end_time")) == (201, answered)


@pytest.mark.parametrize(
    ("changes", "errors"),
    [
        ({"end_time": "2022-13-02"}, {"end_time": [WRONG_MOMENT]}),
        ({"end_time": "2127-02-29"}, {"end_time": [WRONG_MOMENT]}),
        ({"end_time": "tomorrow"}, {"end_time": [WRONG_MOMENT]}),
        ({"end_time": ""}, {"end_time": [WRONG_MOMENT]}),
        ({"end_time": 1893456000}, {"end_time": [WRONG_MOMENT]}),
        ({"end_time": "1893456000"}, {"end_time": [WRONG_MOMENT]}),
        ({"end_time": "2112123112345"}, {"end_time": [WRONG_MOMENT]}),  # milliseconds, not 2112-12-31 23:45
        ({"end_time": "2128-11-20T16:50:00z"}, {"end_time": [WRONG_MOMENT]}),
        ({"end_time": 1893456000.5}, {"end_time": [WRONG_MOMENT]}),
        ({"end_time": True}, {"end_time": [WRONG_MOMENT]}),
        ({"end_time": []}, {"end_time": [WRONG_MOMENT]}),
        ({"end_time": "2128-11-20T25:00:00Z"}, {"end_time": [WRONG_MOMENT]}),
        ({"end_time": "2128-11-20T16:50:00+99:00"}, {"end_time": [WRONG_MOMENT]}),
        ({"end_time": None}, {"end_time": ["This field may not be null."]}),
        ({"start_time": "0001-01-01T00:00:00+01:00"}, {"start_time": ["Datetime value out of range."]}),
        ({"text": "  "}, {"text": ["This field may not be blank."]}),
        ({"text": None}, {"text": ["This field may not be null."]}),
        ({"text": {}}, {"text": ["Not a valid string."]}),
        ({"client_tag_filter": ""}, {"client_tag_filter": ["This field may not be blank."]}),
        (
            {"client_operator_code_filter": "12345678901"},
            {"client_operator_code_filter": ["Ensure this field has no more than 10 characters."]},
        ),
        (
            {"start_time": "2128-01-02", "end_time": "2128-01-01"},
            {"end_time": ["end must occur after start"]},
        ),
        ({"start_time": "2020-01-02", "end_time": "2020-01-03"}, {"end_time": ["end time cannot be in the past"]}),
        # Both errors apply: only the first rule is reported.
        ({"start_time": "2020-01-02", "end_time": "2020-01-01"}, {"end_time": ["end must occur after start"]}),
        # Errors of single fields are reported before errors between fields.
        (
            {"start_time": "x", "text": "", "end_time": "2020-01-01"},
            {"start_time": [WRONG_MOMENT], "text": ["This field may not be blank."]},
        ),
        ({"send_from": "9", "send_until": "18:00"}, {"send_from": [
            "Time has wrong format. Use one of these formats instead: hh:mm[:ss[.uuuuuu]]."
        ]}),
        ({"send_from": "25:00", "send_until": 18}, {
            "send_from": ["Time has wrong format. Use one of these formats instead: hh:mm[:ss[.uuuuuu]]."],
            "send_until": ["Time has wrong format. Use one of these formats instead: hh:mm[:ss[.uuuuuu]]."],
        }),
        ({"send_from": "09:00"}, {"non_field_errors": ["send_from and send_until are given together or not at all"]}),
        (
            {"send_from": "09:00", "send_until": "09:00"},
            {"send_until": ["a window must not end when it begins"]},
        ),
    ],
)  # fmt: skip
def test_invalid_mailing_values_are_reported_by_field(
    shared_api: Api, changes: dict[str, Any], errors: dict[str, Any]
) -> None:
    response = shared_api.send("POST", "/mailings/", mailing(**changes))
    assert (response.status_code, list(response.json().items())) == (400, list(errors.items()))


def test_empty_mailing_body_reports_every_required_field(shared_api: Api) -> None:
    required = (
        '{"start_time":["This field is required."],"text":["This field is required."],'
        '"end_time":["This field is required."]}'
    )
    assert status_and_text(shared_api.send("POST", "/mailings/", {})) == (400, required)
    assert status_and_text(shared_api.send("POST", "/mailings/", [])) == (
        400,
        '{"non_field_errors":["Invalid data. Expected a dictionary, but got list."]}',
    )


def test_end_time_may_equal_the_start_time(shared_api: Api) -> None:
    when = moment(hours=1)
    response = shared_api.send("POST", "/mailings/", mailing(start_time=when, end_time=when))
    assert (response.status_code, response.json()["end_time"]) == (201, when)


def test_a_mailing_is_changed_as_a_whole(shared_api: Api) -> None:
    number = shared_api.mailing(client_tag_filter="VIP", client_operator_code_filter="123")
    enqueued = len(shared_api.enqueued)
    body = mailing(text=7, start_time="2127-01-01", end_time="2128-01-01")
    expected = (
        f'{{"id":{number},"start_time":"2127-01-01T00:00:00Z","text":"7","client_operator_code_filter":"123",'
        '"client_tag_filter":"VIP","end_time":"2128-01-01T00:00:00Z"}'
    )
    for path in (f"/mailings/{number}", f"/mailings/{number}/"):
        assert status_and_text(shared_api.send("PUT", path, body)) == (200, expected)
    assert len(shared_api.enqueued) == enqueued + 2
    # An omitted filter is unchanged; null clears it; required fields are required.
    cleared = shared_api.send("PUT", f"/mailings/{number}", body | {"client_tag_filter": None}).json()
    assert (cleared["client_operator_code_filter"], cleared["client_tag_filter"]) == ("123", None)
    assert shared_api.send("PUT", f"/mailings/{number}", {}).json() == {
        "start_time": REQUIRED,
        "text": REQUIRED,
        "end_time": REQUIRED,
    }


def test_a_mailing_is_changed_in_part(shared_api: Api) -> None:
    number = shared_api.mailing(start_time="2127-01-01", end_time="2128-01-01")
    response = shared_api.send("PATCH", f"/mailings/{number}", {"text": "other"})
    assert (response.status_code, list(response.json()), response.json()["text"]) == (200, KEYS, "other")
    # The rules are checked against the change combined with the stored values.
    for part in ({"start_time": "2128-01-02"}, {"end_time": "2126-12-31"}):
        response = shared_api.send("PATCH", f"/mailings/{number}/", part)
        assert status_and_text(response) == (400, '{"end_time":["end must occur after start"]}')
    response = shared_api.send("PATCH", f"/mailings/{number}", {"send_from": "9:30"})
    assert response.json() == {"non_field_errors": ["send_from and send_until are given together or not at all"]}


def test_start_time_of_a_scheduled_mailing_may_move_into_the_past(shared_api: Api) -> None:
    number = shared_api.mailing()
    body = mailing(start_time="2022-12-02T16:50:00Z")
    assert shared_api.send("PUT", f"/mailings/{number}", body).status_code == 200
    # Its start time is now in the past.
    assert status_and_text(shared_api.send("PUT", f"/mailings/{number}", mailing())) == (400, STARTED)


def test_a_started_mailing_is_not_changed(shared_api: Api) -> None:
    by_time = shared_api.mailing(start_time=moment(seconds=-1))
    by_state = shared_api.mailing()
    shared_api.start(by_state)
    for number in (by_time, by_state):
        before = shared_api.send("GET", f"/mailings/{number}/detail/").json()
        assert status_and_text(shared_api.send("PUT", f"/mailings/{number}", mailing(text="new"))) == (400, STARTED)
        assert status_and_text(shared_api.send("PATCH", f"/mailings/{number}/", {"text": "new"})) == (400, STARTED)
        assert shared_api.send("GET", f"/mailings/{number}/detail/").json() == before
        # Any other error is reported first, as in Django REST framework.
        assert shared_api.send("PUT", f"/mailings/{number}", mailing(end_time="x")).json() == {
            "end_time": [WRONG_MOMENT]
        }


def test_a_mailing_is_removed(api: Api) -> None:
    number = api.mailing()
    assert status_and_text(api.send("DELETE", f"/mailings/{number}/")) == (204, "")
    for method, path in (
        ("DELETE", ""), ("GET", ""), ("GET", "/"), ("PUT", ""), ("PATCH", "/"), ("GET", "/detail/"),
        ("POST", "/pause/"), ("POST", "/resume/"), ("GET", "/messages/"), ("GET", "/recipients"),
    ):  # fmt: skip
        assert status_and_text(api.send(method, f"/mailings/{number}{path}", mailing())) == (404, NOT_FOUND)
    assert api.send("GET", "/mailings/").json()["total_mailings"] == 0


@pytest.mark.parametrize("number", ["abc", "0", "99999999", "-1", str(2**63)])
def test_invalid_mailing_id_is_not_found(shared_api: Api, number: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        assert status_and_text(shared_api.send(method, f"/mailings/{number}", mailing())) == (404, NOT_FOUND)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/mailings/", "GET, HEAD, POST"),
        ("DELETE", "/mailings", "GET, HEAD, POST"),
        ("POST", "/mailings/1", "DELETE, GET, HEAD, PATCH, PUT"),
        ("GET", "/mailings/1/pause/", "POST"),
    ],
)
def test_other_methods_are_not_allowed(shared_api: Api, method: str, path: str, allowed: str) -> None:
    response = shared_api.send(method, path)
    assert status_and_text(response) == (405, f'{{"detail":"Method \\"{method}\\" not allowed."}}')
    assert response.headers["allow"] == allowed


def test_head_is_get_without_the_body(shared_api: Api) -> None:
    for path in ("/mailings/", "/mailings", f"/mailings/{shared_api.mailing()}"):
        assert status_and_text(shared_api.send("HEAD", path)) == (200, "")
    assert status_and_text(shared_api.send("HEAD", "/clients/")) == (405, "")


def test_statistics_are_as_the_contract_shows(api: Api) -> None:
    assert status_and_text(api.send("GET", "/mailings/")) == (200, '{"message_data":[],"total_mailings":0}')
    first, second, _ = api.mailing(), api.mailing(), api.mailing()
    api.start(first, clients=[1, 2])
    api.start(second, clients=[1], status="FAILED")
    assert status_and_text(api.send("GET", "/mailings/")) == (
        200,
        '{"message_data":[{"status":"FAILED","count":1},{"status":"Pending","count":2}],"total_mailings":3}',
    )
    assert status_and_text(api.send("GET", "/mailings")) == status_and_text(api.send("GET", "/mailings/"))
    for path in (f"/mailings/{first}", f"/mailings/{first}/"):
        assert status_and_text(api.send("GET", path)) == (200, '{"message_data":[{"status":"Pending","count":2}]}')
    for client, status in ((1, "TIMEOUT"), (2, "SENT")):
        api.query(
            "UPDATE mailings.message SET status = %s, finished_at = now() WHERE mailing_id = %s AND client_id = %s",
            status, first, client,
        )  # fmt: skip
    assert [entry["status"] for entry in api.send("GET", "/mailings/").json()["message_data"]] == [
        "FAILED", "SENT", "TIMEOUT",
    ]  # fmt: skip
    # The messages of a deleted mailing are no longer counted.
    api.send("DELETE", f"/mailings/{first}")
    assert status_and_text(api.send("GET", "/mailings/")) == (
        200,
        '{"message_data":[{"status":"FAILED","count":1}],"total_mailings":2}',
    )


# --- concurrent changes -------------------------------------------------------------------------------------------


def test_change_that_waits_for_a_starting_mailing_is_rejected(api: Api) -> None:
    """The planner locks the row and starts the mailing while a change waits for the lock: the change is rejected."""
    number = api.mailing()
    responses: list[requests.Response] = []
    with psycopg.connect(api.database_url) as planner:
        planner.execute("SELECT 1 FROM mailings.mailing WHERE mailing_id = %s FOR UPDATE", (number,))
        change = threading.Thread(
            target=lambda: responses.append(api.send("PUT", f"/mailings/{number}", mailing(text="late")))
        )
        change.start()
        _wait_for_a_lock(api)
        planner.execute(
            "UPDATE mailings.mailing SET state = 'running', started_at = now() WHERE mailing_id = %s", (number,)
        )
    change.join()
    assert status_and_text(responses[0]) == (400, STARTED)
    assert api.send("GET", f"/mailings/{number}/detail/").json()["text"] == "hello"


def test_change_is_rejected_if_the_start_time_passes_while_it_waits(api: Api) -> None:
    number = api.mailing(start_time=moment(seconds=1.5))
    responses: list[requests.Response] = []
    with psycopg.connect(api.database_url) as other:
        other.execute("SELECT 1 FROM mailings.mailing WHERE mailing_id = %s FOR UPDATE", (number,))
        change = threading.Thread(
            target=lambda: responses.append(api.send("PUT", f"/mailings/{number}", mailing(text="late")))
        )
        change.start()
        _wait_for_a_lock(api)
        other.execute(
            "SELECT pg_sleep_until(start_time + interval '10 ms') FROM mailings.mailing WHERE mailing_id = %s",
            (number,),
        )
    change.join()
    assert status_and_text(responses[0]) == (400, STARTED)


def test_concurrent_partial_changes_never_leave_an_end_before_the_start(api: Api) -> None:
    number = api.mailing(start_time="2127-01-01", end_time="2128-01-01")
    parts = [{"start_time": "2127-12-01"}, {"end_time": "2127-06-01"}] * 4
    responses: list[requests.Response] = []
    threads = [
        threading.Thread(target=lambda part=part: responses.append(api.send("PATCH", f"/mailings/{number}", part)))
        for part in parts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {response.status_code for response in responses} == {200, 400}
    detail = api.send("GET", f"/mailings/{number}/detail/").json()
    assert detail["start_time"] <= detail["end_time"]


def test_pooled_connection_commits_after_accepted_and_rejected_changes(api: Api) -> None:
    number = api.mailing()
    assert api.send("PUT", f"/mailings/{number}", mailing(text="new")).status_code == 200
    assert api.send("PUT", f"/mailings/{number}", mailing(end_time="2020-01-01")).status_code == 400
    client = api.client()
    assert api.query("SELECT text FROM mailings.mailing") == [{"text": "new"}]
    assert api.query("SELECT client_id FROM mailings.client") == [{"client_id": client}]


def _wait_for_a_lock(api: Api) -> None:
    deadline = time.monotonic() + 20
    while not api.query("SELECT 1 FROM pg_locks WHERE NOT granted"):
        assert time.monotonic() < deadline, "nobody waits for the row"
        time.sleep(0.02)


def test_planner_fails_the_pending_messages_of_a_removed_mailing(api: Api) -> None:
    number = api.mailing()
    api.start(number, clients=[1, 2, 3])
    api.query("UPDATE mailings.message SET status = 'SENT', finished_at = now() WHERE client_id = 1")
    api.query("UPDATE mailings.message SET claim = 'w', next_attempt_at = now() + interval '1 min' WHERE client_id = 2")
    enqueued = len(api.enqueued)
    assert api.send("DELETE", f"/mailings/{number}").status_code == 204
    assert len(api.enqueued) == enqueued + 1
    api.query(statements("mailings/message")["fail_deleted"])
    rows = api.query("SELECT client_id, status, reason FROM mailings.message ORDER BY client_id")
    # A worker has claimed the second message and will store its result.
    assert [tuple(row.values()) for row in rows] == [
        (1, "SENT", None), (2, "Pending", None), (3, "FAILED", "mailing deleted"),
    ]  # fmt: skip


def test_unreachable_broker_does_not_delay_responses(warehouse_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # 192.0.2.0/24 is reserved: packets are dropped, which takes longer to fail than a refused connection.
    for address in ("127.0.0.1:9", "192.0.2.1:5672"):
        monkeypatch.setenv("RABBITMQ_URL", f"amqp://guest:guest@{address}//")
        settings_module.settings.cache_clear()
        with api_running(warehouse_url, enqueue_planner=enqueue_planner) as api:
            for _ in range(3):
                start_time = time.monotonic()
                assert api.send("POST", "/mailings/", mailing(start_time="2022-01-01")).status_code == 201
                # Enqueuing times out after a fraction of a second; a busy machine adds some more.
                assert time.monotonic() - start_time < 5


def test_unreachable_database_is_503(api: Api) -> None:
    name = psycopg.conninfo.conninfo_to_dict(api.database_url)["dbname"]
    with psycopg.connect(api.database_url.replace(f"/{name}", "/sales"), autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        response = api.send("POST", "/mailings/", mailing())
        assert status_and_text(response) == (503, '{"detail":"Service temporarily unavailable, try again later."}')
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())
    assert api.send("POST", "/mailings/", mailing()).status_code == 201


# --- beyond the contract ------------------------------------------------------------------------------------------


def test_mailings_are_listed_page_by_page(api: Api) -> None:
    numbers = [api.mailing(text=str(n)) for n in range(3)]
    api.start(numbers[1])
    page = api.send("GET", "/mailings/list/?limit=2").json()
    assert [entry["id"] for entry in page["results"]] == numbers[:2]
    assert list(page["results"][0]) == [*KEYS, "send_from", "send_until", "state", "paused"]
    rest = api.send("GET", f"/mailings/list/?limit=2&cursor={page['next']}").json()
    assert ([entry["id"] for entry in rest["results"]], rest["next"]) == ([numbers[2]], None)
    running = api.send("GET", "/mailings/list?state=running").json()
    assert [entry["id"] for entry in running["results"]] == [numbers[1]]
    response = api.send("GET", "/mailings/list/?state=lost")
    assert status_and_text(response) == (400, '{"state":["\\"lost\\" is not a valid choice."]}')


def test_sending_window_is_unchanged_when_omitted_and_cleared_by_null(shared_api: Api) -> None:
    response = shared_api.send("POST", "/mailings/", mailing(send_from="22:00", send_until="6:30"))
    assert list(response.json()) == KEYS
    number = response.json()["id"]

    def window() -> tuple[str | None, str | None]:
        detail = shared_api.send("GET", f"/mailings/{number}/detail/").json()
        return detail["send_from"], detail["send_until"]

    assert window() == ("22:00", "06:30")
    shared_api.send("PUT", f"/mailings/{number}", mailing())
    assert window() == ("22:00", "06:30")
    shared_api.send("PATCH", f"/mailings/{number}", {"send_from": None, "send_until": None})
    assert window() == (None, None)


def test_a_mailing_is_paused_and_resumed(api: Api) -> None:
    number = api.mailing()
    api.start(number, clients=[1])
    first = api.send("POST", f"/mailings/{number}/pause/")
    assert (first.status_code, first.json()["paused"], first.json()["state"]) == (200, True, "running")
    assert first.json()["message_data"] == [{"status": "Pending", "count": 1}]
    assert api.send("POST", f"/mailings/{number}/pause").json() == first.json()
    enqueued = len(api.enqueued)
    for _ in range(2):
        response = api.send("POST", f"/mailings/{number}/resume/")
        assert (response.status_code, response.json()["paused"], response.json()["paused_at"]) == (200, False, None)
    assert len(api.enqueued) == enqueued + 2
    api.query("UPDATE mailings.mailing SET state = 'finished', finished_at = now()")
    assert api.send("POST", f"/mailings/{number}/pause/").json()["paused"] is False


def test_messages_are_listed_by_status(api: Api) -> None:
    number, other = api.mailing(), api.mailing()
    api.start(other, clients=[1, 2])
    api.start(number, clients=[4, 3, 2, 1])
    api.query(
        "UPDATE mailings.message SET status = 'FAILED', reason = 'HTTP 500', attempts = 5, finished_at = now()"
        " WHERE mailing_id = %s AND client_id = 3", number,
    )  # fmt: skip
    page = api.send("GET", f"/mailings/{number}/messages/?limit=3").json()
    assert [entry["client_id"] for entry in page["results"]] == [1, 2, 3]
    rest = api.send("GET", f"/mailings/{number}/messages/?limit=3&cursor={page['next']}").json()
    assert ([entry["client_id"] for entry in rest["results"]], rest["next"]) == ([4], None)
    failed = api.send("GET", f"/mailings/{number}/messages?status=FAILED").json()["results"]
    assert [(entry["client_id"], entry["reason"], entry["attempts"]) for entry in failed] == [(3, "HTTP 500", 5)]
    assert "phone" not in failed[0]


def test_recipients_match_both_filters(api: Api) -> None:
    clients = {
        (code, tag): api.client(operator_code=code, tag=tag) for code in ("123", "456") for tag in (None, "VIP", "new")
    }
    by_mart = clients["456", None]
    api.query("INSERT INTO mailings.client_tag (client_id, tag) VALUES (%s, 'new')", by_mart)

    def found(**filters: str) -> list[int]:
        response = api.send("GET", "/mailings/preview/", params=filters).json()
        assert response["count"] == len(response["client_ids"])
        return list(response["client_ids"])

    assert found() == sorted(clients.values())
    assert found(client_operator_code_filter="123") == sorted(clients["123", tag] for tag in (None, "VIP", "new"))
    assert found(client_tag_filter="VIP") == sorted([clients["123", "VIP"], clients["456", "VIP"]])
    assert found(client_tag_filter="new") == sorted([clients["123", "new"], clients["456", "new"], by_mart])
    assert found(client_tag_filter="new", client_operator_code_filter="456") == sorted([clients["456", "new"], by_mart])
    assert found(client_tag_filter="vip") == []
    page = api.send("GET", "/mailings/preview?limit=4").json()
    assert (page["count"], len(page["client_ids"])) == (6, 4)
    rest = api.send("GET", f"/mailings/preview?limit=4&cursor={page['next']}").json()
    assert (rest["count"], page["client_ids"] + rest["client_ids"]) == (6, sorted(clients.values()))

    number = api.mailing(client_tag_filter="VIP")
    both = [clients["123", "VIP"], clients["456", "VIP"]]
    assert api.send("GET", f"/mailings/{number}/recipients/").json() == {"count": 2, "client_ids": both, "next": None}
    # After the start the recipients are fixed.
    api.start(number, clients=both[:1])
    assert api.send("GET", f"/mailings/{number}/recipients/").json() == {
        "count": 1, "client_ids": both[:1], "next": None,
    }  # fmt: skip


def test_daily_statistics_use_the_start_day_of_the_mailing(api: Api, today: dt.date) -> None:
    days = [today - dt.timedelta(days=age) for age in (0, 1, 40)]
    for day in days:
        number = api.mailing()
        api.start(number, clients=[1, 2], status="SENT")
        api.query("UPDATE mailings.mailing SET started_at = %s WHERE mailing_id = %s", f"{day} 23:59:59Z", number)
    sent = [{"status": "SENT", "count": 2}]
    assert api.send("GET", "/mailings/daily/").json() == {
        "days": [{"day": str(day), "message_data": sent} for day in (days[1], days[0])]
    }
    daily = api.send("GET", f"/mailings/daily?from={days[2]}&to={days[2]}").json()
    assert daily == {"days": [{"day": str(days[2]), "message_data": sent}]}
    for query, errors in (
        ("from=2024-01-02&to=2024-01-01", {"to": ["The range must have 1 to 366 days."]}),
        ("from=2020-01-01&to=2024-01-01", {"to": ["The range must have 1 to 366 days."]}),
        ("to=9999-12-31", {"to": ["The range must have 1 to 366 days."]}),
        ("from=x", {"from": ["Date has wrong format. Use one of these formats instead: YYYY-MM-DD."]}),
    ):
        response = api.send("GET", f"/mailings/daily/?{query}")
        assert (response.status_code, response.json()) == (400, errors)
    assert api.send("GET", "/mailings/daily/?to=0001-01-01").json() == {"days": []}


def test_queue_depth_is_a_prometheus_metric(api: Api) -> None:
    assert api.metric("mailings_messages", status="Pending") == 0
    number = api.mailing()
    api.start(number, clients=[1, 2])
    assert api.metric("mailings_messages", status="Pending") == 2
    assert api.metric("mailings_queue_depth") == 2
    api.send("POST", f"/mailings/{number}/pause/")
    assert api.metric("mailings_queue_depth") == 0


def test_service_is_ready_once_a_sender_is_configured(api: Api) -> None:
    checks = requests.get(f"{api.url}/ready", timeout=60).json()["checks"]
    assert checks == {"mailings database": "ok", "sender": "SENDER_URL is not set", "erased phones": "ok"}
    with api_running(api.database_url, sender_url="http://127.0.0.1:9") as other:
        response = requests.get(f"{other.url}/ready", timeout=60)
        assert (response.status_code, response.json()["checks"]["sender"]) == (200, "ok")


def test_openapi_has_the_paths_with_examples(shared_api: Api) -> None:
    documented = requests.get(f"{shared_api.url}/openapi.json", timeout=60).json()["paths"]
    body = documented["/api/v1/mailings/"]["post"]["requestBody"]["content"]["application/json"]
    assert body["example"]["client_tag_filter"] == "VIP"
    assert set(documented["/api/v1/clients/{client_id}"]) == {"put", "patch", "delete"}
    for path in ("/docs", "/docs/"):
        page = requests.get(shared_api.url + path, timeout=60, allow_redirects=False)
        assert (page.status_code, "openapi.json" in page.text) == (200, True)


def test_the_openapi_has_no_422(shared_api: Api) -> None:
    documented = requests.get(f"{shared_api.url}/openapi.json", timeout=60).json()["paths"]
    statuses = {
        status for operations in documented.values() for one in operations.values() for status in one["responses"]
    }
    assert "400" in statuses
    assert "422" not in statuses


def test_json_responses_are_not_ascii_escaped(shared_api: Api) -> None:
    response = shared_api.send("POST", "/mailings/", mailing(text="Привет \U0001f642"))
    assert "Привет \U0001f642" in response.text
    assert json.loads(response.text)["text"] == "Привет \U0001f642"


def test_daily_statistics_use_the_time_zone_of_the_shop(warehouse_url: str) -> None:
    with api_running(warehouse_url, sales_timezone="Asia/Tokyo") as api:
        number = api.mailing()
        api.start(number, clients=[1], status="SENT")
        api.query("UPDATE mailings.mailing SET started_at = '2026-03-01 15:00Z' WHERE mailing_id = %s", number)
        for day, expected in (("2026-03-01", []), ("2026-03-02", [{"status": "SENT", "count": 1}])):
            days = api.send("GET", f"/mailings/daily/?from={day}&to={day}").json()["days"]
            assert [entry["message_data"] for entry in days] == ([expected] if expected else [])
