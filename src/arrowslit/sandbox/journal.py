"""Journal: what the worker says of one delivery: into its own ledger first, and then to the server."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from arrowslit.clock import Clock, rfc3339
from arrowslit.errors import Error
from arrowslit.record import Fields, Ledger, Seal
from arrowslit.sandbox.backoff import wait
from arrowslit.sandbox.egress.attempt import Attempt
from arrowslit.sandbox.tools.tool import Block

log = logging.getLogger(__name__)

EXECUTION = "execution"
EGRESS = "egress"
FILE = "file"

GENESIS = "0" * 64  # what the first record of a chain says of the one before it
MOST_REASON = 500  # characters: it may be somebody else's words
BATCH = 100  # records in one request
CHANCE = 0.5  # the senders of one worker do not fail at the same moment, and are few
FLUSH = 5.0  # seconds for the last records to be sent; what is not sent by then is in the worker's ledger

JSON = dict[str, Any]
Send = Callable[[Sequence[JSON]], Awaitable[None]]
"""Gives records to the server. Raises Error, retryable while it has trouble, `not_supported` if it takes none."""


@dataclass(slots=True)
class Taking:
    """Whether the server takes records, or files, at all: said once in the life of a worker."""

    what: Literal["records", "files"] = "records"
    taken: bool = True

    def refused(self) -> None:
        """It does not."""
        if self.taken:
            self.taken = False
            log.warning("the server takes no %s: %s", self.what, _KEPT[self.what])


_KEPT = {
    "records": "they are kept in this worker's own ledger, and only there",
    "files": "sessions get none, outputs stay in their sandboxes, and this worker's own ledger says what they were",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One use of a tool. `status` is the exit status where one is known, `ended` says how it ended."""

    tool: str
    input: Mapping[str, object]
    output: Sequence[Block]
    ended: str
    status: int | None
    seconds: float

    def record(self) -> dict[str, object]:
        """As JSON values: the digests of what was run and of what came out, and never those themselves."""
        code, output = code_of(self.tool, self.input), output_of(self.output)
        return {
            "tool": self.tool,
            "code_sha256": hashlib.sha256(code).hexdigest(),
            "code_bytes": len(code),
            "output_sha256": hashlib.sha256(output).hexdigest(),
            "output_bytes": len(output),
            "ended": self.ended,
            "status": self.status,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """One file that was brought into a sandbox, or out of it, or was to be. `file` is the server's id, `unpacked` how
    many files an archive became; `reason` says why it, or what was in it, did not arrive.
    """

    inward: bool
    file: str | None
    size: int
    sha256: str | None
    unpacked: int | None = None
    reason: str | None = None

    def record(self) -> dict[str, object]:
        """As JSON values. Neither a name nor what is in the file."""
        return {
            "direction": "in" if self.inward else "out",
            "file": self.file,
            "bytes": self.size,
            "sha256": self.sha256,
            "unpacked": self.unpacked,
            "reason": None if self.reason is None else self.reason[:MOST_REASON],
        }


def code_of(tool: str, input: Mapping[str, object]) -> bytes:
    """What was run: of bash the command itself, of others the input as JSON with sorted keys and no spaces."""
    command = input.get("command")
    text = command if tool == "bash" and isinstance(command, str) else _canonical(input)
    return text.encode(errors="surrogatepass")


def output_of(blocks: Sequence[Block]) -> bytes:
    """What came out: the texts of the blocks, and the base64 of images and documents."""
    texts = [str(each["text"] if each["type"] == "text" else each["source"]["data"]) for each in blocks]
    return "".join(texts).encode(errors="surrogatepass")


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class Journal:
    """Keeps records, each with the facts of the delivery. `run` sends them, beside everything else."""

    def __init__(self, ledger: Ledger, facts: Fields, courier: Courier) -> None:
        self._ledger = ledger
        self._facts = facts
        self._courier = courier

    async def execution(self, execution: Execution) -> None:
        """Record a use of a tool. Raises Error `ledger_unavailable`."""
        await self._note(EXECUTION, execution.record())

    async def egress(self, attempt: Attempt) -> None:
        """Record one try to get out. Raises Error `ledger_unavailable`."""
        await self._note(EGRESS, attempt.record())

    async def carried(self, carried: Carried) -> None:
        """Record a file that was brought in or out. Raises Error `ledger_unavailable`."""
        await self._note(FILE, carried.record())

    async def _note(self, kind: str, fields: Fields) -> None:
        whole = {**self._facts, **fields}
        await self._ledger.append(kind, whole)
        self._courier.add(kind, whole)


class Courier:
    """Sends the records of one delivery, chained as in a ledger from record 1 on."""

    def __init__(self, seal: Seal, send: Send, taking: Taking, clock: Clock) -> None:
        self._seal = seal
        self._send = send
        self._taking = taking
        self._clock = clock
        self._seq, self._prev = 0, GENESIS
        self._refused = False  # what follows a record that was refused cannot be taken either
        self._waiting: list[JSON] = []
        self._news = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def add(self, kind: str, fields: Fields) -> None:
        """Send this too, after those before it."""
        if self._refused or not self._taking.taken:
            return
        seq, prev, ts = self._seq + 1, self._prev, rfc3339(self._clock.now())
        _, digest = self._seal(kind, fields, seq=seq, prev=prev, ts=ts)
        self._seq, self._prev = seq, digest
        self._waiting.append({"seq": seq, "prev": prev, "ts": ts, "kind": kind, "hash": digest, "fields": fields})
        self._empty.clear()
        self._news.set()

    async def run(self) -> None:
        """Send what there is, until cancelled."""
        attempt = 0
        while True:
            await self._news.wait()
            batch = self._waiting[:BATCH]
            try:
                await self._send(batch)
            except Error as error:
                attempt += 1
                await self._failed(error, attempt)
                continue
            attempt = 0
            del self._waiting[: len(batch)]
            if not self._waiting:
                self._rest()

    async def flush(self, seconds: float = FLUSH) -> None:
        """Return once everything was sent, or given up, or so many seconds have passed."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            log.warning("%d records were not sent: they are in this worker's ledger", len(self._waiting))

    async def _failed(self, error: Error, attempt: int) -> None:
        if error.row.retryable:
            await self._clock.sleep(wait(attempt, CHANCE))
            return
        if error.code == "not_supported":
            self._taking.refused()
        else:
            self._refused = True
            log.error("records were refused, and stay in this worker's own ledger: %s", error.message)
        self._waiting.clear()
        self._rest()

    def _rest(self) -> None:
        self._news.clear()
        self._empty.set()
