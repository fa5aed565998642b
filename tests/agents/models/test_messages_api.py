from __future__ import annotations

import asyncio
import itertools
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from arrowslit.agents.models.messages_api import Auth, Bounds, MessagesApi
from arrowslit.agents.models.model import Finished, ModelFailed, ModelUsage, TextDelta
from arrowslit.clock import SystemClock
from tests.agents.models.server import (
    HEAD,
    START,
    Say,
    Server,
    answer,
    ask,
    begin,
    chunk,
    end,
    error,
    more,
    request,
    serving,
    spoken,
    sse,
    stop,
    stream,
    text,
    tool_use,
    whole,
)
from tests.cli.certificates import issue
from tests.harness import PATIENCE

KEY = "sk-ant-api03-secret-of-ours"
QUICK = Bounds(first=0.3, idle=0.2, whole=1.0, size=100_000, event=20_000, blocks=4)


@asynccontextmanager
async def asking(
    say: Say, *, bounds: Bounds = QUICK, auth: Auth = Auth.API_KEY, prefix: str = ""
) -> AsyncIterator[tuple[MessagesApi, Server]]:
    """A model behind a server that says that."""
    async with serving(say) as server:
        model = MessagesApi(server.url + prefix, clock=SystemClock(), key=KEY, auth=auth, bounds=bounds)
        try:
            yield model, server
        finally:
            await model.close()


async def failure(say: Say, *, bounds: Bounds = QUICK) -> ModelFailed:
    """How an attempt fails that is answered so; which leaves no connection behind that is in use."""
    async with asking(say, bounds=bounds) as (model, server):
        with pytest.raises(ModelFailed) as failed:
            await ask(model, model.prepare(request()))
        await model.close()
        async with asyncio.timeout(PATIENCE):
            await server.left.wait()
        assert len(server.bodies) <= 1  # one attempt
        return failed.value


async def test_the_bytes_that_were_prepared_are_the_bytes_that_leave() -> None:
    async with asking(stream(START, text(0, "Yes."), stop()), prefix="/llm") as (model, server):
        prepared = model.prepare(request(effort="low"))
        await ask(model, prepared)

    assert server.bodies == [prepared.body]
    assert prepared.facts == {
        "host": server.url.removeprefix("http://"),
        "model": "claude-opus-5-5",
        "bytes": len(prepared.body),
    }
    assert server.lines == ["POST /llm/v1/messages HTTP/1.1"]
    assert server.heads[0]["anthropic-version"] == "2023-06-01"
    assert json.loads(prepared.body) == {
        "model": "claude-opus-5-5",
        "max_tokens": 1024,
        "stream": True,
        "system": "Be brief.",
        "tools": list(request().tools),
        "output_config": {"effort": "low"},
        "messages": list(request().messages),
    }


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        (Auth.API_KEY, {"x-api-key": KEY}),
        (Auth.BEARER, {"authorization": f"Bearer {KEY}"}),
        (Auth.BOTH, {"x-api-key": KEY, "authorization": f"Bearer {KEY}"}),
    ],
)
async def test_the_key_goes_where_the_server_reads_it(auth: Auth, expected: dict[str, str]) -> None:
    async with asking(stream(START, stop()), auth=auth) as (model, server):
        await ask(model, model.prepare(request()))

    sent = {name: value for name, value in server.heads[0].items() if name in ("x-api-key", "authorization")}
    assert sent == expected


@pytest.mark.parametrize("slice", [1, 7, 100_000])
async def test_text_and_parallel_tool_calls_arrive_however_they_are_cut(slice: int) -> None:
    body = (
        START,
        text(0, "Let me ", "look ☃."),
        tool_use(1, "toolu_1", "inventory__check_stock", '{"sk', 'u": "BO', 'LT8", "n": [1, {"a": null}]', "}"),
        tool_use(2, "toolu_2", "clock"),
        stop("tool_use"),
    )
    async with asking(stream(*body, slice=slice)) as (model, _):
        events = await ask(model, model.prepare(request()))

    assert spoken(events) == "Let me look ☃."
    assert whole(events) == [
        {"type": "text", "text": "Let me look ☃."},
        {
            "type": "tool_use",
            "id": "toolu_1",
            "name": "inventory__check_stock",
            "input": {"sku": "BOLT8", "n": [1, {"a": None}]},
        },
        {"type": "tool_use", "id": "toolu_2", "name": "clock", "input": {}},
    ]
    assert events[-1] == Finished("tool_use", ModelUsage(input_tokens=25, output_tokens=15, cache_read_input_tokens=7))


