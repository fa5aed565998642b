"""How a call ends: what the target did, and what the relay may claim of it. Simulated time, shipped classes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import msgspec
import pytest

from arrowslit.connector.targets.coroutine import CoroutineTarget
from arrowslit.connector.targets.target import Cancel, Lost, NotStarted, Reply, Request, TooLarge
from arrowslit.errors import Error
from arrowslit.policy import ceiling
from arrowslit.protocol import exchange
from arrowslit.protocol.events import StreamEnded
from arrowslit.protocol.lists import MOST_ENTRIES
from arrowslit.protocol.state import Ending
from arrowslit.relay.admission import Bounds
from arrowslit.testing.disk import MemoryDisk
from arrowslit.testing.loop import run
from arrowslit.testing.world import READS, WRITES, Heard, World, world
from arrowslit.tunnel import Exchange

JSON = [("content-type", "application/json")]
EVENTS = [("content-type", "text/event-stream")]

Act = Callable[[Request, Reply], Awaitable[None]]


@dataclass(slots=True)
class Scripted(CoroutineTarget):
    """A target that does what a test says, and counts."""

    act: Act
    seen: list[Request] = field(default_factory=list)
    cancelled: list[Cancel | None] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def state(self) -> Mapping[str, object]:
        return {"ready": True, "detail": None}

    async def exchange(self, request: Request, reply: Reply) -> None:
        if b'"id":"call_' in request.body:  # the relay looks at the tools before the first call: another story
            reply.head(200, [("content-type", "application/json")])
            reply.piece(answer(request, tools=[]))
            return
        self.seen.append(request)
        try:
            await self.act(request, reply)
        except asyncio.CancelledError:
            self.cancelled.append(reply.cancel)
            raise


def answer(request: Request, **result: object) -> bytes:
    """A JSON-RPC response to the request."""
    return answer_to(msgspec.json.decode(request.body)["id"], **result)


def answer_to(ident: object, **result: object) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "id": ident, "result": result})


def event(data: bytes, event_id: str | None = None) -> bytes:
    """A server-sent event."""
    return (f"id: {event_id}\n".encode() if event_id else b"") + b"event: message\ndata: " + data + b"\n\n"


async def answers(request: Request, reply: Reply) -> None:
    reply.dispatched()
    reply.head(200, JSON)
    reply.piece(answer(request, ok=True))


async def refuses(request: Request, reply: Reply) -> None:
    raise NotStarted("busy")


async def loses(request: Request, reply: Reply) -> None:
    reply.dispatched()
    raise Lost("died")


async def too_large(request: Request, reply: Reply) -> None:
    reply.dispatched()
    reply.head(200, JSON)
    raise TooLarge("65 MiB")


async def waits(request: Request, reply: Reply) -> None:
    await asyncio.sleep(3600)


async def works_for_ever(request: Request, reply: Reply) -> None:
    reply.dispatched()
    await asyncio.sleep(3600)


async def smuggles(request: Request, reply: Reply) -> None:
    reply.dispatched()
    reply.head(200, [("x-header", "a\r\nset-cookie: b")])


@dataclass(slots=True)
class Seen:
    """What a test looks at afterwards."""

    outcome: str
    code: str | None
    seconds: float
    records: list[dict[str, Any]]
    targets: list[Scripted]
    heard: Heard | None = None


def recorded(disk: MemoryDisk) -> list[dict[str, Any]]:
    """The ledger's records."""
    return [json.loads(line) for segment in disk.segments() for line in disk.lines(segment.first)]


def call(
    *acts: Act, tool: str = WRITES, deadline: float = 5.0, meanwhile: Callable[[World], Awaitable[None]] | None = None
) -> Seen:
    """One call in a world with a connector for each of `acts`."""
    targets = [Scripted(act) for act in acts]

    async def main() -> Seen:
        disk = MemoryDisk()
        async with world(1, disk) as here:
            for number, target in enumerate(targets):
                here.start_connector(f"c{number}", target)  # asked in this order
                await here.connected(number + 1)
            loop = asyncio.get_running_loop()
            began = loop.time()
            async with asyncio.TaskGroup() as group:
                if meanwhile is not None:
                    group.create_task(meanwhile(here))  # type: ignore[arg-type]
                said = await here.call("acme", tool, "canary", deadline)
            seconds = loop.time() - began
        data = said.get("error", {}).get("data", {})
        return Seen(data.get("outcome", "result"), data.get("code"), seconds, recorded(disk), targets)

    return run(1, main)


