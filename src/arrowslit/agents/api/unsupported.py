"""Paths of the official API that do not exist here: each says so, and what to do instead, rather than 404."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.routing import Route

from arrowslit.agents.api.resource import EVERYBODY, Doorkeeper, Method
from arrowslit.errors import Error

_SECRETS = "an MCP server keeps its own secrets, on its side of the tunnel: give them to it with arrowslit connect"
_INSTEAD = {
    "vaults": _SECRETS,
    "memory_stores": "let an agent remember through a tool of your own",
    "files": "send text in a message, or fetch what is large through a tool",
    "skills": "put what an agent should know into its instructions",
    "deployments": "create sessions directly",
    "deployment_runs": "create sessions directly",
    "webhooks": "follow a session's event stream, or list its events",
    "user_profiles": "the tenant of a key says on whose behalf it calls",
    "messages": "create a session and send it a user.message; this is not a model",
    "models": "the model is configured where the relay runs",
}


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Answers every method in the same way."""

    what: str
    hint: str

    async def __call__(self, _: Request) -> object:
        """Refuse."""
        raise Error("not_supported", f"there are no {self.what} here", hint=self.hint)


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
