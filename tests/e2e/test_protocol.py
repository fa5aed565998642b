"""What of MCP lasts, or goes from the server to the client: through the tunnel, in each era that has it.

Processes of their own, the SDK's server over HTTP and over stdio, and the SDK's client.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import httpx2
import programs
import pytest
from mcp import Client
from mcp.client import ClientRequestContext, IncomingMessage
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.subscriptions import ResourceUpdated, ToolsListChanged
from mcp_types import (
    CallToolResult,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequestParams,
    ElicitResult,
    ResourceUpdatedNotification,
    TextContent,
    ToolListChangedNotification,
)

from tests.e2e.door import Door
from tests.e2e.stage import Stage, served
from tests.harness import Relay

pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")  # the older era, too

LEGACY, MODERN = "legacy", "2026-07-28"
ERAS = (LEGACY, MODERN)
TARGETS = ("http", "stdio")
PATIENCE = 20.0
WATCHED = "test://watched-resource"


@contextmanager
def staged(relay: Relay, target: str) -> Iterator[Stage]:
    """The server with everything, behind a connector."""
    with ExitStack() as stack:
        if target == "http":
            place = stack.enter_context(programs.over_http("everything"))
        else:
            place = f"stdio:{shlex.join(programs.command('everything'))}"
        yield stack.enter_context(served(relay, place, None))


@pytest.fixture(scope="module", params=TARGETS)
def stage(request: pytest.FixtureRequest, relay: Relay) -> Iterator[Stage]:
    with staged(relay, request.param) as stage:
        yield stage


@asynccontextmanager
async def connected(stage: Stage, mode: str, **more: Any) -> AsyncIterator[Client]:
    """The SDK's client, with what a program gives it to answer with."""
    async with (
        httpx2.AsyncClient(headers=stage.headers(), timeout=httpx2.Timeout(30, read=300), trust_env=False) as http,
        Client(streamable_http_client(stage.url, http_client=http), mode=mode, **more) as client,
    ):
        yield client


async def in_each_era(story: Callable[[str], Awaitable[None]]) -> None:
    """Both at once: they are different sessions, and time is what these tests cost."""
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        for mode in ERAS:
            group.create_task(story(mode))  # type: ignore[arg-type]  # every Awaitable here is a coroutine


