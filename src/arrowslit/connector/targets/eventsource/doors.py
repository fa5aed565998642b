"""Doors of a server of MCP 2024-11-05 (HTTP with SSE): one to listen at, and one to post to, which it names itself."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from urllib.parse import urljoin

from arrowslit.connector.targets.target import NotStarted, Request
from arrowslit.connector.targets.upstream.address import Endpoint, read_endpoint
from arrowslit.connector.targets.upstream.forwarding import RequestHeads
from arrowslit.errors import Error

log = logging.getLogger(__name__)

_LISTEN = Request("GET", (("accept", "text/event-stream"), ("cache-control", "no-store")), b"", "")
_CONTENT = (("content-type", "application/json"), ("accept", "application/json, text/event-stream"))


@dataclass(frozen=True, slots=True)
class Doors:
    """The server at `endpoint`. `authorization` is the value of the Authorization header for it."""

    endpoint: Endpoint
    authorization: str | None = None

    def listen(self) -> bytes:
        """The request that opens a stream. Raises Error `target_invalid` for a credential that is no header value."""
        return RequestHeads(self.endpoint, self.authorization).write(_LISTEN)

    def post_to(self, said: str) -> RequestHeads:
        """Writes requests to the address that the server said, as its `endpoint` event, on its own origin.

        Raises NotStarted for any other: what is said to this server goes to no other place, and least a credential.
        """
        try:
            named = read_endpoint(urljoin(str(self.endpoint), said))
        except (Error, ValueError) as error:
            log.warning("%s names an address that is none: %s", self.endpoint, error)
            raise NotStarted("it names an address for messages that is none") from None
        if (named.tls, named.place) != (self.endpoint.tls, self.endpoint.place):
            log.warning("%s wants messages to be sent elsewhere, to %s", self.endpoint, named)
            raise NotStarted("it wants messages to be sent elsewhere")
        return RequestHeads(named, self.authorization)


def posted(heads: RequestHeads, line: bytes) -> bytes:
    """The head of the request that brings `line`."""
    return heads.write(Request("POST", _CONTENT, line, ""))
