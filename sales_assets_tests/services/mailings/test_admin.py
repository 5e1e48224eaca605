"""Admin pages without a browser: disabled by default, closed without a login, protected cookies.
``sales_assets_tests/ui/test_mailings_admin.py`` tests how people use the pages.
"""

import re
import time
from typing import Any

import requests

from sales_assets_tests.services.mailings.fixtures import Api, api_running

PASSWORD = "a-password-of-the-tests"


def log_in(session: requests.Session, url: str, password: str = PASSWORD, user: str = "admin") -> requests.Response:
    page = session.get(f"{url}/admin/login", timeout=60).text
    token = re.search(r'name="csrftoken"[^>]*value="([^"]+)"', page)
    assert token is not None
    fields = {"username": user, "password": password, "csrftoken": token[1]}
    return session.post(f"{url}/admin/login", data=fields, timeout=60, allow_redirects=False)


def test_without_a_password_the_admin_pages_are_off(shared_api: Api) -> None:
    for path in ("/admin", "/admin/", "/admin/login", "/admin/clients/list"):
        response = requests.get(shared_api.url + path, timeout=60, allow_redirects=False)
        assert (response.status_code, response.text) == (
            403,
            "The admin pages are off: add a user with `sales-assets users add NAME`, and restart the service.",
        )


def test_unauthenticated_requests_are_redirected_to_the_login(shared_api: Api) -> None:
    with api_running(shared_api.database_url, mailings_admin_password=PASSWORD) as api, requests.Session() as session:
        for path in ("/", "/clients/list", "/mailings/edit?pk=1", "/messages/list"):
            response = requests.get(f"{api.url}/admin{path}", timeout=60, allow_redirects=False)
            assert (response.status_code, "/admin/login" in response.headers["location"]) == (303, True)
            assert "default-src 'self'" in response.headers["content-security-policy"]
        start_time = time.monotonic()
        for user, password in (("admin", "guess"), ("admin", ""), ("other", PASSWORD), ("admin", PASSWORD + "\u00e9")):
            refused = log_in(session, api.url, password, user)
            assert refused.status_code == 400
            assert "sales_admin" not in session.cookies
        assert time.monotonic() - start_time >= 4  # failed logins are delayed, which slows down guessing
        # Without the CSRF token of the form a login is refused.
        forged = requests.post(f"{api.url}/admin/login", data={"username": "admin", "password": PASSWORD}, timeout=60)
        assert forged.status_code == 403


def test_session_cookie_is_signed_and_http_only(shared_api: Api) -> None:
    with api_running(shared_api.database_url, mailings_admin_password=PASSWORD) as api, requests.Session() as session:
        response = log_in(session, api.url)
        assert response.status_code == 303
        cookie = next(part for part in response.headers["set-cookie"].split(", ") if part.startswith("sales_admin="))
        assert {"httponly", "samesite=strict", "path=/admin"} <= set(cookie.lower().split("; "))
        listed = session.get(f"{api.url}/admin/clients/list", timeout=60, allow_redirects=False)
        assert listed.status_code == 200
        # Without the CSRF token of the form nothing is written: a request from another site is refused.
        forged = session.post(f"{api.url}/admin/clients/create", data={"phone": "79161234567"}, timeout=60)
        assert forged.status_code == 403
        # Another process, or another password, has a different session key.
        with api_running(shared_api.database_url, mailings_admin_password=PASSWORD) as other:
            moved = requests.get(
                f"{other.url}/admin/clients/list", cookies=session.cookies, timeout=60, allow_redirects=False
            )
            assert moved.status_code == 303


def test_session_is_valid_in_every_process_with_the_same_secret(shared_api: Api) -> None:
    chosen: dict[str, Any] = {"mailings_admin_password": PASSWORD, "mailings_admin_secret": "a-secret-of-the-tests"}
    with (
        api_running(shared_api.database_url, **chosen) as one,
        api_running(shared_api.database_url, **chosen) as two,
        api_running(shared_api.database_url, **chosen | {"mailings_admin_password": "new"}) as changed,
        requests.Session() as session,
    ):
        log_in(session, one.url)
        states = {
            where.url: requests.get(
                f"{where.url}/admin/clients/list", cookies=session.cookies, timeout=60, allow_redirects=False
            ).status_code
            for where in (two, changed)
        }
        assert states == {two.url: 200, changed.url: 303}


