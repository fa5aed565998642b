"""PURE: how a client wants to be answered, by the headers of its request."""

from __future__ import annotations

from dataclasses import dataclass

_EVENTS, _JSON = "text/event-stream", "application/json"
_PRIMED_SINCE = "2025-11-25"  # MCP, changelog; earlier clients read the data of an event as JSON even if it is empty


@dataclass(frozen=True, slots=True)
class Manner:
    """`events`: it shall be events even where JSON would do. `primes`: they begin with an empty one that has an id, so
    that the stream can be resumed from its beginning.
    """

    events: bool = False
    primes: bool = False


def legacy_manner(accept: str | None, version: str | None) -> Manner | None:
    """For a client of the legacy era that speaks `version`; None if nothing is acceptable to it.

    It can resume events, and so it gets them where it named them first.
    """
    if (named := _named(accept)) is None:
        return None
    return Manner(named[0] == _EVENTS, version is not None and version >= _PRIMED_SINCE)


def modern_manner(accept: str | None) -> Manner | None:
    """For a client of the modern era, in which nothing is resumed: JSON is better wherever it may be."""
    if (named := _named(accept)) is None:
        return None
    return Manner(_JSON not in named)


def _named(accept: str | None) -> list[str] | None:
    """The media types of MCP in the order of `accept`; None without that of events, which any answer may turn into."""
    ranges = [each.partition(";")[0].strip().lower() for each in (accept or "*/*").split(",")]
    if "*/*" in ranges:
        ranges += [_JSON, _EVENTS]
    named = [each for each in ranges if each in (_EVENTS, _JSON)]
    return named if _EVENTS in named else None
