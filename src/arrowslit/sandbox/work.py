"""Item: a piece of work as the queue hands it to a worker; the ports Queue and Sessions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

SESSION = "session"


@dataclass(frozen=True, slots=True)
class Item:
    """`kind` is "session", or something that a worker acknowledges and stops without doing anything ("healthcheck").

    `subject` is the session's id. `secret` holds the token to serve it with, as the server packed it.
    """

    id: str
    environment_id: str
    kind: str
    subject: str
    secret: str | None = field(default=None, repr=False)


class Queue(Protocol):
    """The queue of one environment. All raise Error: a retryable one while the server has trouble, another for good."""

    async def poll(self) -> Item | None:
        """The next item, waited for a little; None if there is none."""
        ...

    async def ack(self, item: Item) -> None:
        """Say that it was taken."""
        ...

    async def stop(self, item: Item) -> None:
        """Say that nothing more is done for it."""
        ...


class Sessions(Protocol):
    """Serves the sessions of items, each in a sandbox of its own."""

    async def serve(self, item: Item) -> None:
        """Serve it from its first heartbeat until the worker has left it. Raises nothing but what cancels it."""
        ...

    async def leave(self) -> None:
        """Leave all sessions: a call that runs goes on to its end and is answered, no other begins. The server is told
        first, so that it knows that what has not begun by then is for another worker. Does not wait for calls.
        """
        ...

    async def end(self) -> None:
        """End what runs in any sandbox, and leave all sessions: a call that runs is answered with that."""
        ...