async def test_text_is_there_before_the_answer_is_complete() -> None:
    go_on = asyncio.Event()

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(START + text(0, "Yes.")))
        await go_on.wait()
        writer.write(chunk(stop()) + b"0\r\n\r\n")

    async with asking(say, bounds=Bounds()) as (model, _):
        events = model.ask(model.prepare(request()))
        assert await anext(events) == TextDelta(0, "Yes.")
        go_on.set()
        assert isinstance([event async for event in events][-1], Finished)


async def test_a_connection_is_kept_for_the_next_request() -> None:
    async with asking(stream(START, text(0, "Yes."), stop())) as (model, server):
        for _ in range(3):
            await ask(model, model.prepare(request()))

        assert (len(server.bodies), server.connections) == (3, 1)


UNENDING = begin({"type": "text"}) + more("and")


async def test_whoever_is_cancelled_ends_the_request() -> None:
    async with asking(endless(UNENDING), bounds=Bounds()) as (model, server):
        heard = asyncio.Event()

        async def listen() -> None:
            async for _ in model.ask(model.prepare(request())):
                heard.set()

        listening = asyncio.create_task(listen())
        await heard.wait()
        listening.cancel()
        await asyncio.wait({listening})

        assert listening.cancelled()
        async with asyncio.timeout(PATIENCE):
            await server.left.wait()


async def test_whoever_closes_the_answer_ends_the_request() -> None:
    async with asking(endless(UNENDING), bounds=Bounds()) as (model, server):
        async with aclosing(model.ask(model.prepare(request()))) as events:
            assert await anext(events) == TextDelta(0, "and")

        async with asyncio.timeout(PATIENCE):
            await server.left.wait()


# ------------------------------------------------------------ servers that speak it in their own way


