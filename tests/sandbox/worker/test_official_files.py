"""What a server may answer when it is asked for work and files, and is not ours."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest
from anthropic import DefaultAsyncHttpxClient

from arrowslit.errors import Error
from arrowslit.sandbox.official import Client, OfficialQueue
from arrowslit.sandbox.official_files import MOST_PAGES, OfficialShelf

DEEP = b'{"a":' * 50_000 + b"1" + b"}" * 50_000
ENTRY = {"id": "file_1", "filename": "a", "purpose": "input", "size_bytes": 1, "sha256": "0"}
JSON = {"content-type": "application/json"}


async def streamed(content: bytes) -> AsyncIterator[bytes]:
    """As it comes from a network."""
    yield content


def client(answer: Callable[[httpx2.Request], httpx2.Response]) -> Client:
    """Of a server that answers so, and is asked once."""
    http = DefaultAsyncHttpxClient(transport=httpx2.MockTransport(answer))
    return Client(base_url="http://relay.test", auth_token="key", http_client=http, max_retries=0)


def body(content: bytes) -> Client:
    """Of a server that answers everything with this JSON."""
    return client(lambda _: httpx2.Response(200, content=streamed(content), headers=JSON))


async def test_a_poll_answered_with_deep_json_is_a_failed_question() -> None:
    async with body(DEEP) as server:
        with pytest.raises(Error) as refused:
            await OfficialQueue(server, "env_1", "worker").poll()

    assert refused.value.code == "relay_unreachable"


@pytest.mark.parametrize(
    "content",
    [
        DEEP,
        b"{}",
        b"[]",
        b"\xff",
        b'{"data": []}',
        json.dumps({"data": [{**ENTRY, "size_bytes": -1}], "next_page": None}).encode(),
        json.dumps({"data": [{"id": "file_1"}], "next_page": None}).encode(),
    ],
)
async def test_a_list_of_files_that_is_none_is_a_failed_question(content: bytes) -> None:
    async with body(content) as server:
        with pytest.raises(Error) as refused:
            await OfficialShelf("session_1", server).list()

    assert refused.value.code == "relay_unreachable"


async def test_a_list_without_end_is_left() -> None:
    asked = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        page = json.dumps({"data": [ENTRY], "next_page": "more"}).encode()
        return httpx2.Response(200, content=streamed(page), headers=JSON)

    async with client(answer) as server:
        with pytest.raises(Error, match="goes on"):
            await OfficialShelf("session_1", server).list()

    assert len(asked) == MOST_PAGES


async def test_of_a_file_no_more_is_taken_than_was_announced() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100:
            sent += 1
            yield bytes(1024)

    async with client(lambda _: httpx2.Response(200, content=endless())) as server:
        assert await OfficialShelf("session_1", server).read("file_1", 1) == b"\0"

    assert sent < 3
