"""Client endpoints, row by row of docs/data-contracts/mailings.md: exact JSON, paths with and without a trailing slash,
and the behaviour inherited from Django REST framework.
"""

import json
from typing import Any

import pytest
import requests

from sales_assets_tests.services.mailings.fixtures import CLIENT, Api, mailing

REQUIRED = ["This field is required."]
BLANK = ["This field may not be blank."]
NULL = ["This field may not be null."]
NO_STRING = ["Not a valid string."]
NOT_FOUND = '{"detail":"Not found."}'


def status_and_text(response: requests.Response) -> tuple[int, str]:
    return response.status_code, response.text


# --- docs/data-contracts/mailings.md ------------------------------------------------------------------------------


def test_a_client_is_added_as_the_contract_shows(api: Api) -> None:
    response = api.send("POST", "/clients/", CLIENT)
    assert status_and_text(response) == (
        201,
        '{"id":1,"phone":"78218173218","operator_code":"123","tag":null,"timezone":"timezone"}',
    )
    assert response.headers["content-type"] == "application/json"
    # A path without the slash works without a redirect; a phone may be repeated; a given id is ignored.
    again = api.send("POST", "/clients", CLIENT | {"id": 77, "tag": "VIP"})
    assert status_and_text(again) == (
        201,
        '{"id":2,"phone":"78218173218","operator_code":"123","tag":"VIP","timezone":"timezone"}',
    )


def test_a_client_is_changed_as_a_whole(shared_api: Api) -> None:
    number = shared_api.client(tag="VIP")
    changed = {"phone": "79990000000", "operator_code": "999", "timezone": "Europe/Moscow"}
    expected = {"id": number, "phone": "79990000000", "operator_code": "999", "tag": "VIP", "timezone": "Europe/Moscow"}
    for path in (f"/clients/{number}", f"/clients/{number}/"):
        response = shared_api.send("PUT", path, changed)
        assert status_and_text(response) == (200, json.dumps(expected, separators=(",", ":")))
    # An omitted tag is unchanged; null clears it; required fields are required.
    assert shared_api.send("PUT", f"/clients/{number}", changed | {"tag": None}).json()["tag"] is None
    response = shared_api.send("PUT", f"/clients/{number}", {"tag": "VIP"})
    assert (response.status_code, response.json()) == (
        400,
        {"phone": REQUIRED, "operator_code": REQUIRED, "timezone": REQUIRED},
    )


def test_a_client_is_changed_in_part(shared_api: Api) -> None:
    number = shared_api.client(tag="VIP")
    response = shared_api.send("PATCH", f"/clients/{number}/", {"operator_code": 321})
    assert (response.status_code, response.json()) == (
        200,
        {"id": number, **CLIENT, "operator_code": "321", "tag": "VIP"},
    )
    assert shared_api.send("PATCH", f"/clients/{number}", {}).json()["operator_code"] == "321"
    assert shared_api.send("PATCH", f"/clients/{number}", {"phone": None}).json() == {"phone": NULL}


def test_a_client_is_removed(shared_api: Api) -> None:
    number = shared_api.client()
    assert status_and_text(shared_api.send("DELETE", f"/clients/{number}/")) == (204, "")
    for method in ("DELETE", "PUT", "PATCH"):
        assert status_and_text(shared_api.send(method, f"/clients/{number}", CLIENT)) == (404, NOT_FOUND)


@pytest.mark.parametrize("path", ["/clients/abc", "/clients/-1", "/clients/1.0", "/clients/%2B1", f"/clients/{2**63}"])
def test_invalid_client_id_is_not_found(shared_api: Api, path: str) -> None:
    assert status_and_text(shared_api.send("PUT", path, CLIENT)) == (404, NOT_FOUND)
    assert status_and_text(shared_api.send("DELETE", f"{path}/")) == (404, NOT_FOUND)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/clients/", "POST"),
        ("GET", "/clients", "POST"),
        ("PATCH", "/clients/", "POST"),
        ("GET", "/clients/1", "DELETE, PATCH, PUT"),
        ("POST", "/clients/1/", "DELETE, PATCH, PUT"),
    ],
)
def test_other_methods_are_not_allowed(shared_api: Api, method: str, path: str, allowed: str) -> None:
    response = shared_api.send(method, path)
    assert status_and_text(response) == (405, f'{{"detail":"Method \\"{method}\\" not allowed."}}')
    assert response.headers["allow"] == allowed


