"""The steward's pages for tests: the admin pages of `sales-assets api` without the other services, and a users file."""

import functools
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from prometheus_client import CollectorRegistry

from sales_assets.services.http.admin import AdminPages
from sales_assets.services.http.application import application
from sales_assets.services.http.server import running
from sales_assets.services.http.users import UsersFile
from sales_assets.services.steward.bootstrap import steward_templates, steward_views
from sales_assets.settings import Settings

PASSWORD = "a password of the tests"


@contextmanager
def pages_running(database_url: str, users_file: Path, **chosen: Any) -> Iterator[str]:
    """Run the pages with a database; yield their URL."""
    settings = Settings(_env_file=None, sales_users_file=users_file, **chosen)  # type: ignore[call-arg]
    admin = AdminPages(settings, database_url, views=steward_views(database_url), templates=[steward_templates()])
    with running(application(admin, registry=CollectorRegistry()), lifespan=True) as url:
        yield url


def file_of_users(folder: Path, *names: str) -> Path:
    """Write a users file; all users have the same password, and files with the same users have the same key."""
    folder.mkdir(exist_ok=True)
    path = folder / "users"
    path.write_text(_users(names))
    return path


@functools.cache
def _users(names: tuple[str, ...]) -> str:
    """Return the contents of a users file, computed once per process because password hashing is slow."""
    with tempfile.TemporaryDirectory() as folder:
        users = UsersFile(Path(folder, "users"))
        for name in names:
            users.add(name, PASSWORD)
        return users.path.read_text()


def token_of(page: str) -> str:
    """Return the CSRF token of a page's form."""
    found = re.search(r'name="csrftoken" value="([^"]+)"', page)
    assert found is not None
    return found[1]


class Steward:
    """A user's HTTP session, without a browser."""

    def __init__(self, url: str) -> None:
        self.url = f"{url}/admin"
        self.session = requests.Session()

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(self.url + path, timeout=60, allow_redirects=False, **options)

    def post(self, path: str, **fields: Any) -> requests.Response:
        """Submit a form with the CSRF token of its page."""
        fields["csrftoken"] = token_of(self.get(path if path == "/login" else "/quarantine").text)
        return self.session.post(self.url + path, data=fields, timeout=60, allow_redirects=False)

    def log_in(self, name: str = "anna", password: str = PASSWORD) -> requests.Response:
        return self.post("/login", username=name, password=password)
