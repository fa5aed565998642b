"""Ports Channel and Program: a server that speaks JSON-RPC line by line, and how it is started, again and again."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self


class Listener(Protocol):
    """Who hears what a server says. Both methods return at once and raise nothing."""

    def message(self, line: bytes) -> None:
        """One line without its end: a JSON-RPC message, or whatever else a server prints."""
        ...

    def closed(self, why: str) -> None:
        """The server is gone; `why` completes the sentence "the server …". Said once, after its last line."""
        ...


class Channel(Protocol):
    """One running server."""

    @property
    def usable(self) -> bool:
        """Whether a message sent now can be read by the server, as far as is known."""
        ...

    def send(self, line: bytes) -> None:
        """Send one message, which holds no line end. Does nothing if the channel is not usable."""
        ...

    async def drain(self) -> None:
        """Wait while the server reads too slowly; return at once if it is gone."""
        ...

    async def close(self) -> None:
        """Stop the server: politely first, then by force. Returns when it is gone, within ten seconds."""
        ...

    def last_words(self) -> str:
        """The end of what it said beside the protocol (stderr), printable, perhaps empty."""
        ...


class Program(Protocol):
    """A server that can be started many times. Entered before the first start; leaving it stops all that run."""

    @property
    def name(self) -> str:
        """What to call it in a log line."""
        ...

    @property
    def running(self) -> int:
        """How many are running or being stopped."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def start(self, listener: Listener) -> Channel:
        """Start one more. Raises NotStarted if that is impossible or too many run already."""
        ...

    def hint(self, last_words: str) -> str:
        """What somebody could do about a server that ended with these words before it answered anything."""
        ...
