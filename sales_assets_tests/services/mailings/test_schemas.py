"""Integers of the mailings API: parsed from the literal JSON or query text, in every body, path and query."""

import pytest

from sales_assets_tests.services.mailings.fixtures import CLIENT, Api, mailing

INTEGER = ["A valid integer is required."]
NOT_FOUND = {"detail": "Not found."}


def test_customer_id_must_be_an_integer_literal_or_digits(shared_api: Api) -> None:
    path = f"/clients/{shared_api.client()}/customer/"
    for spelling in (
        *("5.0", "5e0", "9007199254740993.0", "true", '"5.0"', '" 5"', '"5\\n"', '"+5"', '"-5"', '"5_0"', '"５"', '""'),
        '"' + "5" * 5000 + '"',
    ):
        response = shared_api.send(
            "PUT", path, data=f'{{"customer_id": {spelling}}}'.encode(), headers={"Content-Type": "application/json"}
        )
        assert (response.status_code, response.json()) == (400, {"customer_id": INTEGER}), spelling
    for form in (" 5", "5.0", "５", "+5"):
        response = shared_api.send("PUT", path, data={"customer_id": form})
        assert (response.status_code, response.json()) == (400, {"customer_id": INTEGER}), form
    assert shared_api.send("PUT", path, data={"customer_id": "05"}).json()["customer_id"] == 5
    assert shared_api.send("PUT", path, {"customer_id": -1}).json() == {
        "customer_id": ["Ensure this value is greater than or equal to 0."]
    }


@pytest.mark.parametrize(
    "spelling", ["1_0", "%201", "1%20", "%2B1", "+1", "-1", "1.0", "1e0", "%EF%BC%91", "1%0A", "true"]
)
def test_only_digits_are_ids_in_paths(shared_api: Api, spelling: str) -> None:
    for method, path in (
        *(("PUT", "/clients/{}"), ("PATCH", "/clients/{}/"), ("DELETE", "/clients/{}"), ("GET", "/clients/{}/detail/")),
        *(("GET", "/clients/{}/customer/"), ("PUT", "/clients/{}/customer"), ("DELETE", "/clients/{}/customer/")),
        *(
            ("GET", "/mailings/{}"),
            ("PUT", "/mailings/{}/"),
            ("DELETE", "/mailings/{}"),
            ("POST", "/mailings/{}/pause/"),
        ),
        *(("GET", "/mailings/{}/messages/"), ("GET", "/mailings/{}/recipients"), ("POST", "/mailings/{}/resume")),
    ):
        response = shared_api.send(method, path.format(spelling), CLIENT | mailing())
        assert (response.status_code, response.json()) == (404, NOT_FOUND), path


@pytest.mark.parametrize("spelling", ["1_0", "%201", "%2B1", "+1", "1.0", "1e1", "%EF%BC%91", "true", "", "1" * 5000])
def test_only_digits_are_integers_in_queries(shared_api: Api, spelling: str) -> None:
    number = shared_api.mailing()
    for path in ("/clients/list/", "/mailings/list", "/mailings/preview/", f"/mailings/{number}/messages/"):
        for name in ("limit", "cursor"):
            response = shared_api.send("GET", f"{path}?{name}={spelling}")
            assert (response.status_code, response.json()) == (400, {name: INTEGER}), path


@pytest.mark.parametrize("spelling", ["0", "1764115200", "1764115200.0", "2026-11-01T00:00:00", "%202026-11-01"])
def test_a_number_is_not_a_day(shared_api: Api, spelling: str) -> None:
    response = shared_api.send("GET", f"/mailings/daily/?from={spelling}&to=2026-11-30")
    wrong = "Date has wrong format. Use one of these formats instead: YYYY-MM-DD."
    assert (response.status_code, response.json()) == (400, {"from": [wrong]})


@pytest.mark.parametrize(
    ("spelling", "stored"),
    [("123", "123"), ("1.50", "1.50"), ('"007"', "007"), ("0.1", "0.1"), ("9007199254.0", None), ("1e1", None)],
)
def test_numbers_in_text_fields_keep_their_literal_form(shared_api: Api, spelling: str, stored: str | None) -> None:
    body = f'{{"phone": 78218173218, "operator_code": {spelling}, "timezone": "UTC"}}'
    response = shared_api.send("POST", "/clients/", data=body, headers={"Content-Type": "application/json"})
    assert response.status_code == (201 if stored else 400)
    if stored:
        assert response.json()["operator_code"] == stored
