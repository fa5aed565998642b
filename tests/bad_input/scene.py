"""One house for all bad input, and how an answer to it is looked at."""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass, field
from typing import Any

from arrowslit.errors import CODES
from tests.support.inprocess import House
from tests.support.wire import Answer, dial, until

UNKNOWN_KEY = "asl_sk_" + "0" * 43 + "1OAEwg"


class Complaints(logging.Handler):
    """What the relay logs as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        self.said.append(record.getMessage())


@dataclass(slots=True)
class Scene:
    """A house, and what somebody with bad intentions might hold."""

    house: House
    revoked: str = UNKNOWN_KEY
    expired: str = UNKNOWN_KEY
    globex: str = UNKNOWN_KEY
    """A key for the same agent, of another tenant."""
    invoker: str = UNKNOWN_KEY
    """A key for another agent, `secret`, which has a server `vault`."""
    registration: str = ""
    old_token: str = ""
    """A tunnel token that was rotated out and revoked."""
    archived_token: str = ""
    log: Complaints = field(default_factory=Complaints)
    agents: dict[str, str] = field(default_factory=dict)
    """The ids of `secret` and of `gone`, which is archived."""

    async def furnish(self) -> None:
        """Make all of it."""
        api, house = self.house.api, self.house
        soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)
        self.expired = await house.make_key("acme", expires_at=soon.isoformat())
        self.globex = await house.make_key("globex")
        self.revoked = await house.make_key("acme")
        await api("DELETE", f"/v1/keys/{await house.key_id(self.revoked)}")
        self.registration = (await api("POST", "/v1/keys", {"register": "edge-*"}))["key"]
        for name in ("vault", "rotated", "archived"):
            await api("POST", "/v1/tunnels", {"name": name})
        self.old_token = (await api("POST", "/v1/tunnels/tnl_rotated/reveal_token", {}))["tunnel_token"]
        await api("POST", "/v1/tunnels/tnl_rotated/rotate_token", {"revoke": True})
        self.archived_token = (await api("POST", "/v1/tunnels/tnl_archived/reveal_token", {}))["tunnel_token"]
        await api("POST", "/v1/tunnels/tnl_archived/archive", {})
        for name in ("secret", "gone"):
            server = {"type": "tunnel", "tunnel_id": "tnl_vault", "tool_allowlist": ["echo"]}
            agent = await api("POST", "/v1/agents", {"name": name, "model": "none", "mcp_servers": [server]})
            self.agents[name] = agent["id"]
        await api("POST", f"/v1/agents/{self.agents['gone']}/archive", {})
        self.invoker = (await api("POST", "/v1/keys", {"agents": ["secret"], "tenant": "acme"}))["key"]
        await until(lambda: dt.datetime.now(dt.UTC) > soon)
        assert (await house.call("echo", key=self.expired)).status == 401

    # ------------------------------------------------------------ asking

    async def refused(self, said: bytes, status: int, code: str, *, to_head: bool = False) -> Answer:
        """Say this on a connection of its own: it is refused so, nothing reaches the target, the next call works."""
        before = len(self.house.target.requests)
        async with dial(self.house.port) as wire:
            await wire.send(said)
            answer = await wire.answer(to_head=to_head)
        assert (answer.status, answer.headers.get("content-type")) == (status, "application/json"), answer
        if not to_head:
            _well_said(answer, code)
        assert len(self.house.target.requests) == before, "nothing reaches the target"
        await self.good_call()
        return answer

    async def said(self, said: bytes) -> bytes:
        """All bytes of the answer, on a connection that is closed behind it."""
        async with dial(self.house.port) as wire:
            await wire.send(said.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            return await wire.rest()

    async def good_call(self) -> None:
        """The next good call works, and whatever happened before it was no error of the relay."""
        before = len(self.house.target.requests)
        await self.house.good_call()
        assert len(self.house.target.requests) == before + 1
        complaints, self.log.said = self.log.said, []
        assert complaints == []

    async def asked(self, body: bytes, *headers: str) -> Any:
        """The JSON that answers a message."""
        async with dial(self.house.port) as wire:
            await wire.send(self.message(body, *headers))
            return (await wire.answer()).json

    def message(self, body: bytes, *headers: str, key: str | None = None) -> bytes:
        """A POST to the endpoint, which is good but for its body and these headers."""
        return self.house.post(body, *headers, key=key)


def _well_said(answer: Answer, code: str) -> None:
    """The code of the registry, with its number, a sentence and a hint."""
    assert answer.code == code, answer
    row = CODES[code]
    error = answer.json["error"]
    if "data" in error:
        assert (answer.status, error["code"]) == (row.mcp, row.jsonrpc)
        assert error["data"]["retryable"] == row.retryable
        assert error["data"]["outcome"] == (row.outcome.value if row.outcome else None)
    else:
        assert (answer.status, answer.json["type"]) == (row.v1, "error")
    assert len(answer.sentence) > 10
    assert answer.hint, "a hint is missing"
    assert "Traceback" not in answer.body.decode()
