"""Api: /v1 of a relay for the command line, an answer as it came or an Error with its code. The SDK takes too long to
import for that.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx2

from arrowslit.errors import CODES, Error
from arrowslit.protocol import sse

JSON = dict[str, Any]

TIMEOUT = 30.0  # seconds; nothing under /v1 takes long, but for streams:
STREAM_TIMEOUT = 60.0  # seconds of silence; a ping comes every 15
PAGE = 100


class Api:
    """Speaks to the relay at `origin` with an API key. A path is given in its parts: `get("tunnels", tunnel_id)`.

    TLS trusts what OpenSSL trusts here, so SSL_CERT_FILE and SSL_CERT_DIR hold. `proxy` is `http://user:pass@host:port`
    or None; the environment is not asked. Every method raises Error: the relay's own code, or `relay_unreachable`,
    `relay_not_trusted`.
    """

    def __init__(self, origin: str, key: str, *, proxy: str | None = None) -> None:
        self.origin = origin
        self._http = httpx2.Client(
            base_url=origin,
            headers={"authorization": f"Bearer {key}"},
            timeout=TIMEOUT,
            trust_env=False,
            verify=trusted(origin),
            proxy=proxy,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, *path: str, query: Mapping[str, str | int] | None = None) -> JSON:
        """One object, or one page of a list."""
        return self._ask("GET", path, query=query)

    def every(self, *path: str, query: Mapping[str, str | int] | None = None) -> Iterator[JSON]:
        """All entries of a list, page by page."""
        asked = {"limit": PAGE, **(query or {})}
        while True:
            page = self.get(*path, query=asked)
            yield from page["data"]
            if not page["next_page"]:
                return
            asked["page"] = page["next_page"]

    def post(self, *path: str, body: Mapping[str, object] | None = None) -> JSON:
        """Make or change something."""
        return self._ask("POST", path, body=body or {})

    def delete(self, *path: str) -> JSON:
        """End something."""
        return self._ask("DELETE", path)

    @contextmanager
    def follow(self, *path: str, query: Mapping[str, str | int] | None = None) -> Iterator[Iterator[JSON]]:
        """A stream of server-sent events, open when the block begins. Pings are left out."""
        try:
            with self._http.stream("GET", _where(path), params=query, timeout=STREAM_TIMEOUT) as response:
                if not response.is_success:
                    response.read()
                    raise _refusal(response.status_code, _json(response))
                yield self._events(response)
        except httpx2.TransportError as error:
            raise unreachable(self.origin, error) from error

    def _events(self, response: httpx2.Response) -> Iterator[JSON]:
        reader = sse.Events()
        for piece in response.iter_bytes():
            for event in reader.feed(piece):
                if event.data and event.event != "ping":
                    yield json.loads(event.data)

    def _ask(
        self,
        method: str,
        path: tuple[str, ...],
        *,
        query: Mapping[str, str | int] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> JSON:
        try:
            response = self._http.request(method, _where(path), params=query, json=body)
        except httpx2.TransportError as error:
            raise unreachable(self.origin, error) from error
        said = _json(response)
        if response.is_success and isinstance(said, dict):
            return said
        raise _refusal(response.status_code, said)


def _where(path: tuple[str, ...]) -> str:
    return "/v1/" + "/".join(quote(part, safe="") for part in path)


def _json(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def trusted(origin: str) -> ssl.SSLContext:
    """What TLS trusts; for an origin without TLS nothing, which takes no time to load."""
    return ssl.create_default_context() if origin.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def unreachable(origin: str, error: httpx2.TransportError) -> Error:
    """Why there was no answer: nobody is there, or somebody whose certificate is not trusted."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Error(
                "relay_not_trusted",
                f"the TLS certificate of {origin} is not trusted: {cause.verify_message}",
                hint="name the certificates of its authority with SSL_CERT_FILE=…, and the relay as they do",
            )
        cause = cause.__cause__ or cause.__context__
    return Error(
        "relay_unreachable",
        f"no relay answers at {origin}: {str(error) or type(error).__name__}",
        hint="start it with: arrowslit serve; or name another with ARROWSLIT_RELAY",
    )


def _refusal(status: int, said: Any) -> Error:
    """The Error in the official envelope (edge/problem.py writes it)."""
    try:
        details = dict(said["error"]["details"])
        message, code, hint = str(said["error"]["message"]), details.pop("error_code"), details.pop("hint", None)
    except (TypeError, KeyError, ValueError):
        code, message, details, hint = None, f"something answered {status} that is no relay", {}, None
    if code not in CODES:
        return Error("relay_unreachable", message, hint=hint or "check the address in ARROWSLIT_RELAY")
    known = {name: value for name, value in details.items() if name not in ("code", "message")}
    return Error(code, message, hint=hint, **known)
