"""Limits on requests before any service sees them: size of address, headers and body, and the body's encoding.

Keeps the work for one request linear and small, for all services and pages. The models limit single fields.
"""

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sales_assets.services.http.bodies import MAX_BODY_BYTES, MAX_BODY_TEXT, URLENCODED, content_type, is_bounded_form

# uvicorn limits neither.
_MAX_ADDRESS_BYTES = 8 << 10
_MAX_HEADER_BYTES = 32 << 10


class RequestLimits:
    """Middleware that reads the whole body, or rejects the request with `{"detail": ...}`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = _oversized_head(scope)
        body: bytes | None = b""
        if refusal is None:
            try:
                body = await _read(Headers(scope=scope).get("content-length", "0"), receive)
            except _TooLargeError:
                refusal = _refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body is larger than {MAX_BODY_TEXT}.")
            else:
                refusal = _unreadable(scope, body) if body else None
        if refusal is not None:
            await refusal(scope, receive, send)
        elif body is not None:
            await self._app(scope, _replaying(body, receive), send)


class _TooLargeError(Exception):
    pass


def _refusal(status: HTTPStatus, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status_code=status)


def _oversized_head(scope: Scope) -> JSONResponse | None:
    if len(scope["raw_path"]) + len(scope["query_string"]) > _MAX_ADDRESS_BYTES:
        return _refusal(HTTPStatus.REQUEST_URI_TOO_LONG, f"The address is longer than {_MAX_ADDRESS_BYTES} bytes.")
    if sum(len(name) + len(value) for name, value in scope["headers"]) > _MAX_HEADER_BYTES:
        detail = f"The headers are larger than {_MAX_HEADER_BYTES} bytes."
        return _refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
    return None


async def _read(content_length: str, receive: Receive) -> bytes | None:
    """Return the whole body; None when the client disconnected before its end."""
    if len(content_length) > len(str(MAX_BODY_BYTES)) or int(content_length) > MAX_BODY_BYTES:
        raise _TooLargeError
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise _TooLargeError
        if not message.get("more_body", False):
            return bytes(body)


def _unreadable(scope: Scope, body: bytes) -> JSONResponse | None:
    header = Headers(scope=scope).get("content-type", "")
    declared = content_type(header)
    if not declared.readable:
        return _refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f'Unsupported media type "{header[:200]}" in request.')
    if declared.media_type == URLENCODED and not is_bounded_form(body):
        return _refusal(HTTPStatus.BAD_REQUEST, "Form parse error - too many fields")
    return None


def _replaying(body: bytes, receive: Receive) -> Receive:
    replayed = False

    async def replay() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