def text(result: CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


async def answer_form(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
    """A user called Ada."""
    return ElicitResult(action="accept", content={"name": "Ada", "username": "ada", "email": "ada@example.com"})


async def answer_prompt(context: ClientRequestContext, params: CreateMessageRequestParams) -> CreateMessageResult:
    """A model that repeats what it is asked."""
    (asked,) = params.messages
    assert isinstance(asked.content, TextContent)
    return CreateMessageResult(role="assistant", model="echo", content=TextContent(text=f"<{asked.content.text}>"))


# ------------------------------------------------------------ while a call runs


async def test_progress_arrives_and_renews_the_deadline(stage: Stage) -> None:
    async def story(mode: str) -> None:
        heard: list[float] = []

        async def hear(progress: float, total: float | None, message: str | None) -> None:
            heard.append(progress)

        async with connected(stage, mode) as client:
            meta: Any = {"dev.arrowslit/deadline-ms": 2000}
            asked = {"seconds": 3, "every": 0.5}
            result = await client.call_tool("work", asked, progress_callback=hear, meta=meta)

        assert text(result) == "worked for 3 s"
        assert heard == [1, 2, 3, 4, 5, 6]

    await in_each_era(story)


async def test_a_call_that_its_client_gives_up_is_cancelled_at_the_server(stage: Stage) -> None:
    async def story(mode: str) -> None:
        async with connected(stage, mode) as client:

            async def becomes(what: str) -> None:
                while f"{mode} {what}" not in json.loads(text(await client.call_tool("what_became"))):
                    continue

            waiting = asyncio.create_task(client.call_tool("wait", {"canary": mode}))
            await becomes("began")
            waiting.cancel()
            await becomes("cancelled")

    await in_each_era(story)


async def test_a_server_asks_the_user(stage: Stage) -> None:
    async def story(mode: str) -> None:
        async with connected(stage, mode, elicitation_callback=answer_form) as client:
            if mode == LEGACY:
                said = text(await client.call_tool("test_elicitation", {"message": "Who are you?"}))
                assert said.startswith("User response: action=accept")
                assert "ada@example.com" in said
            else:
                said = text(await client.call_tool("test_input_required_result_elicitation"))
                assert said.startswith("Hello, Ada")

    await in_each_era(story)


async def test_a_server_asks_the_model_of_its_client(stage: Stage) -> None:
    async def story(mode: str) -> None:
        async with connected(stage, mode, sampling_callback=answer_prompt) as client:
            if mode == LEGACY:
                said = await client.call_tool("test_sampling", {"prompt": "What is two and two?"})
                assert text(said) == "LLM response: <What is two and two?>"
            else:
                said = await client.call_tool("test_input_required_result_sampling")
                assert text(said) == "capital_question: <What is the capital of France?>"

    await in_each_era(story)


# ------------------------------------------------------------ news of the server


async def test_a_client_hears_that_the_list_of_tools_changed(stage: Stage) -> None:
    async def story(mode: str) -> None:
        if mode == LEGACY:
            news: asyncio.Queue[IncomingMessage] = asyncio.Queue()
            async with connected(stage, mode, message_handler=news.put) as client:
                await client.call_tool("test_trigger_tool_change")
                while not isinstance(await news.get(), ToolListChangedNotification):
                    continue
        else:
            async with connected(stage, mode) as client, client.listen(tools_list_changed=True) as changes:
                await client.call_tool("test_trigger_tool_change")
                assert await anext(aiter(changes)) == ToolsListChanged()

    await in_each_era(story)


async def test_a_client_hears_of_a_resource_that_it_subscribed_to_and_of_no_other(stage: Stage) -> None:
    async def story(mode: str) -> None:
        if mode == LEGACY:
            news: asyncio.Queue[IncomingMessage] = asyncio.Queue()
            async with connected(stage, mode, message_handler=news.put) as client:
                await client.subscribe_resource(WATCHED)
                for uri in ("test://static-text", WATCHED):
                    await client.call_tool("touch", {"uri": uri})
                while not isinstance(heard := await news.get(), ResourceUpdatedNotification):
                    continue
                assert str(heard.params.uri) == WATCHED
                await client.unsubscribe_resource(WATCHED)
        else:
            async with connected(stage, mode) as client, client.listen(resource_subscriptions=[WATCHED]) as changes:
                for uri in ("test://static-text", WATCHED):
                    await client.call_tool("touch", {"uri": uri})
                assert await anext(aiter(changes)) == ResourceUpdated(WATCHED)

    await in_each_era(story)


# ------------------------------------------------------------ resumption, which the modern era does not have


async def leave_in_the_middle(client: Door) -> tuple[int, str, int]:
    """Ask for three seconds of work, and hang up after the first progress; the request's id, the event's, and how far
    the work was.
    """
    message = client.request("tools/call", {"name": "work", "arguments": {"seconds": 3, "every": 1}})
    message["params"]["_meta"] = {"progressToken": "p"}
    headers = client.headers(message) | {"accept": "text/event-stream, application/json"}
    async with client.http.stream("POST", client.url, headers=headers, json=message) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        seen, progress = "", 0
        async for line in response.aiter_lines():
            if line.startswith("id:"):
                seen = line.removeprefix("id:").strip()
            if line.startswith("data:") and "notifications/progress" in line:
                progress = json.loads(line.removeprefix("data:"))["params"]["progress"]
                break
    assert seen
    return message["id"], seen, progress


async def resumed(client: Door, last: str) -> list[dict[str, Any]]:
    """What a stream that was left goes on with, up to an answer."""
    messages: list[dict[str, Any]] = []
    headers = client.headers() | {"accept": "text/event-stream", "last-event-id": last}
    async with client.http.stream("GET", client.url, headers=headers) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if line.startswith("data:") and (data := line.removeprefix("data:").strip()):
                messages.append(json.loads(data))
                if "result" in messages[-1]:
                    break
    return messages


async def test_a_client_that_was_cut_off_comes_back_for_the_rest(stage: Stage) -> None:
    async with asyncio.timeout(PATIENCE), stage.door() as client:
        await client.initialize()
        request_id, last, progress = await leave_in_the_middle(client)

        messages = await resumed(client, last)

        later = [message["params"]["progress"] for message in messages if "params" in message]
        assert [progress, *later][:2] == [1, 2]  # the last comes with the answer, which may overtake it at the server
        assert messages[-1]["id"] == request_id
        assert messages[-1]["result"]["content"] == [{"type": "text", "text": "worked for 3 s"}]


async def test_a_client_of_the_sdk_comes_back_for_an_answer(stage: Stage) -> None:
    async with asyncio.timeout(PATIENCE), connected(stage, LEGACY) as client:
        assert text(await client.call_tool("test_reconnection")) == "the answer that was fetched later"


@pytest.mark.promise("P5")
async def test_another_tenant_with_a_session_and_its_events_gets_what_a_made_up_one_gets(stage: Stage) -> None:
    async with asyncio.timeout(PATIENCE), stage.door("acme") as acme, stage.door("globex") as globex:
        await acme.initialize()
        _, last, _ = await leave_in_the_middle(acme)
        answers = []
        for session in (acme.session, "made-up", f"{(acme.session or '')[:-1]}A"):
            globex.session = session
            headers = globex.headers() | {"last-event-id": last}
            ask = globex.headers(message := globex.request("tools/list"))
            for method, fields, body in (("GET", headers, None), ("POST", ask, message), ("DELETE", headers, None)):
                answer = await globex.http.request(method, globex.url, headers=fields, json=body)
                told = answer.json()
                told.pop("id", None)
                answers.append((method, answer.status_code, told, sorted(answer.headers.keys())))

        assert answers[:3] == answers[3:6] == answers[6:]
        assert [status for _, status, *_ in answers] == [404] * 9
        assert (await resumed(acme, last))[-1]["result"], "its owner still has it"


# ------------------------------------------------------------ for real


@pytest.mark.slow
async def test_a_call_of_ten_minutes_gets_its_result_over_every_target_in_every_era(relay: Relay) -> None:
    async def work(stage: Stage, mode: str) -> None:
        heard: list[float] = []

        async def hear(progress: float, total: float | None, message: str | None) -> None:
            heard.append(progress)

        async with connected(stage, mode) as client:
            asked = {"seconds": 600, "every": 20}
            result = await client.call_tool("work", asked, read_timeout_seconds=900, progress_callback=hear)
        assert text(result) == "worked for 600 s"
        assert heard == list(range(1, 31))

    with ExitStack() as stack:
        stages = [stack.enter_context(staged(relay, target)) for target in TARGETS]
        async with asyncio.TaskGroup() as group:
            for stage in stages:
                for mode in ERAS:
                    group.create_task(work(stage, mode))
