"""Run as a program: a relay's ledger under load. Says each record that was acknowledged, and never stops by itself."""

from __future__ import annotations

import asyncio
import sys
from itertools import count
from pathlib import Path

from arrowslit.clock import SystemClock
from arrowslit.ledger.disk import FileDisk
from arrowslit.ledger.writer import LedgerWriter, open_ledger
from tests.ledger.scene import KEYS


async def work(ledger: LedgerWriter, name: str) -> None:
    for number in count():
        call = f"call_{name}_{number}"
        seq = await ledger.append("asked", {"call": call})
        print("asked", seq, call, flush=True)
        seq = await ledger.append("outcome", {"call": call, "outcome": "result"})
        print("outcome", seq, call, flush=True)


async def main(state: Path, name: str) -> None:
    with FileDisk(state / "ledger", state / "ledger.head") as disk:
        async with open_ledger(disk, KEYS, SystemClock(), segment_bytes=50_000) as ledger:
            await ledger.append("asked", {"call": f"call_{name}_never_ends"})
            await asyncio.gather(*(work(ledger, f"{name}_{worker}") for worker in range(8)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
