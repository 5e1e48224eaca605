"""Faults of the simulators of partner and sender: random and scripted failures, set under ``/_faults``."""

import random
from dataclasses import asdict, replace
from typing import Any, Generic, Protocol, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

HTML = "<!DOCTYPE html><html><body><h1>Scheduled maintenance</h1></body></html>"


class Seeded(Protocol):
    """Protocol of a simulator's faults: a frozen dataclass with a seed."""

    @property
    def seed(self) -> int: ...


F = TypeVar("F", bound=Seeded)
D = TypeVar("D")


class FaultySimulator(Generic[F]):
    """A simulator whose faults can be changed while it runs; `faults` are the current ones."""

    def __init__(self, faults: F, routes: list[Route]) -> None:
        self._set(faults)
        self._control = Starlette(
            routes=[Route("/_faults", self._set_faults, methods=["PUT"]), *routes],
            exception_handlers={HTTPException: _error_response},
        )

    def _set(self, faults: F) -> None:
        self.faults = faults
        self._random = random.Random(faults.seed)  # noqa: S311 - picks which responses fail, not used for security

    async def _set_faults(self, request: Request) -> Response:
        self._set(changed(self.faults, await request.json()))
        return JSONResponse(asdict(self.faults))  # type: ignore[call-overload]

    def _hit(self, rate: float) -> bool:
        return rate > 0 and self._random.random() < rate


class CutResponse(Response):
    """A response that ends before it is complete."""

    def __init__(self, content: str) -> None:
        super().__init__(content, headers={"Content-Length": str(len(content.encode()) + 100)})

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})


def changed(value: D, changes: Any) -> D:
    """Return a copy of a dataclass with some fields changed. Raises `HTTPException` for unknown fields."""
    try:
        return replace(value, **changes)  # type: ignore[type-var]
    except TypeError as error:
        raise HTTPException(400, str(error)) from error


def _error_response(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, status_code=error.status_code)