def test_unknown_path_is_not_found(shared_api: Api) -> None:
    assert status_and_text(shared_api.send("GET", "/nothing")) == (404, NOT_FOUND)


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "errors"),
    [
        ({"phone": "88218173218"}, {"phone": ["The phone must have '7XXXXXXXXXX' format"]}),
        ({"phone": "7821817321"}, {"phone": ["The phone must have '7XXXXXXXXXX' format"]}),
        ({"phone": "7821817321٣"}, {"phone": ["The phone must have '7XXXXXXXXXX' format"]}),
        ({"phone": "7821817321a"}, {"phone": ["The phone must have '7XXXXXXXXXX' format"]}),
        ({"phone": 12}, {"phone": ["The phone must have '7XXXXXXXXXX' format"]}),
        ({"phone": "782181732180"}, {"phone": ["Ensure this field has no more than 11 characters."]}),
        ({"phone": "+78218173218"}, {"phone": ["Ensure this field has no more than 11 characters."]}),
        ({"phone": None}, {"phone": NULL}),
        ({"phone": ""}, {"phone": BLANK}),
        ({"phone": "  \t"}, {"phone": BLANK}),
        ({"phone": True}, {"phone": NO_STRING}),
        ({"phone": ["78218173218"]}, {"phone": NO_STRING}),
        ({"operator_code": {}}, {"operator_code": NO_STRING}),
        ({"operator_code": "1" * 11}, {"operator_code": ["Ensure this field has no more than 10 characters."]}),
        ({"tag": ""}, {"tag": BLANK}),
        ({"tag": False}, {"tag": NO_STRING}),
        ({"tag": "x" * 51}, {"tag": ["Ensure this field has no more than 50 characters."]}),
        ({"timezone": "x" * 65}, {"timezone": ["Ensure this field has no more than 64 characters."]}),
        ({"timezone": "a\x00b"}, {"timezone": ["Null characters are not allowed."]}),
        ({"timezone": "a\ud83d"}, {"timezone": ["Surrogate characters are not allowed: U+D83D."]}),
        (
            {"phone": "1", "operator_code": None, "tag": [], "timezone": " "},
            {
                "phone": ["The phone must have '7XXXXXXXXXX' format"],
                "operator_code": NULL,
                "tag": NO_STRING,
                "timezone": BLANK,
            },
        ),
    ],
)
def test_invalid_client_values_are_reported_by_field(
    shared_api: Api, changes: dict[str, Any], errors: dict[str, Any]
) -> None:
    response = shared_api.send("POST", "/clients/", CLIENT | changes)
    assert (response.status_code, list(response.json().items())) == (400, list(errors.items()))


def test_empty_client_body_reports_every_required_field(shared_api: Api) -> None:
    expected = (
        '{"phone":["This field is required."],"operator_code":["This field is required."],'
        '"timezone":["This field is required."]}'
    )
    assert status_and_text(shared_api.send("POST", "/clients/", {})) == (400, expected)
    # A missing body counts as an empty one, with any Content-Type.
    assert status_and_text(shared_api.send("POST", "/clients/", headers={"Content-Type": "text/plain"})) == (
        400,
        expected,
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("[]", "Invalid data. Expected a dictionary, but got list."),
        ("[{}]", "Invalid data. Expected a dictionary, but got list."),
        ('"x"', "Invalid data. Expected a dictionary, but got str."),
        ("1", "Invalid data. Expected a dictionary, but got int."),
        ("true", "Invalid data. Expected a dictionary, but got bool."),
        ("null", "No data provided"),
    ],
)
def test_a_body_must_be_a_dictionary(shared_api: Api, value: str, text: str) -> None:
    response = shared_api.send("POST", "/clients/", data=value, headers={"Content-Type": "application/json"})
    assert status_and_text(response) == (400, json.dumps({"non_field_errors": [text]}, separators=(",", ":")))


