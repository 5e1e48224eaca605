"""Users of the admin pages: a file with a name and an Argon2id hash per line, such as `anna:$argon2id$...`.

`sales-assets users` writes it. Its first line has the key that signs the sessions, so that all processes that share the
file accept each other's sessions. A changed or removed user takes effect without a restart.
"""

import os
import re
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 1000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_KEY_LINE = "# session key: "
_HASHER = PasswordHasher()  # RFC 9106, low memory: 64 MiB, 3 passes
# Hash of a random password, verified for unknown users, so that the check takes as long as for known ones.
_NOBODY = _HASHER.hash(secrets.token_hex(16))


class UsersError(Exception):
    """The users can't be read or changed; the message has the reason, with file and line, and no hash."""


@dataclass(frozen=True)
class Users:
    """Contents of a users file. hashes: {name: hash}; key: signs sessions, empty if there is no file."""

    hashes: Mapping[str, str]
    key: str


class UsersFile:
    """Reader and writer of a users file, which need not exist. A changed file is read again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: tuple[tuple[int, int, int] | None, Users] | None = None

    def users(self) -> Users:
        """Return the current users. Raises `UsersError`."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return Users({}, "")
        except OSError as error:
            raise UsersError(f"{self.path}: {error.strerror}") from None
        version = (found.st_ino, found.st_mtime_ns, found.st_size)
        if self._read is None or self._read[0] != version:
            self._read = (version, self._parse())
        return self._read[1]

    def _parse(self) -> Users:
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise UsersError(f"{self.path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise UsersError(f"{self.path} is not UTF-8") from None
        hashes: dict[str, str] = {}
        key = ""
        for number, line in enumerate(lines, start=1):
            name, colon, hashed = line.strip().partition(":")
            if line.startswith(_KEY_LINE):
                key = line.removeprefix(_KEY_LINE).strip()
            elif not line.strip() or line.startswith("#"):
                continue
            elif not colon or not _NAME.fullmatch(name) or not hashed.startswith("$argon2id$"):
                raise UsersError(f"{self.path}, line {number}: expected a name, a colon and an Argon2id hash")
            elif name in hashes:
                raise UsersError(f"{self.path}, line {number}: the user {name} appears twice")
            else:
                hashes[name] = hashed
        return Users(hashes, key)

    def verify(self, name: str, password: str) -> bool:
        """Check a password; takes some 50 ms of processor time, also for an unknown name. Raises `UsersError`."""
        hashed = self.users().hashes.get(name)
        try:
            # No user has a longer password, and hashing it would take longer.
            _HASHER.verify(hashed or _NOBODY, password[: LONGEST_PASSWORD + 1].encode(errors="replace"))
        except (VerificationError, InvalidHashError):
            return False
        return hashed is not None

    def add(self, name: str, password: str) -> bool:
        """Add a user, or change the password; returns whether the user is new. Raises `UsersError`."""
        if not _NAME.fullmatch(name):
            raise UsersError("a name has 1 to 64 letters, digits and . _ @ -, and begins with a letter or digit")
        if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise UsersError(f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")
        users = self.users()
        self._write(users, {**users.hashes, name: _HASHER.hash(password)})
        return name not in users.hashes

    def remove(self, name: str) -> None:
        """Remove a user and end the user's sessions. Raises `UsersError`."""
        users = self.users()
        if name not in users.hashes:
            raise UsersError(f"there is no user {name} in {self.path}")
        self._write(users, {other: hashed for other, hashed in users.hashes.items() if other != name})

    def _write(self, users: Users, hashes: Mapping[str, str]) -> None:
        """Replace the file; only its owner can read it."""
        key = users.key or secrets.token_hex(32)
        lines = [f"{_KEY_LINE}{key}", *(f"{name}:{hashed}" for name, hashed in sorted(hashes.items()))]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write("\n".join(lines) + "\n")
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(self.path)
        except OSError as error:
            raise UsersError(f"{self.path}: {error.strerror}") from None