async def cut_soon(here: World) -> None:
    await asyncio.sleep(0.5)
    here.cut()


async def begins_and_takes_it_back(request: Request, reply: Reply) -> None:
    reply.head(200, EVENTS)
    reply.piece(event(b'{"jsonrpc":"2.0","method":"notifications/message","params":{}}'))
    raise NotStarted("never mind")


async def answers_somebody_else(request: Request, reply: Reply) -> None:
    reply.dispatched()
    reply.head(200, JSON)
    reply.piece(b'{"jsonrpc":"2.0","id":777,"result":{}}')


async def answers_nonsense(request: Request, reply: Reply) -> None:
    reply.dispatched()
    reply.head(200, JSON)
    reply.piece(b"not json")


CASES: list[tuple[str, list[Act], str, str, str | None, str]] = [
    ("an answer", [answers], WRITES, "result", None, "1"),
    ("no connector", [], WRITES, "not_delivered", "no_connector", ""),
    ("not started, nobody else", [refuses], WRITES, "not_delivered", "not_started", "1"),
    ("not started, then another", [refuses, answers], WRITES, "result", None, "11"),
    ("not started anywhere", [refuses, refuses], WRITES, "not_delivered", "not_started", "11"),
    ("a write is lost", [loses, answers], WRITES, "outcome_unknown", "outcome_unknown", "10"),
    ("a read is lost, then another", [loses, answers], READS, "result", None, "11"),
    ("a read is lost, nobody else", [loses], READS, "outcome_unknown", "outcome_unknown", "1"),
    ("a read is lost, then not started", [loses, refuses], READS, "outcome_unknown", "outcome_unknown", "11"),
    ("a result too large", [too_large], WRITES, "result", "result_too_large", "1"),
    ("a deadline before dispatch", [waits], WRITES, "not_delivered", "not_started", "1"),
    ("a deadline after dispatch, a write", [works_for_ever], WRITES, "outcome_unknown", "outcome_unknown", "1"),
    ("a deadline after dispatch, a read", [works_for_ever], READS, "timeout", "timeout", "1"),
    ("not an answer at all", [answers_nonsense], WRITES, "outcome_unknown", "outcome_unknown", "1"),
    ("an answer to another request", [answers_somebody_else], WRITES, "outcome_unknown", "outcome_unknown", "1"),
    ("a connector that smuggles a header", [smuggles], WRITES, "outcome_unknown", "outcome_unknown", "1"),
]