@pytest.mark.parametrize(
    "body",
    [
        pytest.param([text(0, "Yes."), sse({"type": "message_stop"})], id="no start, no usage, no reason"),
        pytest.param([START, b": a comment\n\n", text(0, "Yes."), stop(None), b"data: [DONE]\n\n"], id="vLLM"),
        pytest.param([b"data: " + text(0, "Yes.").split(b"data: ", 1)[1], stop()], id="no event field"),
        pytest.param(
            [
                START,
                begin({"type": "thinking", "thinking": ""}),
                sse({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm"}}),
                end(),
                sse({"type": "a_new_kind_of_event", "what": 1}),
                text(1, "Yes."),
                stop(),
            ],
            id="thinking, and what is new",
        ),
        pytest.param([(START + text(0, "Yes.") + stop()).replace(b"\n", b"\r\n")], id="CRLF"),
    ],
)
async def test_what_other_servers_leave_out_or_add_is_no_failure(body: list[bytes]) -> None:
    async with asking(stream(*body)) as (model, _):
        events = await ask(model, model.prepare(request()))

    assert whole(events) == [{"type": "text", "text": "Yes."}]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.stop_reason == "end_turn"


async def test_a_tool_call_that_the_token_limit_cut_off_is_left_out() -> None:
    body = START, text(0, "I will"), tool_use(1, "toolu_1", "write", '{"path": "/a", "con'), stop("max_tokens")
    async with asking(stream(*body)) as (model, _):
        events = await ask(model, model.prepare(request()))

    assert whole(events) == [{"type": "text", "text": "I will"}]
    assert isinstance(events[-1], Finished)
    assert events[-1].stop_reason == "max_tokens"


# ------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("say", "kind", "retry_after"),
    [
        (answer("429 Too Many Requests", error("rate_limit_error", "slow"), retry_after="7"), "rate_limited", 7),
        (answer("429 Too Many Requests", b"<html>", retry_after_ms="1500", retry_after="2"), "rate_limited", 1.5),
        (answer("429 Too Many Requests", b"", retry_after="soon"), "rate_limited", None),
        (answer("529 Overloaded", error("overloaded_error", "Overloaded")), "overloaded", None),
        (answer("500 Oops", error("api_error", "Internal server error")), "failed", None),
        (answer("503 Loading", b"null", retry_after="3"), "failed", 3),
        (answer("400 Bad", error("invalid_request_error", "messages: at least one")), "refused", None),
        (answer("401 No", error("authentication_error", "invalid x-api-key")), "refused", None),
        (answer("404 No", error("not_found_error", "model: x")), "refused", None),
        (answer("404 No", b"not found"), "refused", None),
        (answer("413 Large", error("request_too_large", "32 MB")), "context_too_long", None),
        (answer("413 Large", b"<html>"), "context_too_long", None),
        (
            answer("400 Bad", error("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum")),
            "context_too_long",
            None,
        ),
        (
            answer("400 Bad", error("invalid_request_error", "input length and `max_tokens` exceed context limit: 1")),
            "context_too_long",
            None,
        ),
        (
            answer("400 Bad", error("BadRequestError", "This model's maximum context length is 8192 tokens.")),
            "context_too_long",
            None,
        ),
        (answer("400 Bad", error("exceed_context_size_error", "the request exceeds")), "context_too_long", None),
        (answer("200 OK", b"<p>Welcome", content_type="text/html"), "refused", None),
    ],
)
async def test_a_refusal_says_of_what_kind_it_is(say: Say, kind: str, retry_after: float | None) -> None:
    failed = await failure(say)

    assert (failed.kind, failed.retry_after) == (kind, retry_after)


async def test_a_date_to_retry_after_is_seconds_from_now() -> None:
    failed = await failure(answer("429 Wait", b"", retry_after="Fri, 31 Dec 2999 23:59:59 GMT"))
    past = await failure(answer("429 Wait", b"", retry_after="Fri, 31 Dec 1999 23:59:59 GMT"))

    assert failed.retry_after is not None
    assert failed.retry_after > 1e9
    assert past.retry_after == 0


async def test_the_key_is_in_no_message() -> None:
    mirrored = await failure(answer("401 No", error("authentication_error", f"key {KEY} is\r\nunknown " + "x" * 5000)))
    streamed = await failure(stream(START, sse({"type": "error", "error": {"type": "api_error", "message": KEY}})))
    huge = await failure(answer("400 Bad", error("invalid_request_error", KEY * 10_000)))

    assert "401: key [key] is unknown xxx" in mirrored.message
    assert len(mirrored.message) < 400
    for failed in (mirrored, streamed, huge):
        assert "secret" not in failed.message
    assert huge.message.endswith("answered 400")  # more than is read of a refusal


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_a_redirect_is_not_followed(status: str) -> None:
    async with serving(stream(START, stop())) as elsewhere:
        failed = await failure(answer(status, b"", location=elsewhere.url + "/v1/messages"))

        assert failed.kind == "refused"
        assert "redirects are not followed" in failed.message
        assert elsewhere.url not in failed.message
        assert elsewhere.bodies == []


# ------------------------------------------------------------ streams that go wrong


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("overloaded", {"type": "overloaded_error", "message": "Overloaded"}),
        ("rate_limited", {"type": "rate_limit_error", "message": "Too fast"}),
        ("failed", {"type": "api_error", "message": "Oops"}),
        ("failed", "oops"),
    ],
)
async def test_an_error_in_the_middle_of_an_answer_is_told_by_its_kind(kind: str, said: object) -> None:
    failed = await failure(stream(START, text(0, "I thi"), sse({"type": "error", "error": said})))

    assert failed.kind == kind


def cut(*events: bytes) -> Say:
    """Says these events, and is gone."""

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(b"".join(events)))
        await writer.drain()
        writer.close()

    return say


@pytest.mark.parametrize(
    "say",
    [
        pytest.param(cut(START, text(0, "Hal")[:150]), id="in a block"),
        pytest.param(cut(START, text(0, "All."), stop()[:-1]), id="before its last byte"),
        pytest.param(stream(START, text(0, "All.")), id="in order, but without message_stop"),
        pytest.param(stream(), id="empty"),
    ],
)
async def test_an_answer_that_is_cut_off_has_failed(say: Say) -> None:
    assert (await failure(say)).kind == "failed"


