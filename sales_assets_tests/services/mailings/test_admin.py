"""The admin page without a browser: off by default, closed to strangers, and its cookies. What people do there is in
``sales_assets_tests/ui/test_mailings_admin.py``."""

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


def test_without_a_password_the_page_is_off(shared_api: Api) -> None:
    for path in ("/admin", "/admin/", "/admin/login", "/admin/clients/list"):
        answer = requests.get(shared_api.url + path, timeout=60, allow_redirects=False)
        assert (answer.status_code, answer.text) == (
            403,
            "The admin page is off: set MAILINGS_ADMIN_PASSWORD to switch it on.",
        )


def test_strangers_are_sent_to_the_login(shared_api: Api) -> None:
    with api_running(shared_api.database_url, mailings_admin_password=PASSWORD) as api, requests.Session() as session:
        for path in ("/", "/clients/list", "/mailings/edit?pk=1", "/messages/list"):
            answer = requests.get(f"{api.url}/admin{path}", timeout=60, allow_redirects=False)
            assert (answer.status_code, "/admin/login" in answer.headers["location"]) == (303, True)
            assert "default-src 'self'" in answer.headers["content-security-policy"]
        began = time.monotonic()
        for user, password in (("admin", "guess"), ("admin", ""), ("other", PASSWORD), ("admin", PASSWORD + "\u00e9")):
            refused = log_in(session, api.url, password, user)
            assert refused.status_code == 400
            assert "mailings_admin" not in session.cookies
        assert time.monotonic() - began >= 4  # guessing is slow
        # Without the token of the form there is no login at all.
        forged = requests.post(f"{api.url}/admin/login", data={"username": "admin", "password": PASSWORD}, timeout=60)
        assert forged.status_code == 403


def test_the_session_is_signed_and_kept_from_scripts(shared_api: Api) -> None:
    with api_running(shared_api.database_url, mailings_admin_password=PASSWORD) as api, requests.Session() as session:
        answer = log_in(session, api.url)
        assert answer.status_code == 303
        cookie = next(part for part in answer.headers["set-cookie"].split(", ") if part.startswith("mailings_admin="))
        assert {"httponly", "samesite=strict", "path=/admin"} <= set(cookie.lower().split("; "))
        listed = session.get(f"{api.url}/admin/clients/list", timeout=60, allow_redirects=False)
        assert listed.status_code == 200
        # Without the form's token a session writes nothing: not from another site.
        forged = session.post(f"{api.url}/admin/clients/create", data={"phone": "79161234567"}, timeout=60)
        assert forged.status_code == 403
        # Another process has another secret; so has this one with another password.
        with api_running(shared_api.database_url, mailings_admin_password=PASSWORD) as other:
            moved = requests.get(
                f"{other.url}/admin/clients/list", cookies=session.cookies, timeout=60, allow_redirects=False
            )
            assert moved.status_code == 303


def test_a_shared_secret_carries_a_session_to_another_process(shared_api: Api) -> None:
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
