"""The MCP endpoint: HTTP to call and back, at `/mcp/{agent}/{server}`, and at `/mcp` by the host name of a server."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from arrowslit.clock import Clock
from arrowslit.edge import guard
from arrowslit.edge.problem import mcp_problem
from arrowslit.edge.request import McpRequest
from arrowslit.errors import Error
from arrowslit.ids import is_id
from arrowslit.principal import Hosts, Principal
from arrowslit.tunnel import Calls, Exchange

STREAMS = 256  # GET streams of one principal
EXPIRY_CHECK = 1.0  # seconds between looks at keys and tokens that end while their streams are open

_PATH = re.compile(r"/mcp/(?P<agent>[A-Za-z0-9_.-]{1,128})/(?P<server>[A-Za-z0-9_.-]{1,128})")
_BY_HOST = frozenset({"/mcp", "/mcp/"})


class Endpoint:
    """Serves requests at `/mcp/`, and cuts those whose key or token stops being good for anything.

    `live` says of the id of an API key whether it is; `hosts` finds servers by their names below `domain`.
    """

    def __init__(self, calls: Calls, live: Callable[[str], bool], clock: Clock, *, hosts: Hosts, domain: str) -> None:
        self._calls = calls
        self._hosts = hosts
        self._domain = domain
        self._live = live
        self._clock = clock
        self._running: dict[str, set[McpRequest]] = {}
        self._streams: Counter[str] = Counter()
        self._stopping = False

    async def serve(self, request: McpRequest) -> None:
        """Answer one request, whatever it is."""
        try:
            principal = request.caller()
            if request.waited and not self._is_good(principal):
                raise _revoked()  # meanwhile
            await self._call(principal, request)
        except Error as error:
            problem = mcp_problem(error)
            if request.method != "POST":  # nobody waits for a JSON-RPC answer, so the status has to say it
                problem = problem._replace(status=error.row.v1)
            if error.code == "method_not_supported":  # RFC 9110, 15.5.6
                problem = problem._replace(headers=[*problem.headers, ("allow", "DELETE, GET, POST")])
            request.problem(problem)

    async def _call(self, principal: Principal, request: McpRequest) -> None:
        agent, server = self._named(principal, request)
        exchange = Exchange(request.method, request.headers, request.body)
        self._enter(principal, request)
        try:
            await self._calls.call(principal, agent, server, exchange, request)
        finally:
            self._leave(principal, request)

    def _named(self, principal: Principal, request: McpRequest) -> tuple[str, str]:
        """The agent and the server that a request is for: its path says so, or its Host and who it is from."""
        path = _PATH.fullmatch(request.path)
        if path is not None:
            return path["agent"], path["server"]
        host = next((value for name, value in request.headers if name == "host"), "")
        name = guard.below(host, self._domain) if request.path in _BY_HOST else None
        if name is None:
            hint = f"an MCP endpoint is /mcp/AGENT/SERVER, or /mcp at SERVER.{self._domain}"
            raise Error("not_found", "there is nothing here", hint=hint)
        grant = self._hosts.at(principal, name)
        return grant.agent_id, grant.server.name

    def _enter(self, principal: Principal, request: McpRequest) -> None:
        if request.method == "GET":
            if self._stopping:
                raise Error("no_connector", "the relay is stopping", hint="open this stream again in a few seconds")
            if self._streams[principal.id] >= STREAMS:
                raise Error("rate_limited", f"one key has at most {STREAMS} open streams", hint="close one first")
            self._streams[principal.id] += 1
        self._running.setdefault(principal.id, set()).add(request)

    def _leave(self, principal: Principal, request: McpRequest) -> None:
        if request.method == "GET":
            self._streams[principal.id] -= 1
        running = self._running.get(principal.id)
        if running is not None:
            running.discard(request)
            if not running:
                del self._running[principal.id]

    def cut(self, principal_id: str) -> None:
        """A key was revoked: end everything that runs with it (P11)."""
        for request in list(self._running.get(principal_id, ())):
            _cut(request)

    def end_streams(self) -> None:
        """The relay is stopping: end the streams that would stay open for ever, and let the calls finish."""
        self._stopping = True
        for request in [each for running in self._running.values() for each in running if each.method == "GET"]:
            request.keep_alive = False
            if request.head_sent:
                request.end()
            _cancel(request)

    async def watch_expiry(self) -> None:
        """Cut requests whose key or token ends while they run. Never returns.

        Each is asked for itself: a later token of the same principal does not prolong what an earlier one opened.
        """
        while True:
            await self._clock.sleep(EXPIRY_CHECK)
            running = [each for requests in self._running.values() for each in requests]
            for request in [each for each in running if not self._is_good(each.caller())]:
                _cut(request)

    def _is_good(self, principal: Principal) -> bool:
        """Keys are revoked and expire; a token ends by itself, for nobody here can take it back."""
        if principal.expired(self._clock.now()):
            return False
        return not is_id("key", principal.id) or self._live(principal.id)


def _cut(request: McpRequest) -> None:
    request.problem(mcp_problem(_revoked()))
    _cancel(request)


def _cancel(request: McpRequest) -> None:
    """Stop working on a request; what had to be said has been said."""
    if request.task is not None:
        request.task.cancel()


def _revoked() -> Error:
    return Error(
        "unauthenticated",
        "this credential is no longer good",
        hint="use another one; what became of a call that was under way is in the ledger",
    )
