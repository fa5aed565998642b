"""OfficialShelf: the files of a session at the server, `/v1/sessions/{id}/files`, through the official SDK's client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import httpx2
import msgspec
from anthropic import AsyncAnthropic
from anthropic._constants import RAW_RESPONSE_HEADER
from msgspec import Meta, Struct

from arrowslit.errors import Error
from arrowslit.file import MOST_BYTES, MOST_PATH, UNKNOWN_TYPE, Purpose
from arrowslit.sandbox.files import Shelved
from arrowslit.sandbox.official_errors import said, where_supported

PAGE = 1000
MOST_PAGES = 10
MOST_LISTED = PAGE * (6 * MOST_PATH + 1024)  # bytes of the longest page


class OfficialShelf:
    """Fulfils Shelf with a client that has the token of a delivery."""

    def __init__(self, session: str, client: AsyncAnthropic) -> None:
        self._path = f"/v1/sessions/{session}/files"
        self._client = client

    async def list(self) -> Sequence[Shelved]:
        """See Shelf."""
        found: list[Shelved] = []
        query: dict[str, object] = {"limit": PAGE}
        with where_supported(), said():
            for _ in range(MOST_PAGES):
                page = msgspec.json.decode(await self._get(self._path, MOST_LISTED, query), type=_Page)
                found += [each.shelved() for each in page.data]
                if not page.next_page:
                    return found[::-1]
                query["page"] = page.next_page
        raise Error("relay_unreachable", f"the server's list of files goes on after {MOST_PAGES} pages")

    async def read(self, file_id: str, size: int) -> bytes:
        """See Shelf."""
        with said():
            return await self._get(f"{self._path}/{file_id}/content", min(size, MOST_BYTES), {})

    async def put(self, name: str, content: bytes) -> str:
        """See Shelf."""
        with where_supported(), said():
            made: Any = await self._client.post(
                self._path,
                cast_to=object,
                content=content,
                options={"params": {"filename": name}, "headers": {"content-type": UNKNOWN_TYPE}},
            )
            return str(made["id"])

    async def _get(self, path: str, most: int, query: Mapping[str, object]) -> bytes:
        """The first `most` bytes of an answer. No more are taken, and nothing is unpacked: a relay may be hostile."""
        options: Any = {"params": query, "headers": {RAW_RESPONSE_HEADER: "stream", "accept-encoding": "identity"}}
        answer: Any = await self._client.get(path, cast_to=object, options=options)
        taken = bytearray()
        try:
            async for piece in answer.http_response.aiter_raw():
                taken += piece[: most - len(taken)]
                if len(taken) >= most:
                    break
        except httpx2.HTTPError as error:  # which the SDK does not see where it does not read
            raise Error("relay_unreachable", f"the answer broke off: {error}") from error
        finally:
            await answer.close()
        return bytes(taken)


class _Entry(Struct, frozen=True):
    """A file as the server tells of it."""

    id: str
    filename: str
    purpose: Purpose
    size_bytes: Annotated[int, Meta(ge=0)]
    sha256: str

    def shelved(self) -> Shelved:
        """The same for the rest of the worker."""
        return Shelved(self.id, self.filename, self.purpose, self.size_bytes, self.sha256)


class _Page(Struct, frozen=True):
    """A part of the list, newest first."""

    data: list[_Entry]
    next_page: str | None
