"""Ticketing: a request that was authorised becomes a Ticket, which says all that there is to know for its journey."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from arrowslit.outcome import Effect
from arrowslit.policy.decide import LIST_METHODS
from arrowslit.principal import Grant
from arrowslit.protocol import jsonrpc, lists, mcp
from arrowslit.relay.callers import TENANT, Caller
from arrowslit.relay.carriage import Ticket
from arrowslit.relay.definitions import Definitions
from arrowslit.relay.heads import RESUMES, Said
from arrowslit.relay.sessions import HEADER as SESSION_HEADER
from arrowslit.relay.sessions import Session
from arrowslit.tunnel import Headers

DEADLINE = 60.0  # seconds, where neither the call nor the agent says otherwise
INTRODUCTIONS = frozenset({"initialize", "server/discover"})  # in whose answers a server says what it is
ALIASES = {"tenant": TENANT}  # a bare key as well, for code that follows the article


def of_message(
    caller: Caller,
    asked: mcp.Asked,
    heard: Said,
    definitions: Definitions,
    *,
    call_id: str,
    session: Session | None,
    arrived: float,
) -> Ticket:
    """What will be forwarded: the message that was authorised, written anew, with facts that only we write."""
    grant, tool = caller.grant, asked.tool
    return Ticket(
        call_id=call_id,
        tunnel_id=caller.tunnel.id,
        target=grant.server.target,
        method="POST",
        headers=_forwarded(heard, session),
        body=jsonrpc.write(mcp.stamp(asked.message, caller.facts(call_id), ALIASES)),
        began=arrived,
        seconds=asked.deadline_ms / 1000 if asked.deadline_ms is not None else grant.deadline or DEADLINE,
        effect=grant.effect(tool) if tool is not None else Effect.READ_ONLY,
        seal=caller.seal,
        tool=tool,
        session=session,
        expects=asked.message.id if asked.message.kind is jsonrpc.Kind.REQUEST else None,
        progress_token=asked.progress_token,
        filters=_filter(grant, asked, definitions),
        reads=_reader(grant, asked, definitions) if tool is None else None,
        on_change=caller.on_change,
    )


def _filter(grant: Grant, asked: mcp.Asked, definitions: Definitions) -> lists.Shows | None:
    """What of a list may be seen in the answer, if there can be one. Where no answer is due, any may come."""
    if asked.message.kind is not jsonrpc.Kind.REQUEST:
        return definitions.shows(grant, replayed=True)
    return definitions.shows(grant) if asked.method in LIST_METHODS else None


def _reader(grant: Grant, asked: mcp.Asked, definitions: Definitions) -> Callable[[bytes], None] | None:
    """Who wants to know the answer."""
    if asked.method in INTRODUCTIONS:
        return partial(definitions.hear_software, grant.server)
    if asked.method == "tools/list":
        cursor = (asked.message.params or {}).get("cursor")
        return partial(definitions.hear_list, grant, definitions.moment(grant), cursor and bytes(cursor))
    return None


def of_session(
    caller: Caller,
    method: str,
    heard: Said,
    definitions: Definitions,
    *,
    call_id: str,
    session: Session | None,
    arrived: float,
    on_answer: Callable[[jsonrpc.Id], None] | None,
) -> Ticket:
    """What is forwarded of a GET, whose stream may stay open and replay lists, or of a DELETE."""
    return Ticket(
        call_id=call_id,
        tunnel_id=caller.tunnel.id,
        target=caller.grant.server.target,
        method=method,
        headers=_forwarded(heard, session),
        body=b"",
        began=arrived,
        seconds=None if method == "GET" else DEADLINE,
        effect=Effect.IDEMPOTENT,
        seal=caller.seal,
        session=session,
        filters=definitions.shows(caller.grant, replayed=True),
        on_change=caller.on_change,
        on_answer=on_answer,
    )


def _forwarded(heard: Said, session: Session | None) -> Headers:
    """The caller's headers that MCP knows, with the session id as its server knows it; never a credential.

    The id of an event belongs to a session: without one a server could only replay what is somebody's.
    """
    if session is None:
        return heard.forwarded
    resumed = [] if heard.resumes is None else [(RESUMES, heard.resumes)]
    return [*heard.forwarded, (SESSION_HEADER, session.id), *resumed]
