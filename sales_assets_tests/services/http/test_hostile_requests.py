"""Hostile requests of up to 1 MiB: each is refused as documented, and none blocks the event loop.

The application runs in the test's event loop. The cost of a request is the CPU time of that thread, so load on the
machine does not matter; the limit is a generous multiple of the cost of a harmless body of the same size.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.types import Message

from sales_assets.services.http.admin import AdminPages
from sales_assets.services.http.application import application
from sales_assets.services.mailings.bootstrap import Mailings
from sales_assets.services.partner_orders.bootstrap import PartnerOrders
from sales_assets.settings import Settings
from sales_assets_tests.services.mailings.fixtures import CLIENT, mailing
from sales_assets_tests.services.partner_orders.fixtures import order, order_v1

pytestmark = pytest.mark.external

MIB = 1 << 20
JSON_TYPE = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
NO_DATABASE = "postgresql://nobody@127.0.0.1:9/nothing"

# Decoding 400 kB of Punycode took 13 s, 400 times as long as a harmless body; now no case takes 3 times as long.
MAX_RATIO = 12
MIN_SECONDS = 1.0


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    cpu_seconds: float


@dataclass(frozen=True)
class Case:
    status: int
    path: str
    body: bytes
    content_type: str = JSON_TYPE
    method: str = "POST"


@pytest.fixture(scope="module")
def app() -> FastAPI:
    """Both services and the admin pages, without a database, because refused requests never query it."""
    chosen: dict[str, Any] = {
        "partnerapi_url": "http://127.0.0.1:9",
        "sender_url": "http://127.0.0.1:9",
        "mailings_admin_password": "a-password-of-the-tests",
    }
    settings = Settings(_env_file=None, **chosen)  # type: ignore[call-arg]
    registry = CollectorRegistry()
    mailings = Mailings(settings, NO_DATABASE, registry=registry, enqueue_planner=lambda: None)
    return application(
        PartnerOrders(settings, NO_DATABASE, registry=registry, parts=()),
        mailings,
        AdminPages(settings, NO_DATABASE, views=mailings.views),
        registry=registry,
    )


def send_request(app: FastAPI, case: Case, *more_headers: tuple[bytes, bytes]) -> Reply:
    """Send one request in chunks of 64 KiB, as an HTTP server does."""
    path, _, query = case.path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": case.method,
        "scheme": "http",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 1),
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [
            (b"host", b"127.0.0.1"),
            (b"content-type", case.content_type.encode()),
            (b"content-length", str(len(case.body)).encode()),
            *more_headers,
        ],
    }
    chunks = [case.body[start : start + (64 << 10)] for start in range(0, len(case.body), 64 << 10)] or [b""]
    incoming: Iterator[Message] = iter(
        {"type": "http.request", "body": chunk, "more_body": number < len(chunks)}
        for number, chunk in enumerate(chunks, start=1)
    )
    sent: list[Message] = []

    async def receive() -> Message:
        return next(incoming, {"type": "http.disconnect"})

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> None:
        await asyncio.wait_for(app(scope, receive, send), timeout=120)

    start_time = time.thread_time()
    asyncio.run(run())
    seconds = time.thread_time() - start_time
    return Reply(sent[0]["status"], b"".join(message.get("body", b"") for message in sent), seconds)


def render(template: Any, content: str) -> bytes:
    """Return the template as JSON, with the value FILL replaced by raw text."""
    return json.dumps(template).replace('"FILL"', content).encode()


def text(unit: str, size: int = MIB - 1000) -> str:
    return '"' + unit * (size // len(unit)) + '"'


def parts(*bodies: bytes) -> bytes:
    return b"".join(b"--b\r\n" + body + b"\r\n" for body in bodies) + b"--b--\r\n"


ORDERS, CLIENTS, MAILINGS, LOGIN = "/v2/orders/", "/api/v1/clients/", "/api/v1/mailings/", "/admin/login"
EXTRA, EXTRA_V1 = order(extra={"a": "FILL"}), order_v1(Extra={"a": "FILL"})
NAME_PART = b'Content-Disposition: form-data; name="phone"\r\n\r\n7'
NUMBER = "9" * 4000

HARMLESS = {
    JSON_TYPE: Case(503, ORDERS, render(EXTRA, "[" + '"some text", ' * 80_000 + "1]")),
    FORM: Case(400, CLIENTS, b"phone=" + b"7" * (MIB - 1000), FORM),
    MULTIPART: Case(400, CLIENTS, parts(NAME_PART + b"7" * (MIB - 1000)), MULTIPART),
}

CHARSETS = (
    "punycode",
    "idna",
    "utf-7",
    "unicode_escape",
    "raw_unicode_escape",
    "cp037",
    "us-ascii",
    "base64",
    "nothing",
)
HOSTILE: dict[str, Case] = {
    **{
        f"{charset} at {path}, {kind}": Case(415, path, body, f"{kind}; charset={charset}")
        for charset in CHARSETS
        for path, kind, body in (
            (ORDERS, JSON_TYPE, render(EXTRA, text("a-", 400_000))),
            ("/SendOrder", JSON_TYPE, render(EXTRA_V1, text("a-", 400_000))),
            (CLIENTS, JSON_TYPE, render(CLIENT | {"tag": "FILL"}, text("a-", 400_000))),
            (CLIENTS, FORM, b"phone=" + b"a-" * 200_000),
            (CLIENTS, MULTIPART, parts(NAME_PART + b"a-" * 200_000)),
            (LOGIN, FORM, b"username=" + b"a-" * 200_000),
            (LOGIN, MULTIPART, parts(NAME_PART + b"a-" * 200_000)),
        )
    },
    "charset of a part": Case(
        400, CLIENTS, parts(NAME_PART.replace(b"\r\n\r\n", b"\r\nContent-Type: text/plain; charset=punycode\r\n\r\n")
        + b"a-" * 400_000), MULTIPART
    ),
    "field _charset_": Case(
        400, CLIENTS, parts(b'Content-Disposition: form-data; name="_charset_"\r\n\r\npunycode',
        NAME_PART + b"a-" * 400_000), MULTIPART
    ),
    "field _charset_, urlencoded": Case(400, CLIENTS, b"_charset_=punycode&phone=" + b"a-" * 500_000, FORM),
    # --- depth and numbers ---
    "deep lists": Case(422, ORDERS, b"[" * MIB),
    "deep objects": Case(422, ORDERS, b'{"a":' * (MIB // 5)),
    "deep lists, mailings": Case(400, CLIENTS, b"[" * MIB),
    "deep extra": Case(422, ORDERS, render(EXTRA, "[" * 400_000 + "]" * 400_000)),
    "many containers": Case(422, ORDERS, render(EXTRA, "[" + "[]," * 340_000 + "1]")),
    "almost too many containers": Case(503, ORDERS, render(EXTRA, "[" + "[]," * 49_000 + "1]")),
    "brackets in a text": Case(503, MAILINGS, render(mailing(text="FILL"), text("[{"))),
    "brackets and escapes in a text": Case(503, MAILINGS, render(mailing(text="FILL"), text('[\\"'))),
    "quotes never closed": Case(422, ORDERS, b'"[' * (MIB // 2)),
    "an order of lists": Case(422, ORDERS, b"[" + b"[]," * 340_000 + b"1]"),
    "an integer of a million digits": Case(422, ORDERS, render(order("FILL"), "9" * 1_000_000)),
    "an integer of a million digits, mailings": Case(400, CLIENTS, render(CLIENT | {"tag": "FILL"}, "9" * 1_000_000)),
    "a string of a million digits": Case(422, ORDERS, render(order("FILL"), text("9"))),
    "many integers of 4000 digits": Case(503, ORDERS, render(EXTRA, "[" + f"{NUMBER}," * 250 + "1]")),
    "a float of a million digits": Case(503, ORDERS, render(EXTRA, "1." + "1" * 1_000_000)),
    "a price of a million digits": Case(
        422, ORDERS, render(order(items=[{"their_id": "1", "price": "FILL", "count": 1}]), "1." + "1" * 1_000_000)
    ),
    "a price with a huge exponent": Case(
        422, ORDERS, render(order(items=[{"their_id": "1", "price": "FILL", "count": 1}]), "1e999999999")
    ),
    "a price with a huge exponent as text": Case(
        422, ORDERS, render(order(items=[{"their_id": "1", "price": "FILL", "count": 1}]), '"1e999999999"')
    ),
    "many floats beyond the range": Case(422, ORDERS, render(EXTRA, "[" + "1e999," * 170_000 + "1]")),
    # --- amplification: each validation error could repeat its input ---
    "nothing but another field": Case(422, ORDERS, render({"a": "FILL"}, "[" + "[]," * 340_000 + "1]")),
    "a client of other fields": Case(422, ORDERS, render(order(client={"a": "FILL"}), "[" + "[]," * 340_000 + "1]")),
    "340,000 empty items": Case(422, ORDERS, render(order(items="FILL"), "[" + "{}," * 340_000 + "{}]")),
    "a thousand bad items": Case(
        422, ORDERS, render(order(items="FILL"), "[" + ('{"a":"' + "x" * 900 + '"},') * 999 + "{}]")
    ),
    "items of version 1": Case(422, "/SendOrder", render(order_v1(Items="FILL"), "[" + "{}," * 340_000 + "{}]")),
    "1001 items": Case(
        422, ORDERS, render(order(items="FILL"), "[" + '{"their_id":"1","price":1,"count":1},' * 1000
        + '{"their_id":"1","price":1,"count":1}]')
    ),
    # --- texts ---
    "a long name": Case(422, ORDERS, render(order(client={"name": "FILL", "phone": "", "email": ""}), text("a"))),
    "escapes": Case(422, ORDERS, render(order(comment="FILL"), text("\\ud800"))),
    "a long date": Case(422, ORDERS, render(order(date="FILL"), text("2024-06-20 "))),
    "blanks for a phone": Case(400, CLIENTS, render(CLIENT | {"phone": "FILL"}, text(" "))),
    "digits for a phone": Case(400, CLIENTS, render(CLIENT | {"phone": "FILL"}, text("7"))),
    "surrogates for a text": Case(400, MAILINGS, render(mailing(text="FILL"), text("\\ud83d"))),
    "a text of 1 MiB": Case(503, MAILINGS, render(mailing(text="FILL"), text("a"))),
    "blanks after a moment": Case(
        400, MAILINGS, render(mailing(end_time="FILL"), '"2128-1-2 3:04' + " " * 1_000_000 + 'x"')
    ),
    "digits of a moment": Case(400, MAILINGS, render(mailing(end_time="FILL"), text("1"))),
    "a fraction of a moment": Case(
        400, MAILINGS, render(mailing(end_time="FILL"), '"2128-1-2 3:04:05.' + "1" * 1_000_000 + '"')
    ),
    "digits of a clock": Case(400, MAILINGS, render(mailing(send_from="FILL"), text("1"))),
    # --- forms ---
    "many fields": Case(400, CLIENTS, b"a&" * (MIB // 2), FORM),
    "many escapes": Case(400, CLIENTS, b"phone=" + b"%" * (MIB - 10), FORM),
    "stray percent signs": Case(400, LOGIN, b"username=" + b"%" * (MIB - 10), FORM),
    "many bytes escaped": Case(400, CLIENTS, b"phone=" + b"%D0" * (MIB // 3 - 10), FORM),
    "many fields to log in": Case(400, LOGIN, b"a&" * (MIB // 2), FORM),
    "many parts": Case(400, CLIENTS, parts(*[NAME_PART] * 15_000), MULTIPART),
    "many parts to log in": Case(400, LOGIN, parts(*[NAME_PART] * 15_000), MULTIPART),
    "many files": Case(
        400, CLIENTS, parts(*[NAME_PART.replace(b"name=", b"filename=f; name=")] * 10_000), MULTIPART
    ),
    "a long part header": Case(
        400, CLIENTS, parts(b"Content-Disposition: form-data; name=a" + b';"' * 400_000 + b"\r\n\r\n1"), MULTIPART
    ),
    "many part headers": Case(400, CLIENTS, parts(b"a: b\r\n" * 150_000 + NAME_PART), MULTIPART),
    "almost boundaries": Case(400, CLIENTS, parts(NAME_PART + b"\r\n--" * 200_000), MULTIPART),
    "a body of line ends": Case(400, CLIENTS, b"\r\n" * (MIB // 2), MULTIPART),
}  # fmt: skip


@pytest.fixture(scope="module")
def harmless_seconds(app: FastAPI) -> dict[str, float]:
    """CPU seconds of a harmless body of 1 MiB, by its media type."""
    seconds = {}
    for kind, case in HARMLESS.items():
        replies = [send_request(app, case) for _ in range(3)]
        assert {reply.status for reply in replies} == {case.status}
        seconds[kind.partition(";")[0]] = min(reply.cpu_seconds for reply in replies)
    return seconds


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_request_is_refused_in_linear_time(
    app: FastAPI, harmless_seconds: dict[str, float], name: str
) -> None:
    case = HOSTILE[name]
    assert len(case.body) <= MIB
    reply = send_request(app, case)
    assert reply.status == case.status, reply.body[:300]
    assert len(reply.body) < 64 << 10
    if case.path in (ORDERS, "/SendOrder") and reply.status == 422:
        assert all({"type", "loc", "msg"} <= detail.keys() for detail in json.loads(reply.body)["detail"])
    elif reply.status == 415:
        assert json.loads(reply.body) == {"detail": f'Unsupported media type "{case.content_type}" in request.'}
    bound = max(MIN_SECONDS, MAX_RATIO * harmless_seconds[case.content_type.partition(";")[0]])
    assert reply.cpu_seconds < bound, f"{reply.cpu_seconds:.2f} s"


@pytest.mark.parametrize("path", [ORDERS, "/SendOrder", CLIENTS, LOGIN, "/health", "/nothing"])
def test_a_body_over_1_mib_is_refused(app: FastAPI, path: str) -> None:
    body = render(EXTRA, text("a"))
    fits = send_request(app, Case(0, path, body + b" " * (MIB - len(body))))
    assert fits.status != 413
    reply = send_request(app, Case(413, path, body + b" " * (MIB - len(body) + 1)))
    assert (reply.status, json.loads(reply.body)) == (413, {"detail": "The body is larger than 1 MiB."})
    # Without a Content-Length header the received bytes are counted.
    case = Case(413, path, b" " * (3 * MIB))
    chunked = send_request(app, case, (b"transfer-encoding", b"chunked"))
    assert (chunked.status, chunked.body) == (413, reply.body)


@pytest.mark.parametrize(
    ("header", "value", "path", "status"),
    [
        (b"cookie", b"sales_admin=" + b"a" * MIB, "/admin/", 431),
        (b"x-anything", b";" * MIB, ORDERS, 431),
        (b"accept", b"a/b", "/v2/orders/?order_id=" + "1" * MIB, 414),
        (b"accept", b"a/b", "/v2/orders/" + "1" * MIB, 414),
    ],
    ids=["cookie", "header", "query", "path"],
)
def test_a_large_head_is_refused(app: FastAPI, header: bytes, value: bytes, path: str, status: int) -> None:
    reply = send_request(app, Case(status, path, b"", method="GET"), (header, value))
    assert reply.status == status
    assert list(json.loads(reply.body)) == ["detail"]
    assert reply.cpu_seconds < MIN_SECONDS


@pytest.mark.parametrize("charset", ["utf-8", "UTF8", '"utf-8"', "utf-16", "UTF-16LE", "utf-32", "utf-32-be"])
def test_unicode_charsets_are_decoded(app: FastAPI, charset: str) -> None:
    encoding = charset.strip('"')
    for path, body in ((ORDERS, order(client={"name": "Ирина"})), ("/SendOrder", order_v1(Client={"FIO": "Ирина"}))):
        raw = json.dumps(body, ensure_ascii=False).encode(encoding)
        reply = send_request(app, Case(422, path, raw, f"{JSON_TYPE}; charset={charset}"))
        assert [detail["type"] for detail in json.loads(reply.body)["detail"]] == ["missing", "missing"]
    body = CLIENT | {"phone": "Ирина"}
    reply = send_request(
        app,
        Case(400, CLIENTS, json.dumps(body, ensure_ascii=False).encode(encoding), f"{JSON_TYPE}; charset={charset}"),
    )
    assert json.loads(reply.body) == {"phone": ["The phone must have '7XXXXXXXXXX' format"]}


@pytest.mark.parametrize("charset", ["latin-1", "iso-8859-1", "cp1251", "windows-1251", "koi8-r", "KOI8-R"])
def test_one_byte_charsets_are_decoded(app: FastAPI, charset: str) -> None:
    name = "é" * 300 if "1251" not in charset and "koi8" not in charset.lower() else "я" * 300
    raw = json.dumps(order(comment=name), ensure_ascii=False).encode(charset)
    reply = send_request(app, Case(422, ORDERS, raw, f"{JSON_TYPE}; charset={charset}"))
    assert [detail["type"] for detail in json.loads(reply.body)["detail"]] == ["string_too_long"]
    exact = json.dumps(order(comment=name[:256], order_id="x"), ensure_ascii=False).encode(charset)
    reply = send_request(app, Case(422, ORDERS, exact, f"{JSON_TYPE}; charset={charset}"))
    assert [detail["loc"] for detail in json.loads(reply.body)["detail"]] == [["body", "order_id"]]


@pytest.mark.parametrize(
    ("bad", "loc"),
    [
        ({"comment": "a" * 257}, ["comment"]),
        ({"their_pharmacy_id": "a" * 257}, ["their_pharmacy_id"]),
        ({"client": {"name": "a" * 257, "phone": "", "email": ""}}, ["client", "name"]),
        ({"client": {"name": "", "phone": "a" * 257, "email": ""}}, ["client", "phone"]),
        ({"client": {"name": "", "phone": "", "email": "a" * 257}}, ["client", "email"]),
        ({"items": [{"their_id": "a" * 257, "price": 1, "count": 1}]}, ["items", 0, "their_id"]),
        ({"items": [{"their_id": "1", "price": 1, "count": 1}] * 1001}, ["items"]),
    ],
    ids=str,
)
def test_order_with_an_oversized_field_is_rejected(app: FastAPI, bad: dict[str, Any], loc: list[Any]) -> None:
    reply = send_request(app, Case(422, ORDERS, json.dumps(order(**bad)).encode()))
    assert (reply.status, [detail["loc"] for detail in json.loads(reply.body)["detail"]]) == (422, [["body", *loc]])


def test_the_largest_order_is_accepted(app: FastAPI) -> None:
    most = "a" * 256
    largest = order(
        comment=most,
        their_pharmacy_id=most,
        client={"name": most, "phone": most, "email": most},
        items=[{"their_id": most, "price": "99999999.99", "count": 2**31 - 1, "part": most}] * 1000,
    )
    assert send_request(app, Case(503, ORDERS, json.dumps(largest).encode())).status == 503  # the database is down


@pytest.mark.parametrize("shape", ["objects", "lists"])
def test_nesting_depth_of_extra_never_causes_an_internal_error(app: FastAPI, shape: str) -> None:
    """`extra` is the second level of the body; up to 64 levels are accepted."""
    opening, closing = ('{"a":', "}") if shape == "objects" else ("[", "]")
    statuses = {}
    for depth in (*range(1, 80), *range(80, 900, 41), *range(900, 1101)):
        inner = opening * (depth - 1) + "1" + closing * (depth - 1)
        for path, body in ((ORDERS, EXTRA), ("/SendOrder", EXTRA_V1)):
            statuses[path, depth] = send_request(app, Case(0, path, render(body, inner))).status
    assert statuses == {(path, depth): 503 if depth < 64 else 422 for path, depth in statuses}


@pytest.mark.parametrize(
    "field", ["order_id", "date", "client", "their_pharmacy_id", "order_type", "items", "comment", "x"]
)
@pytest.mark.parametrize("depth", [63, 70, 500, 940, 960, 990, 1100])
def test_nesting_depth_of_other_fields_never_causes_an_internal_error(app: FastAPI, field: str, depth: int) -> None:
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        inner = opening * depth + "1" + closing * depth
        assert send_request(app, Case(0, ORDERS, render(order() | {field: "FILL"}, inner))).status in (422, 503)
        assert send_request(app, Case(0, "/cancel_order", render({field: "FILL"}, inner))).status == 422
        assert send_request(app, Case(0, CLIENTS, render({field: "FILL"}, inner))).status == 400
        assert send_request(app, Case(0, MAILINGS, render({"text": "FILL"}, inner))).status == 400


@pytest.mark.parametrize("bad", ["\\u0000", "\\ud800", "\\udfff", "a\\u0000b"])
def test_text_that_cannot_be_stored_is_rejected_with_422(app: FastAPI, bad: str) -> None:
    quoted = f'"{bad}"'
    client = {"name": "", "phone": "", "email": ""}
    item = {"their_id": "1", "price": 1, "count": 1}
    for path, body in (
        *((ORDERS, order(client=client | {name: "FILL"})) for name in client),
        (ORDERS, order(comment="FILL")),
        (ORDERS, order(their_pharmacy_id="FILL")),
        (ORDERS, order(items=[item | {"their_id": "FILL"}])),
        (ORDERS, order(items=[item | {"part": "FILL"}])),
        (ORDERS, order(date="FILL")),
        (ORDERS, order("FILL")),
        ("/SendOrder", order_v1(TheirPharmacyId="FILL")),
        ("/GetOrderStatus", {"OrderId": 1, "TheirOrderId": "FILL"}),
        ("/cancel_order", {"order_ID": 1, "their_order_ID": "FILL"}),
        ("/cancel_order", {"order_ID": 1, "their_order_ID": "1", "client_phone": "FILL"}),
    ):
        assert send_request(app, Case(422, path, render(body, quoted))).status == 422, body
    for path in ("/v2/orders/?order_id=1&their_order_id=a%00", "/v2/orders/1?their_order_id=%00", "/v2/orders/%00"):
        assert send_request(app, Case(422, path, b"", method="GET")).status == 422, path
    # Free-form values are neither stored nor forwarded.
    assert send_request(app, Case(503, ORDERS, render(EXTRA, quoted))).status == 503
    assert send_request(app, Case(503, ORDERS, render(order() | {"extra": {"FILL": 1}}, quoted))).status == 503
