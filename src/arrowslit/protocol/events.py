"""What a Peer tells its owner. Named tuples: there are several of them in every call."""

from __future__ import annotations

from typing import NamedTuple

from arrowslit.protocol.state import Ending


class Greeted(NamedTuple):
    """The other side's first words (hello.py)."""

    payload: bytes


class Welcomed(NamedTuple):
    """To the connector: the link is open."""

    payload: bytes


class Refused(NamedTuple):
    """To the connector: there will be no link."""

    payload: bytes


class StreamOpened(NamedTuple):
    """To the connector: a request. `ended`: it has no body."""

    stream: int
    head: bytes
    ended: bool


class HeadArrived(NamedTuple):
    """To the relay: the response head."""

    stream: int
    head: bytes


class DataArrived(NamedTuple):
    """A piece of a body. Its reader gives the bytes back with `Peer.consumed`."""

    stream: int
    data: bytes


class RequestEnded(NamedTuple):
    """To the connector: the request body is complete."""

    stream: int


class StreamCancelled(NamedTuple):
    """To the connector: give up; `reason` is a word. An ending has still to be sent."""

    stream: int
    reason: str


class StreamEnded(NamedTuple):
    """To the relay: how the stream ended. `code` and `detail` are the connector's words, for the log and for
    `denied`.
    """

    stream: int
    ending: Ending
    code: str
    detail: str


class SendReady(NamedTuple):
    """What was queued on this stream has left; there is room for more."""

    stream: int


class Ponged(NamedTuple):
    """A ping was answered after so many seconds."""

    round_trip: float


class Draining(NamedTuple):
    """The other side opens (relay) or takes (connector) no new streams from here on."""


Event = (
    Greeted
    | Welcomed
    | Refused
    | StreamOpened
    | HeadArrived
    | DataArrived
    | RequestEnded
    | StreamCancelled
    | StreamEnded
    | SendReady
    | Ponged
    | Draining
)
