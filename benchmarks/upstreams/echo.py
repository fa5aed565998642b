"""The fast server over stdio, for those who offer such servers: one message a line (MCP, transports, stdio).

    python echo.py

A file that is run by its path: some of those who run it give it no environment.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.upstreams.answers import answer


def main() -> None:
    """Answer until stdin ends."""
    write, flush = sys.stdout.buffer.write, sys.stdout.buffer.flush
    for line in sys.stdin.buffer:
        if pieces := answer(line):
            write(b"".join(pieces) + b"\n")
            flush()


if __name__ == "__main__":
    main()
