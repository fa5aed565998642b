"""Issuers: who a token of another issuer stands for, by keys that were fetched in the background."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from arrowslit.clock import Clock
from arrowslit.edge.oidc import token
from arrowslit.edge.oidc.fetch import Fetch, Unreachable, fetch_keys, web
from arrowslit.edge.oidc.issuer import Issuer
from arrowslit.edge.oidc.keyset import KeySet, read_keys, verifier
from arrowslit.errors import Error
from arrowslit.principal import Principal

log = logging.getLogger(__name__)

EVERY = 300.0  # seconds between fetches of the same keys
AT_MOST = 30.0  # not more often than that, whatever tokens name and however often it fails
KEPT = 3600.0  # so long keys are good for without being confirmed: most identity providers are back within an hour
SAID = 10.0  # seconds between two lines on tokens of one issuer that were refused
KNOWN = 10_000  # tokens that are remembered, the latest used: some 10 MB

AgentId = Callable[[str], str | None]
"""Name or id of an agent -> its id now, None where that names none, or several."""


class _Source:
    """An issuer and its keys as they are known now. The times are of `Clock.monotonic`."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self.verify = verifier(issuer.algorithm)
        self.keys = KeySet()
        self.confirmed_at: float | None = None
        self.wanted = asyncio.Event()  # a token named a key that is not among them
        self.said_at = -SAID


@dataclass(frozen=True, slots=True)
class _Known:
    """A token that was verified with `keys`, and is good as long as they are those of its issuer."""

    source: _Source
    keys: KeySet
    claims: token.Claims


class Issuers:
    """Fulfils Credentials for tokens. `keep_keys` has to run beside it; it alone waits for others."""

    def __init__(self, issuers: Sequence[Issuer], agent_id: AgentId, fetch: Fetch, clock: Clock) -> None:
        self._sources = {each.issuer: _Source(each) for each in issuers}
        self._agent_id, self._fetch, self._clock = agent_id, fetch, clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    def principal(self, credential: str) -> Principal | None:
        """See `Credentials.principal`. Raises Error `idp_unavailable` while the keys of the token's issuer are not
        known, or have not been confirmed for an hour.
        """
        if len(credential) > token.MAX_TOKEN or credential.count(".") != 2:
            return None
        digest = hashlib.sha256(credential.encode("utf-8", "replace")).digest()  # of all of it
        known = self._known.pop(digest, None)
        if known is None or known.keys is not known.source.keys:
            known = self._verify(credential)
        if known is None or self._clock.now() >= known.claims.expires_at:
            return None
        self._require_keys(known.source)
        self._known[digest] = known
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)
        ids = (self._agent_id(each) for each in known.claims.agents)
        return token.principal(known.claims, known.source.issuer, frozenset(each for each in ids if each is not None))

    def _verify(self, credential: str) -> _Known | None:
        """The way of a token that was not seen before."""
        read = token.read(credential)
        source = self._sources.get(read.issuer) if read is not None and isinstance(read.issuer, str) else None
        if read is None or source is None or read.algorithm != source.issuer.algorithm:
            return None
        self._require_keys(source)
        key = source.keys.find(read.kid)
        if key is None:
            if read.kid is not None:
                source.wanted.set()
            return None
        if not source.verify(read.signed, key, read.signature):
            return None
        try:
            return _Known(source, source.keys, token.judge(read.claims, source.issuer, self._clock.now()))
        except token.TokenRefused as refused:
            self._say(source, refused)
            return None

    def _require_keys(self, source: _Source) -> None:
        if source.confirmed_at is None or self._clock.monotonic() - source.confirmed_at > KEPT:
            raise Error(
                "idp_unavailable",
                "the keys of this token's issuer cannot be had at the moment",
                hint="try again in a minute; the relay's log says what is wrong with them",
            )

    def _say(self, source: _Source, refused: token.TokenRefused) -> None:
        """Why a token was refused that is no forgery: something is set up wrong, here or there."""
        now = self._clock.monotonic()
        if now - source.said_at >= SAID:
            source.said_at = now
            log.warning("a token of %s was refused: %s", source.issuer.issuer, refused)

    # ------------------------------------------------------------ the keys

    async def keep_keys(self) -> None:
        """Fetch all keys now, again every five minutes, and sooner when a token names one that is not known. Never
        returns.
        """
        async with asyncio.TaskGroup() as tasks:
            for source in self._sources.values():
                tasks.create_task(self._keep(source))

    async def _keep(self, source: _Source) -> None:
        while True:
            source.wanted.clear()
            fetched = await self._refresh(source)
            await self._clock.sleep(AT_MOST)
            if fetched:
                await self._sleep_unless(source.wanted, EVERY - AT_MOST)

    async def _refresh(self, source: _Source) -> bool:
        """Whether the keys are known again. Keys that the issuer no longer publishes are gone with that."""
        name = source.issuer.issuer
        try:
            document = await fetch_keys(source.issuer, self._fetch)
            keys, passed_over = read_keys(document, source.issuer.algorithm)
        except (Unreachable, ValueError) as error:
            log.warning("the keys of %s could not be fetched: %s; %s", name, error, self._left(source))
            return False
        except Exception:  # a defect, or a document that nobody thought of: the relay serves on without it
            log.exception("the keys of %s could not be fetched; %s", name, self._left(source))
            return False
        if source.confirmed_at is None or keys != source.keys:
            source.keys = keys
            log.info("%s has %d keys for %s", name, len(keys.named), source.issuer.algorithm)
            for why in passed_over:
                log.info("%s: passed over, %s", name, why)
            if not keys.named and keys.only is None:
                log.warning("%s has no key for %s: its tokens are refused", name, source.issuer.algorithm)
        source.confirmed_at = self._clock.monotonic()
        return True

    def _left(self, source: _Source) -> str:
        if source.confirmed_at is None:
            return "its tokens are refused until they can be"
        left = KEPT - (self._clock.monotonic() - source.confirmed_at)
        return f"the old ones are good for {left / 60:.0f} min more" if left > 0 else "its tokens are refused now"

    async def _sleep_unless(self, wanted: asyncio.Event, seconds: float) -> None:
        """Return after so many seconds, or as soon as it is wanted."""
        both = {asyncio.create_task(wanted.wait()), asyncio.ensure_future(self._clock.sleep(seconds))}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in both:
                each.cancel()


@asynccontextmanager
async def open_issuers(issuers: Sequence[Issuer], agent_id: AgentId, clock: Clock) -> AsyncIterator[Issuers]:
    """Issuers whose keys are kept as long as this is open."""
    async with web() as fetch, asyncio.TaskGroup() as tasks:
        opened = Issuers(issuers, agent_id, fetch, clock)
        keeping = tasks.create_task(opened.keep_keys())
        try:
            yield opened
        finally:
            keeping.cancel()