@pytest.mark.parametrize(
    ("raw", "told_after"),
    [
        (b'{"phone": "1" "timezone": "2"}', "Expecting ',' delimiter: line 1 column 15 (char 14)"),
        (b"{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"phone=1", "Expecting value: line 1 column 1 (char 0)"),
        (b'{"phone": NaN}', "Out of range float values are not JSON compliant: 'NaN'"),
        (b'{"phone": "\xff"}', "'utf-8' codec can't decode byte 0xff in position 11: invalid start byte"),
        (b'{"phone": ' + b"1" * 5000 + b"}", "Exceeds the limit"),
        (b"[" * 40_000, "the nesting is too deep"),
        (b"[" * 100_000, "more than 50000 objects and lists"),
    ],
)
def test_json_parse_errors_are_reported(shared_api: Api, raw: bytes, told_after: str) -> None:
    response = shared_api.send("POST", "/clients/", data=raw, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert list(response.json()) == ["detail"]
    assert response.json()["detail"].startswith(f"JSON parse error - {told_after}")


def test_specification_example_without_its_comma_is_a_parse_error(shared_api: Api) -> None:
    body = (
        '{\n    "start_time":"2022-12-02T16:50:00Z",\n    "text":"hello",\n    "client_tag_filter":"VIP"\n'
        '    "end_time":"2028-11-20"\n}'
    )
    response = shared_api.send("POST", "/mailings/", data=body, headers={"Content-Type": "application/json"})
    assert status_and_text(response) == (
        400,
        '{"detail":"JSON parse error - Expecting \',\' delimiter: line 5 column 5 (char 97)"}',
    )


@pytest.mark.parametrize("kind", ["text/plain", "text/plain; charset=utf-8", "application/xml"])
def test_other_media_types_are_rejected_with_415(shared_api: Api, kind: str) -> None:
    number = shared_api.client()
    for method, path in (("POST", "/clients/"), ("PUT", f"/clients/{number}"), ("POST", "/mailings")):
        response = shared_api.send(method, path, data=json.dumps(CLIENT), headers={"Content-Type": kind})
        assert status_and_text(response) == (415, f'{{"detail":"Unsupported media type \\"{kind}\\" in request."}}')
    without = shared_api.send("POST", "/clients/", data=json.dumps(CLIENT))
    assert status_and_text(without) == (415, '{"detail":"Unsupported media type \\"text/plain\\" in request."}')
    # A client that does not exist is 404, with any body.
    response = shared_api.send("PUT", "/clients/999999", data="x", headers={"Content-Type": kind})
    assert status_and_text(response) == (404, NOT_FOUND)


# --- what is accepted ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"phone": 78218173218}, {"phone": "78218173218"}),
        ({"phone": " 78218173218\n"}, {"phone": "78218173218"}),
        ({"operator_code": 7}, {"operator_code": "7"}),
        ({"operator_code": 1.5}, {"operator_code": "1.5"}),
        ({"tag": " VIP "}, {"tag": "VIP"}),
        ({"tag": "Ваня 🙂"}, {"tag": "Ваня 🙂"}),
        ({"timezone": "Europe/Moscow", "unknown": [1]}, {"timezone": "Europe/Moscow"}),
    ],
)
def test_values_become_trimmed_text(shared_api: Api, given: dict[str, Any], stored: dict[str, Any]) -> None:
    response = shared_api.send("POST", "/clients/", CLIENT | given)
    assert (response.status_code, {key: response.json()[key] for key in stored}) == (201, stored)
    assert list(response.json()) == ["id", "phone", "operator_code", "tag", "timezone"]


