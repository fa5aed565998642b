"""/v1/work/{id}/records, ours: what a sandbox worker says that it did, in the ledger as its words and not as facts.

A worker chains its records as the ledger does, and each delivery of an item of work has a chain of its own that begins
with record 1. The relay takes what continues the chain that it has, so that a worker cannot leave out, change or
reorder later what it once said, nor may say more than a bounded amount.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

from msgspec import Meta
from msgspec import field as default
from starlette.requests import Request
from starlette.routing import Route

from arrowslit.agents.api.files import BY_WORKER
from arrowslit.agents.api.reading import read_body
from arrowslit.agents.api.resource import Doorkeeper, Method, caller
from arrowslit.agents.api.schema import Strict
from arrowslit.errors import Error
from arrowslit.record import Fields, Ledger, Seal, WorkerChain, WorkerChains
from arrowslit.work import Worker

MOST_RECORDS = 1000  # in one request, which has 1 MiB at most
MOST_LINE = 64 * 1024  # bytes of one record
MOST_TEXT = 8192  # characters: a command or a reason; what was printed has no place in a record
MOST_OF_DELIVERY = 64 * 1024 * 1024  # bytes of all records: some 100,000 executions

Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]


class SaidRecord(Strict):
    """One record of the worker's chain. `fields` are those that are the record's own; `hash` is that of its line."""

    seq: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    prev: Hash
    ts: Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,20}Z$", max_length=32)]
    kind: Annotated[str, Meta(pattern="^[a-z][a-z0-9_.]*$", max_length=64)]
    hash: Hash
    fields: dict[Annotated[str, Meta(max_length=64)], object] = default(default_factory=dict)
    signed: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0


class RecordsBody(Strict):
    """POST /v1/work/{id}/records: records in their order."""

    records: Annotated[list[SaidRecord], Meta(min_length=1, max_length=MOST_RECORDS)]


@dataclass(frozen=True, slots=True)
class RecordsApi:
    """The handler. `seal` is what the ledger makes its own lines with."""

    chains: WorkerChains
    ledger: Ledger
    seal: Seal
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    def routes(self, keeper: Doorkeeper) -> list[Route]:
        """The path of this resource."""
        post = Method(
            self.add,
            BY_WORKER,
            body=RecordsBody,
            answer="WorkRecords",
            errors=("work_not_found", "records_broken", "quota_exceeded", "ledger_unavailable"),
        )
        return [keeper.resource("/v1/work/{work_id}/records", post=post)]

    async def add(self, request: Request) -> object:
        """Keep what the worker of this delivery says, also soon after the item went to another. Again: nothing new."""
        body = await read_body(request, RecordsBody)
        who = caller(request)
        if not isinstance(who, Worker) or who.work_id is None or who.work_id != request.path_params["work_id"]:
            raise Error("work_not_found", "there is no such work", hint="send it with the token of this item")
        async with self._one:  # nobody else adds to this chain between reading its end and moving it
            chain = await self.chains.read(who.work_id, who.generation)
            new, after = continued(chain, body.records, self.seal)
            if new:
                await asyncio.gather(*(self.ledger.append("said_by_worker", said(who, chain, each)) for each in new))
                await self.chains.keep(who.work_id, who.generation, after)
        return {"type": "work_records", "stored": len(new), "last_seq": after.seq}


def continued(
    chain: WorkerChain, records: Sequence[SaidRecord], seal: Seal
) -> tuple[Sequence[SaidRecord], WorkerChain]:
    """PURE: those of `records` that the chain has not yet, and the chain with them.

    Raises Error `records_broken` with the first record that is not in its place (`first_bad`) and where the chain ends
    (`last_seq`), `quota_exceeded`, `validation_error` for one that cannot be a record.
    """
    new, seq, prev, size = [], records[0].seq - 1, None, chain.size
    if seq > chain.seq:
        raise _broken(chain, chain.seq + 1, "is missing")
    for record in records:
        seq += 1
        if seq == chain.seq + 1:
            prev = chain.hash
        line, line_hash = _line(record, seal)
        if record.seq != seq:
            raise _broken(chain, seq, "is missing, or not in its place")
        if prev is not None and record.prev != prev:
            raise _broken(chain, seq, "does not follow from the one before it")
        if record.hash != line_hash or (seq == chain.seq and line_hash != chain.hash):
            raise _broken(chain, seq, "is not the one that it was")
        prev = line_hash
        if seq > chain.seq:
            new.append(record)
            size += len(line)
    if size > MOST_OF_DELIVERY:
        raise Error("quota_exceeded", "too much was said about one item of work", hint="keep the rest on the worker")
    if not new:
        return new, chain
    return new, replace(chain, seq=seq, hash=new[-1].hash, size=size)


def said(who: Worker, chain: WorkerChain, record: SaidRecord) -> Fields:
    """The relay's own record: that this worker said so. What it said stands apart, where nothing looks for facts."""
    return {
        "work": who.work_id,
        "environment": who.environment_id,
        "session": who.session_id,
        "worker": chain.key_id,
        "delivery": who.generation,
        "late": who.late,
        "said_seq": record.seq,
        "said_hash": record.hash,
        "said": {
            "kind": record.kind,
            "ts": record.ts,
            "prev": record.prev,
            "signed": record.signed,
            "fields": record.fields,
        },
    }


def _line(record: SaidRecord, seal: Seal) -> tuple[bytes, str]:
    """The record as the worker wrote it, and the hash of that."""
    for text in _texts(record.fields):
        if len(text) > MOST_TEXT:
            raise _invalid(record, f"holds a text of more than {MOST_TEXT} characters")
    try:
        line, line_hash = seal(
            record.kind, record.fields, seq=record.seq, prev=record.prev, signed=record.signed, ts=record.ts
        )
    except ValueError as error:
        raise _invalid(record, "has a field of a name that is the chain's own") from error
    if len(line) > MOST_LINE:
        raise _invalid(record, f"has more than {MOST_LINE // 1024} KiB")
    return line, line_hash


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for each in value:
                yield from _texts(each)
        case Mapping():
            for name, each in value.items():
                yield from (name, *_texts(each))


def _broken(chain: WorkerChain, seq: int, reason: str) -> Error:
    return Error(
        "records_broken",
        f"record {seq} {reason}",
        hint=f"send what follows record {chain.seq}, as it was first written",
        first_bad=seq,
        last_seq=chain.seq,
    )


def _invalid(record: SaidRecord, reason: str) -> Error:
    return Error("validation_error", f"record {record.seq} {reason}", hint="records hold facts and digests, not data")
