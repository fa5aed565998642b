"""Api: /v1 of a relay for the command line, an answer as it came or an Error with its code. The SDK takes too long to
import for that.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx2

from arrowslit.errors import CODES, Error

JSON = dict[str, Any]

TIMEOUT = 30.0  # seconds; nothing under /v1 takes long
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

    def _ask(
        self,
        method: str,
        path: tuple[str, ...],
        *,
        query: Mapping[str, str | int] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> JSON:
        where = "/v1/" + "/".join(quote(part, safe="") for part in path)
        try:
            response = self._http.request(method, where, params=query, json=body)
        except httpx2.TransportError as error:
            raise unreachable(self.origin, error) from error
        try:
            said = response.json()
        except ValueError:
            said = None
        if response.is_success and isinstance(said, dict):
            return said
        raise _refusal(response.status_code, said)


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
