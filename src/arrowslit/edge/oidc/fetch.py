"""Fetching the keys of an issuer over HTTPS, from where the operator said and from nowhere else."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx2

from arrowslit.edge.oidc.issuer import Issuer, may_fetch
from arrowslit.edge.oidc.strict import read_object

TIME = 10.0  # seconds for one document, from the first byte to the last
MAX_DOCUMENT = 256 * 1024  # bytes; a JWKS with certificates in it has some 20 KiB

Fetch = Callable[[str], Awaitable[bytes]]
"""URL -> the document there. Raises Unreachable."""


class Unreachable(Exception):
    """There is no such document now, and why."""


@asynccontextmanager
async def web() -> AsyncIterator[Fetch]:
    """A Fetch that follows no redirect, asks no proxy, and reads no more and no longer than a JWKS needs."""
    tls = ssl.create_default_context()
    async with httpx2.AsyncClient(verify=tls, trust_env=False, timeout=TIME, follow_redirects=False) as client:

        async def fetch(url: str) -> bytes:
            try:
                async with asyncio.timeout(TIME):
                    return await _get(client, url)
            except TimeoutError:
                raise Unreachable(f"{url} took more than {TIME:g} s") from None
            except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
                raise Unreachable(f"{url}: {type(error).__name__} {error}".rstrip()) from error

        yield fetch


async def fetch_keys(issuer: Issuer, fetch: Fetch) -> bytes:
    """The JWKS of an issuer, as it was sent. Raises Unreachable, also for a discovery document of somebody else."""
    if issuer.jwks_url is not None:
        return await fetch(issuer.jwks_url)
    try:
        found = read_object(await fetch(issuer.discovery_url))
    except ValueError as error:
        raise Unreachable(f"{issuer.discovery_url} is no discovery document: {error}") from error
    if found.get("issuer") != issuer.issuer:  # OpenID Connect Discovery 1.0, section 4.3
        raise Unreachable(f"{issuer.discovery_url} speaks of another issuer")
    url = found.get("jwks_uri")
    if not isinstance(url, str) or not may_fetch(url) or (_is_plain(url) and not _is_plain(issuer.issuer)):
        raise Unreachable(f"{issuer.discovery_url} names no place for keys that could be trusted")
    return await fetch(url)


async def _get(client: httpx2.AsyncClient, url: str) -> bytes:
    headers = {"accept": "application/json", "accept-encoding": "identity"}
    async with client.stream("GET", url, headers=headers) as response:
        if response.status_code != 200:
            raise Unreachable(f"{url} answered {response.status_code}")
        if "content-encoding" in response.headers:  # a small body could unpack to a large one
            raise Unreachable(f"{url} answered in an encoding that was not asked for")
        found = bytearray()
        async for piece in response.aiter_raw():
            found += piece
            if len(found) > MAX_DOCUMENT:
                raise Unreachable(f"{url} answered more than {MAX_DOCUMENT} bytes")
        return bytes(found)


def _is_plain(url: str) -> bool:
    return url.lower().startswith("http:")