@pytest.mark.promise("P2")
@pytest.mark.promise("P3")
@pytest.mark.promise("P4")
@pytest.mark.parametrize(
    ("acts", "tool", "outcome", "code", "tries"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_what_happened_decides_what_is_claimed(
    acts: list[Act], tool: str, outcome: str, code: str | None, tries: str
) -> None:
    seen = call(*acts, tool=tool)
    assert (seen.outcome, seen.code) == (outcome, code)
    assert "".join(str(len(target.seen)) for target in seen.targets) == tries
    assert seen.seconds <= 5.0 + 5.0
    kinds = [record["kind"] for record in seen.records if record.get("call")]
    assert kinds == ["asked", "outcome"]
    assert seen.records[-2]["outcome"] == outcome


@pytest.mark.promise("P2")
def test_without_a_connector_a_call_ends_at_once() -> None:
    assert call().seconds == 0.0


@pytest.mark.promise("P3")
@pytest.mark.parametrize(("tool", "outcome"), [(WRITES, "outcome_unknown"), (READS, "outcome_unknown")])
def test_a_call_in_flight_when_its_link_dies_is_in_doubt_at_once(tool: str, outcome: str) -> None:
    seen = call(works_for_ever, tool=tool, meanwhile=cut_soon)
    assert seen.outcome == outcome
    assert seen.seconds == pytest.approx(0.5, abs=0.1)
    assert seen.targets[0].cancelled == [Cancel.LINK_LOST]


@pytest.mark.promise("P2")
@pytest.mark.promise("P3")
@pytest.mark.promise("P12")
@pytest.mark.parametrize("tool", [WRITES, READS])
def test_a_call_whose_time_passes_in_line_is_never_sent_and_on_record(tool: str) -> None:
    target, disk = Scripted(works_for_ever), MemoryDisk()

    async def main() -> tuple[dict[str, Any], float]:
        async with world(1, disk, Bounds(per_tenant=1)) as here, asyncio.TaskGroup() as group:
            here.start_connector("c", target)
            await here.connected()
            group.create_task(here.call("acme", WRITES, "before", 20.0))
            await asyncio.sleep(0.1)
            began = asyncio.get_running_loop().time()
            said = await here.call("acme", tool, "canary", 1.0)
            return said, asyncio.get_running_loop().time() - began

    said, seconds = run(1, main)
    assert said["error"]["data"]["code"] == "not_started"
    assert said["error"]["data"]["outcome"] == "not_delivered"
    assert seconds == pytest.approx(1.0, abs=0.1)
    assert len(target.seen) == 1
    call_id = said["error"]["data"]["call_id"]
    records = [record for record in recorded(disk) if record.get("call") == call_id]
    assert [record["kind"] for record in records] == ["asked", "outcome"]
    assert records[-1]["outcome"] == "not_delivered"
    assert records[-1]["ms"] == pytest.approx(1000, abs=100)


@pytest.mark.promise("P2")
def test_what_a_call_waited_in_line_is_not_added_to_its_time() -> None:
    async def main() -> float:
        async with world(1, MemoryDisk(), Bounds(per_tenant=1)) as here, asyncio.TaskGroup() as group:
            here.start_connector("c", Scripted(works_for_ever))
            await here.connected()
            group.create_task(here.call("acme", READS, "before", 3.0))
            await asyncio.sleep(0.1)
            began = asyncio.get_running_loop().time()
            said = await here.call("acme", READS, "canary", 5.0)
            assert said["error"]["data"]["code"] == "timeout"
            return asyncio.get_running_loop().time() - began

    assert run(1, main) == pytest.approx(5.0, abs=0.3)


def test_a_deadline_is_told_to_the_target() -> None:
    assert call(works_for_ever, deadline=0.3).targets[0].cancelled == [Cancel.DEADLINE]


def in_world(
    target: Scripted, story: Callable[[World], Awaitable[Any]], limits: ceiling.Ceiling = ceiling.OPEN
) -> tuple[Any, list[dict[str, Any]]]:
    """Run a story in a world with one connector; its result and the records."""
    disk = MemoryDisk()

    async def main() -> Any:
        async with world(1, disk) as here:
            here.start_connector("c", target, limits)
            await here.connected()
            return await story(here)

    return run(1, main), recorded(disk)


CALL = {"method": "tools/call", "params": {"name": WRITES, "arguments": {}}}


def test_an_event_stream_that_breaks_before_its_answer_ends_with_the_error_as_an_event() -> None:
    async def begins(request: Request, reply: Reply) -> None:
        reply.dispatched()
        reply.head(200, EVENTS)
        reply.piece(event(b'{"jsonrpc":"2.0","method":"notifications/message","params":{}}'))
        raise Lost("died")

    heard, records = in_world(Scripted(begins), lambda here: here.post(CALL))
    assert heard.ended is True
    last = heard.body.decode().strip().split("\n\n")[-1]
    said = json.loads(last.split("data: ")[1])
    assert said["error"]["code"] == 5002
    assert said["id"] == 1
    assert records[-2]["outcome"] == "outcome_unknown"


@pytest.mark.promise("P3")
@pytest.mark.promise("P4")
def test_a_connector_that_has_begun_an_answer_is_not_believed_that_nothing_was_started() -> None:
    began, other = Scripted(begins_and_takes_it_back), Scripted(answers)
    disk = MemoryDisk()

    async def main() -> Heard:
        async with world(1, disk) as here:
            here.start_connector("began", began)
            await here.connected(1)
            here.start_connector("other", other)
            await here.connected(2)
            return await here.post(CALL)

    heard = run(1, main)
    assert not other.seen
    assert recorded(disk)[-2]["outcome"] == "outcome_unknown"
    assert b'"code":5002' in heard.body.split(b"data: ")[-1]


def test_an_event_that_was_cut_off_goes_nowhere_and_the_error_can_be_read() -> None:
    async def cut_off(request: Request, reply: Reply) -> None:
        reply.dispatched()
        reply.head(200, EVENTS)
        reply.piece(b'data: {"jsonrpc":"2.0","id":1')

    heard, records = in_world(Scripted(cut_off), lambda here: here.post(CALL))
    events = [line for line in bytes(heard.body).split(b"\n") if line.startswith(b"data: ")]
    assert [json.loads(line[6:])["error"]["code"] for line in events] == [5002]
    assert records[-2]["outcome"] == "outcome_unknown"


@pytest.mark.promise("P6")
@pytest.mark.parametrize("limits", [ceiling.OPEN, ceiling.of_tools([READS, WRITES])])
def test_a_list_whose_event_was_cut_off_is_not_shown_unfiltered(limits: ceiling.Ceiling) -> None:
    async def cut_off(request: Request, reply: Reply) -> None:
        reply.dispatched()
        reply.head(200, EVENTS)
        reply.piece(b"data: " + answer(request, tools=TOOLS) + b"\n")

    heard, _ = in_world(Scripted(cut_off), lambda here: here.post({"method": "tools/list"}), limits)
    assert b"secret" not in heard.body


def test_a_denied_name_fills_no_ledger() -> None:
    name = "x" * 100_000
    _, records = in_world(Scripted(answers), lambda here: here.call("acme", name, "c", 5))
    denied = next(record for record in records if record["kind"] == "denied")
    assert len(json.dumps(denied)) < 1000
    assert denied["tool"].startswith("xxx")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_only_a_post_has_a_body(method: str) -> None:
    target = Scripted(answers)

    async def smuggle(here: World) -> None:
        served = here.hub.pick("tnl_sim")
        head = exchange.encode(exchange.RequestHead(method, [], "call_1"))
        ended = await served.link.open(head, msgspec.json.encode({"jsonrpc": "2.0", "id": 1, **CALL})).next()
        assert isinstance(ended, StreamEnded)
        assert ended.ending is Ending.NOT_STARTED

    in_world(target, smuggle)
    assert not target.seen


def test_nothing_is_added_to_a_stream_that_carried_its_answer() -> None:
    async def breaks_late(request: Request, reply: Reply) -> None:
        reply.dispatched()
        reply.head(200, EVENTS)
        reply.piece(event(answer(request, ok=True)))
        raise Lost("died")

    heard, records = in_world(Scripted(breaks_late), lambda here: here.post(CALL))
    assert heard.body.count(b"data: ") == 1
    assert records[-2]["outcome"] == "result"


def test_a_long_answer_that_breaks_stays_visibly_unfinished() -> None:
    async def breaks(request: Request, reply: Reply) -> None:
        reply.dispatched()
        reply.head(200, JSON)
        reply.piece(b'{"jsonrpc":"2.0","id":1,"result":"' + b"x" * (2 << 20))
        await reply.drain()
        raise Lost("died")

    heard, records = in_world(Scripted(breaks), lambda here: here.post(CALL))
    assert heard.ended is False
    assert len(heard.body) > 1 << 20
    assert records[-2]["outcome"] == "outcome_unknown"


def test_progress_renews_the_deadline() -> None:
    async def slow_but_alive(request: Request, reply: Reply) -> None:
        reply.dispatched()
        reply.head(200, EVENTS)
        for done in range(5):
            await asyncio.sleep(0.8)
            note = {
                "jsonrpc": "2.0",
                "method": "notifications/progress",
                "params": {"progressToken": "t", "progress": done},
            }
            reply.piece(event(msgspec.json.encode(note)))
        reply.piece(event(answer(request, ok=True)))

    params = {"name": WRITES, "arguments": {}, "_meta": {"progressToken": "t", "dev.arrowslit/deadline-ms": 1000}}
    _, records = in_world(Scripted(slow_but_alive), lambda here: here.post({"method": "tools/call", "params": params}))
    assert records[-2]["outcome"] == "result"


@pytest.mark.promise("P12")
def test_what_cannot_be_recorded_does_not_happen() -> None:
    target, disk = Scripted(answers), MemoryDisk()

    async def main() -> dict[str, Any]:
        async with world(1, disk) as here:
            here.start_connector("c", target)
            await here.connected()
            disk.room = 10
            refused = await here.call("acme", WRITES, "x", 5)
            disk.room = None
            await here.call("acme", WRITES, "x", 5)
            return refused

    said = run(1, main)
    assert said["error"]["data"]["code"] == "ledger_unavailable"
    assert said["error"]["data"]["outcome"] == "not_delivered"
    assert len(target.seen) == 1


@pytest.mark.promise("P2")
@pytest.mark.parametrize(("act", "outcome"), [(works_for_ever, "outcome_unknown"), (waits, "not_delivered")])
def test_a_call_whose_caller_left_has_an_outcome_too(act: Act, outcome: str) -> None:
    target = Scripted(act)

    async def story(here: World) -> None:
        task = asyncio.ensure_future(here.call("acme", WRITES, "x", 60))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.sleep(1)  # for the connector's last word

    _, records = in_world(target, story)
    ended = [record for record in records if record["kind"] == "outcome"]
    assert [(record["outcome"], record["reason"]) for record in ended] == [(outcome, "caller_left")]
    assert target.cancelled == [Cancel.CALLER_LEFT]


TOOLS = [{"name": WRITES, "inputSchema": {}}, {"name": "secret", "inputSchema": {}}, {"name": READS, "inputSchema": {}}]


async def lists(request: Request, reply: Reply) -> None:
    reply.dispatched()
    reply.head(200, JSON)
    reply.piece(answer(request, tools=TOOLS, nextCursor="n"))


async def lists_as_events(request: Request, reply: Reply) -> None:
    reply.dispatched()
    reply.head(200, EVENTS)
    listed = (
        answer(request, tools=TOOLS)
        if request.body
        else b'{"jsonrpc":"2.0","id":9,"result":' + msgspec.json.encode({"tools": TOOLS}) + b"}"
    )
    data = event(listed, "1")
    for at in range(0, len(data), 7):
        reply.piece(data[at : at + 7])


@pytest.mark.promise("P6")
@pytest.mark.parametrize("act", [lists, lists_as_events])
def test_a_list_shows_what_was_granted_and_no_more(act: Act) -> None:
    heard, _ = in_world(Scripted(act), lambda here: here.post({"method": "tools/list"}))
    assert b'"write"' in heard.body
    assert b'"read"' in heard.body
    assert b"secret" not in heard.body


@pytest.mark.promise("P6")
def test_a_list_that_is_replayed_on_a_stream_is_filtered_as_well() -> None:
    async def story(here: World) -> Heard:
        await here.post({"method": "tools/list"})  # which pins what may be replayed
        return await here.exchange(Exchange("GET", [], b""))

    heard, _ = in_world(Scripted(lists_as_events), story)
    assert b'"read"' in heard.body
    assert b"secret" not in heard.body


@pytest.mark.promise("P6")
def test_the_ceiling_takes_away_from_a_list_what_the_relay_grants() -> None:
    limits = ceiling.of_tools([READS])
    heard, _ = in_world(Scripted(lists), lambda here: here.post({"method": "tools/list"}), limits)
    assert b'"read"' in heard.body
    assert b'"write"' not in heard.body


@pytest.mark.promise("P6")
@pytest.mark.promise("P3")
def test_a_call_needs_both_rules() -> None:
    target = Scripted(answers)

    async def story(here: World) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return (
            await here.call("acme", READS, "x", 5),
            await here.call("acme", WRITES, "x", 5),  # granted, above the ceiling
            await here.call("acme", "secret", "x", 5),  # below it, not granted
        )

    (both, above, not_granted), _ = in_world(target, story, ceiling.of_tools([READS, "secret"]))
    assert "result" in both
    assert above["error"]["data"]["code"] == "denied_by_ceiling"
    assert not_granted["error"]["data"]["code"] == "tool_not_allowed"
    assert len(target.seen) == 1


def test_a_list_that_cannot_be_read_safely_fails() -> None:
    async def twice(request: Request, reply: Reply) -> None:
        reply.dispatched()
        reply.head(200, JSON)
        reply.piece(b'{"jsonrpc":"2.0","id":1,"result":{"tools":[],"tools":[{"name":"secret"}]}}')

    heard, _ = in_world(Scripted(twice), lambda here: here.post({"method": "tools/list"}))
    assert heard.read()["error"]["data"]["code"] == "list_unreadable"


BIG = "x" * (5 << 20)
TOO_LONG = [
    ({"tools": [{"name": READS, "description": BIG}]}, "result_too_large"),
    ({"tools": [{"name": READS}] * (MOST_ENTRIES + 1)}, "list_unreadable"),
]


@pytest.mark.promise("P15")
@pytest.mark.parametrize(("result", "code"), TOO_LONG, ids=["bytes", "entries"])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_list_too_long_to_be_read_fails_in_events_as_well(result: dict[str, Any], code: str, method: str) -> None:
    async def speaks(request: Request, reply: Reply) -> None:
        reply.dispatched()
        reply.head(200, EVENTS)
        reply.piece(event(msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "result": result})))

    async def story(here: World) -> Heard:
        if method == "POST":
            return await here.post({"method": "tools/list"})
        return await here.exchange(Exchange("GET", [], b""))

    heard, _ = in_world(Scripted(speaks), story)
    assert code.encode() in heard.body or method == "GET"
    assert b'"name"' not in heard.body