def test_forms_are_accepted(shared_api: Api) -> None:
    urlencoded = shared_api.send("POST", "/clients/", data=[*CLIENT.items(), ("tag", "")])
    parts = shared_api.send("POST", "/clients/", files={key: (None, value) for key, value in CLIENT.items()})
    for response in (urlencoded, parts):
        assert (response.status_code, response.json() | {"id": 0}) == (201, {"id": 0, **CLIENT, "tag": None})
    response = shared_api.send("POST", "/clients/", files={"phone": ("name.txt", b"78218173218")})
    assert response.json() == {"phone": NO_STRING, "operator_code": REQUIRED, "timezone": REQUIRED}
    for kind in ("application/json; charset=utf-8", "APPLICATION/JSON", "*/*"):
        response = shared_api.send("POST", "/clients/", data=json.dumps(CLIENT), headers={"Content-Type": kind})
        assert response.status_code == 201
    broken = shared_api.send("POST", "/clients/", data=b"x", headers={"Content-Type": "multipart/form-data"})
    assert status_and_text(broken) == (
        400,
        '{"detail":"Multipart form parse error - Invalid boundary in multipart: None"}',
    )
    broken = shared_api.send(
        "POST", "/clients/", data=b"x", headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert broken.status_code == 400
    assert broken.json()["detail"].startswith("Multipart form parse error - ")


def test_an_unknown_zone_is_counted(api: Api) -> None:
    name = "mailings_clients_with_unknown_zone_total"
    assert api.metric(name) == 0
    api.client(timezone="Europe/Moscow")
    assert api.metric(name) == 0
    number = api.client(timezone="timezone")
    assert api.metric(name) == 1
    api.send("PATCH", f"/clients/{number}", {"timezone": "Nowhere/Else"})
    assert api.metric(name) == 2
    assert api.metric("http_request_seconds_count", route="/api/v1/clients/", method="POST", status="201") == 2


# --- beyond the contract ------------------------------------------------------------------------------------------


def test_clients_are_listed_page_by_page(api: Api) -> None:
    numbers = [api.client(operator_code=str(n % 2), tag="VIP" if n == 3 else None) for n in range(5)]
    first = api.send("GET", "/clients/list/?limit=2").json()
    assert [client["id"] for client in first["results"]] == numbers[:2]
    assert list(first["results"][0]) == ["id", "phone", "operator_code", "tag", "timezone"]
    found: list[int] = []
    cursor: int | None = 0
    while cursor is not None:
        page = api.send("GET", f"/clients/list?limit=2&cursor={cursor}").json()
        found += [client["id"] for client in page["results"]]
        cursor = page["next"]
    assert found == numbers
    by_code = api.send("GET", "/clients/list/?operator_code=1").json()
    assert ([client["id"] for client in by_code["results"]], by_code["next"]) == ([numbers[1], numbers[3]], None)
    assert [client["id"] for client in api.send("GET", "/clients/list/?tag=VIP").json()["results"]] == [numbers[3]]


@pytest.mark.parametrize(
    ("query", "errors"),
    [
        ("limit=0", {"limit": ["Ensure this value is greater than or equal to 1."]}),
        ("limit=1001", {"limit": ["Ensure this value is less than or equal to 1000."]}),
        ("cursor=x", {"cursor": ["A valid integer is required."]}),
        ("phone=%00", {"phone": ["Null characters are not allowed."]}),
    ],
)
def test_invalid_query_parameters_are_reported_by_name(shared_api: Api, query: str, errors: dict[str, Any]) -> None:
    response = shared_api.send("GET", f"/clients/list/?{query}")
    assert (response.status_code, response.json()) == (400, errors)


def test_a_client_is_linked_to_a_customer(shared_api: Api) -> None:
    number = shared_api.client()
    path = f"/clients/{number}/customer/"
    assert status_and_text(shared_api.send("GET", path)) == (404, NOT_FOUND)
    for customer in (5, "6"):
        response = shared_api.send("PUT", path, {"customer_id": customer})
        assert status_and_text(response) == (200, f'{{"id":{number},"customer_id":{customer},"linked_by":"api"}}')
    assert shared_api.send("GET", f"/clients/{number}/detail/").json()["customer_id"] == 6
    for bad in ("x", 1.5, True, None, 2**31):
        assert shared_api.send("PUT", path, {"customer_id": bad}).status_code == 400
    assert shared_api.send("PUT", path, {}).json() == {"customer_id": REQUIRED}
    assert status_and_text(shared_api.send("DELETE", path)) == (204, "")
    assert status_and_text(shared_api.send("DELETE", path)) == (404, NOT_FOUND)
    assert status_and_text(shared_api.send("PUT", "/clients/999999/customer/", {"customer_id": 1})) == (404, NOT_FOUND)


def test_a_clients_detail_has_the_marts_tags(shared_api: Api) -> None:
    number = shared_api.client(tag="VIP")
    shared_api.query(
        "INSERT INTO mailings.client_tag (client_id, tag) VALUES (%s, 'returning'), (%s, 'new')", number, number
    )
    detail = shared_api.send("GET", f"/clients/{number}/detail").json()
    assert (detail["tag"], detail["mart_tags"], detail["customer_id"]) == ("VIP", ["new", "returning"], None)
    assert status_and_text(shared_api.send("GET", "/clients/999999/detail/")) == (404, NOT_FOUND)


def test_pending_messages_of_a_removed_client_fail(api: Api) -> None:
    gone, stays, out = api.client(), api.client(), api.client()
    number = api.send("POST", "/mailings/", mailing()).json()["id"]
    api.start(number, clients=[gone, stays, out])
    api.query(
        "UPDATE mailings.message SET claim = 'w', next_attempt_at = now() + interval '1 minute' WHERE client_id = %s",
        out,
    )
    for client in (gone, out):
        assert api.send("DELETE", f"/clients/{client}").status_code == 204
    rows = api.query("SELECT client_id, status, reason FROM mailings.message ORDER BY client_id")
    assert [tuple(row.values()) for row in rows] == [
        (gone, "FAILED", "client deleted"),
        (stays, "Pending", None),
        (out, "Pending", None),  # a worker has claimed it and will store the result
    ]
    assert api.send("GET", f"/mailings/{number}").json() == {
        "message_data": [{"status": "FAILED", "count": 1}, {"status": "Pending", "count": 2}]
    }
