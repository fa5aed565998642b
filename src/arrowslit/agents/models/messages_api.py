"""MessagesApi: a server that speaks the Anthropic Messages API with streaming, asked once per attempt.

Over httpx2 and without the official SDK, so that the very bytes that were recorded leave, and because the SDK takes two
seconds to import.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import NoReturn

import httpx2
import msgspec

from arrowslit.agents.models.model import FailureKind, Finished, ModelEvent, ModelFailed, ModelRequest, Prepared
from arrowslit.agents.models.wire import MAX_BLOCKS, Reader, error_kind, server_failure, write
from arrowslit.clock import Clock
from arrowslit.protocol.sse import Events, TooLong

log = logging.getLogger(__name__)

VERSION = "2023-06-01"  # of the API
CONNECT = 10.0  # seconds
KEEP = 30.0  # seconds for which an idle connection is kept: a tool call later the TLS handshake is saved
SETTLE = 0.2  # seconds for the end of an answer's body to follow its last event, so that the connection can be kept
ERROR_BODY = 64 * 1024  # bytes of a refusal that are read


class Auth(Enum):
    """In which header the key goes. Of servers that are not Anthropic's some read the one, some the other."""

    API_KEY = "x-api-key"
    BEARER = "bearer"
    BOTH = "both"

    def headers(self, key: str | None) -> Mapping[str, str]:
        """The headers that carry `key`; none without one."""
        if key is None:
            return {}
        bearer, plain = {"authorization": f"Bearer {key}"}, {"x-api-key": key}
        return {Auth.API_KEY: plain, Auth.BEARER: bearer, Auth.BOTH: plain | bearer}[self]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where an answer ends at the latest. Times are seconds, `size` is bytes of the stream.

    `first` is until the first event: a long prompt takes minutes on a machine without a graphics card. `idle` is
    between two pieces after that; Anthropic sends a ping now and then. `whole` stops who keeps sending pings.
    """

    first: float = 300.0
    idle: float = 120.0
    whole: float = 1800.0
    size: int = 32 << 20
    event: int = 4 << 20
    blocks: int = MAX_BLOCKS


class MessagesApi:
    """Fulfils Model. `base_url` is `https://host[:port][/prefix]` without a slash at its end.

    TLS trusts what OpenSSL trusts here. The environment is not asked, redirects are not followed.
    """

    def __init__(
        self,
        base_url: str,
        *,
        clock: Clock,
        key: str | None = None,
        auth: Auth = Auth.API_KEY,
        bounds: Bounds = Bounds(),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._url = httpx2.URL(base_url + "/v1/messages")
        self._host = self._url.netloc.decode()
        self._clock = clock
        self._key = key
        self._bounds = bounds
        if tls is None:
            secure = self._url.scheme == "https"
            tls = ssl.create_default_context() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._http = httpx2.AsyncClient(
            headers={
                "accept": "text/event-stream",
                "accept-encoding": "identity",  # what arrives is then as long as it looks
                "anthropic-version": VERSION,
                "content-type": "application/json",
                "user-agent": "arrowslit",
                **auth.headers(key),
            },
            follow_redirects=False,
            trust_env=False,
            verify=tls,
            timeout=httpx2.Timeout(None, connect=CONNECT),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=KEEP),
        )

    @property
    def facts(self) -> Mapping[str, object]:
        """See Model."""
        return {"provider": "messages_api", "host": self._host, "scripted": False}

    def prepare(self, request: ModelRequest) -> Prepared:
        """See Model."""
        return Prepared(request, self._host, write(request))

    async def close(self) -> None:
        """See Model."""
        await self._http.aclose()

    async def ask(self, prepared: Prepared) -> AsyncGenerator[ModelEvent, None]:
        """See Model."""
        reader = Reader(secret=self._key, max_blocks=self._bounds.blocks)
        events = Events(limit=self._bounds.event)
        ends = asyncio.get_running_loop().time() + self._bounds.whole
        async with self._answer(prepared.body) as response, aclosing(self._pieces(response, ends)) as pieces:
            async for piece in pieces:
                for event in _fed(events, piece):
                    for news in reader.take(event) if event else ():
                        if isinstance(news, Finished):
                            await _settle(pieces)
                            yield news
                            return
                        yield news
        raise ModelFailed("failed", f"{self._host} broke its answer off")

    # ------------------------------------------------------------ one exchange

    @asynccontextmanager
    async def _answer(self, body: bytes) -> AsyncIterator[httpx2.Response]:
        """Send `body` and have a stream of events, or ModelFailed."""
        request = self._http.build_request("POST", self._url, content=body)
        try:
            async with asyncio.timeout(self._bounds.first):
                response = await self._http.send(request, stream=True)
        except TimeoutError:
            raise ModelFailed("failed", f"{self._host} did not answer within {self._bounds.first:g} s") from None
        except httpx2.RequestError as error:
            raise self._broken(error) from error
        try:
            if response.status_code != 200:
                raise await self._refusal(response)
            if not response.headers.get("content-type", "text/event-stream").startswith("text/event-stream"):
                self._not_the_api("something other than a stream of events")
            if response.headers.get("content-encoding", "identity") != "identity":
                self._not_the_api("in an encoding that it was not asked for")
            yield response
        finally:
            await response.aclose()

    async def _pieces(self, response: httpx2.Response, ends: float) -> AsyncGenerator[bytes, None]:
        """What arrives of the body, within bounds; it ends where the connection does. Raises ModelFailed."""
        loop, size, patience = asyncio.get_running_loop(), 0, self._bounds.first
        async with aclosing(response.aiter_raw()) as body:
            while True:
                try:
                    async with asyncio.timeout_at(min(loop.time() + patience, ends)):
                        piece = await anext(body)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    late = loop.time() >= ends
                    why = f"took longer than {self._bounds.whole:g} s" if late else f"was silent for {patience:g} s"
                    raise ModelFailed("failed", f"{self._host} {why} in the middle of its answer") from None
                except httpx2.RequestError as error:
                    raise self._broken(error) from error
                patience = self._bounds.idle
                size += len(piece)
                if size > self._bounds.size:
                    raise ModelFailed("malformed", f"{self._host} answered with more than {self._bounds.size} bytes")
                yield piece

    # ------------------------------------------------------------ failures

    async def _refusal(self, response: httpx2.Response) -> ModelFailed:
        """What a status other than 200 says."""
        status = response.status_code
        what = f"{self._host} answered {status}"
        if 300 <= status <= 399:
            return ModelFailed("refused", f"{what}: redirects are not followed; give the address it points to")
        error = await self._error(response)
        log.warning("%s, request-id %.80s", what, response.headers.get("request-id", "unknown"))
        pause = _retry_after(response.headers, self._clock.now())
        return server_failure(_kind(status, error), what, error, secret=self._key, retry_after=pause)

    async def _error(self, response: httpx2.Response) -> object:
        """The member `error` of a refusal's body; None where it cannot be had."""
        body = bytearray()
        try:
            async with asyncio.timeout(CONNECT), aclosing(response.aiter_raw()) as pieces:
                async for piece in pieces:
                    body += piece
                    if len(body) > ERROR_BODY:
                        return None
            said = msgspec.json.decode(bytes(body))
        except (TimeoutError, httpx2.RequestError, msgspec.MsgspecError, ValueError, RecursionError):
            return None
        return said.get("error") if isinstance(said, dict) else None

    def _broken(self, error: httpx2.RequestError) -> ModelFailed:
        """Why there is no connection (any more). A certificate that is not trusted does not get better by itself."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return ModelFailed(
                    "refused", f"the TLS certificate of {self._host} is not trusted: {cause.verify_message}"
                )
            cause = cause.__cause__ or cause.__context__
        if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout)):
            return ModelFailed("failed", f"{self._host} cannot be reached")
        return ModelFailed("failed", f"the connection to {self._host} broke")

    def _not_the_api(self, what: str) -> NoReturn:
        raise ModelFailed("refused", f"{self._host} answered {what}: it does not seem to speak the Messages API")


def _fed(events: Events, piece: bytes) -> list[bytes]:
    """The data of the events that `piece` completes."""
    try:
        return [event.data for event in events.feed(piece)]
    except TooLong as error:
        raise ModelFailed("malformed", f"the model's answer cannot be read: {error}") from error


async def _settle(pieces: AsyncGenerator[bytes, None]) -> None:
    """After the last event, wait for the end of the body, shortly; nothing in it matters any more."""
    try:
        async with asyncio.timeout(SETTLE):
            async for _ in pieces:
                pass
    except (ModelFailed, TimeoutError):
        return


def _kind(status: int, error: object) -> FailureKind:
    match status:
        case 429:
            return "rate_limited"
        case 529:
            return "overloaded"
        case 413:
            return "context_too_long"
        case 408:
            return "failed"
    if status >= 500:
        return "overloaded" if error_kind(error, "failed") == "overloaded" else "failed"
    return error_kind(error, "refused")


def _retry_after(headers: httpx2.Headers, now: float) -> float | None:
    """Seconds to wait, from `retry-after-ms` (Anthropic) or `retry-after` in either form (RFC 9110, 10.2.3)."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()[:64]
        if text.replace(".", "", 1).isdecimal() and text.isascii():
            return float(text) * unit
    try:
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - now)
    except (KeyError, ValueError, OverflowError):
        return None
