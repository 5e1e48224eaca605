"""Unsubscribe links: a signed URL per message, and the page that it opens.

The link holds the number of the message and a signature over it and the phone that it was sent to. GET shows a button
and changes nothing, because mail and link scanners follow links; POST suppresses the phone. The POST is also the
one-click request of RFC 8058, whose body is ignored.
"""

import hashlib

import structlog
from itsdangerous import Signer
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from sales_assets.services.http.numbers import parse_integer
from sales_assets.services.mailings.errors import NotFound, Unavailable
from sales_assets.services.mailings.repository import MailingsRepository
from sales_assets.services.mailings.schemas import INT64
from sales_assets.settings import Settings

_log = structlog.get_logger()

PATH = "/unsubscribe"
PLACEHOLDER = "{unsubscribe_url}"

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
    "Cache-Control": "no-store",
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>
<style>body {{ font: 1.1rem system-ui, sans-serif; max-width: 32rem; margin: 4rem auto; padding: 0 1rem }}
button {{ font: inherit; padding: .6rem 1.2rem }}</style>
</head>
<body><h1>{title}</h1><p>{text}</p>{form}</body>
</html>
"""
# Without an action the form is sent to the URL of the page, regardless of the path under which a proxy serves it.
_FORM = '<form method="post"><button>Unsubscribe</button></form>'


class UnsubscribeLinks:
    """Make and verify links below a public base URL, such as ``https://shop.example/m``."""

    def __init__(self, base_url: str, secret: str) -> None:
        self._base_url = base_url
        self._signer = Signer(secret, salt="sales_assets.mailings.unsubscribe", digest_method=hashlib.sha256)

    def text_with_link(self, text: str) -> str:
        """Return the text of a mailing with the placeholder of the link; a missing one is added as the last line."""
        return text if PLACEHOLDER in text else f"{text}\n{PLACEHOLDER}"

    def link(self, message_id: int, phone: str) -> str:
        """Return the URL for a message to a phone. It contains no character that JSON or HTML escapes."""
        return f"{self._base_url}{PATH}/{message_id}.{self._signature(message_id, phone)}"

    def is_valid(self, signature: str, message_id: int, phone: str) -> bool:
        """Verify the signature of a link, in constant time."""
        return self._signer.verify_signature(f"{message_id}:{phone}", signature)

    def _signature(self, message_id: int, phone: str) -> str:
        return self._signer.get_signature(f"{message_id}:{phone}").decode()


def links_of(settings: Settings) -> UnsubscribeLinks | None:
    """Return the links of the settings; None without a public base URL."""
    if not settings.mailings_unsubscribe_url:
        return None
    secret = settings.mailings_unsubscribe_secret.get_secret_value()
    return UnsubscribeLinks(settings.mailings_unsubscribe_url, secret)


def unsubscribe_routes(repository: MailingsRepository, links: UnsubscribeLinks) -> list[BaseRoute]:
    """Return the routes of the page. An invalid link, or one of a deleted client, returns 404."""

    async def phone_of(request: Request) -> str | None:
        number, _, signature = request.path_params["token"].partition(".")
        try:
            message_id = parse_integer(number)
        except ValueError:
            return None
        if message_id > INT64:
            return None
        try:
            phone = str((await repository.recipient(message_id))["phone"])
        except NotFound:
            return None
        return phone if links.is_valid(signature, message_id, phone) else None

    async def show(request: Request) -> Response:
        if await phone_of(request) is None:
            return _not_found()
        return _page("Unsubscribe", "You will get no more messages from us at the phone that got this link.", _FORM)

    async def unsubscribe(request: Request) -> Response:
        phone = await phone_of(request)
        if phone is None:
            return _not_found()
        await repository.suppress(phone, "link")
        _log.info("phone suppressed by link", message_id=int(request.path_params["token"].partition(".")[0]))
        return _page("You are unsubscribed", "You will get no more messages from us at this phone.")

    async def answer(request: Request) -> Response:
        try:
            return await (unsubscribe if request.method == "POST" else show)(request)
        except Unavailable:
            return _page("Not available", "Please try again in a minute: nothing was changed.", status=503)

    paths = (f"{PATH}/{{token}}", f"{PATH}/{{token}}/")
    return [Route(path, answer, methods=["GET", "POST"], include_in_schema=False) for path in paths]


def _not_found() -> Response:
    text = "The link is not valid, or the phone is not in our lists any more. Please write to the shop."
    return _page("Link not found", text, status=404)


def _page(title: str, text: str, form: str = "", *, status: int = 200) -> Response:
    return HTMLResponse(_PAGE.format(title=title, text=text, form=form), status, _HEADERS)
