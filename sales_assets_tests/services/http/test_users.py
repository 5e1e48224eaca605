"""Users file: stores only hashes, is readable only by its owner, and errors report the line number."""

import stat
from pathlib import Path

import pytest

from sales_assets.services.http.users import UsersError, UsersFile

PASSWORD = "correct horse battery"


@pytest.fixture
def users(tmp_path: Path) -> UsersFile:
    return UsersFile(tmp_path / "folder" / "users")


def test_a_user_is_added_changed_and_removed(users: UsersFile) -> None:
    assert users.users().hashes == {}
    assert not users.verify("anna", PASSWORD)
    assert users.add("anna", PASSWORD)
    key = users.users().key
    assert len(key) == 64
    assert users.verify("anna", PASSWORD)
    assert not users.verify("anna", PASSWORD + "x")
    assert not users.verify("boris", PASSWORD)
    assert not users.add("anna", "another password")
    assert not users.verify("anna", PASSWORD)
    assert users.add("boris", PASSWORD)
    assert users.users().key == key
    users.remove("anna")
    assert list(users.users().hashes) == ["boris"]
    with pytest.raises(UsersError, match="there is no user anna"):
        users.remove("anna")


def test_users_file_stores_no_password_and_is_readable_only_by_its_owner(users: UsersFile) -> None:
    users.add("anna", PASSWORD)
    assert PASSWORD not in users.path.read_text()
    assert stat.S_IMODE(users.path.stat().st_mode) == 0o600
    assert [path.name for path in users.path.parent.iterdir()] == ["users"]


@pytest.mark.parametrize("name", ["", "-anna", "an:na", "anna\n", "a" * 65, "анна", "<b>"])
def test_invalid_user_names_are_refused(users: UsersFile, name: str) -> None:
    with pytest.raises(UsersError, match="a name has"):
        users.add(name, PASSWORD)


@pytest.mark.parametrize("password", ["", "x" * 11, "x" * 1001])
def test_too_short_and_too_long_passwords_are_refused(users: UsersFile, password: str) -> None:
    with pytest.raises(UsersError, match="12 to 1000 characters"):
        users.add("anna", password)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("anna", "line 2: expected a name, a colon and an Argon2id hash"),
        ("anna:plain text", "line 2: expected a name"),
        ("$x:$argon2id$v=19$a", "line 2: expected a name"),
    ],
)
def test_invalid_line_is_reported_by_number_without_its_contents(users: UsersFile, line: str, reason: str) -> None:
    users.path.parent.mkdir()
    users.path.write_text(f"# users\n{line}\n")
    with pytest.raises(UsersError, match=reason) as refused:
        users.users()
    assert "plain text" not in str(refused.value)


def test_duplicate_user_is_refused(users: UsersFile) -> None:
    users.add("anna", PASSWORD)
    with users.path.open("a") as file:
        file.write(f"anna:{users.users().hashes['anna']}\n")
    with pytest.raises(UsersError, match="line 3: the user anna appears twice"):
        users.users()
