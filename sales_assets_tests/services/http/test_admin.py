"""The login of the admin pages: named users, attempts, sessions and their audit trail."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sales_assets.services.http import admin
from sales_assets.services.http.users import UsersFile
from sales_assets_tests.services.steward.fixtures import PASSWORD, Steward, file_of_users, pages_running

Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def users(tmp_path: Path) -> UsersFile:
    return UsersFile(file_of_users(tmp_path, "anna", "boris"))


@pytest.fixture
def url(warehouse_url: str, users: UsersFile, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(admin, "_REFUSED_SECONDS", 0)
    with pages_running(warehouse_url, users.path) as url:
        yield url


def is_inside(steward: Steward) -> bool:
    return steward.get("/quarantine").status_code == 200


def test_logins_and_logouts_of_each_user_are_in_the_audit_trail(url: str, query: Query) -> None:
    anna, boris, stranger = Steward(url), Steward(url), Steward(url)
    assert anna.log_in().status_code == 303
    assert boris.log_in("boris").status_code == 303
    assert boris.get("/audit").text.count("boris") >= 2
    assert boris.post("/logout").status_code == 303
    assert is_inside(anna)
    assert not is_inside(boris)
    assert stranger.log_in("celine").status_code == 400
    assert stranger.log_in("anna", "wrong").status_code == 400
    assert not is_inside(stranger)
    # Failed logins of unknown names are not recorded, because anybody could fill the table with them.
    assert query("SELECT user_name, event FROM ops.admin_login ORDER BY login_id") == [
        ("anna", "login"), ("boris", "login"), ("boris", "logout"), ("anna", "refused"),
    ]  # fmt: skip


def test_session_ends_when_the_user_is_removed_or_the_password_changes(url: str, users: UsersFile) -> None:
    anna, boris = Steward(url), Steward(url)
    anna.log_in()
    boris.log_in("boris")
    assert is_inside(anna)
    assert is_inside(boris)
    users.remove("boris")
    assert not is_inside(boris)
    assert is_inside(anna)
    users.add("anna", "a new password of the tests")
    assert not is_inside(anna)
    assert anna.log_in().status_code == 400
    assert anna.log_in(password="a new password of the tests").status_code == 303


def test_ten_wrong_passwords_lock_the_user_out_for_15_minutes(url: str, query: Query) -> None:
    guessing_session, anna, boris = Steward(url), Steward(url), Steward(url)
    query(
        "INSERT INTO ops.admin_login (user_name, event) SELECT 'anna', 'refused' FROM generate_series(1, 9) RETURNING 1"
    )
    assert guessing_session.log_in(password="the tenth guess").status_code == 400
    refused = anna.log_in()
    assert refused.status_code == 400
    assert "wait 15 minutes" in refused.text
    assert boris.log_in("boris").status_code == 303  # other users are not affected
    query("UPDATE ops.admin_login SET at = at - interval '16 minutes' RETURNING 1")
    assert anna.log_in().status_code == 303
    # A successful login resets the count of failures.
    query("UPDATE ops.admin_login SET at = now() RETURNING 1")
    assert Steward(url).log_in().status_code == 303


def test_session_is_valid_in_every_process_with_the_same_users_file(
    url: str, warehouse_url: str, users: UsersFile
) -> None:
    """Without a secret in the settings, the users file supplies the session key; another users file has another key."""
    anna = Steward(url)
    anna.log_in()
    with pages_running(warehouse_url, users.path) as other:
        anna.url = f"{other}/admin"
        assert is_inside(anna)
    other_users = UsersFile(file_of_users(users.path.parent / "other", "anna"))
    with pages_running(warehouse_url, other_users.path) as other:
        anna.url = f"{other}/admin"
        assert not is_inside(anna)


def test_admin_password_of_the_settings_works_next_to_named_users(warehouse_url: str, users: UsersFile) -> None:
    with pages_running(warehouse_url, users.path, mailings_admin_password="a single password") as url:
        admin_user, anna = Steward(url), Steward(url)
        assert admin_user.log_in("admin", "a single password").status_code == 303
        assert anna.log_in().status_code == 303
        assert is_inside(admin_user)
        assert is_inside(anna)


def test_invalid_users_file_refuses_every_session(url: str, users: UsersFile) -> None:
    anna = Steward(url)
    anna.log_in()
    users.path.write_text("anna\n")
    assert anna.get("/quarantine").status_code == 503
    assert PASSWORD not in anna.get("/quarantine").text
