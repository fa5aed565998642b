"""The life of a link and of a stream, as tables. Whatever is not in a table is not permitted.

States are IntEnums because a table is asked several times in every call, and only those are hashed without Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum, auto
from types import MappingProxyType

from arrowslit.protocol.frames import Kind


class Role(IntEnum):
    """The relay opens streams, the connector answers them. Nobody else is on a link."""

    RELAY = auto()
    CONNECTOR = auto()


class LinkState(IntEnum):
    """Where a link is in its life, seen from one end."""

    GREETING = auto()  # nothing has been said by the other side
    GREETED = auto()  # its hello has been read; the relay decides, the connector waits for the decision
    OPEN = auto()
    CLOSED = auto()


LINK: Mapping[tuple[Role, LinkState, Kind], LinkState] = MappingProxyType(
    {
        # what the end with that role may receive, and where it is afterwards
        (Role.CONNECTOR, LinkState.GREETING, Kind.HELLO): LinkState.GREETED,
        (Role.CONNECTOR, LinkState.GREETED, Kind.WELCOME): LinkState.OPEN,
        (Role.CONNECTOR, LinkState.GREETING, Kind.REFUSE): LinkState.CLOSED,
        (Role.CONNECTOR, LinkState.GREETED, Kind.REFUSE): LinkState.CLOSED,
        (Role.RELAY, LinkState.GREETING, Kind.HELLO): LinkState.GREETED,
        **{
            (role, LinkState.OPEN, kind): LinkState.OPEN
            for role in Role
            for kind in (Kind.PING, Kind.PONG, Kind.CREDIT, Kind.DRAIN)
        },
    }
)


class Request(IntEnum):
    """The half of a stream that the relay speaks."""

    BODY = auto()
    ENDED = auto()
    CANCELLED = auto()


class Reply(IntEnum):
    """The half of a stream that the connector speaks. A stream is over when this half is."""

    WAITING = auto()
    BODY = auto()
    ENDED = auto()


class Step(IntEnum):
    """What a frame does to the half of the stream that its sender speaks."""

    HEAD = auto()
    DATA = auto()
    END = auto()
    CANCEL = auto()
    RESET = auto()


REQUEST: Mapping[tuple[Request, Step], Request] = MappingProxyType(
    {
        (Request.BODY, Step.DATA): Request.BODY,
        (Request.BODY, Step.END): Request.ENDED,
        (Request.BODY, Step.CANCEL): Request.CANCELLED,
        (Request.ENDED, Step.CANCEL): Request.CANCELLED,
    }
)

REPLY: Mapping[tuple[Reply, Step], Reply] = MappingProxyType(
    {
        (Reply.WAITING, Step.HEAD): Reply.BODY,
        (Reply.WAITING, Step.RESET): Reply.ENDED,
        (Reply.BODY, Step.DATA): Reply.BODY,
        (Reply.BODY, Step.END): Reply.ENDED,
        (Reply.BODY, Step.RESET): Reply.ENDED,
    }
)


class Ending(StrEnum):
    """How a stream ended, in the connector's words. Only the relay turns one into an error for a caller."""

    COMPLETE = "complete"
    DENIED = "denied"  # the ceiling
    NOT_STARTED = "not_started"  # never handed to the target
    LOST = "lost"  # handed over; the target died, or the connection to it broke, or the call was given up
    TOO_LARGE = "too_large"
