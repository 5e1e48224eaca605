"""The requests and responses of docs/guides/partner-orders.md, executed in the order of the guide."""

import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import requests

from sales_assets_tests.services.partner_orders.fixtures import Service

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guides" / "partner-orders.md"
_EXAMPLE = re.compile(r"```sh\n(curl .*?)```\n(?:\n```json\n(.*?)\n```)?", re.DOTALL)


def examples() -> list[tuple[str, str]]:
    """Return the commands of the guide with their responses; a command without a shown response has an empty one."""
    examples_shown = _EXAMPLE.findall(GUIDE.read_text(encoding="utf-8"))
    return [(command.replace("\\\n", " ").strip(), response) for command, response in examples_shown]


def run_curl(service: Service, command: str) -> requests.Response:
    """Send the request of a curl command to the test's ports."""
    words = iter(shlex.split(command)[1:])
    method, body, url = "", None, ""
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "--json":
            body = next(words)
        else:
            url = word
    at = {"127.0.0.1:8000": service.url, "127.0.0.1:8081": service.partner_url}[urlsplit(url).netloc]
    headers = {"Content-Type": "application/json"} if body else {}
    default = "POST" if body else "GET"
    return requests.request(method or default, at + urlsplit(url).path, data=body, headers=headers, timeout=60)


def test_guide_shows_the_actual_responses(service: Service) -> None:
    examples_shown = examples()
    assert len(examples_shown) >= 8
    for command, response in examples_shown:
        received = run_curl(service, command)
        assert received.ok, received.text
        assert not response or received.text == response