def test_a_replayed_answer_that_is_no_list_may_be_longer() -> None:
    async def speaks(request: Request, reply: Reply) -> None:
        reply.dispatched()
        reply.head(200, EVENTS)
        reply.piece(event(answer_to(1, content=[{"type": "text", "text": BIG + " tools resources"}])))

    heard, _ = in_world(Scripted(speaks), lambda here: here.exchange(Exchange("GET", [], b"")))
    assert BIG.encode() in heard.body


@pytest.mark.promise("P6")
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("more", [("content-encoding", "deflate"), ("content-type", "text/plain")])
def test_an_answer_that_its_client_would_read_in_another_way_goes_nowhere(kind: str, more: tuple[str, str]) -> None:
    async def packs(request: Request, reply: Reply) -> None:  # the relay does not rely on connectors
        reply.dispatched()
        reply.head(200, [("content-type", kind), more])
        reply.piece(b"secret")

    heard, records = in_world(Scripted(packs), lambda here: here.post({"method": "tools/list"}))
    assert b"secret" not in heard.body
    assert heard.read()["error"]["data"]["code"] == "answer_unreadable"
    assert [record["code"] for record in records if record["kind"] == "outcome"] == ["answer_unreadable"]


def test_an_answer_may_come_on_another_stream_of_the_session() -> None:
    """The server closes the POST's stream and answers on a resumed one (MCP 2025-11-25, resumability)."""
    posted: list[Request] = []

    async def polls(request: Request, reply: Reply) -> None:
        reply.dispatched()
        if request.method == "POST" and b"initialize" in request.body:
            reply.head(200, [*JSON, ("mcp-session-id", "s1")])
            reply.piece(answer(request))
        elif request.method == "POST":
            posted.append(request)
            reply.head(200, EVENTS)
            reply.piece(event(b"", "7"))
        else:
            reply.head(200, EVENTS)
            reply.piece(event(answer(posted[0], ok=True), "8"))

    async def story(here: World) -> bytes:
        opened = await here.post({"method": "initialize", "params": {}})
        session = dict(opened.headers)["mcp-session-id"]
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": 5, **CALL})
        headers = [("content-type", "application/json"), ("mcp-session-id", session)]
        await here.exchange(Exchange("POST", headers, body))
        resumed = await here.exchange(Exchange("GET", [("mcp-session-id", session), ("last-event-id", "7")], b""))
        return bytes(resumed.body)

    resumed, records = in_world(Scripted(polls), story)
    assert b'"ok":true' in resumed
    outcomes = [record["outcome"] for record in records if record["kind"] == "outcome"]
    assert outcomes == ["result", "result"]


