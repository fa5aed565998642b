"""How a session lists and calls the tools of a server, through a relay and a connector, in simulated time."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from arrowslit.agents.servers import asking
from arrowslit.agents.servers.content import KEPT
from arrowslit.agents.servers.servers import REMEMBERED
from arrowslit.agents.servers.tool import Progress
from arrowslit.errors import Error
from arrowslit.outcome import Outcome
from tests.agents.servers.kit import ACME, MODERN, McpServer, scene, simulated, texts

ERAS = pytest.mark.parametrize("modern", [True, False], ids=["modern", "legacy"])
TEXT = {"content": [{"type": "text", "text": "12 pieces"}]}


# ---------------------------------------------------------------- lists, and the era


@ERAS
@simulated
async def test_the_list_has_all_pages_and_only_what_was_granted(modern: bool) -> None:
    server = McpServer(modern=modern)
    server.pages[0][0] |= {"description": "reads", "inputSchema": {"type": "object", "properties": {"a": {}}}}

    async with scene(server) as here:
        tools = await (await here.open()).tools()

    assert [tool.name for tool in tools] == ["read", "write"]
    assert (tools[0].description, tools[0].input_schema["properties"]) == ("reads", {"a": {}})
    assert (tools[1].description, tools[1].input_schema) == ("", {"type": "object"})


@simulated
async def test_of_two_tools_of_one_name_the_first_counts_for_a_model_takes_no_two() -> None:
    server = McpServer()
    server.pages = [
        [{"name": "read", "description": "one"}],
        [{"name": "read", "description": "two"}, {"name": "write"}],
    ]

    async with scene(server) as here:
        tools = await (await here.open()).tools()

    assert [(tool.name, tool.description) for tool in tools] == [("read", "one"), ("write", "")]


@simulated
async def test_every_modern_request_says_for_itself_what_it_is() -> None:
    server = McpServer()

    async with scene(server) as here:
        await here.call(await here.open(), "write")

    assert not server.heard("initialize")
    (called,) = server.heard("tools/call")
    assert called["params"]["_meta"][MODERN] == "2026-07-28"
    (request,) = [each for each in server.requests if json.loads(each.body)["method"] == "tools/call"]
    assert request.header("mcp-protocol-version") == "2026-07-28"
    assert (request.header("mcp-method"), request.header("mcp-name")) == ("tools/call", "write")


@simulated
async def test_a_legacy_server_gets_one_handshake_and_hears_when_its_session_is_over() -> None:
    server = McpServer(modern=False)

    async with scene(server) as here:
        session = await here.open()
        await session.tools()
        await here.call(session, "write")
        assert server.sessions == {"session-1"}
        await session.close()

    assert len(server.heard("initialize")) == len(server.heard("notifications/initialized")) == 1
    assert server.sessions == set()
    assert [each.method for each in server.requests].count("DELETE") == 1


@simulated
async def test_a_server_that_falls_silent_at_an_unknown_question_is_taken_for_a_legacy_one() -> None:
    server = McpServer(modern=False, silent=True)

    async with scene(server) as here:
        session = await here.open()

        assert (await here.call(session, "write", answer=TEXT)).outcome is Outcome.RESULT
        assert asyncio.get_running_loop().time() < 15


@simulated
async def test_such_a_server_is_waited_for_once_and_asked_again_much_later() -> None:
    server, loop = McpServer(modern=False, silent=True), asyncio.get_running_loop()

    async with scene(server) as here:
        await here.open()
        began = loop.time()
        await here.open()
        assert loop.time() - began < 1
        assert len(server.heard("server/discover")) == 1

        await asyncio.sleep(REMEMBERED)
        await here.open()
        assert len(server.heard("server/discover")) == 2


@simulated
async def test_a_server_of_no_version_that_we_speak_cannot_be_opened() -> None:
    server = McpServer(modern=False)
    server.version = "2031-01-01"

    async with scene(server) as here:
        with pytest.raises(Error, match="speaks no version") as caught:
            await here.open()

    assert caught.value.code == "target_failed"


@simulated
async def test_without_a_connector_nothing_can_be_opened_or_listed() -> None:
    async with scene() as here:
        with pytest.raises(Error) as caught:
            await here.open()

    assert caught.value.code == "no_connector"


@simulated
async def test_without_a_tenant_the_relays_own_words_say_what_to_do() -> None:
    nobody = replace(ACME, tenant=None)

    async with scene(McpServer()) as here:
        with pytest.raises(Error) as caught:
            await here.servers.open(nobody, "agent_sim", "sim")

    assert (caught.value.code, caught.value.row.outcome) == ("tenant_required", Outcome.DENIED)
    assert "arrowslit key create" in (caught.value.hint or "")


@simulated
async def test_a_list_that_cannot_be_had_is_an_error_and_not_a_shorter_list() -> None:
    server = McpServer()

    async with scene(server) as here:
        session = await here.open()
        server.pages = [[{"name": "read"}]] * 1000
        with pytest.raises(Error, match="has no end"):
            await session.tools()
        here.kill_connector()
        with pytest.raises(Error) as caught:
            await session.tools()

    assert caught.value.code in ("no_connector", "not_started")


@simulated
async def test_arguments_that_a_modern_server_wants_in_headers_are_there_too() -> None:
    server = McpServer()
    region = {"type": "string", "x-mcp-header": "Region"}
    server.pages = [[{"name": "write", "inputSchema": {"type": "object", "properties": {"region": region}}}]]

    async with scene(server) as here:
        await here.call(await here.open(), "write", region="Zürich")

    assert server.requests[-1].header("mcp-param-region") == "=?base64?WsO8cmljaA==?="


# ---------------------------------------------------------------- results


@ERAS
@simulated
async def test_a_result_comes_with_its_content_and_stands_in_the_ledger_under_the_chosen_id(modern: bool) -> None:
    async with scene(McpServer(modern=modern)) as here:
        session = await here.open()
        answer = await session.call("write", {"answer": TEXT}, call_id="call_chosen")
        recorded = [(each["call"], each["outcome"]) for each in await here.ledger("outcome")]

    assert (answer.outcome, answer.is_error, texts(answer)) == (Outcome.RESULT, False, ["12 pieces"])
    assert (answer.call_id, answer.code, answer.message) == ("call_chosen", None, None)
    assert recorded == [("call_chosen", "result")]


@ERAS
@simulated
async def test_a_tools_own_failure_is_a_result_that_is_an_error(modern: bool) -> None:
    async with scene(McpServer(modern=modern)) as here:
        session = await here.open()
        failed = await here.call(session, "write", answer={**TEXT, "isError": True})
        refused = await here.call(session, "write", fail={"code": -32602, "message": "no such sku"})

    assert (failed.outcome, failed.is_error, texts(failed)) == (Outcome.RESULT, True, ["12 pieces"])
    assert (refused.outcome, refused.is_error, texts(refused)) == (Outcome.RESULT, True, ["no such sku"])
    assert refused.code is None


@simulated
async def test_the_words_of_an_error_are_bounded_too() -> None:
    server = McpServer()
    server.does = {"fail": {"code": -1, "message": "x" * (2 << 20)}}

    async with scene(server) as here:
        answer = await here.call(await here.open(), "write")

    assert answer.is_error
    assert len(str(texts(answer))) < KEPT + 1000


GATEWAYS_WORDS = [
    (202, ""),
    (401, ""),
    (500, ""),
    (503, "<html>no healthy upstream</html>"),
    (503, '{"error": {"code": 503, "message": "no healthy upstream"}}'),
    (200, '["done"]'),
    (200, '{"jsonrpc": "2.0", "id": 1}'),
]


@pytest.mark.promise("P3")
@pytest.mark.parametrize(("status", "body"), GATEWAYS_WORDS)
@simulated
async def test_after_an_answer_that_is_none_of_the_protocols_nobody_knows_whether_the_call_ran(
    status: int, body: str
) -> None:
    server = McpServer()

    async with scene(server) as here:
        answer = await here.call(await here.open(), "write", status=status, body=body)

    assert (answer.outcome, answer.is_error, answer.code) == (Outcome.OUTCOME_UNKNOWN, True, "outcome_unknown")
    assert "nobody knows" in str(texts(answer))
    assert len(server.executed) == 1


@pytest.mark.parametrize("said", [{}, {"content": "12 pieces"}, {"quantity": 12}])
@simulated
async def test_a_result_without_content_is_no_result_of_a_tool_and_said_so(said: dict[str, object]) -> None:
    async with scene(McpServer()) as here:
        answer = await here.call(await here.open(), "write", answer=said)

    assert (answer.outcome, answer.is_error) == (Outcome.RESULT, True)
    assert "no result of a tool" in str(texts(answer)[0])
    assert ("12" in str(texts(answer))) is bool(said)


@ERAS
@simulated
async def test_progress_is_heard_while_a_call_runs(modern: bool) -> None:
    heard: list[Progress] = []
    said = {"progress": 1, "total": 2, "message": "half"}
    events = [
        {"method": "notifications/progress", "params": said},
        {"method": "notifications/progress", "params": {**said, "progressToken": 999_999}},
        {"method": "notifications/message", "params": {"data": "x"}},
    ]

    async with scene(McpServer(modern=modern)) as here:
        session = await here.open()
        answer = await session.call(
            "write", {"events": events, "answer": TEXT}, call_id=here.call_id(), on_progress=heard.append
        )

    assert heard == [Progress(1, 2, "half")]
    assert texts(answer) == ["12 pieces"]


@simulated
async def test_a_listener_that_fails_does_not_spoil_the_call() -> None:
    def fail(_: Progress) -> None:
        raise RuntimeError("a defect")

    events = [{"method": "notifications/progress", "params": {"progress": 1}}]
    async with scene(McpServer()) as here:
        session = await here.open()
        answer = await session.call(
            "write", {"events": events, "answer": TEXT}, call_id=here.call_id(), on_progress=fail
        )

    assert texts(answer) == ["12 pieces"]


@simulated
async def test_a_legacy_server_may_ask_whether_we_are_there_and_nothing_else() -> None:
    async with scene(McpServer(modern=False)) as here:
        session = await here.open()
        said = {
            method: json.loads(str(texts(await here.call(session, "write", ask=method))[0]))
            for method in ("ping", "sampling/createMessage", "elicitation/create", "roots/list")
        }

    assert said.pop("ping")["result"] == {}
    assert {answer["error"]["code"] for answer in said.values()} == {-32601}


@simulated
async def test_a_question_whose_answer_nobody_takes_does_not_hold_the_call_up() -> None:
    server = McpServer(modern=False)
    server.deaf = True

    async with scene(server) as here:
        session = await here.open()
        began = asyncio.get_running_loop().time()
        answer = await here.call(session, "write", ask="ping")
        assert asyncio.get_running_loop().time() - began < 5

    assert answer.outcome is Outcome.RESULT


@simulated
async def test_a_server_that_asks_without_end_gets_an_end_of_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    server = McpServer(modern=False)
    monkeypatch.setattr(asking, "MOST_QUESTIONS", 3)
    pings = [{"id": f"q{number}", "method": "logging/none"} for number in range(50)]

    async with scene(server) as here:
        session = await here.open()
        await session.tools()
        before = len(server.requests)
        for ping in pings:  # each is known, so that its answer is taken
            server._asked[ping["id"]] = asyncio.get_running_loop().create_future()
        answer = await here.call(session, "write", events=pings, answer=TEXT, seconds=0.1)

    assert texts(answer) == ["12 pieces"]
    assert len(server.requests) - before <= 1 + 3


@simulated
async def test_what_only_a_person_could_answer_is_an_error_for_the_model() -> None:
    async with scene(McpServer()) as here:
        answer = await here.call(await here.open(), "write", answer={"resultType": "input_required"})

    assert (answer.outcome, answer.is_error, answer.code) == (Outcome.RESULT, True, "not_supported")


@pytest.mark.parametrize("stream", [False, True])
@simulated
async def test_a_result_that_is_too_large_is_let_go_and_said_so(stream: bool) -> None:
    server = McpServer()
    server.does = {"answer": {"content": [{"type": "text", "text": "x" * (5 << 20)}]}}
    if stream:
        server.does["events"] = []

    async with scene(server) as here:
        answer = await here.call(await here.open(), "write")
        recorded = [each["outcome"] for each in await here.ledger("outcome")]

    assert (answer.outcome, answer.is_error, answer.code) == (Outcome.RESULT, True, "result_too_large")
    assert recorded == ["result"]


@pytest.mark.promise("P5")
@ERAS
@simulated
async def test_twenty_calls_at_once_are_not_mixed(modern: bool) -> None:
    async with scene(McpServer(modern=modern)) as here:
        session = await here.open()

        async def ask(number: int) -> object:
            said = {"content": [{"type": "text", "text": str(number)}]}
            events = {"events": [{"method": "notifications/message"}]} if number % 2 else {}
            return texts(await here.call(session, "write", answer=said, seconds=(20 - number) / 100, **events))

        answers = await asyncio.gather(*(ask(number) for number in range(20)))

    assert answers == [[str(number)] for number in range(20)]


@simulated
async def test_an_answer_that_comes_on_another_stream_is_waited_for() -> None:
    server = McpServer(modern=False)

    async with scene(server) as here:
        session = await here.open()
        answers = await asyncio.gather(
            *(here.call(session, "write", later=number % 3 + 1, answer={"content": [number]}) for number in range(6))
        )
        await asyncio.sleep(0)
        recorded = [each["outcome"] for each in await here.ledger("outcome")]

    assert [texts(answer) for answer in answers] == [[str(number)] for number in range(6)]
    assert recorded == ["result"] * 6
    assert len(server.executed) == 6


@pytest.mark.parametrize("later", [1000, -1], ids=["never comes", "is refused"])
@simulated
async def test_an_answer_that_does_not_come_on_another_stream_either_is_unknown(later: int) -> None:
    server = McpServer(modern=False)

    async with scene(server) as here:
        session = await here.open()
        answer = await session.call("write", {"later": later}, call_id="call_x", deadline=5)
        assert asyncio.get_running_loop().time() < 7

    assert (answer.outcome, answer.code) == (Outcome.OUTCOME_UNKNOWN, "outcome_unknown")
    assert len(server.executed) == 1


@pytest.mark.promise("P5")
@pytest.mark.parametrize("stray", [77, "2", 2.0, True, None])
@simulated
async def test_the_answer_to_another_question_is_nobodys(stray: object) -> None:
    async with scene(McpServer()) as here:
        session = await here.open()
        await session.tools()
        answer = await here.call(session, "write", events=[], stray=stray, answer=TEXT)

    assert texts(answer) == ["12 pieces"]


# ---------------------------------------------------------------- every other ending


@pytest.mark.promise("P6")
@simulated
async def test_a_tool_that_was_not_granted_is_denied_and_never_reaches_the_server() -> None:
    server = McpServer()

    async with scene(server) as here:
        session = await here.open()
        answer = await session.call("secret", {}, call_id="call_chosen")
        recorded = [each["call"] for each in await here.ledger("denied")]

    assert (answer.outcome, answer.code, answer.is_error) == (Outcome.DENIED, "tool_not_allowed", True)
    assert recorded == ["call_chosen"]
    assert server.executed == []


@pytest.mark.promise("P3")
@simulated
async def test_a_call_without_a_connector_was_not_delivered() -> None:
    server = McpServer()

    async with scene(server) as here:
        session = await here.open()
        await session.tools()
        here.kill_connector()
        answer = await here.call(session, "write")

    assert (answer.outcome, answer.code) == (Outcome.NOT_DELIVERED, "no_connector")
    assert server.executed == []


@pytest.mark.promise("P4")
@ERAS
@simulated
async def test_a_link_that_is_cut_in_the_middle_leaves_it_unknown_and_nothing_is_sent_again(modern: bool) -> None:
    server = McpServer(modern=modern)

    async with scene(server) as here:
        session = await here.open()
        calling = asyncio.create_task(here.call(session, "write", hang=True))
        await server.busy.wait()
        here.world.cut()
        answer = await calling
        await here.world.connected()
        recorded = [each["outcome"] for each in await here.ledger("outcome")]

    assert (answer.outcome, answer.code, answer.is_error) == (Outcome.OUTCOME_UNKNOWN, "outcome_unknown", True)
    assert recorded == ["outcome_unknown"]
    assert len(server.executed) == 1


@ERAS
@simulated
async def test_a_server_that_dies_leaves_it_unknown_wherever_its_answer_broke_off(modern: bool) -> None:
    server = McpServer(modern=modern)

    async with scene(server) as here:
        session = await here.open()
        at_once = await here.call(session, "write", lost=True)
        in_a_stream = await here.call(session, "write", events=[{"method": "notifications/message"}], cut=True)
        in_a_large_body = await here.call(session, "write", broken=True)
        recorded = [each["outcome"] for each in await here.ledger("outcome")]

    assert [each.outcome for each in (at_once, in_a_stream, in_a_large_body)] == [Outcome.OUTCOME_UNKNOWN] * 3
    assert recorded == ["outcome_unknown"] * 3
    assert len(server.executed) == 3


@simulated
async def test_a_deadline_is_a_timeout_for_what_only_reads_and_unknown_for_what_writes() -> None:
    async with scene(McpServer()) as here:
        session = await here.open()
        began = asyncio.get_running_loop().time()
        reads = await session.call("read", {"hang": True}, call_id="call_reads", deadline=3)
        assert 3 <= asyncio.get_running_loop().time() - began < 6
        writes = await session.call("write", {"hang": True}, call_id="call_writes", deadline=3)
        recorded = {each["call"]: each["outcome"] for each in await here.ledger("outcome")}

    assert (reads.outcome, reads.code) == (Outcome.TIMEOUT, "timeout")
    assert (writes.outcome, writes.code) == (Outcome.OUTCOME_UNKNOWN, "outcome_unknown")
    assert recorded == {"call_reads": "timeout", "call_writes": "outcome_unknown"}


@simulated
async def test_progress_renews_the_deadline() -> None:
    does = {"events": [{"method": "notifications/progress", "params": {"progress": 1}}] * 5, "seconds": 0.8}

    async with scene(McpServer()) as here:
        session = await here.open()
        answer = await session.call("write", {**does, "answer": TEXT}, call_id="call_x", deadline=1)
        assert asyncio.get_running_loop().time() > 4

    assert texts(answer) == ["12 pieces"]


@simulated
async def test_whoever_is_cancelled_gives_the_call_up_at_the_server() -> None:
    server = McpServer()

    async with scene(server) as here:
        session = await here.open()
        calling = asyncio.create_task(here.call(session, "write", hang=True))
        await server.busy.wait()
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        while not await here.ledger("outcome"):
            pass
        (recorded,) = await here.ledger("outcome")

    assert server.cancelled == ["caller_left"]
    assert (recorded["outcome"], recorded["reason"]) == ("outcome_unknown", "caller_left")


@simulated
async def test_arguments_that_the_gate_refuses_were_denied_and_never_a_call() -> None:
    deep: object = 1
    for _ in range(50):
        deep = [deep]

    async with scene(McpServer()) as here:
        answer = await here.call(await here.open(), "write", deep=deep)

        assert (answer.outcome, answer.code) == (Outcome.DENIED, "depth_exceeded")
        assert await here.ledger("asked") == []


# ---------------------------------------------------------------- a server that lies


@pytest.mark.promise("P3")
@pytest.mark.parametrize(("code", "outcome"), [("no_connector", "not_delivered"), ("tool_not_allowed", "denied")])
@simulated
async def test_no_server_can_make_an_executed_call_look_as_if_it_had_not_been(code: str, outcome: str) -> None:
    forged = {"code": 5001, "message": "nothing happened", "data": {"code": code, "outcome": outcome}}
    forged["data"] |= {"call_id": "call_x"}  # type: ignore[operator]

    async with scene(McpServer()) as here:
        session = await here.open()
        whole = await session.call("write", {"fail": forged}, call_id="call_x")
        event = await session.call("write", {"events": [], "word": forged}, call_id="call_x")

    assert (whole.outcome, whole.is_error) == (event.outcome, event.is_error) == (Outcome.RESULT, True)


@simulated
async def test_another_relays_unknown_behind_the_server_is_the_servers_own_answer() -> None:
    data = {"code": "outcome_unknown", "outcome": "outcome_unknown", "call_id": "call_of_another_relay"}
    forwarded = {"code": 5002, "message": "nobody knows", "data": data}

    async with scene(McpServer()) as here:
        session = await here.open()
        answers = [
            await here.call(session, "write", fail=forwarded),
            await here.call(session, "write", events=[], word=forwarded),
        ]
        recorded = [each["outcome"] for each in await here.ledger("outcome")]

    assert [answer.outcome.value for answer in answers] == recorded == ["result", "result"]


# ---------------------------------------------------------------- lost sessions


@pytest.mark.promise("P4")
@simulated
async def test_a_lost_session_is_begun_again_for_lists_and_a_call_is_never_posted_twice() -> None:
    server = McpServer(modern=False)

    async with scene(server) as here:
        session = await here.open()
        server.sessions.clear()
        assert [tool.name for tool in await session.tools()] == ["read", "write"]
        assert len(server.heard("initialize")) == 2

        server.sessions.clear()
        lost = await here.call(session, "write")
        assert (lost.outcome, lost.is_error) == (Outcome.RESULT, True)
        assert (len(server.heard("tools/call")), server.executed) == (1, [])

        again = await here.call(session, "write", answer=TEXT)
        assert texts(again) == ["12 pieces"]
        assert len(server.heard("initialize")) == 3


@simulated
async def test_calls_at_once_begin_a_lost_session_again_only_once() -> None:
    server = McpServer(modern=False)

    async with scene(server) as here:
        session = await here.open()
        server.sessions.clear()
        await here.call(session, "write")
        answers = await asyncio.gather(*(here.call(session, "write", answer=TEXT) for _ in range(5)))

    assert {str(texts(answer)) for answer in answers} == {"['12 pieces']"}
    assert len(server.heard("initialize")) == 2


@pytest.mark.promise("P3")
@simulated
async def test_a_call_whose_session_cannot_be_begun_again_was_not_delivered() -> None:
    server = McpServer(modern=False)

    async with scene(server) as here:
        session = await here.open()
        server.sessions.clear()
        await here.call(session, "write")
        server.version = "2031-01-01"
        answer = await here.call(session, "write")

    assert (answer.outcome, answer.code) == (Outcome.NOT_DELIVERED, "not_started")
    assert len(server.heard("tools/call")) == 1
