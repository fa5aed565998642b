"""Visit: one connection from a sandbox. Read what is asked, decide, resolve once, connect to that address, carry."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from arrowslit.clock import Clock
from arrowslit.policy.decide import echo
from arrowslit.policy.egress import Allow, Deny, Refusal, Rule, check_addresses, decide
from arrowslit.sandbox.egress import answers
from arrowslit.sandbox.egress.attempt import Attempt, Caps, Ended, Refused, Resolve, Verdict
from arrowslit.sandbox.egress.carry import SETTLE, Carrier, Tally
from arrowslit.sandbox.egress.flow import Flow, connect
from arrowslit.sandbox.egress.head import MAX_HEAD, Plain, Tunnel, may_begin, read_head
from arrowslit.sandbox.egress.hello import Watch

ADDRESSES = 8  # of one name that are tried
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Setting:
    """What all visits of one sandbox share. `budget` is what the session may still send and receive."""

    rules: Sequence[Rule]
    resolve: Resolve
    clock: Clock
    caps: Caps
    budget: Tally


class Visit:
    """`run` it, and `close` it whatever happened; `attempts` are what there is to record then."""

    def __init__(self, near: Flow, setting: Setting) -> None:
        self._near = near
        self._far: Flow | None = None
        self._setting = setting
        self._caps = setting.caps
        self._begun = setting.clock.monotonic()
        self._asked = False  # whether anything was said that could be an attempt
        self._host, self._port = "", 0
        self._address: str | None = None
        self._watch: Watch | None = None
        self._tally = Tally()
        self._verdict = Verdict.CUT  # by whoever stops the proxy, until it comes to an end of its own
        self._code: Refusal | None = Refusal.CLOSED
        self._carrier: Carrier | None = None

    async def run(self) -> None:
        """Carry it to its end. What a client or a server brings about raises nothing."""
        total = asyncio.timeout(self._caps.total)
        try:
            async with total:
                await self._serve()
            self._verdict, self._code = Verdict.ALLOWED, None
        except Refused as refused:
            self._refuse(refused)
            await self._say(answers.refused(refused.deny))
        except Ended as ended:
            self._verdict, self._code = ended.verdict, ended.code
            limited = answers.refused(Deny(ended.code, ended.message, _LIMITED))
            failed = answers.failed(ended.code, ended.message)
            await self._say(failed if ended.verdict is Verdict.FAILED else limited)
        except OSError:  # a TimeoutError is one
            self._verdict, self._code = Verdict.FAILED, Refusal.CONNECTION_LOST
            if total.expired():
                self._verdict, self._code = Verdict.CUT, Refusal.TOTAL_TIME

    def break_off(self) -> None:
        """Call it a defect of the proxy's own."""
        self._verdict, self._code = Verdict.FAILED, Refusal.INTERNAL_ERROR

    def close(self) -> None:
        """Close both connections; by a reset where what came over them is not the whole."""
        whole = self._verdict in (Verdict.ALLOWED, Verdict.DENIED)
        self._near.close(reset=not whole and self._tally.into > 0)
        if self._far is not None:
            self._far.close(reset=self._verdict is not Verdict.ALLOWED)

    @property
    def attempts(self) -> Sequence[Attempt]:
        """One; none if nothing was asked; two if a further request was sent on the same connection."""
        if not self._asked:
            return ()
        first = Attempt(
            host=echo(self._host),
            port=self._port,
            address=self._address,
            verdict=self._verdict,
            code=self._code,
            bytes_out=self._tally.out,
            bytes_in=self._tally.into,
            seconds=self._setting.clock.monotonic() - self._begun,
            ech=self._watch is not None and self._watch.hello is not None and self._watch.hello.ech,
        )
        behind = self._carrier.behind if self._carrier else b""
        return (first, _second(behind)) if behind else (first,)

    # ------------------------------------------------------------ the way of an attempt

    async def _serve(self) -> None:
        head = await self._head()
        if not head:
            return
        asked = read_head(head)
        self._host, self._port = asked.host, asked.port
        allow = self._decide(asked)
        self._far = await self._connect(allow, await self._resolve(allow))
        self._carrier = carrier = Carrier(
            self._near, self._far, idle=self._caps.idle, budget=self._setting.budget, tally=self._tally
        )  # fmt: skip
        if isinstance(asked, Plain):
            await carrier.plain(asked.forwarded(), asked.length)
        else:
            self._watch = Watch(allow.host, literal=allow.literal)
            await self._near.write(answers.ESTABLISHED)
            await carrier.tunnel(await self._hello(self._watch), self._watch)

    async def _head(self) -> bytes:
        """The request head with its empty line; nothing if the client left without a word. Raises Refused."""
        head, end = bytearray(), -1
        limit = asyncio.timeout(self._caps.first)
        try:
            async with limit:
                while end < 0 and len(head) <= MAX_HEAD:
                    data = await self._near.read(MAX_HEAD)
                    if not data and not head:
                        return b""
                    self._asked = True
                    head += data
                    if not data or not may_begin(head):
                        raise Refused(Deny(Refusal.NOT_HTTP, "this is no whole HTTP request", _PROXY))
                    end = head.find(_HEAD_END, max(0, len(head) - len(data) - len(_HEAD_END)))
        except TimeoutError:
            if not limit.expired():
                raise
            self._asked = True
            raise Refused(Deny(Refusal.REQUEST_TOO_SLOW, "the request took too long to arrive", _PROXY)) from None
        if not 0 <= end <= MAX_HEAD - len(_HEAD_END):
            deny = Deny(Refusal.REQUEST_TOO_LARGE, f"the request's head has more than {MAX_HEAD} bytes", "send less")
            raise Refused(deny)
        end += len(_HEAD_END)
        self._near.unread(bytes(head[end:]))
        return bytes(head[:end])

    def _decide(self, asked: Tunnel | Plain) -> Allow:
        """What policy says, and whether the session may still exchange anything. Raises Refused."""
        allow = decide(self._setting.rules, asked.host, asked.port)
        if isinstance(allow, Deny):
            raise Refused(allow)
        budget = self._setting.budget
        if budget.out <= 0 or budget.into <= 0:
            code = Refusal.BYTES_OUT if budget.out <= 0 else Refusal.BYTES_IN
            raise Refused(Deny(code, "the session has exchanged as many bytes as it may", "start another session"))
        return allow

    async def _resolve(self, allow: Allow) -> Sequence[str]:
        """The addresses of the host, asked for once, every one of them checked. Raises Refused, Ended."""
        try:
            async with asyncio.timeout(self._caps.connect):
                found = [allow.host] if allow.literal else await self._setting.resolve(allow.host, allow.port)
        except OSError:
            found = []
        if not found:
            message = f"the sandbox's machine finds no address for {allow.host}"
            raise Ended(Verdict.FAILED, Refusal.NOT_RESOLVED, message)
        if deny := check_addresses(allow, found):
            raise Refused(deny)
        return found[:ADDRESSES]

    async def _connect(self, allow: Allow, addresses: Sequence[str]) -> Flow:
        """A connection to the first of these that takes one; each gets its share of the time. Raises Ended."""
        why = ""
        for self._address in addresses:
            try:
                async with asyncio.timeout(self._caps.connect / len(addresses)):
                    return await connect(self._address, allow.port)
            except OSError as error:
                why = error.strerror or "no answer"
        message = f"no connection to {allow.host} on port {allow.port}: {why}"
        raise Ended(Verdict.FAILED, Refusal.NOT_CONNECTED, message)

    async def _hello(self, watch: Watch) -> bytes:
        """The beginning of a tunnel: a whole ClientHello that asks for the right name. Raises Refused."""
        begun = b""
        limit = asyncio.timeout(self._caps.first)
        try:
            async with limit:
                while watch.hello is None:
                    if not (data := await self._near.read()):
                        raise Refused(Deny(Refusal.NOT_TLS, "the tunnel was closed before TLS began", _PROXY))
                    begun += watch.feed(data)
        except TimeoutError:
            if not limit.expired():
                raise
            raise Refused(Deny(Refusal.REQUEST_TOO_SLOW, "the TLS hello took too long to arrive", _PROXY)) from None
        return begun

    # ------------------------------------------------------------ ends

    def _refuse(self, refused: Refused) -> None:
        self._verdict, self._code = Verdict.DENIED, refused.deny.code
        self._host, self._port = refused.host or self._host, refused.port or self._port
        self._address = refused.deny.address or self._address

    async def _say(self, answer: bytes) -> None:
        """Tell the client, in what it speaks by now; nothing where the server has spoken already."""
        if self._tally.into:
            return
        with suppress(OSError):
            async with asyncio.timeout(SETTLE):
                await self._near.write(answer if self._watch is None else answers.UNRECOGNIZED_NAME)
                if self._code is not Refusal.REQUEST_TOO_SLOW:  # who is slow is not waited for
                    await self._near.settle(SETTLE)


_LIMITED = "a connection, and a session, have limits on requests, bytes and time"
_PROXY = "this is a proxy for HTTP/1.1: http:// by its URL, https:// by CONNECT"


def _second(data: bytes) -> Attempt:
    """The attempt that was made by sending `data` behind a request."""
    host, port = "", 0
    with suppress(Refused):
        asked = read_head(data.partition(_HEAD_END)[0] + _HEAD_END)
        host, port = asked.host, asked.port
    return Attempt(
        host=echo(host),
        port=port,
        address=None,
        verdict=Verdict.DENIED,
        code=Refusal.SECOND_REQUEST,
        bytes_out=0,
        bytes_in=0,
        seconds=0.0,
    )
