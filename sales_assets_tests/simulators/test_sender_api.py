"""Simulated sender API: its one call (docs/data-contracts/mailings.md, "Dispatch"), and its faults."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from sales_assets.services.http.server import running
from sales_assets.simulators.sender_api import Faults, SenderApi

pytestmark = pytest.mark.external

BODY = {"id": 1, "phone": 78218173218, "text": "hello"}
Post = Callable[..., requests.Response]


@pytest.fixture
def sender() -> SenderApi:
    return SenderApi(token="right")


@pytest.fixture
def url(sender: SenderApi) -> Iterator[str]:
    with running(sender) as url:
        yield url


@pytest.fixture
def post(url: str) -> Post:
    def send(body: Any = BODY, *, message_id: int = 1, token: str = "Bearer right") -> requests.Response:
        return requests.post(f"{url}/v1/send/{message_id}", json=body, headers={"Authorization": token}, timeout=5)

    return send


def test_a_message_is_sent_and_counted(post: Post, url: str, sender: SenderApi) -> None:
    responses = [post(), post(), post(BODY | {"id": 2}, message_id=2)]
    assert [(response.status_code, response.json()) for response in responses] == [
        (200, {"code": 0, "message": "OK"})
    ] * 3
    assert requests.get(f"{url}/_seen", timeout=5).json() == {"1": 2, "2": 1}
    assert sender.sent == {1: 2, 2: 1}
    assert [message["phone"] for message in requests.get(f"{url}/_messages", timeout=5).json()] == [78218173218] * 3


@pytest.mark.parametrize("token", ["", "right", "Bearer wrong", "Bearer ", "Basic right"])
def test_the_token_is_checked(post: Post, token: str, sender: SenderApi) -> None:
    assert post(token=token).status_code == 401
    assert not sender.seen


@pytest.mark.parametrize(
    "body",
    [
        BODY | {"phone": "78218173218"},
        BODY | {"phone": 8218173218},
        BODY | {"id": 2},
        BODY | {"text": None},
        BODY | {"more": 1},
        {"id": 1, "phone": 78218173218},
        [BODY],
    ],
)
def test_malformed_body_is_refused(post: Post, body: Any, sender: SenderApi) -> None:
    assert post(body).status_code == 400
    assert not sender.seen


@pytest.mark.parametrize(
    ("faults", "status", "body"),
    [
        ({"server_error": 1}, 500, "Internal Server Error"),
        ({"too_many": 1, "retry_after": "7"}, 429, "Too Many Requests"),
        ({"refused": 1}, 200, '{"code":1,"message":"refused"}'),
    ],
)
def test_faults_can_be_set_while_the_server_runs(
    post: Post, url: str, faults: dict[str, Any], status: int, body: str
) -> None:
    assert requests.put(f"{url}/_faults", json=faults, timeout=5).status_code == 200
    response = post()
    assert (response.status_code, response.text) == (status, body)
    assert response.headers.get("Retry-After") == ("7" if status == 429 else None)


def test_html_response(post: Post, sender: SenderApi) -> None:
    sender.faults = Faults(html=1)
    assert post().headers["Content-Type"].startswith("text/html")
    assert not sender.sent


def test_a_message_with_a_lost_response_is_sent(post: Post, sender: SenderApi) -> None:
    sender.faults = Faults(lost=1)
    with pytest.raises(requests.RequestException):
        post()
    assert sender.sent == {1: 1}


def test_prepared_responses(post: Post, url: str) -> None:
    assert requests.put(f"{url}/_answers", json=[{"status": 503}, {"body": "{"}], timeout=5).json() == {"answers": 2}
    responses = [post() for _ in range(3)]
    assert [response.status_code for response in responses] == [503, 200, 200]
    assert responses[1].text == "{"
    assert responses[2].json() == {"code": 0, "message": "OK"}


def test_invalid_control_requests_are_refused(url: str) -> None:
    assert requests.put(f"{url}/_faults", json={"nonsense": 1}, timeout=5).status_code == 400
    assert requests.get(f"{url}/v1/send/1", timeout=5).status_code == 405
    assert requests.get(f"{url}/v1/send/x", timeout=5).status_code == 404


@pytest.mark.parametrize("token", ["Bearer", "Bearer ", "Bearer anything"])
def test_any_token_is_accepted_unless_one_is_configured(token: str) -> None:
    for sender, status in ((SenderApi(), 200), (SenderApi(token="right"), 401)):
        with running(sender) as url:
            response = requests.post(
                f"{url}/v1/send/1", json=BODY, headers={"Authorization": token.strip()}, timeout=30
            )
        assert response.status_code == status
