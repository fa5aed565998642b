"""Port Target: any MCP server, seen as one Streamable HTTP endpoint that answers one exchange at a time, piece by
piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self

import msgspec

from arrowslit.tunnel import Headers


class Cancel(StrEnum):
    """Why an exchange is given up while it runs."""

    DEADLINE = "deadline"  # the server should be told to stop
    CALLER_LEFT = "caller_left"  # in the legacy era a disconnect is not a cancel
    LINK_LOST = "link_lost"


class Request(msgspec.Struct, frozen=True):
    """One HTTP request for the target: `POST`, `GET` or `DELETE`, lower-case header names, the whole body.

    Of the caller's headers only those that MCP knows are here (accept, content-type, last-event-id, mcp-*, trace
    context); never a credential, a host or an origin.
    """

    method: str
    headers: Headers
    body: bytes
    call_id: str

    def header(self, name: str) -> str | None:
        """The value of a header (lower-case name), None if absent."""
        return next((value for key, value in self.headers if key == name), None)


class Asker(Protocol):
    """Where a target's answer goes, and its ending. Nothing here waits; who writes much looks whether it is `full`."""

    def dispatched(self) -> None:
        """The target may have seen the request from here on. Called right before the first byte goes to it."""
        ...

    def head(self, status: int, headers: Headers) -> None:
        """The response head, once. Raises Lost for one that cannot be passed on; so does `piece`."""
        ...

    def piece(self, data: bytes) -> None:
        """A piece of the response body, in order."""
        ...

    @property
    def full(self) -> bool:
        """Whether the other side is slow, and wants no more until `Exchange.resume`."""
        ...

    def over(self, error: BaseException | None = None) -> None:
        """The exchange has ended, once: the body is complete, or NotStarted, Lost, TooLarge, or CancelledError for one
        that was given up. Anything else is a defect of the target.
        """
        ...


class Reply(Protocol):
    """The asker as a coroutine sees it (coroutine.py), which returns or raises when it is over, and can wait."""

    cancel: Cancel | None
    """Set just before the exchange's task is cancelled."""

    def dispatched(self) -> None:
        """See Asker."""
        ...

    def head(self, status: int, headers: Headers) -> None:
        """See Asker."""
        ...

    def piece(self, data: bytes) -> None:
        """See Asker."""
        ...

    async def drain(self) -> None:
        """Wait until what was written may be followed by more."""
        ...


class Exchange(Protocol):
    """An exchange that a target has begun, until it tells its asker that it is `over`."""

    def cancel(self, why: Cancel) -> None:
        """Let go of the target as `why` asks, and be over with CancelledError, within two seconds. Once is enough."""
        ...

    def resume(self) -> None:
        """The asker was full and has room again."""
        ...


class _Ended(Exception):
    """An exchange without an answer. The text is for our log and for `status`; `told` is what the caller learns, where
    that is less: an agent learns no internal address.
    """

    def __init__(self, why: str, *, told: str | None = None) -> None:
        super().__init__(why)
        self.told = told or why


class NotStarted(_Ended):
    """The request was never handed to the target: safe to try again."""


class Lost(_Ended):
    """The request was handed over, and the target died or the connection to it broke: nobody knows what it did."""


class TooLarge(Exception):
    """The target's answer passed the limit."""


class Target(Protocol):
    """An MCP server. Entering it makes it ready or raises Error `target_invalid` or `target_failed`; leaving it stops
    it.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def begin(self, request: Request, asker: Asker, tasks: asyncio.TaskGroup) -> Exchange:
        """Hand the request over, and pass the answer on as it comes until it is `over`; that may be before this
        returns. What has to be waited for runs in `tasks`.
        """
        ...

    def state(self) -> Mapping[str, object]:
        """Facts for `status` and `/readyz`: at least `ready` (bool) and `detail` (a sentence or None)."""
        ...
