"""What the official API has and this one has not: each path says so, and what to do instead, rather than 404.

A session has neither threads nor resources: to ask for those of one's own session is no mistake, to add some is.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import field
from starlette.requests import Request
from starlette.routing import Route

from arrowslit.agents.api.pages import PageQuery, window
from arrowslit.agents.api.reading import read_query
from arrowslit.agents.api.resource import EVERYBODY, INVOKERS, Doorkeeper, Method
from arrowslit.agents.api.visible import visible
from arrowslit.agents.sessions.log import Log
from arrowslit.errors import Error

_SECRETS = "an MCP server keeps its own secrets, on its side of the tunnel: give them to it with arrowslit connect"
_INSTEAD = {
    "vaults": _SECRETS,
    "memory_stores": "let an agent remember through a tool of your own",
    "files": "put it into a session: POST /v1/sessions/{id}/files?filename=NAME",
    "skills": "put what an agent should know into its instructions",
    "deployments": "create sessions directly",
    "deployment_runs": "create sessions directly",
    "webhooks": "follow a session's event stream, or list its events",
    "user_profiles": "the tenant of a key says on whose behalf it calls",
    "messages": "create a session and send it a user.message; this is not a model",
    "models": "the model is configured where the relay runs",
}


class PartsQuery(PageQuery):
    """GET /v1/sessions/{id}/threads, or resources."""

    statuses: list[str] = field(default_factory=list, name="statuses[]")


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Answers every method in the same way."""

    what: str
    hint: str

    async def __call__(self, _: Request) -> object:
        """Refuse."""
        raise Error("not_supported", f"there are no {self.what} here", hint=self.hint)


@dataclass(frozen=True, slots=True)
class SessionParts:
    """The handlers for what a session never has."""

    log: Log

    def routes(self, keeper: Doorkeeper) -> list[Route]:
        """The paths of threads and resources, with everything below them."""
        missing = ("session_not_found",)
        every = Method(self.list, INVOKERS, query=PartsQuery, answer="SessionPartPage", errors=missing)
        adding = Method(self.add, INVOKERS)
        none = Method(self.none, INVOKERS)
        one = "/v1/sessions/{session_id}"
        return [
            keeper.resource(f"{one}/threads", get=every),
            keeper.resource(f"{one}/threads/{{rest:path}}", get=none, post=none),
            keeper.resource(f"{one}/resources", get=every, post=adding),
            keeper.resource(f"{one}/resources/{{rest:path}}", get=none, post=none, delete=none),
        ]

    async def list(self, request: Request) -> object:
        """No threads, no resources."""
        query = read_query(request, PartsQuery)
        await visible(request, self.log)
        window(request, query)
        return {"data": [], "next_page": None}

    async def add(self, request: Request) -> object:
        """Refuse."""
        await visible(request, self.log)
        raise Error("not_supported", "a session takes no resources", hint=_INSTEAD["files"])

    async def none(self, request: Request) -> object:
        """There is none that could be meant."""
        await visible(request, self.log)
        raise Error("not_found", "the session has no such thread or resource", hint="leave it out")


def unsupported(keeper: Doorkeeper) -> list[Route]:
    """The paths, with everything below them."""
    return [
        _refusing(keeper, path, _Refusal(what, hint))
        for what, hint in _INSTEAD.items()
        for path in (f"/v1/{what}", f"/v1/{what}/{{rest:path}}")
    ]


def _refusing(keeper: Doorkeeper, path: str, refusal: _Refusal) -> Route:
    method = Method(refusal, EVERYBODY)
    return keeper.resource(path, get=method, post=method, put=method, patch=method, delete=method)