@pytest.mark.promise("P5")
def test_nothing_is_replayed_outside_of_a_session() -> None:
    """A server without sessions could only replay what is somebody's."""
    scripted = Scripted(answers)

    async def story(here: World) -> str | None:
        said = msgspec.json.encode({"jsonrpc": "2.0", "id": 5, **CALL})
        await here.exchange(Exchange("POST", [("content-type", "application/json"), ("last-event-id", "7")], said))
        try:
            await here.exchange(Exchange("GET", [("last-event-id", "7")], b""))
        except Error as refused:
            return refused.code
        return None

    code, _ = in_world(scripted, story)
    assert code == "session_not_found"
    assert [request.method for request in scripted.seen] == ["POST"]
    assert all(name != "last-event-id" for name, _ in scripted.seen[0].headers)


STRANGE = [
    b'{"jsonrpc":"2.0","id":4242,"result":{"tools":[{"name":"hidden"}]}}',
    b'{"jsonrpc":"2.0","id":"1","result":{"tools":[{"name":"hidden"}]}}',
    b'{"jsonrpc":"2.0","id":4242.0,"result":{"tools":[{"name":"hidden"}]}}',
    b'{"jsonrpc":"2.0","id":4242,"method":"x","result":{"tools":[{"name":"hidden"}]}}',
    b'[{"jsonrpc":"2.0","id":4242,"result":{"tools":[{"name":"hidden"}]}}]',
    b'{"jsonrpc":"2.0","id":4242,"error":{"code":1,"message":"hidden"}}',
    b'{"id":4242,"result":{"tools":[{"name":"hidden"}]},}',
]


