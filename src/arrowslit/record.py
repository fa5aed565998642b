"""Record of the ledger, and the port Ledger: what cannot be recorded does not happen. CallRecord: what its records say
of one call; the port CallRecords. WorkerChain: up to where the relay has what a worker says of itself; the port
WorkerChains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Fields = Mapping[str, object]
"""The facts of a record: JSON values only. Never an argument, a result or a secret in clear."""


class Ledger(Protocol):
    """The tamper-evident record of what was asked and how it ended."""

    async def append(self, kind: str, fields: Fields) -> int:
        """Write one record; return its sequence number once the write has left the process (P12).

        Raises Error `ledger_unavailable` if it could not be written; then nothing was. The `outcome` of a call that
        was asked is kept in memory instead and written as soon as that is possible, for it has happened.
        """
        ...

    def digest(self, data: bytes) -> str:
        """A keyed fingerprint of `data` (hex): a record can be matched with what was sent, and reveals nothing."""
        ...


class CallLedger(Ledger, Protocol):
    """What the way of a call asks of it besides."""

    def note(self, kind: str, fields: Fields) -> None:
        """Record what has happened, with the next write. Nobody waits for it, and nobody has to be told if it fails:
        the `outcome` of a call is kept as above, anything else is named in the log.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One call as the ledger knows it. Times are RFC 3339 in UTC.

    `outcome` is None while the call is open, and so is what comes with it. `code` and `reason` say why there was no
    answer, `status` is the HTTP status of one. `ms` is None where nobody measured: the relay that asked died.
    """

    id: str
    tenant: str | None
    principal: str
    agent: str
    agent_version: int
    server: str
    tunnel: str
    tool: str | None
    method: str | None
    asked_at: str
    outcome: str | None = None
    code: str | None = None
    reason: str | None = None
    status: int | None = None
    answer_bytes: int | None = None
    ended_at: str | None = None
    ms: float | None = None


class CallRecords(Protocol):
    """Where it can be looked up what became of a call."""

    async def call(self, call_id: str, visible: Callable[[CallRecord], bool]) -> CallRecord | None:
        """The call of that id if it is `visible` to whoever asks; None if not, or if the ledger has none.

        That there is one which is not visible shows in no way, the time that the search takes included.
        """
        ...


class Seal(Protocol):
    """Makes a record's line, without newline, and its hash (64 hex digits): the format of every chain.

    Raises ValueError or TypeError for fields that are none.
    """

    def __call__(
        self, kind: str, fields: Fields, *, seq: int, prev: str, signed: int = 0, ts: str = ""
    ) -> tuple[bytes, str]: ...


@dataclass(frozen=True, slots=True)
class WorkerChain:
    """The end of the chain that the worker of one delivery has sent: the number and the hash of its last record, and
    how many bytes all of them have; before the first record 0, 64 zeros, 0. `key_id` is the environment key that the
    worker came with.
    """

    key_id: str
    seq: int = 0
    hash: str = "0" * 64
    size: int = 0


class WorkerChains(Protocol):
    """The chains of all deliveries. Each delivery of an item of work to a worker has one, which begins anew.

    Raises Error `work_not_found` for a delivery that never was.
    """

    async def read(self, work_id: str, generation: int) -> WorkerChain:
        """Where the chain ends now; at its beginning if nothing has come."""
        ...

    async def keep(self, work_id: str, generation: int, chain: WorkerChain) -> None:
        """Note where it ends."""
        ...


def fold(records: Iterable[Mapping[str, Any]]) -> CallRecord | None:
    """What the records of one call, in their order, say of it; None if none of them began it.

    The first outcome counts: what is recorded later never changes the one that was given.
    """
    began: Mapping[str, Any] | None = None
    ended: Mapping[str, Any] = {}
    for record in records:
        if record["kind"] in ("asked", "denied"):
            began = began or record
        if record["kind"] in ("outcome", "denied"):
            ended = ended or record
    if began is None:
        return None
    return CallRecord(
        id=began["call"],
        tenant=began["tenant"],
        principal=began["principal"],
        agent=began["agent"],
        agent_version=began["agent_version"],
        server=began["server"],
        tunnel=began["tunnel"],
        tool=began["tool"],
        method=began["method"],
        asked_at=began["ts"],
        outcome="denied" if ended.get("kind") == "denied" else ended.get("outcome"),
        code=ended.get("code"),
        reason=ended.get("reason"),
        status=ended.get("status"),
        answer_bytes=ended.get("answer_bytes"),
        ended_at=ended.get("ts"),
        ms=ended.get("ms"),
    )
