"""One path of /v1: who may use it, which methods it has, and how it answers, errors included."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from arrowslit.edge.auth import WrongCredentials, authenticate
from arrowslit.edge.problem import as_error, v1_problem
from arrowslit.errors import Error
from arrowslit.ids import RandomBytes, new_id
from arrowslit.principal import Grants
from arrowslit.principal import Scope as KeyScope

log = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[object]]
"""Takes a request that may be answered, returns what is answered in JSON, or raises Error."""


@dataclass(frozen=True, slots=True)
class Doorkeeper:
    """What every path needs: who may come in, and ids for requests."""

    grants: Grants
    wrong: WrongCredentials
    random: RandomBytes

    def resource(self, path: str, **methods: Handler) -> Route:
        """The route of a path with one handler per method, by the method's name in lower case."""
        return Route(path, _Resource(self, {name.upper(): handler for name, handler in methods.items()}))


class _Resource:
    """An ASGI application, and not a function, so that Starlette leaves refusing a method to us."""

    def __init__(self, keeper: Doorkeeper, methods: Mapping[str, Handler]) -> None:
        self._keeper = keeper
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = new_id("req", self._keeper.random)
        try:
            body = msgspec.json.encode(await self._answer(Request(scope, receive)))
            headers = {"request-id": request_id, "cache-control": "no-store", "content-type": "application/json"}
            response = Response(body, 200, headers)
        except ClientDisconnect:
            return  # there is nobody to answer any more
        except Exception as failure:
            error = as_error(failure)
            if error is not failure:
                log.exception("%s %s failed (%s)", scope["method"], scope["path"], request_id)
            problem = v1_problem(error, request_id)
            response = Response(problem.body, problem.status, dict(problem.headers))
            if error.code == "method_not_supported":
                response.headers["allow"] = ", ".join(sorted(self._methods))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> object:
        self._admit(request)
        if not self._methods:
            raise Error("not_found", "there is nothing at this path", hint="the paths are in the API's documentation")
        handler = self._methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            raise Error("method_not_supported", "this path has no such method")
        return await handler(request)

    def _admit(self, request: Request) -> None:
        headers = [(name.decode("latin-1"), value.decode("latin-1").strip()) for name, value in request.headers.raw]
        principal = authenticate(
            headers,
            self._keeper.grants,
            self._keeper.wrong,
            query=request.url.query,
            address=request.client.host if request.client else "",
        )
        if KeyScope.ADMIN not in principal.scopes:
            raise Error("forbidden", "this key is not an administrator's", hint="use a key with the scope admin")
