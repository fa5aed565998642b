"""One path of /v1: who may use it, which methods it has, and how it answers, errors included.

A resource says of each method who may come in, and what the documentation needs to know:

    keeper.resource("/v1/sessions/{session_id}", get=Method(self.retrieve, INVOKERS | WORKERS, answer="Session"))

A bare handler instead of a Method is for administrators. What a handler returns is sent as JSON; an event stream, or
anything else, it returns as a Starlette Response.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from arrowslit.credential import CredentialKind
from arrowslit.edge.auth import WORKERS, Workers, WrongCredentials, authenticate_anyone
from arrowslit.edge.problem import as_error, v1_problem
from arrowslit.errors import Error
from arrowslit.ids import RandomBytes, new_id
from arrowslit.principal import Credentials, Principal, Scope
from arrowslit.work import Worker

log = logging.getLogger(__name__)

__all__ = ["ADMINISTRATORS", "INVOKERS", "WORKERS", "Doorkeeper", "Method", "Resource", "caller", "principal"]

Handler = Callable[[Request], Awaitable[object]]
"""Takes a request that may be answered, returns what is answered in JSON or a Response, or raises Error."""

OpenTo = frozenset[Scope | CredentialKind]
"""Who may come in: principals with one of these scopes (`admin` has every one), workers with one of these tokens."""

ADMINISTRATORS: OpenTo = frozenset({Scope.ADMIN})
INVOKERS: OpenTo = frozenset({Scope.INVOKE})
EVERYBODY: OpenTo = frozenset(Scope) | WORKERS


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a path: its handler, who may use it, and for the API's documentation what goes in and out.

    `query` and `body` are msgspec Structs, `answer` the name of a schema in `openapi.py`, `errors` the codes that this
    method raises beside those that any may. `stream` for an event stream, which has no HEAD; `upload` and `download`
    for a body and an answer that are a file's bytes.
    """

    handler: Handler
    open_to: OpenTo = ADMINISTRATORS
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    answer: str | None = None
    errors: tuple[str, ...] = ()
    stream: bool = False
    upload: bool = False
    download: bool = False


@dataclass(frozen=True, slots=True)
class Doorkeeper:
    """What every path needs: who may come in, ids for requests, and the key that page cursors are signed with."""

    credentials: Credentials
    wrong: WrongCredentials
    workers: Workers
    random: RandomBytes
    cursor_key: bytes

    def resource(self, path: str, **methods: Method | Handler) -> Route:
        """The route of a path with its methods, by their names in lower case."""
        named = {name.upper(): each if isinstance(each, Method) else Method(each) for name, each in methods.items()}
        return Route(path, Resource(self, named))


def caller(request: Request) -> Principal | Worker:
    """Who sent a request that was let in."""
    who = request.state.caller
    assert isinstance(who, Principal | Worker)
    return who


def principal(request: Request) -> Principal:
    """Who sent a request to a path that no worker may use, or Error `forbidden` for a worker."""
    who = caller(request)
    if isinstance(who, Worker):
        raise _forbidden()
    return who


class Resource:
    """An ASGI application, and not a function, so that Starlette leaves refusing a method to us."""

    def __init__(self, keeper: Doorkeeper, methods: Mapping[str, Method]) -> None:
        self.methods = methods
        self._keeper = keeper

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        request_id = new_id("req", self._keeper.random)
        try:
            answer = await self._answer(Request(scope, receive))
            if isinstance(answer, Response):
                response = answer
            else:
                response = Response(msgspec.json.encode(answer), 200, {"content-type": "application/json"})
        except ClientDisconnect:
            return  # there is nobody to answer any more
        except Exception as failure:
            error = as_error(failure)
            if error is not failure:
                log.exception("%s %s failed (%s)", scope["method"], scope["path"], request_id)
            problem = v1_problem(error, request_id)
            response = Response(problem.body, problem.status, dict(problem.headers))
            if error.code == "method_not_supported":
                response.headers["allow"] = ", ".join(sorted(self.methods))
        response.headers["request-id"] = request_id
        response.headers["cache-control"] = "no-store"
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> object:
        method = self._method(request.method)
        await self._admit(request, method)
        if not self.methods:
            raise Error("not_found", "there is nothing at this path", hint="the paths are in the API's documentation")
        if method is None:
            raise Error("method_not_supported", "this path has no such method")
        request.scope["path_params"] = {name: _storable(text) for name, text in request.path_params.items()}
        return await method.handler(request)

    def _method(self, name: str) -> Method | None:
        if name != "HEAD":
            return self.methods.get(name)
        method = self.methods.get("GET")
        return None if method is None or method.stream else method

    async def _admit(self, request: Request, method: Method | None) -> None:
        """Let the caller in, or raise.

        That there is no such path is told to whoever is known, that it has no such method to those whom one is for.
        """
        keeper = self._keeper
        every = frozenset[Scope | CredentialKind]().union(*(each.open_to for each in self.methods.values()))
        headers = [
            (name.decode("latin-1"), value.decode("latin-1").strip(" \t")) for name, value in request.headers.raw
        ]
        who = await authenticate_anyone(
            headers,
            keeper.credentials,
            keeper.wrong,
            keeper.workers,
            query=request.url.query,
            address=request.client.host if request.client else "",
        )
        if not _may_enter(who, method.open_to if method is not None else every or EVERYBODY):
            raise _forbidden()
        request.state.caller = who
        request.state.cursor_key = keeper.cursor_key


def _may_enter(who: Principal | Worker, open_to: AbstractSet[Scope | CredentialKind]) -> bool:
    if isinstance(who, Worker):
        kind = CredentialKind.ENVIRONMENT_KEY if who.work_id is None else CredentialKind.SESSIONS_TOKEN
        return kind in open_to
    return any(isinstance(each, Scope) and who.may(each) for each in open_to)


def _storable(text: str) -> str:
    """An id of a path; `?`, which is nobody's, for one that no database could hold."""
    return text if text.isascii() and text.isprintable() and len(text) <= 256 else "?"


def _forbidden() -> Error:
    """The same whether what was asked for exists or not: nothing has been looked up."""
    return Error(
        "forbidden",
        "a credential of this kind does not open this door",
        hint="the API's documentation says of each method whom it is for; administrators need the scope admin",
    )
