"""Documented reverse-proxy example with a real nginx: TLS, authentication, and the admin pages behind it."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client import CollectorRegistry

from sales_assets.services.http.admin import AdminPages
from sales_assets.services.http.application import application
from sales_assets.services.http.server import running
from sales_assets.services.mailings.bootstrap import Mailings
from sales_assets.settings import Settings
from sales_assets_tests.services.partner_orders.fixtures import until

EXAMPLE = Path(__file__).resolve().parents[3] / "docs" / "guides" / "nginx.conf"
PASSWORD = "a-password-of-the-tests"
CALLER = ("the-shop", "a-caller's-password")


def need(program: str) -> str:
    """Return the path of a program. If it is missing, skip the test; with REQUIRE_NGINX=1, fail it."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        why = f"THE REVERSE PROXY IS NOT TESTED: there is no {program}"
        if os.environ.get("REQUIRE_NGINX"):
            pytest.fail(why)
        pytest.skip(why)
    return found


@contextlib.contextmanager
def mailings_running(database_url: str, *trusted_proxies: str) -> Iterator[str]:
    chosen: dict[str, Any] = {"mailings_admin_password": PASSWORD, "mailings_admin_secret": "a-secret-of-the-tests"}
    registry = CollectorRegistry()
    settings = Settings(_env_file=None, **chosen)  # type: ignore[call-arg]
    service = Mailings(settings, database_url, registry=registry, enqueue_planner=lambda: None)
    admin = AdminPages(settings, database_url, views=service.views)
    with running(application(service, admin, registry=registry), lifespan=True, trusted_proxies=trusted_proxies) as url:
        yield url