@pytest.mark.promise("P5")
@pytest.mark.promise("P6")
@pytest.mark.parametrize("strange", STRANGE)
def test_an_answer_to_another_request_goes_nowhere_on_the_stream_of_a_call(strange: bytes) -> None:
    async def slips_one_in(request: Request, reply: Reply) -> None:
        reply.dispatched()
        reply.head(200, [("content-type", "text/event-stream")])
        reply.piece(b"data: " + strange + b"\n\n")
        reply.piece(b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n')
        reply.piece(b"data: " + answer(request) + b"\n\n")

    async def story(here: World) -> bytes:
        return bytes((await here.post({"method": "tools/call", "params": {"name": READS}})).body)

    body, _ = in_world(Scripted(slips_one_in), story)
    assert b"hidden" not in body
    assert b"notifications/message" in body
    assert b'"result"' in body


@pytest.mark.promise("P5")
def test_a_session_id_is_good_for_the_caller_that_got_it_and_nobody_else() -> None:
    async def opens(request: Request, reply: Reply) -> None:
        reply.dispatched()
        reply.head(200, [*JSON, ("mcp-session-id", "s1")])
        reply.piece(answer(request))

    target = Scripted(opens)

    async def story(here: World) -> list[tuple[str, str]]:
        opened = await here.post({"method": "initialize", "params": {}}, tenant="acme")
        session = dict(opened.headers)["mcp-session-id"]
        found = []
        for tenant, text in [("acme", session), ("globex", session), ("globex", "no.such.session")]:
            body = msgspec.json.encode({"jsonrpc": "2.0", "id": 5, "method": "ping"})
            exchange = Exchange("POST", [("content-type", "application/json"), ("mcp-session-id", text)], body)
            try:
                await here.exchange(exchange, tenant=tenant)
                found.append(("ok", ""))
            except Exception as error:
                found.append((type(error).__name__, str(error)))
        return found

    (own, foreign, random_one), _ = in_world(target, story)
    assert own == ("ok", "")
    assert foreign == random_one
    assert foreign[1].startswith("session_not_found")
    assert len(target.seen) == 2
    assert dict(target.seen[1].headers)["mcp-session-id"] == "s1"


@pytest.mark.promise("P7")
@pytest.mark.promise("P8")
def test_the_server_sees_the_principals_tenant_and_the_arguments_as_they_were_sent() -> None:
    target = Scripted(answers)
    arguments = b'{ "sku" : "A1" , "n": 1.0, "big": 12345678901234567890 }'
    lies = b'{"tenant":"evil","dev.arrowslit\\/tenant":"evil","TENANT":"evil","te\\u006eant\\u200b":"evil","mine":1}'
    body = (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"write","arguments":'
        + arguments
        + b',"_meta":'
        + lies
        + b"}}"
    )

    async def story(here: World) -> None:
        await here.exchange(
            Exchange("POST", [("content-type", "application/json"), ("authorization", "Bearer x")], body)
        )

    in_world(target, story)
    (seen,) = target.seen
    assert arguments in seen.body
    assert b"evil" not in seen.body
    meta = json.loads(seen.body)["params"]["_meta"]
    assert meta["dev.arrowslit/tenant"] == meta["tenant"] == "acme"
    assert meta["dev.arrowslit/call-id"].startswith("call_")
    assert meta["mine"] == 1
    assert "authorization" not in dict(seen.headers)
