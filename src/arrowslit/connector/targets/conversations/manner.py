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


def legacy_manner(accept: str | None, version: str | None) -> Manner:
    """For a client of the legacy era that speaks `version`. It can resume events, and gets them if it named them first.

    What it named at all the relay has looked at: every client has to take both forms.
    """
    named = _named(accept)
    return Manner(named[:1] == [_EVENTS], version is not None and version >= _PRIMED_SINCE)


def modern_manner(accept: str | None) -> Manner:
    """For a client of the modern era, in which nothing is resumed: JSON is better wherever it may be."""
    return Manner(_named(accept) == [_EVENTS])


def _named(accept: str | None) -> list[str]:
    """The media types of MCP in the order of `accept`; a range that stands for both names JSON first."""
    found: list[str] = []
    for each in (accept or "*/*").split(","):
        media = each.partition(";")[0].strip().lower()
        found += [_JSON, _EVENTS] if media == "*/*" else [media] if media in (_JSON, _EVENTS) else []
    return found
