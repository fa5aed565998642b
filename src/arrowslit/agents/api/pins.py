"""/v1/agents/{id}/definitions, ours: what an agent's tools were defined as, what has changed, and approving that."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from starlette.requests import Request
from starlette.routing import Route

from arrowslit.agent import AgentAdmin
from arrowslit.agents.api.pages import PageQuery, Position, page_of, window
from arrowslit.agents.api.reading import read_body, read_query
from arrowslit.agents.api.resource import Doorkeeper, Method, principal
from arrowslit.agents.api.schema import ApproveDefinitionBody
from arrowslit.clock import Clock, rfc3339
from arrowslit.pin import Pin, Pins, Seen, no_such_definition
from arrowslit.policy import definitions
from arrowslit.policy.readable import visible
from arrowslit.record import Ledger

_LARGEST = 512 << 10
"""Characters of definitions on one page: as many as the two of one tool can have. To show them takes up to a second of
a processor, and is left to a thread."""


class DefinitionsQuery(PageQuery):
    """GET /v1/agents/{id}/definitions."""

    server: str | None = None
    tool: str | None = None


@dataclass(frozen=True, slots=True)
class PinsApi:
    """The handlers."""

    agents: AgentAdmin
    pins: Pins
    ledger: Ledger
    clock: Clock

    def routes(self, keeper: Doorkeeper) -> list[Route]:
        """The paths of this resource."""
        every = "/v1/agents/{agent_id}/definitions"
        return [
            keeper.resource(
                every,
                get=Method(self.list, query=DefinitionsQuery, answer="ToolDefinitionPage", errors=("agent_not_found",)),
            ),
            keeper.resource(
                f"{every}/approve",
                post=Method(
                    self.approve,
                    body=ApproveDefinitionBody,
                    answer="ToolDefinition",
                    errors=(
                        "agent_not_found",
                        "definition_not_found",
                        "definition_refused",
                        "version_conflict",
                        "ledger_unavailable",
                    ),
                ),
            ),
        ]

    async def list(self, request: Request) -> object:
        """A page of what was seen, the newest first; of fewer than were asked for where they are long."""
        query = read_query(request, DefinitionsQuery)
        part = window(request, query)
        found = [
            pin
            for pin in self.pins.of(self._agent_id(request))
            if query.server in (None, pin.server)
            and query.tool in (None, pin.tool)
            and (part.position is None or _position(pin) < part.position)
        ]
        found.sort(key=_position, reverse=True)
        part = replace(part, limit=min(part.limit, _how_many(found)))
        return await asyncio.to_thread(page_of, request, part, found[: part.limit + 1], _position, show_pin)

    async def approve(self, request: Request) -> object:
        """Let the agent use a tool as it is defined now. It is on record before it holds."""
        body = await read_body(request, ApproveDefinitionBody)
        pin = self.pins.find(self._agent_id(request), body.server, body.tool)
        if pin is None:
            raise no_such_definition()
        who = principal(request).id
        after = definitions.approved(pin, body.digest, who, self.clock.now(), body.meanwhile)
        if after is not pin:
            facts = {"agent": pin.agent_id, "server": pin.server, "tool": pin.tool, "state": "approved"}
            await self.ledger.append("definition", {**facts, "digest": body.digest, "principal": who})
            pin = self.pins.find(pin.agent_id, pin.server, pin.tool) or pin  # it may have changed again meanwhile
            after = definitions.approved(pin, body.digest, who, self.clock.now(), body.meanwhile)
            self.pins.put(after)
            await self.pins.save(after)
        return await asyncio.to_thread(show_pin, after)

    def _agent_id(self, request: Request) -> str:
        return self.agents.read(request.path_params["agent_id"]).id


def show_pin(pin: Pin) -> Mapping[str, object]:
    """What was seen of one tool. `diff` has lines as `diff` prints them, of what holds and what is shown now."""
    return {
        "type": "tool_definition",
        "agent_id": pin.agent_id,
        "server": pin.server,
        "tool": pin.tool,
        "state": pin.state.value,
        "approved": None if pin.approved is None else _show(pin.approved),
        "approved_by": pin.approved_by,
        "offered": None if pin.offered is None else _show(pin.offered),
        "diff": list(definitions.diff(pin)) if pin.offered is not None else [],
        "meanwhile": [_show_passed(pin, each) for each in pin.meanwhile],
    }


def _how_many(pins: Sequence[Pin]) -> int:
    """How many of them fit on a page: at least one."""
    kept = ([pin.approved, pin.offered, *pin.meanwhile] for pin in pins)
    sizes = accumulate(sum(len(seen.text) for seen in each if seen is not None) for each in kept)
    return max(1, sum(size <= _LARGEST for size in sizes))


def _show(seen: Seen) -> Mapping[str, object]:
    return {
        "digest": seen.digest,
        "definition": visible(seen.text),
        "at": rfc3339(seen.at),
        "refused": seen.refused,
    }


def _show_passed(pin: Pin, seen: Seen) -> Mapping[str, object]:
    shown = _show(seen)
    return {**shown, "diff": list(definitions.diff(pin, seen)) if shown["definition"] else []}


def _position(pin: Pin) -> Position:
    latest = pin.offered or pin.approved
    return (0.0 if latest is None else latest.at), f"{pin.server}/{pin.tool}"
