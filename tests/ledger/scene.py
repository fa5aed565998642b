"""What the tests of the ledger share: time that jumps, keys, and ledgers made without a writer."""

from __future__ import annotations

import asyncio
import json
import selectors
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from pathlib import Path
from typing import Never, ParamSpec

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from arrowslit.ledger.chain import GENESIS, hash_of, seal
from arrowslit.ledger.disk import segment_name
from arrowslit.ledger.head import Head, State, sign_head
from arrowslit.ledger.writer import Keys

P = ParamSpec("P")

SIGNER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
PUBLIC = SIGNER.public_key()
KEYS = Keys(SIGNER, b"d" * 32)
TS = "2026-11-22T10:00:00.000Z"


class LoopClock:
    """The time of the running loop, which `virtual` makes pass as fast as nothing happens."""

    def now(self) -> float:
        return 1_795_000_000.0 + self.monotonic()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Jump(selectors.DefaultSelector):
    """Where others wait for a socket or the next timer, this one turns the clock. Nothing from outside ever comes."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everything waits, and no timer is left")
        self.passed += max(timeout, 0.0)
        return []


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.passed

    def run_in_executor(self, *_: object) -> Never:
        raise AssertionError("a thread was asked for")


def virtual(test: Callable[P, Coroutine[object, object, None]]) -> Callable[P, None]:
    """Run a test in virtual time: its sleeps take none, and no thread or socket can help it."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


def chain(count: int, *, signed: Sequence[int] = (), stopped: bool = False) -> list[bytes]:
    """That many lines, with newline, as a relay writes them; `signed` gives what each one knew of heads."""
    lines, prev = [], GENESIS
    for seq in range(1, count + 1):
        kind = "stopped" if stopped and seq == count else ("asked", "outcome")[seq % 2 == 0]
        fields = {} if kind == "stopped" else {"call": f"call_{(seq + 1) // 2}", "tool": "check_stock"}
        line, prev = seal(
            kind, fields, seq=seq, prev=prev, signed=signed[seq - 1] if signed else max(0, seq - 3), ts=TS
        )
        lines.append(line + b"\n")
    return lines


def head_at(lines: Sequence[bytes], seq: int, state: State = "open", *, signer: Ed25519PrivateKey = SIGNER) -> bytes:
    """The content of the head's file when it covers `seq` of these lines."""
    prev = json.loads(lines[seq])["prev"] if seq < len(lines) else hash_of(lines[-1].removesuffix(b"\n"))
    return sign_head(Head(seq, prev, TS, seq + 1, state), signer)


def lay(state: Path, segments: dict[int, list[bytes]], head: bytes | None) -> None:
    """Put a ledger into a state folder: lines by the first record of their segment."""
    folder = state / "ledger"
    folder.mkdir()
    for first, lines in segments.items():
        (folder / segment_name(first)).write_bytes(b"".join(lines))
    if head is not None:
        (state / "ledger.head").write_bytes(head)


def stored(state: Path) -> list[dict[str, object]]:
    """All records in a state folder, in their order."""
    files = sorted((state / "ledger").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_bytes().split(b"\n") if line]
