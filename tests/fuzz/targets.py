"""What fuzzing asks: five readers of what strangers send, each as a function of bytes that fails when a promise breaks.

`make fuzz` lets atheris look for such bytes, `test_targets.py` lets Hypothesis. A promise is: nothing is raised but the
error that is documented, the slicing does not matter, and what was read and written again is read as the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from arrowslit.connector.targets.upstream.address import read_endpoint, read_place
from arrowslit.edge import guard
from arrowslit.errors import Error
from arrowslit.policy import ceiling
from arrowslit.policy.decide import ALLOW
from arrowslit.protocol import frames, jsonrpc, sse

RULES = guard.Rules(suffixes=(b".tunnel.localhost",))
EVENT_LIMIT = 512  # bytes: small, so that it is met


@dataclass(frozen=True, slots=True)
class _Asked:
    method: str
    tool: str | None = None
    resources: Collection[str] = ()
    prompt: str | None = None
    unknown: str | None = None
    tenants: Collection[str | None] = ("acme",)


def frame(data: bytes) -> None:
    """The decoder of frames: any slicing gives the same frames and the same end; writing gives the bytes back."""
    (whole, refused), (sliced, also_refused) = _frames([data]), _frames(slices(data))
    assert also_refused == refused
    assert sliced == whole if refused is None else whole == []
    whole = sliced
    written = b"".join(frames.encode(each.kind, each.stream, each.payload, each.flags) for each in whole)
    assert data.startswith(written)
    assert refused is None or refused in frames.REASONS


def json_message(data: bytes) -> None:
    """The reader of JSON-RPC: what it lets in is the same message when it was written anew."""
    try:
        message = jsonrpc.read(data)
    except jsonrpc.Refused as refused:
        assert refused.message
        return
    written = jsonrpc.write(message)
    again = jsonrpc.read(written)
    assert jsonrpc.write(again) == written
    assert (again.kind, again.id, again.method) == (message.kind, message.id, message.method)


def events(data: bytes) -> None:
    """The reader of server-sent events: no byte is lost, any slicing gives the same, too long is too long."""
    whole, rest, too_long = _events([data])
    sliced, sliced_rest, sliced_too_long = _events(slices(data))
    assert [_said(each) for each in sliced] == [_said(each) for each in whole]
    assert sliced_too_long == too_long
    if not too_long:
        assert b"".join(each.raw for each in whole) + rest == data
        assert b"".join(each.raw for each in sliced) + sliced_rest == data


def url(data: bytes) -> None:
    """The guard of URLs and of request heads: one reading or none."""
    text = data.decode("utf-8", errors="surrogateescape")
    try:
        endpoint = read_endpoint(text)
    except Error as refused:
        assert refused.code == "target_invalid"
        assert len(text) < len("https://") or text not in refused.message  # it may hold a secret
    else:
        assert read_endpoint(str(endpoint)) == endpoint
        assert read_place(str(endpoint.place)) == endpoint.place
        assert _host(urlsplit(text).hostname) == _host(endpoint.place.host)
    _head(data)


def ceiling_file(data: bytes) -> None:
    """The ceiling: what is not clearly allowed is not, and a file that can be read says the same as its summary."""
    try:
        found = ceiling.parse(data.decode("utf-8", errors="surrogateescape"))
    except Error as refused:
        assert refused.code == "ceiling_invalid"
        return
    assert found.limits
    assert found.allows("delete_everything") == (found.tools.any or "delete_everything" in found.tools.listed)
    assert found.resources.any or found.decide(_Asked("resources/read", resources=("file:///etc/passwd",))) != ALLOW
    assert found.decide(_Asked("unheard/of")) != ALLOW, "a method that nobody knows passes no ceiling"
    assert found.tenants.any or found.decide(_Asked("tools/list", tenants=())) != ALLOW


TARGETS: dict[str, Callable[[bytes], None]] = {
    "frame": frame,
    "json": json_message,
    "sse": events,
    "url": url,
    "ceiling": ceiling_file,
}


def slices(data: bytes) -> Iterator[bytes]:
    """`data` in pieces of uneven length, which its own bytes decide."""
    at = 0
    while at < len(data):
        size = 1 + data[at] % 7
        yield data[at : at + size]
        at += size


def _frames(chunks: Iterator[bytes] | list[bytes]) -> tuple[list[frames.Frame], str | None]:
    decoder, found = frames.Decoder(), list[frames.Frame]()
    try:
        for chunk in chunks:
            found += decoder.feed(chunk)
    except frames.ProtocolError as broken:
        return found, broken.reason
    return found, None


def _events(chunks: Iterator[bytes] | list[bytes]) -> tuple[list[sse.Event], bytes, bool]:
    reader, found = sse.Events(EVENT_LIMIT), list[sse.Event]()
    try:
        for chunk in chunks:
            found += reader.feed(chunk)
    except sse.TooLong as too_long:
        return found + too_long.events, b"", True
    return found, reader.rest(), False


def _said(event: sse.Event) -> tuple[bytes, str | None, str | None, int | None]:
    return event.data, event.event, event.id, event.retry


def _head(data: bytes) -> None:
    """The same bytes as a request head: its lines are the target, and fields with a colon."""
    target, *lines = data.split(b"\n")
    fields = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    try:
        guard.check(b"POST", target, "1.1", fields, RULES)
    except Error as refused:
        assert refused.hint
        return
    path = target.partition(b"?")[0]
    assert path.startswith(b"/")
    assert b"/../" not in path + b"/"
    assert b"\0" not in path
    assert sum(name == b"host" for name, _ in fields) == 1
    assert sum(name == b"authorization" for name, _ in fields) <= 1


def _host(host: str | None) -> str | None:
    """As another reader may spell it: an IPv6 address may be shortened in several ways."""
    return "[address]" if host is not None and ":" in host else host
