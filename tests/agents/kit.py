"""Caller: an HTTP client of /v1 that speaks to the application itself, without a network."""

from __future__ import annotations

from typing import Any

import httpx2
from starlette.applications import Starlette


class Caller(httpx2.AsyncClient):
    """Sends its key with every request."""

    def __init__(self, app: Starlette, key: str | None) -> None:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        super().__init__(transport=httpx2.ASGITransport(app), base_url="http://relay", headers=headers)

    async def ok(self, method: str, path: str, body: object = None) -> Any:
        """What is answered with 200."""
        response = await self.request(method, path, json=body)
        assert response.status_code == 200, response.text
        return response.json()

    async def refused(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        """Status and code of what is refused."""
        return code_of(await self.request(method, path, json=body))


def code_of(response: httpx2.Response) -> tuple[int, str]:
    """Status and code of a refusal, in the official envelope."""
    said = response.json()
    assert said["type"] == "error"
    assert said["request_id"] == response.headers["request-id"]
    assert said["error"]["message"]
    return response.status_code, said["error"]["details"]["error_code"]
