from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tests.e2e import plain
from tests.e2e.door import Door
from tests.e2e.stage import Stage, served
from tests.harness import Relay
from tests.support.wire import Answer, dial, request

pytestmark = [pytest.mark.promise("P5"), pytest.mark.promise("P7")]

RANDOM = ["no.such.session", "5bc8fbbcbde5c0994164d8399f767c45.e92570dee035.PsowyKme9R7GsAxbX6yL-KMb", "x", "a.b.c"]


@dataclass(frozen=True, slots=True)
class Place:
    """A tunnel with two tenants, and a further key and a further agent of the first."""

    stage: Stage
    second_key: str
    other_agent: tuple[str, str]  # its URL, and a key for it
    log: plain.Log


@pytest.fixture(scope="module", params=["http", "stdio"])
def place(relay: Relay, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Place]:
    log = plain.Log(tmp_path_factory.mktemp("sessions") / "log")
    with plain.target(request.param, log=log.path) as target, served(relay, target, ["look"]) as stage:
        other = relay.agent(f"{stage.tunnel.name}-other", stage.tunnel, ["look"])
        url = f"{relay.url}/mcp/{other}/{stage.tunnel.name}"
        yield Place(stage, relay.key(stage.agent, "acme"), (url, relay.key(other, "acme")), log)


@asynccontextmanager
async def session(place: Place) -> AsyncIterator[Door]:
    """A session of acme's."""
    async with place.stage.door("acme") as client:
        await client.initialize()
        assert (await client.call("look")).outcome == "result"
        place.log.clear()
        yield client


async def answer(url: str, key: str, method: str, text: str, *more: str) -> Answer:
    """The answer to a request that names a session, byte for byte, but for its date."""
    port = int(url.split("/")[2].rpartition(":")[2])
    headers = [f"Authorization: Bearer {key}", f"Mcp-Session-Id: {text}", "Mcp-Protocol-Version: 2025-11-25", *more]
    body = b""
    if method == "POST":
        headers += ["Content-Type: application/json", "Accept: application/json, text/event-stream"]
        body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"look"}}'
    async with dial(port) as wire:
        await wire.send(request(method, url.partition(str(port))[2], body, headers=tuple(headers)))
        said = await wire.answer()
    return Answer(said.status, {name: value for name, value in said.headers.items() if name != "date"}, said.body)


@pytest.mark.parametrize(
    ("method", "more"), [("POST", ()), ("GET", ()), ("GET", ("Last-Event-ID: r0",)), ("DELETE", ())]
)
async def test_somebody_elses_session_is_no_session(method: str, more: tuple[str, ...], place: Place) -> None:
    stage = place.stage
    async with session(place) as ours:
        assert ours.session
        callers = [
            (stage.url, stage.keys["globex"]),
            (stage.url, place.second_key),  # another principal of the same tenant
            place.other_agent,
        ]
        for url, key in callers:
            foreign = await answer(url, key, method, ours.session, *more)
            random = [await answer(url, key, method, text, *more) for text in RANDOM]

            assert (foreign.status, foreign.code) == (404, "session_not_found")
            assert [each == foreign for each in random] == [True] * len(RANDOM)
        assert place.log.heard() == []  # and the server heard nothing of it
        assert (await ours.call("look")).content["tenant"] == "acme"  # nor was the session ended


async def test_an_altered_session_id_is_no_session_either(place: Place) -> None:
    async with session(place) as ours:
        assert ours.session
        inner, connector, tag = ours.session.rsplit(".", 2)
        key = place.stage.keys["acme"]
        for text in [
            inner,
            f"{inner}.{connector}",
            f"{inner}.{connector}.",
            f"{inner}.{connector}.{tag[:-1]}",
            f"{inner}.{connector}.{tag.swapcase()}",
            f"{inner[::-1]}.{connector}.{tag}",
            f"{inner}.000000000000.{tag}",
            f"{inner}..{tag}",
        ]:
            said = await answer(place.stage.url, key, "POST", text)
            assert (said.status, said.code) == (404, "session_not_found"), text
        assert place.log.heard() == []
