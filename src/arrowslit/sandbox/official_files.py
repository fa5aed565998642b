"""OfficialShelf: the files of a session at the server, `/v1/sessions/{id}/files`, through the official SDK's client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx2
from anthropic import AsyncAnthropic

from arrowslit.file import UNKNOWN_TYPE, Purpose
from arrowslit.sandbox.files import Shelved
from arrowslit.sandbox.official_errors import said, where_supported

PAGE = 1000


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
            while True:
                page: Any = await self._client.get(self._path, cast_to=object, options={"params": query})
                found += [_shelved(each) for each in page["data"]]
                if not page["next_page"]:
                    return found[::-1]
                query["page"] = page["next_page"]

    async def read(self, file_id: str) -> bytes:
        """See Shelf."""
        with said():
            answer = await self._client.get(f"{self._path}/{file_id}/content", cast_to=httpx2.Response)
            return answer.content

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


def _shelved(said: Any) -> Shelved:
    return Shelved(
        str(said["id"]), str(said["filename"]), Purpose(said["purpose"]), int(said["size_bytes"]), str(said["sha256"])
    )
