"""PURE: what the head of a request at `/mcp/` says, read once for all requests of a connection that say the same.

A client sends the same head with every call, but for the length of the body. What follows from a head alone (that it
may come in, and what the rest of the way asks of it) is therefore remembered until a different one comes.
"""

from __future__ import annotations

from dataclasses import dataclass

from arrowslit.edge import guard
from arrowslit.edge.auth import presented
from arrowslit.errors import Error
from arrowslit.tunnel import Headers

_LENGTH = b"content-length"
_AT_THE_DOOR = frozenset({"authorization", "x-api-key", "cookie", "proxy-authorization", "content-length"})


@dataclass(frozen=True, slots=True)
class Head:
    """A head that the guard let in. `credential` is what it presents, None for nothing; it ends at the door, and
    `headers` hold none. `refusal` says why it cannot be told who sends it. `client` is the address that limits count.
    """

    method: str
    version: str
    path: str
    query: str
    headers: Headers
    credential: str | None
    refusal: Error | None
    expects_continue: bool
    client: str
    _method: bytes
    _target: bytes
    _fields: guard.Fields
    _length_at: int

    @classmethod
    def read(cls, method: bytes, target: bytes, version: str, fields: guard.Fields, client: str) -> Head:
        """The head that consists of these."""
        path, _, query = target.decode("latin-1").partition("?")
        headers = [(name.decode("latin-1"), value.strip().decode("latin-1")) for name, value in fields]
        credential, refusal = _presented(headers, query)
        at = next((index for index, (name, _) in enumerate(fields) if name == _LENGTH), -1)
        return cls(
            method=method.decode("ascii"),
            version=version,
            path=path,
            query=query,
            headers=tuple([field for field in headers if field[0] not in _AT_THE_DOOR]),
            credential=credential,
            refusal=refusal,
            expects_continue=any(name == "expect" and value.lower() == "100-continue" for name, value in headers),
            client=client,
            _method=method,
            _target=target,
            _fields=fields,
            _length_at=at,
        )

    def says(self, method: bytes, target: bytes, version: str, fields: list[tuple[bytes, bytes]]) -> bool:
        """Whether those say the same as this head, but for the length of the body."""
        at, mine = self._length_at, self._fields
        if target != self._target or version != self.version or len(fields) != len(mine) or method != self._method:
            return False
        if at < 0 or fields[at][0] != _LENGTH:
            return fields == mine
        return fields[:at] == mine[:at] and fields[at + 1 :] == mine[at + 1 :]


def _presented(headers: Headers, query: str) -> tuple[str | None, Error | None]:
    try:
        return presented(headers, query), None
    except Error as refusal:
        return None, refusal
