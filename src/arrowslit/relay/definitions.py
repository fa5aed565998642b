"""Definitions: what the relay has seen of the tools that agents were granted, and whether that can still be relied on.

A list that passes pins what it shows for the first time, and leaves out what has changed since. Whether the relay has
to make a list itself before a call is answered by look-ups in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw

from arrowslit.clock import Clock
from arrowslit.errors import Error
from arrowslit.pin import Pin, Pins, PinState
from arrowslit.policy import definitions
from arrowslit.policy.decide import ALLOW, Allow, Deny, echo, may_see
from arrowslit.principal import Grant
from arrowslit.protocol import answers, lists
from arrowslit.record import Ledger
from arrowslit.relay.hub import Hub
from arrowslit.tunnel import Server

log = logging.getLogger(__name__)

Moment = tuple[int, int, int]
"""Which process of a connector serves, how often its server said that it changed, and the version of the agent."""

Place = tuple[str, str | None]
"""Where a server is: its tunnel, and its name at the connector."""

_FEWER = "grant tools by name instead of the whole server, or let the server offer fewer"
LONGEST_NAME = 256  # characters of a tool's name, which the server chooses where it was granted whole


class Definitions:
    """Knows the pins, and what was listed when. `later` runs what nobody waits for."""

    def __init__(
        self,
        pins: Pins,
        hub: Hub,
        ledger: Ledger,
        clock: Clock,
        later: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._pins = pins
        self._hub = hub
        self._ledger = ledger
        self._clock = clock
        self._later = later
        self._changes: dict[Place, int] = {}  # how often the server there said that it is another one now
        self._software: dict[Place, bytes] = {}  # what the server there last called itself
        self._listed: dict[tuple[str, str], Moment] = {}  # by agent and server
        self._crowded: set[tuple[str, str]] = set()  # agent and server: there was no room for a pin
        self._followed: dict[tuple[str, str], tuple[Moment, bytes]] = {}  # callers' lists, up to the next page

    # ------------------------------------------------------------ calls

    def decide(self, grant: Grant, tool: str) -> Allow | Deny:
        """Whether a granted tool may be called, as far as its definition is known."""
        pin = self._pins.find(grant.agent_id, grant.server.name, tool)
        if pin is None and self._is_crowded(grant):
            return Deny("definition_refused", f"the server has more tools than can be pinned: {echo(tool)}", _FEWER)
        if pin is None or pin.offered is None:
            return ALLOW
        error = definitions.refusal(pin)
        assert error is not None
        return Deny(error.code, error.message, error.hint or "")

    def _is_crowded(self, grant: Grant) -> bool:
        """Whether tools were left out for want of room. As soon as there is some, the list has to be made anew."""
        key = grant.agent_id, grant.server.name
        if key in self._crowded and self._pins.has_room(*key):
            self._crowded.discard(key)
            self._listed.pop(key, None)
        return key in self._crowded

    def are_known(self, grant: Grant) -> bool:
        """Whether the server's list was made since it can have changed last: then a call needs no list before it."""
        return self._listed.get((grant.agent_id, grant.server.name)) == self.moment(grant)

    def listed(self, grant: Grant, moment: Moment) -> None:
        """The whole list has passed, asked for at that moment."""
        self._listed[grant.agent_id, grant.server.name] = moment

    def hear_list(self, grant: Grant, moment: Moment, cursor: bytes | None, answer: bytes) -> None:
        """The page at `cursor` (in JSON; None for the first one) of a caller's own list has passed.

        A list that was followed from its first page to its last is as good as one of ours.
        """
        key, page = (grant.agent_id, grant.server.name), answers.page(answer)
        begun = cursor is None or self._followed.get(key) == (moment, cursor)
        self._followed.pop(key, None)
        if page is None or not begun:
            return
        if page.next is None:
            self.listed(grant, moment)
        else:
            self._followed[key] = moment, page.next

    def moment(self, grant: Grant) -> Moment:
        """Another one when something has happened after which the list has to be made anew: another process of the
        connector, a server that says that it changed, other tools that were granted.
        """
        tunnel_id = grant.server.tunnel_id
        changes = self._changes.get((tunnel_id, grant.server.target), 0)
        return self._hub.processes(tunnel_id), changes, grant.agent_version

    # ------------------------------------------------------------ what servers say

    def shows(self, grant: Grant, *, replayed: bool = False) -> lists.Shows:
        """What of a list the agent may see. A list that is `replayed` may be an old one: it shows what is pinned, and
        pins nothing.
        """
        return partial(self._shows, grant, replayed)

    def _shows(self, grant: Grant, replayed: bool, kind: str, name: str, entry: Raw) -> bool:
        if not may_see(grant, kind, name):
            return False
        return kind != "tools" or self._see(grant, name, bytes(entry), replayed=replayed)

    def _see(self, grant: Grant, tool: str, entry: bytes, *, replayed: bool) -> bool:
        """Whether a definition is the one that holds. Of one that is not `replayed`, note is taken first."""
        if len(tool) > LONGEST_NAME or not tool.isprintable():
            return False
        reading = definitions.read(entry)
        names = grant.agent_id, grant.server.name, tool
        before = self._pins.find(*names)
        if replayed:
            held = None if before is None or before.offered is not None else before.approved
            return held is not None and reading.refused is None and held.digest == reading.digest
        pin = definitions.seen(before, names, reading, self._clock.now())
        if pin is not before:
            if not self._pins.put(pin):
                self._leave_out(pin, reading.digest)
                return False
            self._later(self._keep(pin))
        return pin.state is PinState.PINNED

    def _leave_out(self, pin: Pin, digest: str) -> None:
        """There is no room for a pin: say so, once for all tools of that server that this agent is not shown."""
        key = pin.agent_id, pin.server
        if key not in self._crowded:
            self._crowded.add(key)
            log.warning("%s lists more tools than can be pinned for %s; the others are left out", pin.server, key[0])
            self._later(self._record(pin, "no_room", digest, "the server lists more tools than can be pinned"))

    def server_changed(self, server: Server) -> None:
        """A server said that its tools are others now."""
        place = server.tunnel_id, server.target
        self._changes[place] = self._changes.get(place, 0) + 1

    def hear_software(self, server: Server, answer: bytes) -> None:
        """What a server calls itself, in its answer to `initialize` or `server/discover`."""
        try:
            software = bytes(_decode(answer).result.serverInfo)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return
        place = server.tunnel_id, server.target
        if software and self._software.setdefault(place, software) != software:
            self._software[place] = software
            self.server_changed(server)

    async def _keep(self, pin: Pin) -> None:
        """Bring what was seen to the ledger and to disk. It holds in memory already."""
        latest = pin.offered or pin.approved
        assert latest is not None
        await self._record(pin, pin.state.value, latest.digest, latest.refused)
        if pin.state is not PinState.PINNED:
            log.warning("the tool %s of %s is off for %s: %s", pin.tool, pin.server, pin.agent_id, pin.state.value)
        try:
            await self._pins.save(pin)
        except Exception:
            log.exception("the definition of %s could not be kept; it holds until this relay ends", pin.tool)

    async def _record(self, pin: Pin, state: str, digest: str, reason: str | None) -> None:
        fields = {"agent": pin.agent_id, "server": pin.server, "tool": pin.tool, "state": state}
        try:
            await self._ledger.append("definition", {**fields, "digest": digest, "reason": reason})
        except Error as error:
            log.error("what became of the definition of %s could not be recorded: %s", pin.tool, error)


class _Result(msgspec.Struct):
    serverInfo: Raw = Raw()  # noqa: N815 the name on the wire


class _Answer(msgspec.Struct):
    result: _Result


_decode = msgspec.json.Decoder(_Answer).decode