@pytest.mark.parametrize(
    "events",
    [
        [tool_use(0, "toolu_1", "write", '{"path": ')],
        [tool_use(0, "toolu_1", "write", "[1]")],
        [tool_use(0, "toolu_1", "write", '{"a": 1, "a": 2}')],
        [tool_use(0, "toolu_1", "write", '{"a": NaN}')],
        [tool_use(0, "toolu_1", "write", '{"a": "\\ud83d"}')],
        [tool_use(0, "toolu_1", "write", '{"a": 1} {"b": 2}')],
        [tool_use(0, "toolu_1", "write", '{"a":' * 5000)],
        [tool_use(0, "", "write", "{}")],
        [tool_use(0, "toolu_1", "x" * 300, "{}")],
        [tool_use(0, "toolu_1", "a"), tool_use(1, "toolu_1", "b")],
        [text(0, "a"), text(0, "b")],
        [text(1, "a"), text(0, "b")],
        [begin({"type": "text"})],
        [begin({"type": "text"}, index="0")],
        [begin({"type": "text"}, index=True), end(1)],
        [more("a")],
        [begin({"type": "text"}), sse({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta"}})],
        [end(3)],
        [b"data: {not json\n\n"],
        [b"data: [1, 2]\n\n"],
        [b'data: {"type": "\xff"}\n\n'],
        [*(text(index, "a") for index in range(5))],
        [b"data: " + b"x" * 30_000 + b"\n\n"],
    ],
)
async def test_an_answer_that_cannot_be_read_is_malformed(events: list[bytes]) -> None:
    assert (await failure(stream(START, *events, stop("tool_use")))).kind == "malformed"


def endless(event: bytes) -> Say:
    """Says the start of an answer, and then the same event for ever."""

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(START + event))
        while True:
            writer.write(chunk(sse({"type": "ping"})))
            await writer.drain()
            await asyncio.sleep(0.005)

    return say


async def test_a_model_that_streams_for_ever_is_cut_off_by_time() -> None:
    failed = await failure(endless(UNENDING), bounds=Bounds(idle=0.3, whole=0.4))

    assert failed.kind == "failed"
    assert "longer than 0.4 s" in failed.message


async def test_a_model_that_streams_for_ever_is_cut_off_by_size() -> None:
    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(START + begin({"type": "text"})))
        while True:
            writer.write(chunk(more("x" * 10_000)))
            await writer.drain()

    failed = await failure(say)

    assert failed.kind == "malformed"
    assert "more than 100000 bytes" in failed.message


def silent_after(said: bytes) -> Say:
    """Says that, and nothing more."""

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await asyncio.Event().wait()

    return say


def dripping(said: bytes) -> Say:
    """Says that over and over, slowly enough to keep a reader who counts pieces waiting for ever."""

    async def say(writer: asyncio.StreamWriter) -> None:
        for byte in itertools.cycle(said):
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)

    return say


@pytest.mark.parametrize(
    ("say", "told"),
    [
        pytest.param(silent_after(b""), "did not answer within 0.3 s", id="no head"),
        pytest.param(dripping(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100), "did not answer", id="a slow head"),
        pytest.param(silent_after(HEAD), "was silent for 0.3 s", id="no first event"),
        pytest.param(silent_after(HEAD + chunk(START)), "was silent for 0.2 s", id="silent in the middle"),
    ],
)
async def test_a_model_that_keeps_us_waiting_has_failed(say: Say, told: str) -> None:
    failed = await failure(say)

    assert failed.kind == "failed"
    assert told in failed.message


async def test_a_refusal_whose_body_never_ends_is_told_without_it() -> None:
    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 529 Overloaded\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(chunk(b"x" * 10_000))
            await writer.drain()

    assert (await failure(say)).kind == "overloaded"


async def test_a_server_that_is_not_there_has_failed(unused_tcp_port: int) -> None:
    model = MessagesApi(f"http://127.0.0.1:{unused_tcp_port}", clock=SystemClock(), key=KEY)

    with pytest.raises(ModelFailed, match="cannot be reached") as failed:
        await ask(model, model.prepare(request()))

    assert failed.value.kind == "failed"
    await model.close()


async def test_a_certificate_that_is_not_trusted_is_not_spoken_to(tmp_path: Path) -> None:
    issued = issue(tmp_path, "127.0.0.1")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(issued.cert, issued.key)
    async with serving(stream(START, text(0, "Yes."), stop()), tls=tls) as server:
        stranger = MessagesApi(server.url, clock=SystemClock(), key=KEY)
        with pytest.raises(ModelFailed, match="is not trusted") as failed:
            await ask(stranger, stranger.prepare(request()))
        await stranger.close()
        friend = MessagesApi(server.url, clock=SystemClock(), tls=ssl.create_default_context(cafile=issued.authority))
        events = await ask(friend, friend.prepare(request()))
        await friend.close()

    assert failed.value.kind == "refused"
    assert spoken(events) == "Yes."
    assert len(server.bodies) == 1


async def test_the_environment_names_no_proxy_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answer("502 Bad Gateway")) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        async with asking(stream(START, text(0, "Yes."), stop())) as (model, _):
            assert spoken(await ask(model, model.prepare(request()))) == "Yes."
        assert proxy.connections == 0