def test_a_phone_is_suppressed_on_the_page(shared_api: Api) -> None:
    with api_running(shared_api.database_url, mailings_admin_password=PASSWORD) as api, requests.Session() as session:
        log_in(session, api.url)

        def submit(phone: str) -> requests.Response:
            page = session.get(f"{api.url}/admin/suppressions/create", timeout=60).text
            token = re.search(r'name="csrftoken"[^>]*value="([^"]+)"', page)
            assert token is not None
            fields = {"phone": phone, "csrftoken": token[1]}
            return session.post(f"{api.url}/admin/suppressions/create", data=fields, timeout=60, allow_redirects=False)

        assert "7XXXXXXXXXX" in submit("12").text
        assert submit("79161234567").status_code == 303
        (row,) = api.query("SELECT suppression_id, phone, source FROM mailings.suppression")
        assert (row["phone"], row["source"]) == ("79161234567", "admin")
        shown = session.get(f"{api.url}/admin/suppressions/detail?pk={row['suppression_id']}", timeout=60)
        assert (shown.status_code, "79161234567" in shown.text) == (200, True)
        edited = session.get(f"{api.url}/admin/suppressions/edit?pk={row['suppression_id']}", timeout=60)
        assert edited.status_code == 403


def test_changes_by_users_are_in_the_audit_trail(warehouse_url: str) -> None:
    """Audit entries have the user, time and changed values; phones are left out, changes by the API have no entry."""
    with api_running(warehouse_url, mailings_admin_password=PASSWORD) as api, requests.Session() as session:
        log_in(session, api.url)

        def submit(path: str, **fields: str) -> None:
            page = session.get(f"{api.url}/admin{path}", timeout=60).text
            token = re.search(r'name="csrftoken"[^>]*value="([^"]+)"', page)
            assert token is not None
            done = session.post(
                f"{api.url}/admin{path}", data={**fields, "csrftoken": token[1]}, timeout=60, allow_redirects=False
            )
            assert done.status_code == 303, done.text

        client = {"phone": "79161234567", "operator_code": "916", "tag": "", "timezone": "UTC"}
        submit("/clients/create", **client)
        submit("/clients/edit?pk=1", **client | {"phone": "79167654321", "tag": "VIP"})
        submit("/clients/edit?pk=1", **client | {"phone": "79167654321", "tag": "VIP"})
        optional = ("client_operator_code_filter", "client_tag_filter", "send_from", "send_until")
        mailing = {"start_time": "2127-01-01", "end_time": "2128-01-01", "text": "hello", **dict.fromkeys(optional, "")}
        submit("/mailings/create", **mailing)
        submit("/mailings/edit?pk=1", **mailing | {"text": "bye", "send_from": "09:00", "send_until": "21:00"})
        submit("/suppressions/create", phone="79161234567")
        api.send("PATCH", "/mailings/1", {"text": "by the API"})
        api.send("DELETE", "/clients/1")
        found = api.query(
            "SELECT user_name, action, object, object_id, detail, at FROM ops.admin_change ORDER BY 1, at"
        )
        assert {row["user_name"] for row in found} == {"admin"}
        assert [(row["action"], row["object"], row["object_id"]) for row in found] == [
            ("create", "client", 1),
            ("edit", "client", 1),
            ("create", "mailing", 1),
            ("edit", "mailing", 1),
            ("create", "suppressed phone", 1),
        ]
        assert [row["detail"] for row in found[:2]] == [None, {"fields": ["phone", "tag"]}]
        assert found[2]["detail"]["text"] == "hello"
        assert found[2]["detail"]["start_time"] == "2127-01-01T00:00:00+00:00"
        assert found[3]["detail"] == {
            "text": ["hello", "bye"],
            "send_from": [None, "09:00:00"],
            "send_until": [None, "21:00:00"],
        }
        assert "7916" not in str(found)
