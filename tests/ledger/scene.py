"""What the tests of the ledger share: simulated time, keys, and ledgers made without a writer."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from arrowslit.ledger.chain import GENESIS, hash_of, seal
from arrowslit.ledger.disk import segment_name
from arrowslit.ledger.head import Head, State, sign_head
from arrowslit.ledger.writer import Keys
from arrowslit.testing.loop import run

P = ParamSpec("P")

SIGNER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
PUBLIC = SIGNER.public_key()
KEYS = Keys(SIGNER, b"d" * 32)
TS = "2026-11-22T10:00:00.000Z"


def virtual(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test in simulated time: its sleeps take none, and no thread or socket can help it."""

    @wraps(test)
    def run_in_order(*args: P.args, **kwargs: P.kwargs) -> None:
        run(0, lambda: test(*args, **kwargs), shuffle=False)

    return run_in_order


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