@dataclass(frozen=True)
class Proxy:
    https: str
    http: str
    certificate: str

    def session(self, caller: tuple[str, str] | None = CALLER) -> requests.Session:
        session = requests.Session()
        session.verify = self.certificate
        session.auth = caller
        session.trust_env = False
        return session


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def nginx_running(folder: Path, upstream: str) -> Iterator[Proxy]:
    """Run nginx with the example configuration; only its addresses and file paths are replaced."""
    nginx, openssl = need("nginx"), need("openssl")
    key, certificate, users = folder / "services.key", folder / "services.crt", folder / "users"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    hashed = subprocess.run([openssl, "passwd", "-apr1", CALLER[1]], check=True, capture_output=True, text=True)
    users.write_text(f"{CALLER[0]}:{hashed.stdout}")
    users.chmod(0o644)
    folder.chmod(0o755)
    http_port, https_port = free_port(), free_port()
    site = EXAMPLE.read_text()
    for old, new in (
        ("listen 80;", f"listen 127.0.0.1:{http_port};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{https_port} ssl;"),
        ("services.example.com;", "localhost;"),
        ("/etc/nginx/tls/services.example.com.crt", str(certificate)),
        ("/etc/nginx/tls/services.example.com.key", str(key)),
        ("/etc/nginx/sales_assets.htpasswd", str(users)),
        ("http://127.0.0.1:8000", upstream),
    ):
        assert old in site
        site = site.replace(old, new)
    (folder / "site.conf").write_text(site)
    temporary = "\n".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    main.write_text(
        f"{user}\ndaemon off;\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}\ninclude {folder}/site.conf;\n}}\n"
    )
    checked = subprocess.run([nginx, "-t", "-c", str(main)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    process = subprocess.Popen([nginx, "-c", str(main)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: _listens(https_port) or process.poll() is not None)
        assert process.poll() is None, (folder / "error.log").read_text()
        yield Proxy(f"https://localhost:{https_port}", f"http://localhost:{http_port}", str(certificate))
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def log_in(session: requests.Session, url: str) -> requests.Response:
    page = session.get(f"{url}/admin/login", timeout=60).text
    token = re.search(r'name="csrftoken"[^>]*value="([^"]+)"', page)
    assert token is not None
    fields = {"username": "admin", "password": PASSWORD, "csrftoken": token[1]}
    return session.post(
        f"{url}/admin/login?next=%2Fadmin%2Fclients%2Flist", data=fields, timeout=60, allow_redirects=False
    )


def test_example_requires_tls_and_basic_authentication(warehouse_url: str, tmp_path: Path) -> None:
    with mailings_running(warehouse_url, "127.0.0.1") as upstream, nginx_running(tmp_path, upstream) as proxy:
        client = {"phone": "78218173218", "operator_code": "123", "timezone": "UTC"}
        address = f"{proxy.https}/api/v1/clients/"
        assert proxy.session(None).post(address, json=client, timeout=60).status_code == 401
        assert proxy.session(("the-shop", "guess")).post(address, json=client, timeout=60).status_code == 401
        assert proxy.session().post(address, json=client, timeout=60).status_code == 201
        assert proxy.session(None).get(f"{proxy.https}/health", timeout=60).json() == {"status": "ok"}
        for path in ("/metrics", "/metrics/"):
            assert proxy.session().get(proxy.https + path, timeout=60).status_code == 404
        assert proxy.session().post(address, data=b" " * (3 << 20), timeout=60).status_code == 413
        plain = proxy.session().get(f"{proxy.http}/health", timeout=60, allow_redirects=False)
        assert (plain.status_code, plain.headers["location"]) == (301, "https://localhost/health")


def test_the_admin_page_works_behind_the_example(warehouse_url: str, tmp_path: Path) -> None:
    with mailings_running(warehouse_url, "127.0.0.1") as upstream, nginx_running(tmp_path, upstream) as proxy:
        session = proxy.session()
        first = session.get(f"{proxy.https}/admin", timeout=60)
        assert first.url.startswith(f"{proxy.https}/admin/login?next=")
        response = log_in(session, proxy.https)
        assert (response.status_code, response.headers["location"]) == (303, "/admin/clients/list")
        flags = {part.strip().lower() for part in response.headers["set-cookie"].split("sales_admin=")[1].split(";")}
        assert {"secure", "httponly", "samesite=strict", "path=/admin"} <= flags
        assert {cookie.name: cookie.secure for cookie in session.cookies} == {
            "sales_admin": True,
            "starlette_admin_csrftoken": True,
        }
        page = session.get(f"{proxy.https}/admin/clients/list", timeout=60)
        assert page.status_code == 200
        assert "http://" not in re.sub(r"http://www\.w3\.org", "", page.text)


@pytest.mark.parametrize("trusted", [(), ("10.0.0.0/8",)], ids=["no proxy", "another network"])
def test_forwarded_headers_of_untrusted_clients_are_ignored(warehouse_url: str, trusted: tuple[str, ...]) -> None:
    with mailings_running(warehouse_url, *trusted) as url, requests.Session() as session:
        session.headers["X-Forwarded-Proto"] = "https"
        response = log_in(session, url)
        assert "secure" not in response.headers["set-cookie"].lower()


@pytest.mark.parametrize("trusted", ["127.0.0.1", "127.0.0.0/8"])
def test_forwarded_headers_of_a_trusted_proxy_are_used(warehouse_url: str, trusted: str) -> None:
    with mailings_running(warehouse_url, trusted) as url, requests.Session() as session:
        response = session.get(f"{url}/admin/login", headers={"X-Forwarded-Proto": "https"}, timeout=60)
        assert "secure" in response.headers["set-cookie"].lower()


def test_links_are_relative_for_any_host_name_of_the_proxy(warehouse_url: str) -> None:
    """Without a trusted proxy the external scheme is unknown, and an absolute http:// link would lead out of HTTPS."""
    with mailings_running(warehouse_url) as url, requests.Session() as session:
        session.headers["Host"] = "services.example.com"
        strangers = session.get(f"{url}/admin/clients/list", timeout=60, allow_redirects=False)
        assert strangers.headers["location"].startswith("/admin/login?next=")
        assert log_in(session, url).headers["location"] == "/admin/clients/list"
        for path in (
            "/admin/",
            "/admin/clients/list",
            "/admin/clients/create",
            "/admin/mailings/create",
            "/admin/nothing",
        ):
            page = session.get(url + path, timeout=60)
            assert "services.example.com" not in page.text, path
        refused = session.get(
            f"{url}/admin/login?next=https%3A%2F%2Fevil.example%2F", timeout=60, allow_redirects=False
        )
        assert refused.headers["location"] == "/admin/"


def test_a_logout_ends_the_session_in_every_process(warehouse_url: str) -> None:
    with (
        mailings_running(warehouse_url) as one,
        mailings_running(warehouse_url) as two,
        requests.Session() as session,
    ):
        log_in(session, one)
        stolen = dict(session.cookies)
        address = "/admin/clients/list"

        def opens(url: str) -> bool:
            response = requests.get(url + address, cookies=stolen, timeout=60, allow_redirects=False)
            return response.status_code == 200

        assert opens(one)
        assert opens(two)
        page = session.get(one + address, timeout=60).text
        token = re.search(r'name="csrftoken"[^>]*value="([^"]+)"', page)
        assert token is not None
        left = session.post(f"{one}/admin/logout", data={"csrftoken": token[1]}, timeout=60, allow_redirects=False)
        assert left.status_code == 303
        assert not opens(one)
        assert not opens(two)
        # A new login creates a new session.
        assert log_in(session, two).status_code == 303
        assert session.get(one + address, timeout=60, allow_redirects=False).status_code == 200
        assert not opens(two)
